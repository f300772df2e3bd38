//! `skiff upgrade`: this machine's program, by the steps of the installer.
//!
//! Nothing is changed before everything is downloaded and verified; then the
//! program takes its place by one rename and the service starts anew, while pods
//! run through. A release that does not start gives way to the one of before.
//! With `--cluster` every machine does that, one after the other (`cluster`).

mod cluster;
mod release;

use std::{
    error::Error,
    fs,
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use self::release::{Release, architecture, hex_of};
use super::VERSION;
use crate::{
    flags::{UsageError, Values},
    service::{self, Service},
};

pub(super) fn run(values: Values, words: Vec<String>) -> Result<(), Box<dyn Error>> {
    super::daemon::no_words(&words)?;
    let mut services = service::installed();
    let Some(program) = services.first().map(|service| service.program.clone()) else {
        return Err(
            "no service of skiff is installed here; replace the program where you put it, \
                    and start it again"
                .into(),
        );
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if is_on(&values, "cluster") {
        return cluster::run(&values, &services, &runtime);
    }
    if let Some(flag) = ["drain", "timeout"].iter().find(|flag| values.is_set(flag)) {
        return Err(Box::new(UsageError(format!("--{flag} goes with --cluster"))));
    }
    let release = Release::find(&values, &runtime)?;
    let version = release.version.as_deref();
    let name = format!("skiff-{}", architecture());
    let is_there = hex_of(&program)? == release.sum_of(&name)?;
    // Put in place before, by an installer that was told not to restart it or was ended.
    services.retain(|service| !is_there || service.runs_an_earlier());
    if is_there && services.is_empty() {
        println!("{} is {} already; nothing to do", program.display(), version.unwrap_or(VERSION));
        return Ok(());
    }
    let names = services.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(" and ");
    let of_release = version.unwrap_or("the release of that folder");
    let at = program.display();
    if is_there {
        println!("{at} is {of_release} already; {names} runs an earlier one and restarts");
    } else {
        println!(
            "{VERSION} at {at} becomes {of_release}; {names} restarts, and its pods run through"
        );
    }
    if is_on(&values, "dry-run") {
        return Ok(());
    }
    if !is_on(&values, "yes") && io::stdin().is_terminal() && !confirmed()? {
        println!("Nothing was changed.");
        return Ok(());
    }
    if is_there {
        for service in &services {
            println!("restarting {}", service.name);
            service.restart().and_then(|()| service.came_up())?;
        }
        return Ok(());
    }
    let new = New::beside(&program)?;
    release.fetch(&name, &new.0, &runtime)?;
    fs::set_permissions(&new.0, fs::Permissions::from_mode(0o755))?;
    let told = Command::new(&new.0).arg("--version").output();
    if !told.as_ref().is_ok_and(|output| output.status.success()) {
        return Err(format!("{name} does not run on this machine; nothing was changed").into());
    }
    exchange(&new.0, &program, &services)?;
    println!("done; `skiff status` shows how the cluster is");
    Ok(())
}

fn is_on(values: &Values, switch: &str) -> bool {
    values.one(switch) == Some("true")
}

/// Puts the new program in place and starts the services with it; where one
/// does not start, the old one comes back.
fn exchange(new: &Path, program: &Path, services: &[Service]) -> Result<(), Box<dyn Error>> {
    let before = program.with_file_name(".skiff-before");
    match fs::remove_file(&before) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    fs::hard_link(program, &before)?;
    fs::File::open(new)?.sync_all()?;
    fs::rename(new, program)?;
    let of_it = |service: &&Service| service.program == program && service.is_running();
    for service in services.iter().filter(of_it) {
        println!("restarting {}", service.name);
        if let Err(error) = service.restart().and_then(|()| service.came_up()) {
            fs::rename(&before, program)?;
            let back = service.restart();
            let back = back.err().map_or("which runs again".to_owned(), |error| error.to_string());
            return Err(format!(
                "{} does not start with the new program: {error}; its log says why: {}. The one of \
                 before is in place, {back}",
                service.name,
                service.log()
            )
            .into());
        }
    }
    Ok(fs::remove_file(&before)?)
}

fn confirmed() -> io::Result<bool> {
    print!("Upgrade? [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A file beside the program, so that the last step is one rename; gone when
/// it was not used.
struct New(PathBuf);

impl New {
    fn beside(program: &Path) -> io::Result<Self> {
        let path = program.with_file_name(format!(".skiff-upgrade.{}", std::process::id()));
        fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self(path))
    }
}

impl Drop for New {
    fn drop(&mut self) {
        // After the rename there is none.
        let _ = fs::remove_file(&self.0);
    }
}
