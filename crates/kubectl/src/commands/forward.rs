//! `kubectl port-forward`: a WebSocket for each connection.

use std::sync::Arc;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    connection::Connection,
    failure::{Failure, Outcome, failed},
    flags::{Flag, value},
    session::Session,
    targets::{self, Reading, Target},
    websocket::{self, FORWARD},
};

use super::pods;

const DATA: u8 = 0;
const ERROR: u8 = 1;

pub(super) static FLAGS: &[Flag] = &[
    value("address", "ADDRESSES", "Addresses to listen on (comma separated)").or("localhost"),
    value(
        "pod-running-timeout",
        "TIME",
        "The length of time to wait until at least one pod is running",
    )
    .or("1m0s"),
];

pub(super) async fn run(session: &Session) -> Outcome {
    let flags = &session.flags;
    let Some((word, ports)) = flags.words.split_first().filter(|(_, ports)| !ports.is_empty())
    else {
        return Err(Failure::Arguments(
            "TYPE/NAME and list of ports are required for port-forward".into(),
        ));
    };
    let reading = Reading { default_type: Some("pods"), ..Reading::default() };
    let found = targets::find(session, std::slice::from_ref(word), reading).await?;
    let Some(target) = found.first() else { return failed("a pod is needed") };
    let object = target.object(session).await?;
    let pods = pods::behind(session, target, &object).await?;
    let Some(pod) = pods.first() else {
        return failed(format!("unable to forward port because no pod is selected by {word}"));
    };
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    if phase != "Running" {
        return failed(format!(
            "unable to forward port because pod is not running. Current status={phase}"
        ));
    }
    let mut listeners: Vec<(TcpListener, u16)> = Vec::new();
    for port in ports {
        let (local, remote) = pair(port)?;
        let remote = port_of(target, &object, pod, &remote)?;
        let local = match local.as_str() {
            "" => 0,
            text => text.parse().map_err(|_| Failure::Message(format!("invalid port {text:?}")))?,
        };
        // `8080` means the same number here, unless a Service maps it to another.
        let before = listeners.len();
        for address in addresses(flags.one("address")) {
            let local = match listeners.get(before) {
                // Both families get one number.
                Some((first, _)) if local == 0 => first.local_addr().map_or(0, |at| at.port()),
                _ => local,
            };
            match TcpListener::bind((address.as_str(), local)).await {
                Ok(listener) => {
                    let at = listener
                        .local_addr()
                        .map_err(|error| Failure::Message(error.to_string()))?;
                    session.out(&format!("Forwarding from {at} -> {remote}\n"))?;
                    listeners.push((listener, remote));
                }
                // A machine need not have both families.
                Err(_) if listeners.len() > before => {}
                Err(error) => {
                    session.say(&format!("Unable to listen on port {local}: Listeners failed to create with the following errors: [unable to create listener: Error listen tcp {address}:{local}: {error}]"));
                }
            }
        }
        if listeners.len() == before {
            return failed(format!(
                "unable to listen on any of the requested ports: [{{{local} {remote}}}]"
            ));
        }
    }
    let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    let path =
        format!("/api/v1/namespaces/{}/pods/{}/portforward", text("namespace"), text("name"));
    let connection = session.shared().await?.clone();
    let mut tasks = JoinSet::new();
    for (listener, remote) in listeners {
        tasks.spawn(listen(listener, remote, path.clone(), connection.clone()));
    }
    match tasks.join_next().await {
        Some(Ok(outcome)) => outcome,
        _ => failed("port-forward ended"),
    }
}

fn addresses(given: &str) -> Vec<String> {
    let each = given.split(',').flat_map(|address| match address {
        "localhost" => vec!["127.0.0.1", "::1"],
        other => vec![other],
    });
    each.map(str::to_owned).collect()
}

/// `LOCAL:REMOTE`, `:REMOTE`, `PORT`.
fn pair(text: &str) -> Outcome<(String, String)> {
    match text.split_once(':') {
        Some((local, remote)) if !remote.is_empty() => Ok((local.to_owned(), remote.to_owned())),
        None if !text.is_empty() && text.parse::<u16>().is_ok() => {
            Ok((text.to_owned(), text.to_owned()))
        }
        None if !text.is_empty() => Ok((String::new(), text.to_owned())),
        _ => failed(format!("invalid port format '{text}'")),
    }
}

