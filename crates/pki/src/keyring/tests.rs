use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, time::Duration};

use rustls::{ClientConnection, ServerConnection, client::ResolvesClientCert};

use super::*;
use crate::{layout::CERTIFICATE_LIFE, peer::PeerIdentity};

fn names() -> Names {
    Names {
        node_name: "pi".into(),
        node_ips: vec!["192.168.7.5".parse().expect("address")],
        cluster_domain: "cluster.local".into(),
        service_ips: vec!["10.43.0.1".parse().expect("address")],
        tls_sans: vec!["Home.example.org".into(), "FD00::0:1".into()],
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

fn open(dir: &Path, names: &Names, now: Timestamp) -> (Pki, Vec<&'static str>) {
    let (pki, renewals) = Pki::open(dir, names, now).expect("keys");
    (pki, renewals.into_iter().map(|renewal| renewal.file).collect())
}

#[test]
fn the_first_start_makes_everything_private_and_the_second_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    let tls = directory(dir.path());
    let (_, made) = open(&tls, &names(), now());
    assert_eq!(made.len(), CERTIFICATES.len());
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(&tls).expect("made") {
        let entry = entry.expect("readable");
        files.insert(entry.file_name().into_string().expect("ASCII"));
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{entry:?}");
    }
    assert_eq!(files.len(), 2 * (CAS.len() + CERTIFICATES.len()) + 1);
    assert_eq!(fs::metadata(&tls).expect("made").permissions().mode() & 0o777, 0o700);
    let before = fs::read(tls.join("client-admin.crt")).expect("made");
    let (_, made) = open(&tls, &names(), now());
    assert_eq!(made, Vec::<&str>::new());
    assert_eq!(fs::read(tls.join("client-admin.crt")).expect("kept"), before);
}

#[test]
fn leaves_are_renewed_when_due_and_cas_stay() {
    let dir = tempfile::tempdir().expect("directory");
    let start = now();
    let (pki, _) = open(dir.path(), &names(), start);
    let hash = pki.authority(Ca::Server).public_key_hash();
    assert_eq!(pki.renew(start).expect("files"), []);
    let due = pki.next_renewal();
    assert!(due > start + CERTIFICATE_LIFE / 2 && due < start + CERTIFICATE_LIFE * 3 / 4);
    let old = pki.leaf(CertificateName::ApiServer).current();
    assert_eq!(pki.renew(due).expect("files").len(), CERTIFICATES.len());
    assert!(pki.leaf(CertificateName::ApiServer).current().not_after > old.not_after);
    assert_eq!(pki.renew(due).expect("files"), []);
    // The new files are what the next start loads.
    let (again, made) = open(dir.path(), &names(), due);
    assert_eq!(made, Vec::<&str>::new());
    assert_eq!(again.authority(Ca::Server).public_key_hash(), hash);
}

#[test]
fn leaves_that_were_made_ahead_of_the_clock_are_made_again() {
    let dir = tempfile::tempdir().expect("directory");
    let start = now();
    let ahead = start + CERTIFICATE_LIFE * 3;
    let (pki, _) = open(dir.path(), &names(), start);
    assert_eq!(pki.renew(ahead).expect("files").len(), CERTIFICATES.len());
    assert_eq!(pki.renew(start).expect("files").len(), CERTIFICATES.len(), "it was set back");
    assert!(pki.leaf(CertificateName::ApiServer).current().not_before <= start);
    assert_eq!(pki.renew(start).expect("files"), []);
    let server = pki.server_config(&[b"h2"]).expect("config");
    let client = pki.client_config(CertificateName::Admin, &[b"h2"]).expect("config");
    handshake(client, server, "pi").expect("what TLS takes for the time did not stay ahead");
}

#[test]
fn names_that_change_are_put_into_new_certificates() {
    let dir = tempfile::tempdir().expect("directory");
    open(dir.path(), &names(), now());
    let mut changed = names();
    changed.tls_sans.push("*.pods.example.org".into());
    let (_, made) = open(dir.path(), &changed, now());
    assert_eq!(made, ["serving-kube-apiserver", "peer"]);
    changed.node_name = "pi2".into();
    let (_, made) = open(dir.path(), &changed, now());
    assert_eq!(made, ["serving-kube-apiserver", "peer", "client-kubelet"]);
    changed.tls_sans = vec!["not a name".into()];
    let error = Pki::open(dir.path(), &changed, now()).expect_err("no DNS name").to_string();
    assert!(error.contains("\"not a name\"") && error.contains("--tls-san"), "{error}");
}

#[test]
fn damaged_leaves_are_made_again_and_damaged_cas_are_reported() {
    let dir = tempfile::tempdir().expect("directory");
    let path = |name: &str| dir.path().join(name);
    open(dir.path(), &names(), now());
    fs::write(path("client-admin.crt"), "junk").expect("write");
    fs::remove_file(path("client-kubelet.key")).expect("remove");
    fs::copy(path("peer.key"), path("client-scheduler.key")).expect("copy");
    let (_, made) = open(dir.path(), &names(), now());
    assert_eq!(made, ["client-admin", "client-scheduler", "client-kubelet"]);

    let expect = |name: &str, content: Option<&str>, words: &str| {
        let kept = fs::read(path(name)).expect("made");
        match content {
            Some(content) => fs::write(path(name), content).expect("write"),
            None => fs::remove_file(path(name)).expect("remove"),
        }
        let error = Pki::open(dir.path(), &names(), now()).expect_err(name).to_string();
        assert!(error.contains(words) && error.contains(name), "{error}");
        assert!(error.contains("restore it from a backup"), "{error}");
        fs::write(path(name), kept).expect("restore");
    };
    let other = fs::read_to_string(path("peer-ca.key")).expect("made");
    let leaf = fs::read_to_string(path("peer.crt")).expect("made");
    expect("client-ca.key", None, "missing");
    expect("client-ca.key", Some("junk"), "no private key");
    expect("client-ca.key", Some(&other), "does not belong to the key");
    expect("client-ca.crt", Some("junk"), "no certificate");
    expect("client-ca.crt", Some(&leaf), "not the certificate of a CA");
    expect("service.key", Some("junk"), "holds no private key");

    // A crash during the very first start: the key is there, nobody has seen
    // the certificate.
    fs::remove_file(path("client-ca.crt")).expect("remove");
    let (_, made) = open(dir.path(), &names(), now());
    let signed_by_it = CERTIFICATES.iter().filter(|row| row.ca == Ca::Client).count();
    assert_eq!(made.len(), signed_by_it);

    let late = now() + Duration::from_secs(11 * 365 * 24 * 60 * 60);
    let error = Pki::open(dir.path(), &names(), late).expect_err("expired").to_string();
    assert!(error.contains("expired") && error.contains("clock"), "{error}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().expect("directory");
    fs::write(dir.path().join("server"), "a file").expect("write");
    let error =
        Pki::open(&directory(dir.path()), &names(), now()).expect_err("a file is in the way");
    assert!(error.to_string().starts_with("create directory "), "{error}");
}

/// Runs a handshake in memory; returns the client's identity as the server
/// sees it.
fn handshake(
    client: ClientConfig,
    server: ServerConfig,
    name: &str,
) -> Result<Option<PeerIdentity>, rustls::Error> {
    let name = name.to_owned().try_into().expect("server name");
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("memory");
        server.read_tls(&mut &bytes[..]).expect("memory");
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).expect("memory");
        client.read_tls(&mut &bytes[..]).expect("memory");
        client.process_new_packets()?;
    }
    assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
    let certificate = server.peer_certificates().and_then(<[_]>::first);
    Ok(certificate.map(|der| PeerIdentity::from_der(der).expect("verified")))
}

