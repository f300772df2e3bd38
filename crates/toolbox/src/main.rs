//! The demo and test programs of the built-in image `skiff.local/toolbox`: one
//! static ELF, its program chosen by the name it is called by or by its first
//! argument (`http-echo --port 8080`, `toolbox dns kubernetes`).
//!
//! Must not know: the cluster. It is an ordinary workload and learns what it
//! needs from its environment, `/etc/resolv.conf` and its arguments.
//!
//! How it is built: by the build script of `toolbox-image` in a nested cargo
//! call (static, size-optimised, stripped), which embeds it in the image. By
//! hand: `cargo build -p toolbox`.
//!
//! Start with [`COMMANDS`].

mod args;
mod dns;
mod files;
mod http_client;
mod http_echo;
mod net;
mod process;
mod tar;

use args::Args;
use std::ffi::OsString;
use std::process::ExitCode;

/// One program of the box.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// Arguments, for the usage text.
    usage: &'static str,
    /// What it does, in one line.
    about: &'static str,
    run: fn(Args) -> Result<u8, String>,
}

/// Every program: the dispatcher, the usage text and the image's links are
/// computed from this table.
pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "cat",
        usage: "[FILE...]",
        about: "print files, or standard input",
        run: files::cat,
    },
    Command {
        name: "count",
        usage: "[--every MS] [--count N] [--text T] [--exit CODE]",
        about: "print numbered lines",
        run: process::count,
    },
    Command {
        name: "dns",
        usage: "[--short] NAME [A|AAAA|SRV|PTR|CNAME|TXT]",
        about: "resolve as /etc/resolv.conf says",
        run: dns::dns,
    },
    Command { name: "echo", usage: "[TEXT...]", about: "print the arguments", run: files::echo },
    Command { name: "env", usage: "", about: "print the environment", run: files::env },
    Command { name: "exit", usage: "[CODE]", about: "exit with a code", run: process::exit },
    Command { name: "false", usage: "", about: "exit with 1", run: process::no },
    Command {
        name: "get",
        usage: "[--loop N] [--every MS] [--report N] [--timeout S] URL",
        about: "HTTP GET; prints the body, or counts failures and each N answers",
        run: http_client::get,
    },
    Command { name: "hostname", usage: "", about: "print the host name", run: files::hostname },
    Command {
        name: "http-echo",
        usage: "--port N [--text T] [--drain S]",
        about: "HTTP server that answers with the pod's name",
        run: http_echo::http_echo,
    },
    Command { name: "id", usage: "", about: "print user and groups", run: files::id },
    Command { name: "ip", usage: "", about: "print the addresses", run: net::ip },
    Command { name: "link", usage: "TARGET LINK", about: "make a symbolic link", run: files::link },
    Command { name: "ls", usage: "[-l] [-a] [-d] [PATH...]", about: "list files", run: files::ls },
    Command { name: "rm", usage: "FILE...", about: "remove files", run: files::rm },
    Command {
        name: "sleep",
        usage: "SECONDS|infinity",
        about: "wait; SIGTERM ends it at once with 143",
        run: process::sleep,
    },
    Command {
        name: "stress",
        usage: "[--mem MiB] [--cpu N] [--time S]",
        about: "use memory and CPU",
        run: process::stress,
    },
    Command {
        name: "tar",
        usage: "c|x|t[mpvf] [-C DIR] [PATH...]",
        about: "archives, as kubectl cp needs them",
        run: tar::tar,
    },
    Command {
        name: "tcp",
        usage: "[--send TEXT] [--timeout S] HOST:PORT",
        about: "connect, send, print what comes",
        run: net::tcp,
    },
    Command {
        name: "test",
        usage: "-d|-e|-f PATH",
        about: "is it a directory, there, a file?",
        run: files::test,
    },
    Command { name: "true", usage: "", about: "exit with 0", run: process::yes },
    Command {
        name: "udp",
        usage: "[--send TEXT] [--timeout S] HOST:PORT",
        about: "send a datagram, print the answer",
        run: net::udp,
    },
    Command {
        name: "udp-echo",
        usage: "--port N",
        about: "answer datagrams with the pod's name and their text",
        run: net::udp_echo,
    },
    Command {
        name: "write",
        usage: "[--mode OCTAL] FILE TEXT",
        about: "write a file",
        run: files::write,
    },
];

fn main() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    if words.is_empty() {
        return usage(None);
    }
    let find = |word: &OsString| {
        let name = std::path::Path::new(word).file_name()?.to_str()?;
        COMMANDS.iter().find(|c| c.name == name)
    };
    let called = words.remove(0);
    let command = match find(&called) {
        Some(command) => command,
        None if words.is_empty() => return usage(None),
        None => {
            let word = words.remove(0);
            match find(&word) {
                Some(command) => command,
                None => return usage(Some(&word.to_string_lossy())),
            }
        }
    };
    match (command.run)(Args::new(words)) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            eprintln!("{}: {message}", command.name);
            ExitCode::from(1)
        }
    }
}

fn usage(unknown: Option<&str>) -> ExitCode {
    if let Some(word) = unknown {
        eprintln!("toolbox: no program {word:?}");
    }
    eprintln!("usage: toolbox PROGRAM [ARGUMENTS]");
    for Command { name, usage, about, .. } in COMMANDS {
        eprintln!("  {:<62} {about}", format!("{name} {usage}"));
    }
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::COMMANDS;

    #[test]
    fn the_table_is_sorted_and_unique() {
        assert!(COMMANDS.windows(2).all(|w| w[0].name < w[1].name));
    }
}
