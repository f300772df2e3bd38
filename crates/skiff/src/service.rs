//! The services that the installer makes: which there are on this machine, with
//! which flags, and the init system that keeps them.
//!
//! The init system is asked by its own command, as the installer does it:
//! systemd and OpenRC have no other door that stays the same.

use std::{
    fs, io,
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use tracing::warn;

use crate::{
    config,
    flags::{self, Commands, UsageError, Values},
    node::images,
};

/// What keeps services on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Init {
    /// systemd(1)
    Systemd,
    /// openrc(8)
    OpenRc,
}

/// Where each keeps what the installer writes.
const SYSTEMD_DIR: &str = "/etc/systemd/system";
const OPENRC_DIR: &str = "/etc/init.d";
const OPENRC_ENVIRONMENT_DIR: &str = "/etc/conf.d";

/// How long systemd may take to answer.
const ASK_MAX: Duration = Duration::from_secs(5);

/// How long a program is watched that does not get as far as to serve its socket: a
/// server may wait for others for so long, and runs all the same.
const COMES_UP_MAX: Duration = Duration::from_secs(60);
/// Nothing tells that a socket is there or a program was started.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A service that runs skiff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// `skiff`, `skiff-agent`, or as its installer was told.
    pub(crate) name: String,
    /// Who keeps it.
    pub(crate) init: Init,
    /// Its own files: unit, environment, and a log that is nobody else's.
    pub(crate) files: Vec<PathBuf>,
    /// What it runs.
    pub(crate) program: PathBuf,
    /// With which words, the first of them `server` or `agent`.
    pub(crate) words: Vec<String>,
    /// And which variables.
    pub(crate) environment: Vec<(String, String)>,
}

/// Every service of this machine that runs a program named skiff.
pub(crate) fn installed() -> Vec<Service> {
    let mut found = Vec::new();
    for (init, dir) in [(Init::Systemd, SYSTEMD_DIR), (Init::OpenRc, OPENRC_DIR)] {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        found.extend(paths.iter().filter_map(|path| read(init, path)));
    }
    found
}

fn read(init: Init, path: &Path) -> Option<Service> {
    // A link in the folder is an alias or a service that is switched on.
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    let name = match init {
        Init::Systemd => path.file_name()?.to_str()?.strip_suffix(".service")?,
        Init::OpenRc => path.file_name()?.to_str()?,
    };
    let (program, words) = started(init, &fs::read_to_string(path).ok()?)?;
    let environment_file = match init {
        Init::Systemd => path.with_extension("env"),
        Init::OpenRc => Path::new(OPENRC_ENVIRONMENT_DIR).join(name),
    };
    let text = fs::read_to_string(&environment_file).unwrap_or_default();
    let mut files = vec![path.to_owned()];
    files.extend(environment_file.exists().then_some(environment_file));
    if init == Init::OpenRc {
        // systemd's are the journal's.
        let log = openrc_log(name);
        files.extend(log.exists().then_some(log));
    }
    let environment = environment(&text);
    Some(Service { name: name.to_owned(), init, files, program, words, environment })
}

/// The program and its words, of a unit or an init script that runs skiff.
fn started(init: Init, text: &str) -> Option<(PathBuf, Vec<String>)> {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let words = match init {
        // systemd has its own meaning for % and $.
        Init::Systemd => words(&value("ExecStart=")?.replace("%%", "%").replace("$$", "$")),
        Init::OpenRc => {
            let quoted = |key| Some(value(key)?.trim().trim_matches('"').to_owned());
            words(&format!("{} {}", quoted("command=")?, quoted("command_args=")?))
        }
    };
    let (program, rest) = words.split_first()?;
    let program = PathBuf::from(program);
    let ours = program.file_name().is_some_and(|name| name == "skiff")
        && rest.first().is_some_and(|word| word == "server" || word == "agent");
    ours.then(|| (program, rest.to_vec()))
}