#[test]
fn both_ends_verify_each_other() {
    let dir = tempfile::tempdir().expect("directory");
    let (pki, _) = open(dir.path(), &names(), now());
    let server = || pki.server_config(&[b"h2", b"http/1.1"]).expect("config");
    let client = |name| pki.client_config(name, &[b"h2"]).expect("config");

    for host in [
        "10.43.0.1",
        "127.0.0.1",
        "pi",
        "kubernetes.default.svc.cluster.local",
        "home.example.org",
        "fd00::1",
    ] {
        let identity =
            handshake(client(CertificateName::Node), server(), host).expect(host).expect("shown");
        assert_eq!(identity.common_name, "system:node:pi");
        assert_eq!(identity.organizations, ["system:nodes"]);
    }
    let admin = handshake(client(CertificateName::Admin), server(), "localhost")
        .expect("valid")
        .expect("shown");
    assert_eq!(
        (admin.common_name.as_str(), &admin.organizations[..]),
        ("system:admin", &["system:masters".to_owned()][..])
    );
    handshake(client(CertificateName::Admin), server(), "elsewhere.example.org")
        .expect_err("not its name");

    // Without a certificate: anonymous, and still verified by the client.
    let ca = pki.authority(Ca::Server).trusted();
    let clock = Arc::new(FlooredClock::new(now()));
    let anonymous = tls::client_config(None, ca, &[b"h2"], clock).expect("config");
    assert_eq!(handshake(anonymous, server(), "localhost").expect("valid"), None);

    // A server certificate or one of another cluster logs nobody in.
    handshake(client(CertificateName::ApiServer), server(), "localhost").expect_err("another CA");
    let elsewhere = tempfile::tempdir().expect("directory");
    let (other, _) = open(elsewhere.path(), &names(), now());
    let mut intruder = other.client_config(CertificateName::Admin, &[b"h2"]).expect("config");
    handshake(intruder.clone(), server(), "localhost").expect_err("another server CA");
    intruder = tls::client_config(
        Some(other.leaf(CertificateName::Admin).clone()),
        ca,
        &[b"h2"],
        Arc::new(FlooredClock::new(now())),
    )
    .expect("config");
    handshake(intruder, server(), "localhost").expect_err("another client CA");

    let (peer_server, peer_client) = pki.peer_configs(&[b"h2"]).expect("config");
    let peer = handshake(peer_client, peer_server.clone(), "pi").expect("valid").expect("shown");
    assert_eq!(peer.common_name, "pi");
    handshake(client(CertificateName::Admin), peer_server, "pi").expect_err("not a peer");
}

