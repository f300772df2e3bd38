//! Whole images: tarballs made here, and a registry in this process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::Permissions,
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use tar::{Builder, EntryType, Header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{Auth, Digest, ImageError, ImageStore, PullOptions, oci::host_architecture};

/// A layer of plain files, as tar.
fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, path, text.as_bytes()).expect("in memory");
    }
    builder.into_inner().expect("in memory")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// An image of two layers as content by digest, and its manifest.
pub(super) struct Made {
    blobs: BTreeMap<Digest, Vec<u8>>,
    manifest: Digest,
    index: Digest,
    pub(super) config: Digest,
}

fn add(blobs: &mut BTreeMap<Digest, Vec<u8>>, bytes: Vec<u8>) -> Digest {
    let digest = Digest::of(&bytes);
    blobs.insert(digest, bytes);
    digest
}

pub(super) fn make() -> Made {
    make_with(zstd)
}

fn make_with(pack: fn(&[u8]) -> Vec<u8>) -> Made {
    let mut blobs = BTreeMap::new();
    let plain =
        [layer(&[("etc/motd", "low"), ("etc/kept", "kept")]), layer(&[("etc/motd", "high")])];
    let packed = [gzip(&plain[0]), pack(&plain[1])];
    let config = json!({
        "architecture": host_architecture(), "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["A=1"], "User": "7", "Entrypoint": null},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&plain[0]), Digest::of(&plain[1])]},
    });
    let config_bytes = config.to_string().len();
    let config = add(&mut blobs, config.to_string().into_bytes());
    let descriptor = |blobs: &mut BTreeMap<Digest, Vec<u8>>, bytes: &[u8]| {
        let digest = add(blobs, bytes.to_vec());
        let media_type = match bytes.starts_with(&[0x1f, 0x8b]) {
            true => "application/vnd.oci.image.layer.v1.tar+gzip",
            false => "application/vnd.oci.image.layer.v1.tar+zstd",
        };
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let layers = [descriptor(&mut blobs, &packed[0]), descriptor(&mut blobs, &packed[1])];
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config,
            "size": config_bytes,
        },
        "layers": layers,
    });
    let manifest_bytes = manifest.to_string().len();
    let manifest = add(&mut blobs, manifest.to_string().into_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [
        {"digest": Digest::of(b"other"), "size": 1, "platform": {"os": "linux", "architecture": "s390x"}},
        {"mediaType": "application/vnd.oci.image.manifest.v1+json",
         "digest": manifest, "size": manifest_bytes, "platform": {"os": "linux", "architecture": host_architecture()}},
    ]});
    let index = add(&mut blobs, index.to_string().into_bytes());
    Made { blobs, manifest, index, config }
}

fn tarball(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, path, &bytes[..]).expect("in memory");
    }
    builder.into_inner().expect("in memory")
}

/// A layout whose blobs come before what names them.
fn oci_layout(made: &Made, name: &str) -> Vec<u8> {
    let blobs = made.blobs.iter();
    let mut files: Vec<_> = blobs
        .map(|(digest, bytes)| (format!("blobs/sha256/{}", digest.hex()), bytes.clone()))
        .collect();
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": made.index, "size": 1,
        "annotations": {"org.opencontainers.image.ref.name": name},
    }]});
    files.push(("index.json".into(), index.to_string().into_bytes()));
    files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    tarball(&files)
}

/// As docker saved before it knew OCI: names instead of digests.
pub(super) fn docker_save(tags: &[&str]) -> Vec<u8> {
    let plain = layer(&[("a", "b")]);
    let config = json!({
        "architecture": host_architecture(), "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&plain)]},
    });
    let manifest = json!([{"Config": "c.json", "RepoTags": tags, "Layers": ["x/layer.tar"]}]);
    tarball(&[
        ("x/layer.tar".into(), plain),
        ("c.json".into(), config.to_string().into_bytes()),
        ("manifest.json".into(), manifest.to_string().into_bytes()),
    ])
}

pub(super) fn new_store() -> Option<(tempfile::TempDir, Arc<ImageStore>)> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give files away");
        return None;
    }
    let dir = tempfile::tempdir().expect("a directory for the test");
    let store = ImageStore::open(dir.path()).expect("a new store");
    Some((dir, Arc::new(store)))
}

pub(super) fn is_empty(dir: &Path, folder: &str) -> bool {
    dir.join(folder).read_dir().expect("readable").next().is_none()
}

