//! The messages of `proto/skiff/tunnel/v1`, and what they mean here.

use crate::{End, Input, LogOptions, LogStream, OpenError, Output};

/// What `proto/skiff/tunnel/v1/tunnel.proto` says, as Rust types.
#[allow(missing_docs, reason = "the .proto file says what each field means")]
pub(crate) mod v1 {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ListenRequest {
        #[prost(uint32, tag = "1")]
        pub(crate) version: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Open {
        #[prost(uint64, tag = "1")]
        pub(crate) id: u64,
        #[prost(message, optional, tag = "2")]
        pub(crate) target: Option<Target>,
        #[prost(oneof = "open::What", tags = "3, 4, 5, 6, 7, 8")]
        pub(crate) what: Option<open::What>,
    }

    pub(crate) mod open {
        #[derive(Clone, PartialEq, prost::Oneof)]
        pub(crate) enum What {
            #[prost(message, tag = "3")]
            Logs(super::Logs),
            #[prost(message, tag = "4")]
            Exec(super::Exec),
            #[prost(message, tag = "5")]
            Attach(super::Stdio),
            #[prost(uint32, tag = "6")]
            PortForward(u32),
            #[prost(uint32, tag = "7")]
            Connect(u32),
            #[prost(string, tag = "8")]
            Page(String),
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Target {
        #[prost(string, tag = "1")]
        pub(crate) namespace: String,
        #[prost(string, tag = "2")]
        pub(crate) pod: String,
        #[prost(string, tag = "3")]
        pub(crate) uid: String,
        #[prost(string, tag = "4")]
        pub(crate) container: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Logs {
        #[prost(bool, tag = "1")]
        pub(crate) follow: bool,
        #[prost(bool, tag = "2")]
        pub(crate) previous: bool,
        #[prost(bool, tag = "3")]
        pub(crate) timestamps: bool,
        #[prost(uint64, optional, tag = "4")]
        pub(crate) tail_lines: Option<u64>,
        #[prost(uint64, optional, tag = "5")]
        pub(crate) limit_bytes: Option<u64>,
        #[prost(int64, optional, tag = "6")]
        pub(crate) since_us: Option<i64>,
        #[prost(uint32, optional, tag = "7")]
        pub(crate) stream: Option<u32>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Exec {
        #[prost(string, repeated, tag = "1")]
        pub(crate) command: Vec<String>,
        #[prost(message, optional, tag = "2")]
        pub(crate) stdio: Option<Stdio>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Stdio {
        #[prost(bool, tag = "1")]
        pub(crate) stdin: bool,
        #[prost(bool, tag = "2")]
        pub(crate) stdout: bool,
        #[prost(bool, tag = "3")]
        pub(crate) stderr: bool,
        #[prost(bool, tag = "4")]
        pub(crate) tty: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct FromNode {
        #[prost(oneof = "from_node::Frame", tags = "1, 2, 3, 4, 5, 6")]
        pub(crate) frame: Option<from_node::Frame>,
    }

    pub(crate) mod from_node {
        use bytes::Bytes;

        #[derive(Clone, PartialEq, prost::Oneof)]
        pub(crate) enum Frame {
            #[prost(uint64, tag = "1")]
            Accepted(u64),
            #[prost(message, tag = "2")]
            Refused(super::Refused),
            #[prost(bytes = "bytes", tag = "3")]
            Stdout(Bytes),
            #[prost(bytes = "bytes", tag = "4")]
            Stderr(Bytes),
            #[prost(sint32, tag = "5")]
            Exited(i32),
            #[prost(string, tag = "6")]
            Failed(String),
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Refused {
        #[prost(uint64, tag = "1")]
        pub(crate) id: u64,
        #[prost(enumeration = "Reason", tag = "2")]
        pub(crate) reason: i32,
        #[prost(string, tag = "3")]
        pub(crate) message: String,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub(crate) enum Reason {
        Unspecified = 0,
        Unreachable = 1,
        NotFound = 2,
        BadRequest = 3,
        Failed = 4,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ToNode {
        #[prost(oneof = "to_node::Frame", tags = "1, 2, 3")]
        pub(crate) frame: Option<to_node::Frame>,
    }

    pub(crate) mod to_node {
        use bytes::Bytes;

        #[derive(Clone, PartialEq, prost::Oneof)]
        pub(crate) enum Frame {
            #[prost(bytes = "bytes", tag = "1")]
            Data(Bytes),
            #[prost(message, tag = "2")]
            Close(super::Close),
            #[prost(message, tag = "3")]
            Resize(super::Resize),
        }
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Close {}

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Resize {
        #[prost(uint32, tag = "1")]
        pub(crate) width: u32,
        #[prost(uint32, tag = "2")]
        pub(crate) height: u32,
    }
}

use v1::{from_node, open::What, to_node};

impl From<crate::Stdio> for v1::Stdio {
    fn from(s: crate::Stdio) -> Self {
        Self { stdin: s.stdin, stdout: s.stdout, stderr: s.stderr, tty: s.tty }
    }
}

impl From<v1::Stdio> for crate::Stdio {
    fn from(s: v1::Stdio) -> Self {
        Self { stdin: s.stdin, stdout: s.stdout, stderr: s.stderr, tty: s.tty }
    }
}

/// What is asked of a node.
pub(crate) fn open(id: u64, open: crate::Open) -> v1::Open {
    let (target, what) = match open {
        crate::Open::Logs(target, options) => (target, What::Logs(logs(options))),
        crate::Open::Exec(target, command, stdio) => {
            (target, What::Exec(v1::Exec { command, stdio: Some(stdio.into()) }))
        }
        crate::Open::Attach(target, stdio) => (target, What::Attach(stdio.into())),
        crate::Open::PortForward(target, port) => (target, What::PortForward(port.into())),
        crate::Open::Connect(target, port) => (target, What::Connect(port.into())),
        crate::Open::Page(page) => {
            return v1::Open { id, target: None, what: Some(What::Page(page)) };
        }
    };
    let crate::Target { namespace, pod, uid, container } = target;
    let target = Some(v1::Target { namespace, pod, uid, container });
    v1::Open { id, target, what: Some(what) }
}

/// The same as the node reads it; the error is for the server.
pub(crate) fn opened(message: v1::Open) -> Result<crate::Open, OpenError> {
    let unknown = || {
        OpenError::Failed(
            "the server asks for what this version of the node does not know: upgrade the node"
                .into(),
        )
    };
    let v1::Target { namespace, pod, uid, container } = message.target.unwrap_or_default();
    let target = crate::Target { namespace, pod, uid, container };
    let port = |port: u32| u16::try_from(port).map_err(|_| unknown());
    Ok(match message.what.ok_or_else(unknown)? {
        What::Logs(options) => crate::Open::Logs(target, log_options(options)),
        What::Exec(v1::Exec { command, stdio }) => {
            crate::Open::Exec(target, command, stdio.unwrap_or_default().into())
        }
        What::Attach(stdio) => crate::Open::Attach(target, stdio.into()),
        What::PortForward(number) => crate::Open::PortForward(target, port(number)?),
        What::Connect(number) => crate::Open::Connect(target, port(number)?),
        What::Page(page) => crate::Open::Page(page),
    })
}

fn logs(options: LogOptions) -> v1::Logs {
    v1::Logs {
        follow: options.follow,
        previous: options.previous,
        timestamps: options.timestamps,
        tail_lines: options.tail_lines,
        limit_bytes: options.limit_bytes,
        since_us: options.since_us,
        stream: options.stream.map(|stream| match stream {
            LogStream::Stdout => 1,
            LogStream::Stderr => 2,
        }),
    }
}

fn log_options(logs: v1::Logs) -> LogOptions {
    LogOptions {
        follow: logs.follow,
        previous: logs.previous,
        timestamps: logs.timestamps,
        tail_lines: logs.tail_lines,
        limit_bytes: logs.limit_bytes,
        since_us: logs.since_us,
        stream: match logs.stream {
            Some(1) => Some(LogStream::Stdout),
            Some(2) => Some(LogStream::Stderr),
            _ => None,
        },
    }
}

/// The node's first frame: what came of the wish of this id.
pub(crate) fn answer(id: u64, result: Result<(), &OpenError>) -> v1::FromNode {
    let frame = match result {
        Ok(()) => from_node::Frame::Accepted(id),
        Err(error) => {
            let reason = match error {
                OpenError::NodeUnreachable(_) => v1::Reason::Unreachable,
                OpenError::NotFound(_) => v1::Reason::NotFound,
                OpenError::BadRequest(_) => v1::Reason::BadRequest,
                OpenError::Failed(_) => v1::Reason::Failed,
            };
            let reason = reason.into();
            from_node::Frame::Refused(v1::Refused { id, reason, message: error.to_string() })
        }
    };
    v1::FromNode { frame: Some(frame) }
}

/// Back from [`answer`]; `None` for another frame.
pub(crate) fn answered(frame: v1::FromNode) -> Option<(u64, Result<(), OpenError>)> {
    match frame.frame? {
        from_node::Frame::Accepted(id) => Some((id, Ok(()))),
        from_node::Frame::Refused(refused) => {
            let make = match refused.reason() {
                v1::Reason::Unreachable => OpenError::NodeUnreachable,
                v1::Reason::NotFound => OpenError::NotFound,
                v1::Reason::BadRequest => OpenError::BadRequest,
                v1::Reason::Failed | v1::Reason::Unspecified => OpenError::Failed,
            };
            Some((refused.id, Err(make(refused.message))))
        }
        _ => None,
    }
}

/// Node to client.
pub(crate) fn from_node(output: Output) -> v1::FromNode {
    let frame = match output {
        Output::Stdout(bytes) => from_node::Frame::Stdout(bytes),
        Output::Stderr(bytes) => from_node::Frame::Stderr(bytes),
        Output::End(End::Exited(code)) => from_node::Frame::Exited(code),
        Output::End(End::Failed(why)) => from_node::Frame::Failed(why),
    };
    v1::FromNode { frame: Some(frame) }
}

/// Back from [`from_node`]; `None` for what only opens a stream.
pub(crate) fn output(frame: v1::FromNode) -> Option<Output> {
    match frame.frame? {
        from_node::Frame::Accepted(_) | from_node::Frame::Refused(_) => None,
        from_node::Frame::Stdout(bytes) => Some(Output::Stdout(bytes)),
        from_node::Frame::Stderr(bytes) => Some(Output::Stderr(bytes)),
        from_node::Frame::Exited(code) => Some(Output::End(End::Exited(code))),
        from_node::Frame::Failed(why) => Some(Output::End(End::Failed(why))),
    }
}

/// Client to node.
pub(crate) fn to_node(input: Input) -> v1::ToNode {
    let frame = match input {
        Input::Data(bytes) => to_node::Frame::Data(bytes),
        Input::Close => to_node::Frame::Close(v1::Close {}),
        Input::Resize { width, height } => {
            to_node::Frame::Resize(v1::Resize { width: width.into(), height: height.into() })
        }
    };
    v1::ToNode { frame: Some(frame) }
}

/// Back from [`to_node`]; `None` for what this version does not know.
pub(crate) fn input(frame: v1::ToNode) -> Option<Input> {
    // A terminal has no more columns than that.
    let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    Some(match frame.frame? {
        to_node::Frame::Data(bytes) => Input::Data(bytes),
        to_node::Frame::Close(_) => Input::Close,
        to_node::Frame::Resize(v1::Resize { width, height }) => {
            Input::Resize { width: cells(width), height: cells(height) }
        }
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;

    use super::*;
    use crate::{Open, Stdio, Target};

    #[test]
    fn wishes_come_through() {
        let target = || Target {
            namespace: "a".into(),
            pod: "b".into(),
            uid: "c".into(),
            container: "d".into(),
        };
        let stdio = Stdio { stdin: true, stdout: true, stderr: false, tty: true };
        let options = LogOptions {
            follow: true,
            tail_lines: Some(0),
            since_us: Some(-1),
            stream: Some(LogStream::Stderr),
            ..LogOptions::default()
        };
        for wish in [
            Open::Logs(target(), options),
            Open::Exec(target(), vec!["ls".into(), String::new()], stdio),
            Open::Attach(target(), Stdio::default()),
            Open::PortForward(target(), 80),
            Open::Connect(target(), u16::MAX),
            Open::Page("/metrics?a=b".into()),
        ] {
            let bytes = open(7, wish.clone()).encode_to_vec();
            let read = v1::Open::decode(&bytes[..]).expect("our own");
            assert_eq!((read.id, opened(read)), (7, Ok(wish)));
        }
        assert!(opened(v1::Open::default()).is_err());
    }

    #[test]
    fn frames_and_answers_come_through() {
        for frame in [
            Output::Stdout("x".into()),
            Output::Stderr(Bytes::new()),
            Output::End(End::Exited(-1)),
            Output::End(End::Failed("no".into())),
        ] {
            assert_eq!(output(from_node(frame.clone())), Some(frame));
        }
        for frame in
            [Input::Data("x".into()), Input::Close, Input::Resize { width: 80, height: 24 }]
        {
            assert_eq!(input(to_node(frame.clone())), Some(frame));
        }
        for error in [
            OpenError::NodeUnreachable("a".into()),
            OpenError::NotFound("b".into()),
            OpenError::BadRequest("c".into()),
            OpenError::Failed("d".into()),
        ] {
            assert_eq!(answered(answer(3, Err(&error))), Some((3, Err(error))));
        }
        assert_eq!(answered(answer(3, Ok(()))), Some((3, Ok(()))));
        assert_eq!(answered(from_node(Output::Stdout("x".into()))), None);
    }

    #[test]
    fn the_file_says_the_same() {
        let snake = |name: &str| {
            let mut snake = String::new();
            for letter in name.chars() {
                if letter.is_uppercase() && !snake.is_empty() {
                    snake.push('_');
                }
                snake.extend(letter.to_lowercase());
            }
            snake
        };
        let file = include_str!("../../../proto/skiff/tunnel/v1/tunnel.proto");
        let mut in_file: Vec<String> = Vec::new();
        for line in file.lines().filter(|line| line.starts_with("  ") && !line.contains("//")) {
            if let Some((field, number)) = line.trim_end_matches(';').split_once(" = ")
                && let Some(name) =
                    field.split_whitespace().last().filter(|n| !n.contains("REASON"))
            {
                in_file.push(format!("{name} = {number}"));
            }
        }
        let types = include_str!("wire.rs").split("use v1::").next().expect("the types come first");
        let mut here: Vec<String> = Vec::new();
        let mut lines = types.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if let Some((_, number)) = line.split_once("tag = \"") {
                let field = lines.next().expect("a field").trim_start_matches("pub(crate) ");
                let name = snake(field.split([':', '(']).next().expect("a name"));
                here.push(format!("{name} = {}", number.trim_end_matches("\")]")));
            }
        }
        // A oneof is a field here and its arms stand apart.
        in_file.sort();
        here.sort();
        assert_eq!(here, in_file);
    }
}