/// Words as the installer quotes them: bare, or in single quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in text.trim().chars() {
        match c {
            '\'' => (quoted, any) = (!quoted, true),
            c if c.is_whitespace() && !quoted => {
                if any {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => {
                word.push(c);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    words
}

/// `NAME=value` lines, exported or not.
fn environment(text: &str) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let line = line.trim();
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        Some((name.to_owned(), words(value).into_iter().next().unwrap_or_default()))
    };
    text.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(pair).collect()
}

impl Service {
    /// `server` or `agent`.
    pub(crate) fn command(&self) -> Commands {
        match self.words.first().map(String::as_str) {
            Some("agent") => Commands::AGENT,
            _ => Commands::SERVER,
        }
    }

    /// What it runs with, of all sources.
    ///
    /// # Errors
    /// Where it could not start either.
    pub(crate) fn values(&self) -> Result<Values, UsageError> {
        let command = self.command();
        let line = self.words.iter().skip(1).map(Into::into);
        let (line, _) = flags::parse_args(command, line)?.unwrap_or_default();
        config::gather_from(command, line, |name| self.variable(name))
    }

    /// The same as far as it can be read, and why not all of it: what could not start must be
    /// possible to remove.
    pub(crate) fn values_as_read(&self) -> (Values, Option<UsageError>) {
        let error = match self.values() {
            Ok(values) => return (values, None),
            Err(error) => error,
        };
        let command = self.command();
        let line = flags::parse_args(command, self.words.iter().skip(1).map(Into::into));
        let (line, _) = line.ok().flatten().unwrap_or_default();
        let variables = flags::from_environment_as_read(command, |name| self.variable(name));
        (line.or(variables), Some(error))
    }

    /// One that it is started with.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    /// Whether it still runs a program that was at the place of its own before.
    pub(crate) fn runs_an_earlier(&self) -> bool {
        // proc_pid_exe(5)
        let earlier = format!("{} (deleted)", self.program.display());
        let is_it = |process: &Path| {
            let Ok(line) = fs::read(process.join("cmdline")) else { return false };
            let words = line.strip_suffix(b"\0").unwrap_or(&line).split(|byte| *byte == 0).skip(1);
            fs::read_link(process.join("exe")).is_ok_and(|exe| exe == Path::new(&earlier))
                && words.eq(self.words.iter().map(String::as_bytes))
        };
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        processes.map(|entry| entry.path()).any(|path| is_it(&path))
    }

    /// Whether it runs now.
    pub(crate) fn is_running(&self) -> bool {
        let asked = match self.init {
            Init::Systemd => {
                Command::new("systemctl").args(["is-active", "--quiet", &self.name]).status()
            }
            Init::OpenRc => {
                Command::new("rc-service").args(["--quiet", &self.name, "status"]).status()
            }
        };
        asked.is_ok_and(|status| status.success())
    }

    /// Ends it; pods go on running.
    ///
    /// # Errors
    /// What the init system says.
    pub(crate) fn stop(&self) -> io::Result<()> {
        match self.init {
            Init::Systemd => ask("systemctl", &["stop", &self.name]),
            Init::OpenRc => ask("rc-service", &["--quiet", "--ifstarted", &self.name, "stop"]),
        }
    }

    /// Ends it and starts it again; pods run through.
    ///
    /// # Errors
    /// What the init system says.
    pub(crate) fn restart(&self) -> io::Result<()> {
        match self.init {
            Init::Systemd => ask("systemctl", &["restart", &self.name]),
            Init::OpenRc => ask("rc-service", &["--quiet", &self.name, "restart"]),
        }
    }

    /// Waits until what was just restarted shows that it works. systemd has waited for
    /// that itself; OpenRC starts a supervisor and does not tell what becomes of its
    /// program.
    ///
    /// # Errors
    /// Where it ended, or was not even started.
    pub(crate) fn came_up(&self) -> io::Result<()> {
        if self.init == Init::Systemd {
            return Ok(());
        }
        let values = self.values().map_err(|error| io::Error::other(error.to_string()))?;
        let data_dir = std::path::absolute(values.one("data-dir").unwrap_or_default())?;
        came_up(&self.program, &images::socket::path(&data_dir), COMES_UP_MAX)
    }

    /// Takes it out of the boot and forgets it, its files included.
    ///
    /// # Errors
    /// The first step that failed; those before it are done.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match self.init {
            Init::Systemd => ask("systemctl", &["disable", "--quiet", &self.name])?,
            // Not in the boot is not an error.
            Init::OpenRc => drop(ask("rc-update", &["--quiet", "del", &self.name])),
        }
        for file in &self.files {
            fs::remove_file(file)?;
        }
        match self.init {
            Init::Systemd => {
                ask("systemctl", &["daemon-reload"])?;
                // It fails where there is nothing to forget.
                let _ = ask("systemctl", &["reset-failed", "--quiet", &self.name]);
                Ok(())
            }
            Init::OpenRc => Ok(()),
        }
    }

    /// How its log is read.
    pub(crate) fn log(&self) -> String {
        match self.init {
            Init::Systemd => format!("journalctl -u {}", self.name),
            Init::OpenRc => format!("less {}", openrc_log(&self.name).display()),
        }
    }
}

