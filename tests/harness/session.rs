//! A command that stays: what is written to it comes back.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// `kubectl exec` or `attach`, with something at the other end that echoes lines.
pub(crate) struct Session {
    kubectl: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Session {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut kubectl = command.spawn().expect("kubectl runs");
        let input = kubectl.stdin.take();
        let output = BufReader::new(kubectl.stdout.take().expect("piped"));
        Self { kubectl, input, output }
    }

    /// A line is answered before the next: it is a session, not a pipe.
    #[track_caller]
    pub(crate) fn echoes(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it has not ended");
        writeln!(input, "{line}").expect("kubectl takes it");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("our own child");
        assert_eq!(answer, format!("{line}\n"));
    }

    /// Ends the input; the command is to end well then.
    #[track_caller]
    pub(crate) fn end(mut self) {
        drop(self.input.take());
        assert!(self.kubectl.wait().expect("our own child").success());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}
