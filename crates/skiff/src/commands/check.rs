//! `skiff check`

use std::{
    error::Error,
    fs,
    io::{self, BufRead as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use crate::{
    agent::state,
    check::{self, Level},
    config::{Cluster, server_address},
    flags::{Commands, UsageError, Values},
    service,
};

pub(super) fn run(values: Values, words: Vec<String>) -> Result<(), Box<dyn Error>> {
    super::daemon::no_words(&words)?;
    let data_dir = std::path::absolute(values.one("data-dir").unwrap_or_default())?;
    let member = state::member(&data_dir).map_err(|error| -> Box<dyn Error> { error })?;
    let is_server = data_dir.join("server/db").exists();
    let cluster = match member.as_ref().and_then(|member| member.cluster.clone()) {
        Some(kept) => kept,
        None => Cluster::new(&values)?,
    };
    let servers = match (&member, values.one("server")) {
        (Some(member), _) => member.servers.clone(),
        // A server that has joined knows the others by its log.
        (None, Some(url)) if !is_server => vec![server_address(url)?],
        (None, _) => vec![],
    };
    let node_ips = values.many("node-ip").into_iter().map(|text| {
        text.parse().map_err(|_| {
            UsageError(format!("--node-ip: \"{text}\" is not an address such as 192.168.1.10"))
        })
    });
    let port = values.one("https-listen-port").unwrap_or_default();
    let kubelet_port = values.one("kubelet-port").unwrap_or_default();
    let wanted = check::Wanted {
        agent: member.is_some() || is_agent(&values),
        joined: member.is_some(),
        servers,
        node_ips: node_ips.collect::<Result<_, _>>()?,
        https_port: port
            .parse()
            .map_err(|_| UsageError(format!("--https-listen-port: \"{port}\" is no port")))?,
        kubelet_port: kubelet_port
            .parse()
            .map_err(|_| UsageError(format!("--kubelet-port: \"{kubelet_port}\" is no port")))?,
        pod_cidrs: cluster.pod_cidrs,
        service_cidrs: cluster.service_cidrs,
        dns: cluster.dns,
        pod_network: cluster.pod_network,
        wireguard_port: cluster.wireguard_port,
    };
    let facts = check::everything(&data_dir, wanted);
    let findings = check::judge(&facts);
    match super::wants_json(&values)? {
        false => print!("{}", check::text(&findings)),
        true => println!("{:#}", check::json(&findings)),
    }
    if values.one("fix") == Some("true") {
        fix(&facts)?;
    }
    match findings.iter().filter(|(_, finding)| finding.level == Level::Fatal).count() {
        0 => Ok(()),
        1 => Err("1 thing has to be mended first".into()),
        n => Err(format!("{n} things have to be mended first").into()),
    }
}

/// Whether the service that was looked at is one.
fn is_agent(values: &Values) -> bool {
    let service = service::installed().into_iter().next();
    service.filter(|service| service.command() == Commands::AGENT).is_some_and(|service| {
        service.values().is_ok_and(|told| told.one("data-dir") == values.one("data-dir"))
    })
}

/// What can be mended from here: the command line of a Raspberry Pi's kernel.
fn fix(facts: &check::Facts) -> Result<(), Box<dyn Error>> {
    let wrong = facts.memory_cgroup.is_some();
    let Some((path, text)) = facts.command_line.as_ref().filter(|_| wrong) else {
        println!("There is nothing here that can be mended by itself.");
        return Ok(());
    };
    if check::is_amended(text) {
        println!("{} is right already: reboot.", path.display());
        return Ok(());
    }
    let amended = check::amended(text);
    print!(
        "{} reads\n  {}\nand would read\n  {}\nChange it? [y/N] ",
        path.display(),
        text.lines().next().unwrap_or_default(),
        amended.lines().next().unwrap_or_default()
    );
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        println!("Nothing was changed.");
        return Ok(());
    }
    let before = replace(path, &amended).map_err(|e| format!("{}: {e}", path.display()))?;
    println!("Done; the text of before is in {before}. Reboot for it to count.");
    Ok(())
}

/// Puts a new text in a file's place, at once and synced: a Pi with half a
/// command line does not boot. The old text stays beside it.
fn replace(path: &Path, text: &str) -> io::Result<String> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        std::path::PathBuf::from(name)
    };
    let (new, before) = (beside(".new"), beside(".before-skiff"));
    fs::copy(path, &before)?;
    let mode = fs::metadata(path)?.permissions().mode();
    let mut file = fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    // The firmware's partition is FAT, which knows no modes.
    let _ = file.set_permissions(fs::Permissions::from_mode(mode));
    file.sync_all()?;
    fs::rename(&new, path)?;
    if let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(before.display().to_string())
}