/// The port of the pod: names are looked up, and Services map theirs.
fn port_of(target: &Target, object: &Value, pod: &Value, port: &str) -> Outcome<u16> {
    let of_pod = |name: &str| {
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        let mut ports = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
        ports.find(|known| known["name"] == name).and_then(|known| known["containerPort"].as_u64())
    };
    if target.resource.kind == "Service" && object["spec"]["clusterIP"] != "None" {
        let ports = object["spec"]["ports"].as_array().into_iter().flatten();
        let known = ports.into_iter().find(|known| {
            known["name"] == port
                || known["port"].as_u64().is_some_and(|number| number.to_string() == port)
        });
        let Some(known) = known else {
            return failed(format!("Service {} does not have a service port {port}", target.name));
        };
        let number = match &known["targetPort"] {
            Value::String(name) => of_pod(name),
            Value::Number(number) => number.as_u64(),
            _ => known["port"].as_u64(),
        };
        return match number.and_then(|number| u16::try_from(number).ok()) {
            Some(number) => Ok(number),
            None => failed(format!("the target port of {port} is not found in the pod")),
        };
    }
    match port.parse() {
        Ok(number) => Ok(number),
        Err(_) => match of_pod(port).and_then(|number| u16::try_from(number).ok()) {
            Some(number) => Ok(number),
            None => failed(format!(
                "Pod '{}' does not have a named port '{port}'",
                pod["metadata"]["name"].as_str().unwrap_or_default()
            )),
        },
    }
}

async fn listen(
    listener: TcpListener,
    port: u16,
    path: String,
    connection: Arc<Connection>,
) -> Outcome {
    let local = listener.local_addr().map_or(0, |at| at.port());
    loop {
        let (stream, _) =
            listener.accept().await.map_err(|error| Failure::Message(error.to_string()))?;
        println!("Handling connection for {local}");
        let (path, connection) = (path.clone(), connection.clone());
        tokio::spawn(async move {
            if let Err(error) = carry(stream, port, &path, &connection).await {
                eprintln!(
                    "error: an error occurred forwarding {local} -> {port}: {}",
                    error.message()
                );
            }
        });
    }
}

/// Carries bytes both ways until one side is done.
async fn carry(stream: TcpStream, port: u16, path: &str, connection: &Connection) -> Outcome {
    let path = client::with_query(path.to_owned(), &[("ports", &port.to_string())]);
    let (mut sender, mut receiver) = websocket::open(connection, &path, FORWARD).await?;
    let (mut reader, mut writer) = stream.into_split();
    let broken = |error: std::io::Error| Failure::Message(error.to_string());
    let sending = async {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            match reader.read(&mut buffer).await.map_err(broken)? {
                // The channels cannot tell a half that is closed: the answer may be
                // still to come.
                0 => return std::future::pending().await,
                n => sender.send(DATA, &buffer[..n]).await?,
            }
        }
    };
    let receiving = async {
        // Each channel begins with the port's number.
        let mut greeted = [false; 2];
        while let Some(message) = receiver.next().await {
            let (channel, bytes) = message?;
            let Some(greeted) = greeted.get_mut(usize::from(channel)) else { continue };
            let skip = if std::mem::replace(greeted, true) { 0 } else { bytes.len().min(2) };
            let bytes = &bytes[skip..];
            match channel {
                DATA => writer.write_all(bytes).await.map_err(broken)?,
                ERROR if !bytes.is_empty() => {
                    return failed(String::from_utf8_lossy(bytes).into_owned());
                }
                _ => {}
            }
        }
        writer.shutdown().await.map_err(broken)
    };
    let outcome: Outcome = tokio::select! {
        outcome = sending => outcome,
        outcome = receiving => outcome,
    };
    sender.close().await;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        for (text, local, remote) in
            [("80", "80", "80"), ("8080:80", "8080", "80"), (":80", "", "80"), ("http", "", "http")]
        {
            assert_eq!(pair(text).expect(text), (local.to_owned(), remote.to_owned()));
        }
        assert!(pair("80:").is_err() && pair("").is_err());
    }
}
