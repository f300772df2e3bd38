//! Joining as a server: both ends of the first connection, which is made with
//! nothing but a token, and the mark that says how far a machine has come.

mod admit;
mod messages;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use pki::{
    clock::{FlooredClock, TRUSTED_DIFFERENCE},
    join_token::JoinToken,
    shared::Shared,
};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracing::{info, warn};

use self::messages::{SERVER, ServerRequest, ServerResponse};
use crate::{
    StartError,
    agent::{self, time::far},
    clock,
    commands::VERSION,
    config::Config,
};

pub(crate) use admit::keep_instead;
pub(super) use admit::{Admission, publish_token, revoke_token};

/// The protocol's name on the API's port.
pub(super) const PROTOCOL: &[u8] = b"skiff-join/1";

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// There while a machine has the cluster's keys and is not one of its servers
/// yet: without it the same folder would start a cluster of its own.
const MARK: &str = "server/joining";

/// What a machine that joins was told.
pub(super) struct Told {
    /// The cluster.
    pub(super) cluster: [u8; 16],
    /// `host:port` of its servers.
    pub(super) servers: Vec<String>,
    /// What time it is by the server that was asked, where this machine is far behind that.
    pub(super) later: Option<Timestamp>,
}

/// Gets the cluster's keys for this machine, if it is to join; `None` where it
/// makes a cluster, or is one of the servers already.
///
/// # Errors
/// Why it cannot join, and what to do. Nothing was changed.
pub(super) async fn prepare(config: &Config) -> Result<Option<Told>, StartError> {
    let mark = config.machine.data_dir.join(MARK);
    let is_server = config.machine.data_dir.join("server/db/store.key").exists();
    let Some(address) = &config.server else {
        if mark.exists() {
            return Err(format!(
                "{}: this machine has not finished joining a cluster: start it with --server and \
                 --token again, or remove {} to make a cluster of its own",
                mark.display(),
                config.machine.data_dir.join("server").display()
            )
            .into());
        }
        if config.token.is_some() && !is_server {
            return Err(format!(
                "--token without --server: a cluster makes its tokens itself, they cannot be \
                 chosen. To make a cluster leave --token out, and take the token for others from \
                 {} or from `skiff token create`; to join one, name its server with --server",
                config.machine.data_dir.join("server/token").display()
            )
            .into());
        }
        return Ok(None);
    };
    if is_server && !mark.exists() {
        info!("--server: this machine is a server already; the flag is of no meaning any more");
        return Ok(None);
    }
    let token: JoinToken = config
        .token
        .as_deref()
        .ok_or(
            "--server needs --token: on the first server, print it with \
                `cat /var/lib/skiff/server/token`",
        )?
        .parse()
        .map_err(|error| format!("--token: {error}"))?;
    let (own, built) = (Timestamp::now(), clock::built());
    // A time from before this program was made is none.
    let theirs = agent::time_by(address, token.ca_hash).await.filter(|theirs| *theirs >= built);
    let later = match theirs {
        Some(theirs) => behind(address, own, theirs)?,
        None => None,
    };
    let answer = ask(address, &token, config, later.unwrap_or(own).max(built)).await?;
    let told = shared_flags(config);
    for setting in &answer.settings {
        let ours = told.get(&setting.flag);
        if let Some(ours) = ours.filter(|ours| **ours != setting.value) {
            return Err(format!(
                "--{0}: this machine says {1}, the cluster's servers say {2}; start with --{0} {2}",
                setting.flag, ours, setting.value
            )
            .into());
        }
    }
    let cluster = <[u8; 16]>::try_from(&answer.cluster_id[..]).map_err(|_| {
        format!("{address}: its answer names no cluster; is its skiff newer than this?")
    })?;
    let files: Shared = answer.files.into_iter().map(|file| (file.name, file.text)).collect();
    let failed = |error: std::io::Error| format!("{}: {error}", mark.display());
    std::fs::create_dir_all(config.machine.data_dir.join("server")).map_err(failed)?;
    std::fs::write(&mark, "").map_err(failed)?;
    pki::shared::import(&pki::directory(&config.machine.data_dir), &files)?;
    let mut servers = answer.servers;
    // The address that was typed is known to work.
    servers.retain(|server| server != address);
    servers.insert(0, address.clone());
    Ok(Some(Told { cluster, servers, later }))
}

/// What all servers of a cluster have to be told alike, by the names of the flags. Beside what
/// the cluster is made of that is the port: it is where agents look for any server.
pub(super) fn shared_flags(config: &Config) -> BTreeMap<String, String> {
    let mut flags = config.cluster.tell();
    flags.insert("https-listen-port".to_owned(), config.https_port.to_string());
    flags
}