/// As where a server's clock is set right after it was a year ahead.
#[test]
fn what_has_not_begun_is_taken_and_what_has_ended_is_not() {
    let dir = tempfile::tempdir().expect("directory");
    let (then, _) = open(dir.path(), &names(), now());
    let server = || then.server_config(&[b"h2"]).expect("config");
    let (pki, _) = open(dir.path(), &names(), now());
    let shown = || {
        let client = pki.client_config(CertificateName::Admin, &[b"h2"]).expect("config");
        handshake(client, server(), "localhost")
    };
    let days = |count: u64| Duration::from_secs(count * 24 * 60 * 60);
    pki.rotate(now() + days(300)).expect("files");
    assert_eq!(shown().expect("ours").expect("shown").common_name, "system:admin");
    pki.rotate(now() - days(800)).expect("files");
    let refused = shown().expect_err("it has ended");
    assert!(matches!(refused, rustls::Error::InvalidCertificate(_)), "{refused}");
}

#[test]
fn servers_speak_to_servers_only() {
    let open_at = |dir: &tempfile::TempDir| open(dir.path(), &names(), now()).0;
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("directory"));
    let [pki, other] = [open_at(&dirs[0]), open_at(&dirs[1])];
    let (server, client) = pki.peer_configs(&[b"h2"]).expect("config");
    // Whoever comes believes the server, so that it is the server that refuses.
    let coming = |keys: &Pki, name: Option<CertificateName>| {
        let shown = name.map(|name| keys.leaf(name).clone() as Arc<dyn ResolvesClientCert>);
        let ca = pki.authority(Ca::Peer).trusted();
        let clock = Arc::new(FlooredClock::new(now()));
        let config = tls::client_config(shown, ca, &[b"h2"], clock).expect("config");
        handshake(config, server.clone(), "pi")
    };
    let peer = coming(&pki, Some(CertificateName::Peer)).expect("a server of the cluster");
    assert_eq!(peer.expect("shown").common_name, "pi");
    assert_eq!(coming(&pki, None), Err(rustls::Error::NoCertificatesPresented));
    for row in CERTIFICATES.iter().filter(|row| row.name != CertificateName::Peer) {
        let refused = coming(&pki, Some(row.name)).expect_err(row.file);
        let by_server = matches!(refused, rustls::Error::InvalidCertificate(_));
        assert!(by_server, "{}: {refused}", row.file);
    }
    let refused = coming(&other, Some(CertificateName::Peer)).expect_err("another cluster's");
    assert!(matches!(refused, rustls::Error::InvalidCertificate(_)), "{refused}");

    // And a server sends nothing to who shows what any node believes, or another's.
    let api = pki.server_config(&[b"h2"]).expect("config");
    let (theirs, _) = other.peer_configs(&[b"h2"]).expect("config");
    for elsewhere in [api, theirs] {
        let refused = handshake(client.clone(), elsewhere, "pi").expect_err("no server");
        assert!(matches!(refused, rustls::Error::InvalidCertificate(_)), "{refused}");
    }
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart() {
    let dir = tempfile::tempdir().expect("directory");
    let long_ago = now() - Duration::from_secs(300 * 24 * 60 * 60);
    let (pki, _) = open(dir.path(), &names(), long_ago);
    let server = pki.server_config(&[b"h2"]).expect("config");
    let client = pki.client_config(CertificateName::Admin, &[b"h2"]).expect("config");
    let before = handshake(client.clone(), server.clone(), "pi").expect("valid").expect("shown");
    assert_eq!(pki.renew(now()).expect("files").len(), CERTIFICATES.len());
    let after = handshake(client, server, "pi").expect("valid").expect("shown");
    assert_ne!(before.fingerprint, after.fingerprint);
}

#[test]
fn the_kubeconfig_holds_what_kubectl_needs() {
    let dir = tempfile::tempdir().expect("directory");
    let (pki, _) = open(dir.path(), &names(), now());
    let text = pki.admin_kubeconfig("https://127.0.0.1:6443");
    for line in [
        "server: \"https://127.0.0.1:6443\"",
        "current-context: default",
        "  user:\n    client-certificate-data: LS0tLS1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