#[test]
fn an_oci_layout_is_imported_whole_or_compressed() {
    let Some((dir, store)) = new_store() else { return };
    let made = make();
    let bytes = oci_layout(&made, "example.com/app:v1");
    let path = dir.path().join("image.tar");
    std::fs::write(&path, &bytes).expect("writable");
    let image = &store.import(&path, None).expect("an honest layout")[0];
    assert_eq!(image.id, made.config);
    assert_eq!(image.repo_tags, ["example.com/app:v1"]);
    assert_eq!((image.config.cmd[0].as_str(), image.config.user.as_str()), ("/bin/sh", "7"));
    let read = |at: usize, file: &str| std::fs::read_to_string(image.layer_dirs[at].join(file));
    assert_eq!(read(0, "etc/motd").expect("the top layer"), "high");
    assert_eq!(read(1, "etc/motd").expect("the low layer"), "low");
    assert_eq!(image.size_bytes, 11);
    for packed in [gzip(&bytes), zstd(&bytes)] {
        let again = store.import_reader(&packed[..], "stream", Some("other")).expect("packed");
        assert_eq!(again[0].repo_tags, ["docker.io/library/other:latest", "example.com/app:v1"]);
    }
    assert!(is_empty(dir.path(), "tmp"));
    let again = ImageStore::open(dir.path()).expect("the same store");
    for name in ["other", "example.com/app:v1", &made.config.to_string(), &made.config.hex()] {
        let found = again.resolve(name).expect("valid").expect(name);
        assert_eq!(found.id, made.config);
    }
    assert_eq!(again.resolve("example.com/app:v2").expect("valid"), None);
    assert!(matches!(again.resolve("UPPER"), Err(ImageError::InvalidName { .. })));
}

#[test]
fn docker_saves_are_imported_and_names_move() {
    let Some((_dir, store)) = new_store() else { return };
    let bytes = docker_save(&["app:1", "app:2"]);
    let first = store.import_reader(&bytes[..], "x", None).expect("an honest tarball").remove(0);
    assert_eq!(first.repo_tags, ["docker.io/library/app:1", "docker.io/library/app:2"]);
    let other = oci_layout(&make(), "latest");
    let second = store.import_reader(&other[..], "x", Some("app:2")).expect("honest").remove(0);
    assert_eq!(store.resolve("app:2").expect("valid").expect("there").id, second.id);
    assert_eq!(store.resolve("app:1").expect("valid").expect("there").id, first.id);
    let none = BTreeSet::new();
    let used = BTreeSet::from([second.id]);
    let refused = store.remove("app:2", &used, false);
    assert!(matches!(refused, Err(ImageError::InUse { .. })), "{refused:?}");
    store.remove("app:2", &used, true).expect("forced");
    assert!(second.layer_dirs.iter().all(|dir| !dir.exists()));
    assert!(first.layer_dirs[0].exists());
    store.remove("app:1", &none, false).expect("unused");
    let again = store.remove("app:1", &none, false);
    assert!(matches!(again, Err(ImageError::NoSuchImage { .. })), "{again:?}");
}

#[test]
fn what_other_tools_write_is_imported() {
    let Some((dir, store)) = new_store() else { return };
    // Docker's own format knows no zstd.
    let made = make_with(gzip);
    let layout = dir.path().join("layout");
    std::fs::create_dir_all(layout.join("blobs/sha256")).expect("writable");
    for (digest, bytes) in &made.blobs {
        std::fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).expect("writable");
    }
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": made.manifest, "size": made.blobs[&made.manifest].len(),
        "annotations": {"org.opencontainers.image.ref.name": "v1"},
    }]});
    std::fs::write(layout.join("index.json"), index.to_string()).expect("writable");
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
        .expect("writable");
    for (format, name) in [("docker-archive", None), ("oci-archive", Some("app:v1"))] {
        let file = dir.path().join(format);
        let copied = std::process::Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet"])
            .arg(format!("oci:{}:v1", layout.display()))
            .arg(format!("{format}:{}:app:v1", file.display()))
            .output();
        let copied = match copied {
            Ok(copied) => copied,
            Err(error) => return eprintln!("skipped: skopeo cannot be started: {error}"),
        };
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        let image = store.import(&file, name).expect(format).remove(0);
        assert_eq!(image.repo_tags, ["docker.io/library/app:v1"], "{format}");
        let motd = std::fs::read_to_string(image.layer_dirs[0].join("etc/motd"));
        assert_eq!(motd.expect(format), "high");
        store.remove("app:v1", &BTreeSet::new(), false).expect("unused");
    }
}