/// The time by the server that was asked, where this machine is too far behind it to go by
/// its own clock.
///
/// # Errors
/// Where this machine is as far ahead: nobody else would take what it signs.
fn behind(
    address: &str,
    own: Timestamp,
    theirs: Timestamp,
) -> Result<Option<Timestamp>, StartError> {
    let by = own.duration_since(theirs);
    if by > TRUSTED_DIFFERENCE {
        return Err(format!(
            "this machine's clock is {} that of the server at {address}: as a server it would hand \
             out certificates that nobody else takes yet. Set it right (is NTP running?), or that \
             one's if it is the one that is wrong, and start again",
            far(by)
        )
        .into());
    }
    if by.abs() <= TRUSTED_DIFFERENCE {
        return Ok(None);
    }
    warn!(
        "this machine's clock is {} that of the server at {address}; certificates are made by \
         that until it is set right (is NTP running?)",
        far(by)
    );
    Ok(Some(theirs))
}

/// The machine is one of the servers now.
pub(super) fn finished(data_dir: &Path) -> Result<(), StartError> {
    let mark = data_dir.join(MARK);
    std::fs::remove_file(&mark).map_err(|error| format!("{}: {error}", mark.display()).into())
}

/// The cluster did not take the machine in: nothing of it is left.
pub(super) fn undo(data_dir: &Path) {
    for folder in ["server/db", "server/tls"] {
        let path = data_dir.join(folder);
        if let Err(error) = std::fs::remove_dir_all(&path) {
            warn!(%error, path = %path.display(), "a folder of the refused server stays");
        }
    }
    if let Err(error) = finished(data_dir) {
        warn!(%error, "the mark of the refused server stays");
    }
}

async fn ask(
    address: &str,
    token: &JoinToken,
    config: &Config,
    now: Timestamp,
) -> Result<ServerResponse, StartError> {
    let request = ServerRequest {
        token: token.bootstrap_token(),
        name: config.machine.node_name.clone(),
        version: VERSION.into(),
    };
    let clock = Arc::new(FlooredClock::new(now));
    let tls = pki::pinned::client_config(token.ca_hash, &[PROTOCOL], clock)?;
    let asking = async {
        let connecting = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await;
        let connected = connecting.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let stream = connected.map_err(|error| {
            format!("--server: {address} is not reached: {error}; is it the address of a server?")
        })?;
        let name = rustls::pki_types::ServerName::try_from("kubernetes").expect("a DNS name");
        let connected = TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
        let stream = connected.map_err(|error| not_ours(address, &error))?;
        if stream.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
            return Err(no_skiff(address));
        }
        let mut client =
            grpc::Client::start(stream).await.map_err(|error| format!("{address}: {error}"))?;
        let answer = client.unary(SERVER, request.encode_to_vec().into()).await;
        let answer = answer.map_err(|error| match error {
            grpc::CallError::Failed(status) if status.code == grpc::Code::Unimplemented => format!(
                "{address}: this server does not know how to take servers in; is its skiff older \
                 than this?"
            ),
            error => format!("{address}: {error}"),
        })?;
        ServerResponse::decode(answer).map_err(|error| format!("{address}: {error}"))
    };
    let late = |_| format!("--server: {address} does not answer within {ANSWER_MAX:?}");
    Ok(tokio::time::timeout(ANSWER_MAX, asking).await.map_err(late)??)
}

fn no_skiff(address: &str) -> String {
    format!(
        "--server: what answers at {address} is no skiff server of this version; check the \
         address and the port (6443 where nothing else was chosen)"
    )
}

/// What went wrong with TLS, in the words of who typed the address and the token.
fn not_ours(address: &str, error: &std::io::Error) -> String {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            format!(
                "--token: the server at {address} is of another cluster than the token (its CA has \
             another hash); print a token on that server, or give the address of a server of the \
             token's cluster"
            )
        }
        Some(rustls::Error::InvalidCertificate(fault)) => format!(
            "--server: the certificate of {address} is not accepted: {fault}; are the clocks of \
             both machines right?"
        ),
        _ => no_skiff(address),
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_clock_that_is_behind_is_made_up_for_and_one_that_is_ahead_is_refused() {
        let own: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let hours = |hours| own + SignedDuration::from_hours(hours);
        for (theirs, expected) in [
            (hours(0), "as it is"),
            (hours(11), "as it is"),
            (hours(-11), "as it is"),
            (hours(13), "2026-01-01T13:00:00Z"),
            (hours(-13), "13 hours ahead of that of the server at a:6443"),
            (hours(-480), "20 days ahead of that of the server at a:6443"),
        ] {
            let told = match behind("a:6443", own, theirs) {
                Ok(None) => "as it is".to_owned(),
                Ok(Some(later)) => later.to_string(),
                Err(error) => error.to_string(),
            };
            assert!(told.contains(expected), "{theirs}: {told}");
        }
    }
}