/// Until somebody listens on the socket, or the program has run through for so long.
fn came_up(program: &Path, socket: &Path, limit: Duration) -> io::Result<()> {
    let began = Instant::now();
    let mut first = None;
    loop {
        if UnixStream::connect(socket).is_ok() {
            return Ok(());
        }
        let runs = running(program)?;
        if first.is_some() && runs != first {
            return Err(io::Error::other("it ended right after it was started"));
        }
        first = runs;
        if began.elapsed() > limit {
            return match first {
                Some(_) => Ok(()),
                None => Err(io::Error::other(format!(
                    "{} was not started within {} s",
                    program.display(),
                    limit.as_secs()
                ))),
            };
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A process other than this one whose program is that file, and not one of before that
/// had its name.
fn running(program: &Path) -> io::Result<Option<u32>> {
    let is_it = |path: &Path| fs::metadata(path).map(|data| (data.dev(), data.ino()));
    let wanted = is_it(program)?;
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.filter(|pid| *pid != std::process::id()) else { continue };
        // One that has ended meanwhile is none.
        if is_it(&entry.path().join("exe")).is_ok_and(|found| found == wanted) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// As the service's script says.
fn openrc_log(name: &str) -> PathBuf {
    PathBuf::from(format!("/var/log/{name}.log"))
}

/// Whether systemd is about to switch the machine off or to restart it. It says so from
/// the moment that it is told to until it ends the last process. Where another init
/// system runs it is never known.
pub(crate) async fn machine_shuts_down() -> bool {
    let mut ask = tokio::process::Command::new("systemctl");
    let asked = ask.arg("is-system-running").kill_on_drop(true).output();
    match tokio::time::timeout(ASK_MAX, asked).await {
        Ok(Ok(output)) => output.stdout.trim_ascii() == b"stopping",
        Ok(Err(error)) => {
            warn!(%error, "whether the machine shuts down is not known: pods run on");
            false
        }
        Err(_) => {
            warn!("systemd does not say whether the machine shuts down: pods run on");
            false
        }
    }
}

fn ask(program: &str, words: &[&str]) -> io::Result<()> {
    let output = Command::new(program).args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{program} {}: {said}", words.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_installer_writes_is_read_back() {
        let unit = "[Service]\nEnvironmentFile=-/etc/systemd/system/skiff.env\n\
                    ExecStart=/usr/local/bin/skiff server --tls-san 'a b' --config '/etc/50%%/$$x.yaml' ''\n";
        let (program, words) = started(Init::Systemd, unit).expect("a service of ours");
        assert_eq!(program, Path::new("/usr/local/bin/skiff"));
        assert_eq!(words, ["server", "--tls-san", "a b", "--config", "/etc/50%/$x.yaml", ""]);
        let script =
            "#!/sbin/openrc-run\ncommand=\"/opt/skiff\"\ncommand_args=\"agent --node-name 'x'\"\n";
        let (program, words) = started(Init::OpenRc, script).expect("a service of ours");
        assert_eq!((program.as_path(), words.len()), (Path::new("/opt/skiff"), 3));
        for other in ["ExecStart=/usr/bin/sshd -D\n", "ExecStart=/usr/local/bin/skiff status\n", ""]
        {
            assert_eq!(started(Init::Systemd, other), None, "{other}");
        }
        let pairs = environment("# ours\nSKIFF_TOKEN=a.b\nexport SKIFF_URL='https://x y'\n\n");
        assert_eq!(
            pairs,
            [("SKIFF_TOKEN".into(), "a.b".into()), ("SKIFF_URL".into(), "https://x y".into())]
        );
    }

    #[test]
    fn what_comes_up_is_told_from_what_does_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (program, socket) = (dir.path().join("program"), dir.path().join("socket"));
        fs::copy("/bin/sleep", &program).expect("a copy");
        let look = |limit| came_up(&program, &socket, Duration::from_millis(limit));
        let error = look(1).expect_err("nobody has started it").to_string();
        assert!(error.contains("was not started"), "{error}");
        let mut child = Command::new(&program).arg("600").spawn().expect("sleep");
        look(300).expect("it runs, and waits for something");
        // It ends while it is looked at: by itself, as one does that finds no good data.
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        let mut short = Command::new(&program).arg("1").spawn().expect("sleep");
        let error = std::thread::scope(|scope| {
            let looking = scope.spawn(|| look(60_000));
            short.wait().expect("our own child");
            looking.join().expect("no panic").expect_err("it has ended").to_string()
        });
        assert!(error.contains("ended right after"), "{error}");
        let _listening = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        look(1).expect("somebody listens");
    }

    #[test]
    fn a_program_that_was_replaced_is_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let program = dir.path().join("skiff");
        fs::copy("/bin/sleep", &program).expect("a copy");
        let service = Service {
            name: "skiff".into(),
            init: Init::Systemd,
            files: vec![],
            program: program.clone(),
            words: vec!["600".into()],
            environment: vec![],
        };
        let mut child = Command::new(&program).arg("600").spawn().expect("sleep");
        assert!(!service.runs_an_earlier(), "it is the one that is there");
        fs::copy("/bin/sleep", dir.path().join("new")).expect("a copy");
        fs::rename(dir.path().join("new"), &program).expect("our own folder");
        assert!(service.runs_an_earlier());
        let other = Service { words: vec!["60".into()], ..service };
        assert!(!other.runs_an_earlier(), "somebody else's");
        child.kill().expect("our own child");
        child.wait().expect("our own child");
    }

    #[test]
    fn a_service_has_the_values_it_runs_with() {
        let service = Service {
            name: "skiff".into(),
            init: Init::Systemd,
            files: vec![],
            program: "/usr/local/bin/skiff".into(),
            words: ["server", "--data-dir", "/srv/a", "--config", "/dev/null"]
                .map(Into::into)
                .into(),
            environment: vec![("SKIFF_WRITE_KUBECONFIG".into(), "/root/k".into())],
        };
        let values = service.values().expect("valid");
        assert_eq!(values.one("data-dir"), Some("/srv/a"));
        assert_eq!(values.one("write-kubeconfig"), Some("/root/k"));

        // What cannot start has what its line and variables say.
        let mut service = Service {
            words: ["server", "--data-dir", "/srv/a", "--config", "/none"].map(Into::into).into(),
            ..service
        };
        for wrong in ["/none", "SKIFF_DISABLE_SNAPSHOTS"] {
            let (values, error) = service.values_as_read();
            assert_eq!(values.one("data-dir"), Some("/srv/a"));
            assert_eq!(values.one("write-kubeconfig"), Some("/root/k"));
            assert!(error.expect(wrong).to_string().contains(wrong));
            service.environment.push(("SKIFF_DISABLE_SNAPSHOTS".into(), "x".into()));
        }
    }
}
