//! The first process of a PID namespace that all of a pod's containers share:
//! it reaps what they leave behind and does nothing else.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use linux::{
    child::{Child, Report, Spawn, receive_report},
    steps::Step,
};
use node_shim::protocol::{FailureKind, Reply};
use rustix::fs::{Mode, OFlags};

use crate::{
    failure::{failed, step_failed},
    shim::Shim,
};

impl Shim {
    /// Starts the pod's first process. Its few steps are waited for: nothing
    /// can be started before they are over.
    pub(crate) fn init(&mut self, steps: &[Step]) -> Reply {
        if self.init.is_some() {
            return Reply::Done;
        }
        let started = || -> io::Result<(Child, OwnedFd)> {
            let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
            let kinds = ["mnt", "pid"].map(linux::namespace::kind);
            let child = linux::child::spawn(&Spawn {
                steps,
                new_namespaces: kinds[0] | kinds[1],
                pid_namespace: None,
                target: None,
                stdio: [null.as_fd(); 3],
            })?;
            let namespace = pid_namespace(child.pid)?;
            Ok((child, namespace))
        };
        let (child, namespace) = match started() {
            Ok(started) => started,
            Err(error) => return failed(FailureKind::Internal, "clone", &error),
        };
        loop {
            match receive_report(child.report.as_fd()) {
                Ok(Report::Warning { .. } | Report::Terminal(_)) => {}
                Ok(Report::Executed) => break,
                Ok(Report::Failed { step, error }) => return step_failed(step, &error),
                Err(error) => return failed(FailureKind::Internal, "report", &error),
            }
        }
        self.init = Some((child, namespace));
        Reply::Done
    }
}

/// The PID namespace of a child.
pub(crate) fn pid_namespace(pid: i32) -> io::Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/pid");
    Ok(rustix::fs::open(path, OFlags::CLOEXEC, Mode::empty())?)
}
