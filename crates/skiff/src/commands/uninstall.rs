//! `skiff uninstall`
//!
//! What is to go is a list first, made by a pure function and shown; then each
//! entry is done, all of them whatever fails. Volumes stay unless they are
//! named, and nothing is removed through a mount.

use std::{
    error::Error,
    fmt, fs,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use super::killall;
use crate::{
    config::{self, DEFAULT_DATA_DIR},
    flags::{UsageError, Values},
    service::{self, Service},
};

/// Where volumes of the class `local-path` are, below the data directory.
const VOLUMES: &str = "storage";

pub(super) fn run(values: Values, words: Vec<String>) -> Result<(), Box<dyn Error>> {
    super::daemon::no_words(&words)?;
    let is_on = |name: &str| values.one(name) == Some("true");
    let data_dir = std::path::absolute(values.one("data-dir").unwrap_or_default())?;
    let mut machine = Installed { data_dirs: vec![data_dir], ..Installed::default() };
    for service in service::installed() {
        let name = service.name.clone();
        if let Some(error) = machine.add(service) {
            eprintln!(
                "skiff uninstall: warning: the service {name} cannot start: {error}; a data \
                 directory that is named there is not known: say it with --data-dir"
            );
        }
    }
    let steps = plan(&machine, is_on("delete-volumes"), &|path| path.exists());
    if steps.is_empty() {
        println!("nothing to do: there is no skiff on this machine");
        return Ok(());
    }
    for step in &steps {
        println!("{step}");
    }
    let kept: Vec<PathBuf> = volumes(&machine).filter(|path| path.exists()).collect();
    if !is_on("delete-volumes") {
        for dir in &kept {
            println!("keep   {} (--delete-volumes removes it)", dir.display());
        }
    }
    if is_on("dry-run") {
        return Ok(());
    }
    super::need_root()?;
    if !is_on("yes") && !confirmed()? {
        println!("Nothing was changed.");
        return Ok(());
    }
    let failures: Vec<String> = steps.iter().flat_map(act).collect();
    match failures.is_empty() {
        true => {
            println!(
                "skiff is gone; IP forwarding stays on until the next boot, since others may rely on it"
            );
            Ok(())
        }
        false => Err(format!("not everything is gone:\n  {}", failures.join("\n  ")).into()),
    }
}

fn confirmed() -> Result<bool, Box<dyn Error>> {
    if !io::stdin().is_terminal() {
        return Err(Box::new(UsageError("say --yes to do this without being asked".into())));
    }
    print!("Remove all this, and everything in this cluster's node? [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// What is on this machine.
#[derive(Debug, Default)]
struct Installed {
    services: Vec<Service>,
    data_dirs: Vec<PathBuf>,
    /// Kubeconfigs and config files.
    files: Vec<PathBuf>,
}

impl Installed {
    /// Answers with what of the service could not be read.
    fn add(&mut self, service: Service) -> Option<UsageError> {
        let (values, error) = service.values_as_read();
        let path = |name: &str| values.one(name).map(PathBuf::from);
        self.data_dirs.extend(path("data-dir"));
        self.data_dirs.sort();
        self.data_dirs.dedup();
        // The agent has no kubeconfig of its own, and its default would not be its.
        if service.command() == crate::flags::Commands::SERVER {
            self.files.extend(path("write-kubeconfig"));
        }
        self.services.push(service);
        error
    }
}

/// One thing that goes.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    Stop(&'a Service),
    End(PathBuf),
    Forget(&'a Service),
    /// A folder, but for one entry of it.
    Folder(PathBuf, Option<&'static str>),
    File(PathBuf),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Stop(service) => write!(f, "stop   the service {}", service.name),
            Step::End(dir) => {
                write!(f, "end    pods, mounts, links, rules and cgroups of {}", dir.display())
            }
            Step::Forget(service) => {
                let files: Vec<_> = service.files.iter().map(|p| p.display().to_string()).collect();
                write!(f, "remove {}", files.join(" and "))
            }
            Step::Folder(dir, _) => write!(f, "remove {}/", dir.display()),
            Step::File(file) => write!(f, "remove {}", file.display()),
        }
    }
}

fn volumes(machine: &Installed) -> impl Iterator<Item = PathBuf> {
    machine.data_dirs.iter().map(|dir| dir.join(VOLUMES))
}

fn plan<'a>(
    machine: &'a Installed,
    delete_volumes: bool,
    exists: &dyn Fn(&Path) -> bool,
) -> Vec<Step<'a>> {
    let mut steps: Vec<Step<'a>> = machine.services.iter().map(Step::Stop).collect();
    let there = |paths: Vec<PathBuf>| paths.into_iter().filter(|p| exists(p)).collect::<Vec<_>>();
    let data_dirs = there(machine.data_dirs.clone());
    steps.extend(data_dirs.iter().cloned().map(Step::End));
    steps.extend(machine.services.iter().map(Step::Forget));
    for dir in data_dirs {
        let keep = (!delete_volumes && exists(&dir.join(VOLUMES))).then_some(VOLUMES);
        // What was there before and is not of the cluster: folders of upstream's names.
        if dir == Path::new(DEFAULT_DATA_DIR) {
            let upstream = vec![
                config::kubelet_dir(&dir),
                "/var/log/pods".into(),
                "/var/log/containers".into(),
            ];
            steps.extend(there(upstream).into_iter().map(|dir| Step::Folder(dir, None)));
        }
        steps.push(Step::Folder(dir, keep));
    }
    steps.extend(there(machine.files.clone()).into_iter().map(Step::File));
    if machine.services.is_empty() {
        return steps;
    }
    steps.extend(there(vec!["/etc/skiff".into()]).into_iter().map(|dir| Step::Folder(dir, None)));
    let mut programs: Vec<PathBuf> =
        machine.services.iter().map(|service| service.program.clone()).collect();
    programs.sort();
    programs.dedup();
    for program in programs {
        let kubectl = program.with_file_name("kubectl");
        // A link of the installer's, not somebody's own kubectl.
        if fs::read_link(&kubectl).is_ok_and(|to| to == Path::new("skiff") || to == program) {
            steps.push(Step::File(kubectl));
        }
        steps.extend(there(vec![program]).into_iter().map(Step::File));
    }
    steps
}