#[test]
fn bad_tarballs_are_refused_and_leave_nothing() {
    let Some((dir, store)) = new_store() else { return };
    let check = |bytes: &[u8], text: &str| {
        let error = store.import_reader(bytes, "bad.tar", None).expect_err(text).to_string();
        assert!(error.contains(text), "{error:?} for {text:?}");
        assert!(is_empty(dir.path(), "layers") && is_empty(dir.path(), "images"), "{text}");
        assert!(is_empty(dir.path(), "tmp"), "{text}");
    };
    check(b"", "neither manifest.json nor index.json");
    check(&tarball(&[("x".into(), vec![1])]), "neither manifest.json nor index.json");
    check("root:x:0:0:root:/root:/bin/sh\n".repeat(40).as_bytes(), "it is no tarball of images");
    let good = docker_save(&["app:1"]);
    check(&good[..700], "cut short");
    check(&gzip(&good)[..200], "cut short");
    let mut made = make();
    let blob = made.blobs.iter_mut().find(|(_, bytes)| bytes.starts_with(&[0x1f, 0x8b]));
    blob.expect("a gzip layer").1[20] ^= 1;
    let error = store.import_reader(&oci_layout(&made, "a:b")[..], "x", None).expect_err("damaged");
    assert_eq!(error.reason(), "ErrImagePull");
    let swapped = layer(&[("a", "c")]);
    let config = json!({"architecture": host_architecture(), "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"")]}});
    let manifest = |layers: &[&str], tag: &str| {
        json!([{"Config": "c.json", "RepoTags": [tag], "Layers": layers}]).to_string().into_bytes()
    };
    let with = |manifest: Vec<u8>, config: &serde_json::Value| {
        tarball(&[
            ("l.tar".into(), swapped.clone()),
            ("c.json".into(), config.to_string().into_bytes()),
            ("manifest.json".into(), manifest),
        ])
    };
    check(&with(manifest(&["l.tar"], "a"), &config), "(unpacked) has digest sha256:");
    check(&with(manifest(&["gone.tar"], "a"), &config), "\"gone.tar\" is missing");
    check(&with(manifest(&[], "a"), &config), "names 1 layers, and the manifest 0");
    check(&with(manifest(&["l.tar"], "A"), &config), "must be lowercase");
    let other = json!({"architecture": "s390x", "os": "linux", "rootfs": {"diff_ids": []}});
    check(&with(manifest(&["l.tar"], "a"), &other), "no match for platform");
    check(&with(b"{".to_vec(), &config), "manifest.json: ");
}

#[test]
fn nobody_else_reaches_what_images_hold() {
    let Some((dir, store)) = new_store() else { return };
    let image = store.import_reader(&docker_save(&["app:1"])[..], "x", None).expect("honest");
    let file = image[0].layer_dirs[0].join("a");
    let try_as_nobody =
        || Command::new("cat").arg(&file).uid(65534).output().expect("cat runs").status.success();
    let mode = |mode| std::fs::set_permissions(dir.path(), Permissions::from_mode(mode));
    assert!(!try_as_nobody());
    // As older versions left it.
    mode(0o755).expect("ours");
    assert!(try_as_nobody(), "nothing but the root folder stands in the way");
    drop(store);
    let _store = ImageStore::open(dir.path()).expect("the same store");
    assert!(!try_as_nobody());
    let folder = dir.path().metadata().expect("there");
    assert_eq!(folder.permissions().mode() & 0o7777, 0o700);
}

#[test]
fn names_without_end_are_not_kept() {
    let Some((dir, store)) = new_store() else { return };
    let refused = |error: ImageError, text: &str| {
        let error = error.to_string();
        assert!(error.contains(text) && error.len() < 500, "{error:?} for {text:?}");
    };
    // Three gigabytes that take no room on the disk, nor in memory.
    let path = dir.path().join("giant.tar");
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(3 << 30);
    header.set_cksum();
    std::fs::write(&path, header.as_bytes()).expect("writable");
    let file = std::fs::File::options().write(true).open(&path).expect("ours");
    file.set_len(4 << 30).expect("a sparse file");
    refused(store.import(&path, None).expect_err("a giant"), "have over 1048576 bytes");
    let long = tarball(&[("a/".repeat(3000), Vec::new())]);
    refused(store.import_reader(&long[..], "x", None).expect_err("long"), "of over 4096 bytes");
    let many: Vec<_> = (0..5000).map(|at| (format!("{at}/").repeat(800), Vec::new())).collect();
    let many = gzip(&tarball(&many));
    refused(store.import_reader(&many[..], "x", None).expect_err("many"), "more files than any");
    let missing = json!([{"Config": "c".repeat(1 << 20), "Layers": []}]).to_string();
    let missing = tarball(&[("manifest.json".into(), missing.into_bytes())]);
    refused(store.import_reader(&missing[..], "x", None).expect_err("none"), "is missing");
}

#[test]
fn what_a_crash_left_half_done_is_cleaned_up() {
    let Some((dir, store)) = new_store() else { return };
    store.import_reader(&docker_save(&["app:1"])[..], "x", None).expect("honest");
    drop(store);
    std::fs::create_dir_all(dir.path().join("tmp/layer-0/fs/etc")).expect("writable");
    std::fs::write(dir.path().join("images/aa.partial"), "{").expect("writable");
    let store = ImageStore::open(dir.path()).expect("the same store");
    assert!(is_empty(dir.path(), "tmp"));
    assert_eq!(store.list().len(), 1);
    // A layer whose image was never recorded goes with the next collection.
    let orphan = dir.path().join("layers").join(Digest::of(b"orphan").hex());
    std::fs::create_dir_all(&orphan).expect("writable");
    store
        .collect(&crate::gc::Request { free_bytes: Some(0), ..Default::default() })
        .expect("works");
    assert!(!orphan.exists());
    assert_eq!(store.list().len(), 1);
}

/// A registry that wants a token, points blobs elsewhere, and breaks off.
#[derive(Default)]
pub(super) struct Fake {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Vec<u8>>,
    /// Answers to blobs end after so many bytes, once each.
    cut: Mutex<BTreeMap<String, usize>>,
    /// What was asked, with the first word of the credentials.
    log: Mutex<Vec<String>>,
    address: Mutex<String>,
}

impl Fake {
    pub(super) async fn start(self) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        *self.address.lock().expect("no panics") = address.clone();
        let this = Arc::new(self);
        let server = this.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        (this, address)
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let answer = self.answer(&head);
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
    }

    fn answer(&self, head: &str) -> Vec<u8> {
        let path = head.split(' ').nth(1).unwrap_or("").to_owned();
        let header = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(": ")?;
                key.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
        };
        let credentials = header("authorization").unwrap_or_default();
        self.log.lock().expect("no panics").push(format!("{path} {credentials}"));
        let address = self.address.lock().expect("no panics").clone();
        let simple = |status: &str, extra: &str, body: &[u8]| {
            let head =
                format!("HTTP/1.1 {status}\r\n{extra}Content-Length: {}\r\n\r\n", body.len());
            [head.as_bytes(), body].concat()
        };
        if path.starts_with("/token") {
            let expected = format!("Basic {}", STANDARD.encode("me:secret"));
            return match credentials == expected {
                true => simple("200 OK", "", br#"{"token":"sesame"}"#),
                false => simple("401 Unauthorized", "", b""),
            };
        }
        if let Some(digest) = path.strip_prefix("/cdn/") {
            let Some(bytes) = self.blobs.get(digest) else {
                return simple("404 Not Found", "", b"");
            };
            let range = header("range").and_then(|range| {
                let (from, _) = range.strip_prefix("bytes=")?.split_once('-')?;
                from.parse::<usize>().ok()
            });
            let bytes = &bytes[range.unwrap_or(0)..];
            let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
            let mut answer = simple(status, "", bytes);
            if let Some(cut) = self.cut.lock().expect("no panics").remove(digest) {
                answer.truncate(answer.len() - bytes.len() + cut);
            }
            return answer;
        }
        if credentials != "Bearer sesame" {
            let extra = format!(
                "WWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"fake\"\r\n"
            );
            return simple("401 Unauthorized", &extra, b"");
        }
        if let Some((_, digest)) = path.split_once("/blobs/") {
            let extra = format!(
                "Location: http://localhost:{}/cdn/{digest}\r\n",
                address.rsplit(':').next().unwrap_or("")
            );
            return simple("307 Temporary Redirect", &extra, b"");
        }
        let manifest =
            path.split_once("/manifests/").and_then(|(_, name)| self.manifests.get(name));
        match manifest {
            Some(bytes) => simple("200 OK", "", bytes),
            None => simple("404 Not Found", "", b"{}"),
        }
    }
}

pub(super) fn fake(made: &Made) -> Fake {
    let by_name = |(digest, bytes): (&Digest, &Vec<u8>)| (digest.to_string(), bytes.clone());
    let blobs: BTreeMap<String, Vec<u8>> = made.blobs.iter().map(by_name).collect();
    let mut manifests = BTreeMap::new();
    for digest in [made.manifest, made.index] {
        manifests.insert(digest.to_string(), made.blobs[&digest].clone());
    }
    manifests.insert("v1".into(), made.blobs[&made.index].clone());
    Fake { blobs, manifests, ..Fake::default() }
}

pub(super) fn me() -> PullOptions {
    let auth = Auth { username: "me".into(), password: "secret".into() };
    PullOptions { auth: Some(auth), ..PullOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_pulled_through_tokens_redirects_and_broken_connections() {
    let Some((dir, store)) = new_store() else { return };
    let made = make();
    let registry = fake(&made);
    let layers = made.blobs.iter().filter(|(_, bytes)| bytes.starts_with(&[0x1f, 0x8b]));
    let cut = layers.map(|(digest, bytes)| (digest.to_string(), bytes.len() / 2));
    *registry.cut.lock().expect("no panics") = cut.collect();
    let (registry, address) = registry.start().await;
    let name = format!("{address}/team/app:v1");
    let image = store.pull(&name, &me()).await.expect("pulled");
    assert_eq!(image.id, made.config);
    assert_eq!(image.repo_tags, std::slice::from_ref(&name));
    assert_eq!(image.repo_digests, [format!("{address}/team/app@{}", made.index)]);
    let motd = std::fs::read_to_string(image.layer_dirs[0].join("etc/motd"));
    assert_eq!(motd.expect("unpacked"), "high");
    assert!(is_empty(dir.path(), "tmp"));
    let log = registry.log.lock().expect("no panics").clone();
    let cdn: Vec<_> = log.iter().filter(|line| line.starts_with("/cdn/")).collect();
    assert!(!cdn.is_empty() && cdn.iter().all(|line| line.ends_with(' ')), "{cdn:?}");
    // By digest, and with everything here already: no layer comes again.
    let by_digest = format!("{address}/team/app@{}", made.manifest);
    let before = log.len();
    let again = store.pull(&by_digest, &me()).await.expect("pulled");
    assert_eq!(again.id, image.id);
    assert_eq!(store.resolve(&by_digest).expect("valid").expect("there").id, image.id);
    let log = registry.log.lock().expect("no panics").clone();
    let layers = log[before..].iter().filter(|line| line.starts_with("/cdn/")).count();
    assert_eq!(layers, 1, "only the configuration: {:?}", &log[before..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_pulls_say_why_and_leave_nothing() {
    let Some((dir, store)) = new_store() else { return };
    let made = make();
    let mut bad = fake(&made);
    for bytes in bad.blobs.values_mut().filter(|bytes| bytes.starts_with(&[0x1f, 0x8b])) {
        let at = bytes.len() - 1;
        bytes[at] ^= 1;
    }
    bad.manifests.insert("broken".into(), b"{}".to_vec());
    bad.manifests.insert(Digest::of(b"x").to_string(), b"{}".to_vec());
    let (_, address) = bad.start().await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("bound").to_string()
    };
    for (name, options, reason, text) in [
        (format!("{address}/app:v2"), me(), "ErrImagePull", ":v2: not found"),
        (format!("{address}/app:v1"), PullOptions::default(), "ErrImagePull", "pull access denied"),
        (format!("{address}/app:v1"), me(), "ErrImagePull", "layer sha256:"),
        (format!("{address}/app:broken"), me(), "ErrImagePull", "neither an image manifest"),
        (format!("{address}/app@{}", Digest::of(b"x")), me(), "ErrImagePull", "has digest"),
        (format!("{closed}/app"), me(), "RegistryUnavailable", "Connection refused"),
        ("bad name".into(), me(), "InvalidImageName", "couldn't parse image name"),
    ] {
        let error = store.pull(&name, &options).await.expect_err(&name);
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
    assert!(store.list().is_empty() && is_empty(dir.path(), "tmp"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pulls_of_a_name_fetch_its_layers_once() {
    let Some((_dir, store)) = new_store() else { return };
    let made = make();
    let (registry, address) = fake(&made).start().await;
    let name = format!("{address}/team/app:v1");
    let options = me();
    let (first, second) = tokio::join!(store.pull(&name, &options), store.pull(&name, &options));
    assert_eq!(first.expect("pulled"), second.expect("pulled"));
    let log = registry.log.lock().expect("no panics").clone();
    let fetched = log.iter().filter(|line| line.starts_with("/cdn/")).count();
    assert_eq!(fetched, 4, "two layers, and the configuration twice: {log:?}");
}
