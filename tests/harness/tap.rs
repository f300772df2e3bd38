//! Listening on a host's cable.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Stdio},
};

use super::Host;

/// All frames of a cable since it began.
pub(crate) struct Tap {
    program: Child,
    file: PathBuf,
}

impl Host {
    /// Listens on the cable of this host, both ways.
    pub(crate) fn tap(&self) -> Tap {
        let file = self.path("tap");
        let mut program = self
            .command("python3")
            .arg("-c")
            .arg(include_str!("tap.py"))
            .arg("eth0")
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        let said = BufReader::new(program.stdout.as_mut().expect("piped")).read_line(&mut line);
        assert!(said.is_ok() && line == "up\n", "the tap listens: {line:?}");
        Tap { program, file }
    }
}

impl Tap {
    /// What was heard, frame after frame.
    pub(crate) fn end(mut self) -> Vec<u8> {
        drop(self.program.stdin.take());
        assert!(self.program.wait().is_ok_and(|status| status.success()), "the tap ends well");
        fs::read(&self.file).expect("our own file")
    }
}