fn act(step: &Step<'_>) -> Vec<String> {
    let told = |what: &Path, result: io::Result<()>| {
        result.err().map(|error| format!("{}: {error}", what.display())).into_iter().collect()
    };
    match step {
        Step::Stop(service) => {
            service.stop().err().map(|error| error.to_string()).into_iter().collect()
        }
        Step::End(dir) => killall::end(dir).unwrap_or_else(|error| vec![error]),
        Step::Forget(service) => {
            service.remove().err().map(|error| error.to_string()).into_iter().collect()
        }
        Step::Folder(dir, keep) => told(dir, remove_folder(dir, *keep)),
        Step::File(file) => told(file, gone(fs::remove_file(file))),
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes a folder with what is in it, but for `keep`. One below which
/// something is mounted is left as it is: what is mounted is somebody's data. A link, and the
/// folder that it leads to, were somebody's before and stay, empty.
fn remove_folder(dir: &Path, keep: Option<&str>) -> io::Result<()> {
    let is_link = dir.is_symlink();
    let dir = &dir.canonicalize()?;
    let mounts = linux::mount::mounts_below(dir)?;
    let kept = keep.map(|name| dir.join(name));
    let in_the_way = mounts
        .iter()
        .find(|point| *point != dir && kept.as_ref().is_none_or(|kept| !point.starts_with(kept)));
    if let Some(point) = in_the_way {
        return Err(io::Error::other(format!(
            "{} is still mounted, so nothing was removed: unmount it, then again",
            point.display()
        )));
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if kept.as_deref() == Some(&entry.path()) {
            continue;
        }
        // As deep as containers and images made it.
        linux::tree::remove(&entry.path())?;
    }
    match kept.is_some() || is_link || mounts.contains(dir) {
        true => Ok(()),
        false => gone(fs::remove_dir(dir)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Init;

    fn service(words: &[&str]) -> Service {
        Service {
            name: "skiff".into(),
            init: Init::Systemd,
            files: vec!["/etc/systemd/system/skiff.service".into()],
            program: "/nowhere/skiff".into(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            environment: vec![],
        }
    }

    fn told(words: &[&str], delete_volumes: bool) -> Vec<String> {
        let mut machine = Installed::default();
        let unread = machine.add(service(words)).map(|error| error.to_string());
        assert_eq!(unread, None, "valid flags");
        let steps = plan(&machine, delete_volumes, &|_| true);
        steps
            .iter()
            .map(|step| {
                format!(
                    "{step}{}",
                    match step {
                        Step::Folder(_, Some(keep)) => format!(" but {keep}"),
                        _ => String::new(),
                    }
                )
            })
            .collect()
    }

    #[test]
    fn everything_goes_but_volumes() {
        let server = ["server", "--config", "/dev/null"];
        assert_eq!(
            told(&server, false),
            [
                "stop   the service skiff",
                "end    pods, mounts, links, rules and cgroups of /var/lib/skiff",
                "remove /etc/systemd/system/skiff.service",
                "remove /var/lib/kubelet/",
                "remove /var/log/pods/",
                "remove /var/log/containers/",
                "remove /var/lib/skiff/ but storage",
                "remove /etc/skiff/skiff.yaml",
                "remove /etc/skiff/",
                "remove /nowhere/skiff",
            ]
        );
        assert!(told(&server, true).contains(&"remove /var/lib/skiff/".to_owned()));
        let elsewhere = told(&["agent", "--config", "/dev/null", "--data-dir", "/srv/a"], false);
        assert!(elsewhere.contains(&"remove /srv/a/ but storage".to_owned()));
        assert!(!elsewhere.iter().any(|line| line.contains("/var/l")), "{elsewhere:?}");
        // A program that no service runs is somebody's own.
        let machine = Installed { data_dirs: vec!["/srv/a".into()], ..Installed::default() };
        assert_eq!(plan(&machine, true, &|_| true).len(), 2);
        assert!(plan(&machine, true, &|_| false).is_empty());
    }

    #[test]
    fn folders_go_but_what_is_kept() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().join("data");
        for folder in ["storage/pvc-1", "server/db", "node"] {
            fs::create_dir_all(root.join(folder)).expect("our own folder");
        }
        fs::write(root.join("storage/pvc-1/file"), "mine").expect("our own folder");
        fs::write(root.join("lock"), "").expect("our own folder");
        remove_folder(&root, Some("storage")).expect("our own folder");
        assert_eq!(fs::read_to_string(root.join("storage/pvc-1/file")).expect("kept"), "mine");
        assert_eq!(fs::read_dir(&root).expect("there").count(), 1);
        remove_folder(&root, None).expect("our own folder");
        assert!(!root.exists());

        // Through a link, as to another disk.
        let (link, disk) = (dir.path().join("link"), dir.path().join("disk"));
        fs::create_dir_all(disk.join("data/node")).expect("our own folder");
        std::os::unix::fs::symlink(&disk, &link).expect("our own folder");
        remove_folder(&link.join("data"), None).expect("our own folder");
        assert_eq!(fs::read_dir(&disk).expect("there").count(), 0);
        fs::create_dir_all(disk.join("node")).expect("our own folder");
        remove_folder(&link, None).expect("our own folder");
        assert_eq!(fs::read_dir(&link).expect("it stays").count(), 0);
    }
}
