//! Listening on a host's cable.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Stdio},
};

use super::{Host, Machine};

/// All frames of a cable since it began.
pub(crate) struct Tap {
    program: Child,
    file: PathBuf,
}

impl Host {
    /// Listens on the cable of this host, both ways.
    pub(crate) fn tap(&self) -> Tap {
        let file = self.dir.join("tap");
        let (mut python, link) = match self.machine() {
            Machine::Namespaces(inside) => (inside.enter("python3"), "eth0".to_owned()),
            // At its other end.
            Machine::Virtual(guest) => (guest.beside("python3"), format!("port{}", self.number)),
        };
        let mut program = python
            .arg("-c")
            .arg(include_str!("tap.py"))
            .arg(link)
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
