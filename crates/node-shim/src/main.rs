//! The parent of one pod's containers.
//!
//! Holds their standard streams, writes their logs, records their exits and
//! serves a socket; see [`node_shim::protocol`]. Single-threaded, one epoll
//! loop, and ignorant of Kubernetes, images and how a container is set up: that
//! comes as a list of steps.
//!
//! Start reading at `shim.rs`, the loop; `container.rs` and `connection.rs` are
//! the two kinds of things in it, `requests.rs`, `start.rs`, `streams.rs` and
//! `ends.rs` what happens to them.
//!
//! Usage: `node-shim <sandbox directory> [<entrance of a cgroup>]...`. The first process
//! enters the cgroups and exits with 0 when the socket `shim.sock` in that directory is
//! served by the second.

#[cfg(test)]
mod bed;
mod connection;
mod container;
mod ends;
mod exec;
mod failure;
mod init;
mod log_file;
mod requests;
mod shim;
mod start;
mod streams;

use std::{
    io::{Read, Write},
    path::PathBuf,
    process::ExitCode,
};

use linux::process::Detached;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(directory) = arguments.next() else {
        eprintln!("usage: node-shim <sandbox directory> [<entrance of a cgroup>]...");
        return ExitCode::from(2);
    };
    for entrance in arguments {
        if let Err(error) = std::fs::write(&entrance, "0") {
            eprintln!("node-shim: enter {}: {error}", entrance.display());
            return ExitCode::FAILURE;
        }
    }
    match run(&directory) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("node-shim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(directory: &std::path::Path) -> std::io::Result<ExitCode> {
    let mut ready = match linux::process::detach()? {
        Detached::Starter(mut ready) => {
            let mut byte = [0];
            return match ready.read(&mut byte)? {
                1 => Ok(ExitCode::SUCCESS),
                _ => Ok(ExitCode::FAILURE),
            };
        }
        Detached::Served(ready) => ready,
    };
    linux::process::set_name(c"skiff-shim")?;
    linux::process::become_subreaper()?;
    linux::process::become_undumpable()?;
    // The node keeps itself out of huge pages; what runs in pods may have them.
    rustix::thread::disable_transparent_huge_pages(false)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut shim = shim::Shim::new(shim::listen(directory)?)?;
    ready.write_all(&[1])?;
    drop(ready);
    shim.run()?;
    Ok(ExitCode::SUCCESS)
}
