//! Images that come as files, and from a registry of Debian's.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    cluster::{Cluster, comes_to_print, run},
    harness::until,
};

/// A docker-save tarball with one layer that holds busybox.
fn busybox_tarball(cluster: &Cluster, name: &str) -> PathBuf {
    let root = cluster.path("image");
    fs::create_dir_all(root.join("layer/bin")).expect("our own folder");
    fs::copy(which("busybox"), root.join("layer/bin/busybox")).expect("busybox of Debian");
    let config =
        serde_json::json!({"Cmd": ["/bin/busybox", "sh"], "Env": ["PATH=/bin", "FROM_IMAGE=yes"]});
    docker_save(&root, &root.join("layer"), name, &config)
}

/// What `docker save` would write for an image of one layer.
fn docker_save(root: &Path, layer: &Path, name: &str, config: &serde_json::Value) -> PathBuf {
    docker_save_of(root, layer, &["."], name, config)
}

/// The same, with the layer's members as `tar` is told to name them.
fn docker_save_of(
    root: &Path,
    layer: &Path,
    members: &[&str],
    name: &str,
    config: &serde_json::Value,
) -> PathBuf {
    let tar = |archive: &str, from: &Path, what: &[&str]| {
        let done = Command::new("tar")
            .arg("-C")
            .arg(from)
            .arg("-cf")
            .arg(root.join(archive))
            .args(what)
            .status();
        assert!(done.expect("tar").success(), "tar {archive}");
    };
    tar("layer.tar", layer, members);
    let sum =
        Command::new("sha256sum").arg(root.join("layer.tar")).output().expect("sha256sum").stdout;
    let diff_id =
        String::from_utf8_lossy(&sum).split_whitespace().next().expect("a sum").to_owned();
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::json!({
        "architecture": arch, "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
    });
    fs::write(root.join("config.json"), config.to_string()).expect("our own folder");
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    fs::write(root.join("manifest.json"), manifest.to_string()).expect("our own folder");
    tar("image.tar", root, &["manifest.json", "config.json", "layer.tar"]);
    root.join("image.tar")
}

fn which(program: &str) -> String {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .expect("sh")
        .stdout;
    String::from_utf8_lossy(&found).trim().to_owned()
}

#[test]
fn an_imported_image_runs_and_a_broken_one_is_refused() {
    let Some(cluster) = Cluster::start() else { return };
    let data_dir = cluster.data_dir().to_string_lossy().into_owned();
    let image = |args: &[&str]| {
        let mut all = vec!["image"];
        all.extend(args);
        all.extend(["--data-dir", &data_dir]);
        cluster.skiff(&all)
    };
    let tarball = busybox_tarball(&cluster, "example.com/busybox:1");
    let path = tarball.to_string_lossy().into_owned();
    image(&["import", &path]).prints("example.com/busybox:1");
    image(&["ls"]).prints("example.com/busybox");
    image(&["ls"]).prints("skiff.local/toolbox");

    cluster
        .kubectl_args(&[
            "run",
            "box",
            "--image=example.com/busybox:1",
            "--restart=Never",
            "--",
            "busybox",
            "sh",
            "-c",
            "echo in $FROM_IMAGE; busybox id -u",
        ])
        .ok();
    cluster.kubectl("wait --for=jsonpath={.status.phase}=Succeeded pod/box --timeout=180s").ok();
    assert_eq!(cluster.kubectl("logs box").ok().stdout, "in yes\n0\n");
    image(&["rm", "example.com/busybox:1"]).ok();
    assert!(!image(&["ls"]).ok().stdout.contains("busybox"));

    let whole = fs::read(&tarball).expect("just written");
    fs::write(&tarball, &whole[..whole.len() / 2]).expect("our own file");
    let cut = image(&["import", &path]);
    assert!(!cut.success, "a tarball that is cut short is refused");
    // A layer that climbs out of its directory.
    let climbs = ["-P", "--transform", "s,^bin,../../../escaped,", "bin"];
    let root = cluster.path("image");
    let name = "example.com/busybox:evil";
    let evil = docker_save_of(&root, &root.join("layer"), &climbs, name, &serde_json::json!({}));
    image(&["import", &evil.to_string_lossy()]).fails_with("..");
    assert!(!cluster.path("escaped").exists() && !cluster.data_dir().join("escaped").exists());
    assert!(!image(&["ls"]).ok().stdout.contains("busybox"), "nothing half-imported is listed");
}

/// A registry process in the cluster's network namespace.
struct Registry(std::process::Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Debian's registry on a port of the cluster's loopback; `None` where it is
/// not installed.
fn registry(cluster: &Cluster, port: u16) -> Option<Registry> {
    registry_with(cluster, port, "")
}

/// The same, with more lines of configuration.
fn registry_with(cluster: &Cluster, port: u16, more: &str) -> Option<Registry> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bin/docker-registry");
    let program = if beside.exists() {
        beside.to_string_lossy().into_owned()
    } else {
        which("docker-registry")
    };
    for (found, package) in [
        (&program, "docker-registry"),
        (&which("skopeo"), "skopeo"),
        (&which("mmdebstrap"), "mmdebstrap"),
    ] {
        if found.is_empty() {
            eprintln!("skipped: needs {package} of Debian; ./x test installs it");
            return None;
        }
    }
    let config = cluster.path("registry.yml");
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{more}",
        cluster.path("registry").display()
    );
    fs::write(&config, text).expect("our own folder");
    let log = fs::File::create(cluster.path("registry.log")).expect("our own folder");
    let child = cluster
        .command(&program)
        .arg("serve")
        .arg(&config)
        .stdout(std::process::Stdio::null())
        .stderr(log)
        .spawn();
    let registry = Registry(child.expect("the registry starts"));
    // It listens before it says so; curl waits for the port.
    let up = cluster
        .command("curl")
        .args(["-s", "--retry", "60", "--retry-connrefused", "--retry-delay", "1"])
        .arg(format!("http://127.0.0.1:{port}/v2/"))
        .output();
    assert!(up.expect("curl").status.success(), "the registry answers");
    Some(registry)
}

/// A docker-save tarball of packages of Debian, as they are without their
/// maintainer scripts; `None` where it cannot be made here.
fn debian(cluster: &Cluster, packages: &str, name: &str) -> Option<PathBuf> {
    if which("mmdebstrap").is_empty() {
        eprintln!("skipped: needs mmdebstrap of Debian; ./x test installs it");
        return None;
    }
    let layer = debian_layer(cluster, packages);
    Some(docker_save(layer.parent()?, &layer, name, &serde_json::json!({})))
}

/// Packages of Debian as an image that the server has; whether it can be made here.
pub(super) fn import_debian(cluster: &Cluster, packages: &str, image: &str) -> bool {
    let Some(tarball) = debian(cluster, packages, image) else { return false };
    let data = cluster.data_dir();
    let import = ["image", "import", &tarball.to_string_lossy(), "--data-dir"];
    cluster.skiff(&[&import[..], &[&data.to_string_lossy()]].concat()).prints(image);
    true
}

/// The files of packages of Debian, below a folder that is theirs alone.
fn debian_layer(cluster: &Cluster, packages: &str) -> PathBuf {
    let main = packages.split(',').next().unwrap_or_default();
    let root = cluster.path(&format!("debian-{main}"));
    fs::create_dir_all(&root).expect("our own folder");
    let layer = root.join("root");
    let made = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=extract"])
        .arg(format!("--include={packages},base-files,libc-bin"))
        .arg("bookworm")
        .arg(&layer)
        .output()
        .expect("mmdebstrap");
    assert!(made.status.success(), "mmdebstrap: {}", String::from_utf8_lossy(&made.stderr));
    // Maintainer scripts did not run: the accounts and folders they would make.
    fs::write(
        layer.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    )
    .expect("our own folder");
    fs::write(layer.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").expect("our own folder");
    if layer.join("bin/dash").exists() && !layer.join("bin/sh").exists() {
        symlink("dash", layer.join("bin/sh")).expect("our own folder");
    }
    layer
}

/// A docker-save tarball of Debian's nginx.
fn nginx_tarball(cluster: &Cluster, name: &str) -> PathBuf {
    let layer = debian_layer(cluster, "nginx-light");
    let root = layer.parent().expect("it is below one");
    let conf = "daemon off;\nerror_log stderr;\nevents {}\nhttp { access_log off; server { listen 80; location / { return 200 \"nginx of Debian\\n\"; } } }\n";
    fs::write(layer.join("etc/nginx/nginx.conf"), conf).expect("our own folder");
    docker_save(root, &layer, name, &serde_json::json!({"Cmd": ["/usr/sbin/nginx"]}))
}

#[test]
fn nginx_comes_from_a_registry_and_serves() {
    let Some(cluster) = Cluster::start() else { return };
    let Some(_registry) = registry(&cluster, 5000) else { return };
    let tarball = nginx_tarball(&cluster, "127.0.0.1:5000/nginx:1");
    let pushed = cluster
        .command("skopeo")
        .args(["copy", "--insecure-policy", "--dest-tls-verify=false"])
        .arg(format!("docker-archive:{}", tarball.display()))
        .arg("docker://127.0.0.1:5000/nginx:1")
        .output()
        .expect("skopeo");
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    cluster.kubectl("create deployment nginx --image=127.0.0.1:5000/nginx:1 --replicas=2").ok();
    cluster.kubectl("expose deployment nginx --port=80").ok();
    cluster.kubectl("rollout status deployment/nginx --timeout=180s").ok();
    let address = cluster.kubectl("get service nginx -o jsonpath={.spec.clusterIP}").ok().stdout;
    let url = format!("http://{address}/");
    let curl = || run(cluster.command("curl").args(["-s", "--max-time", "10", &url]), None);
    let answer = comes_to_print(curl, "nginx");
    assert_eq!(answer.stdout, "nginx of Debian\n");
    cluster.comes_to_print("get events", "Successfully pulled image");
}

#[test]
fn bundles_in_the_folder_are_there_before_the_first_pod() {
    let Some(mut cluster) = Cluster::prepare(&[]) else { return };
    let tarball = busybox_tarball(&cluster, "example.com/busybox:1");
    let folder = cluster.data_dir().join("agent/images");
    fs::create_dir_all(&folder).expect("our own folder");
    fs::copy(&tarball, folder.join("images.tar")).expect("our own folder");
    fs::write(folder.join("broken.tar"), "no tarball").expect("our own folder");
    cluster.start_server();
    let run = "run box --image=example.com/busybox:1 --image-pull-policy=Never --restart=Never";
    cluster.kubectl(&format!("{run} -- busybox id -u")).ok();
    cluster.kubectl("wait --for=jsonpath={.status.phase}=Succeeded pod/box --timeout=180s").ok();
    assert_eq!(cluster.kubectl("logs box").ok().stdout, "0\n");
    let log = cluster.log();
    assert!(log.contains("an image bundle is not imported") && log.contains("broken.tar"), "{log}");
    cluster.stop_server();
    cluster.start_server();
    let imports = cluster.log().matches("imported an image bundle").count();
    assert_eq!(imports, 1, "a file that has not changed is not imported again");
}

#[test]
pub(super) fn a_mirror_of_the_registries_file_stands_in_for_a_registry() {
    let Some(mut cluster) = Cluster::prepare(&[]) else { return };
    let Some(_registry) = registry(&cluster, 5001) else { return };
    let tarball = busybox_tarball(&cluster, "example.com/busybox:1");
    let pushed = cluster
        .command("skopeo")
        .args(["copy", "--insecure-policy", "--dest-tls-verify=false"])
        .arg(format!("docker-archive:{}", tarball.display()))
        .arg("docker://127.0.0.1:5001/mirrored/busybox:1")
        .output()
        .expect("skopeo");
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let file = cluster.path("registries.yaml");
    let text = "mirrors:\n  example.com:\n    endpoint: [\"http://127.0.0.1:5999\", \"http://127.0.0.1:5001\"]\n    rewrite: {\"^(busybox)$\": \"mirrored/$1\"}\n";
    fs::write(&file, text).expect("our own folder");
    cluster.add_flags(&["--private-registry", &file.to_string_lossy()]);
    cluster.start_server();
    cluster.kubectl("run box --image=example.com/busybox:1 --restart=Never -- busybox id -u").ok();
    cluster.kubectl("wait --for=jsonpath={.status.phase}=Succeeded pod/box --timeout=180s").ok();
    assert_eq!(cluster.kubectl("logs box").ok().stdout, "0\n");
    // A volume of an image, asked for anew each time.
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: volume}\nspec:\n  terminationGracePeriodSeconds: 1\n  volumes: [{name: v, image: {reference: 'example.com/busybox:1', pullPolicy: Always}}]\n  containers: [{name: c, image: skiff.local/toolbox, args: [sleep, infinity], volumeMounts: [{name: v, mountPath: /v}]}]\n";
    cluster.apply(pod).ok();
    cluster.kubectl("wait --for=condition=Ready pod/volume --timeout=180s").ok();
    cluster.kubectl("exec volume -- toolbox ls /v/bin").prints("busybox");
    cluster.kubectl("exec volume -- toolbox write /v/bin/x y").fails_with("Read-only file system");
    cluster.stop_server();
    fs::write(&file, "mirrors: {example.com: {endpont: []}}").expect("our own folder");
    let refused = cluster.server_command().output().expect("the binary runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("registries.yaml") && said.contains("endpont"),
        "{said}"
    );
}

#[test]
fn a_registry_lets_in_whom_a_plugin_or_an_account_knows() {
    // puller:sesame
    const USERS: &str = "puller:$2b$04$8ySz2P2E.ThwwC49B6FLoeZcV1x7qJ9nUuSnmFQ4B8/ro.nchoS6S\n";
    const REGISTRY: &str = "127.0.0.1:5003";
    let Some(mut cluster) = Cluster::prepare(&[]) else { return };
    let users = cluster.path("users");
    fs::write(&users, USERS).expect("our own folder");
    let more = format!("auth: {{htpasswd: {{realm: r, path: {}}}}}\n", users.display());
    let Some(_registry) = registry_with(&cluster, 5003, &more) else { return };
    let tarball = busybox_tarball(&cluster, "example.com/busybox:1");
    for path in ["by-plugin", "by-account"] {
        let pushed = cluster
            .command("skopeo")
            .args(["copy", "--insecure-policy", "--dest-tls-verify=false"])
            .args(["--dest-creds", "puller:sesame"])
            .arg(format!("docker-archive:{}", tarball.display()))
            .arg(format!("docker://{REGISTRY}/{path}/busybox:1"))
            .output()
            .expect("skopeo");
        assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    }
    let (file, programs) = (cluster.path("plugins.yaml"), cluster.path("plugins"));
    let config = format!(
        "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n\
         - {{name: known, matchImages: ['{REGISTRY}/by-plugin'], defaultCacheDuration: 1m,\n\
         \x20   apiVersion: credentialprovider.kubelet.k8s.io/v1}}\n"
    );
    fs::write(&file, config).expect("our own folder");
    fs::create_dir(&programs).expect("our own folder");
    // The first password is of yesterday; the next is tried.
    let answer = format!(
        r#"{{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry","auth":{{"{REGISTRY}/by-plugin":{{"username":"puller","password":"old"}},"{REGISTRY}":{{"username":"puller","password":"sesame"}}}}}}"#
    );
    let program = programs.join("known");
    fs::write(&program, format!("#!/bin/sh\ncat > /dev/null\necho '{answer}'\n")).expect("ours");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("ours");
    let (file, programs) = (file.to_string_lossy(), programs.to_string_lossy());
    cluster.add_flags(&["--image-credential-provider-config", &file]);
    let half = cluster.server_command().output().expect("the binary runs");
    let said = String::from_utf8_lossy(&half.stderr);
    assert!(said.contains("needs --image-credential-provider-bin-dir too"), "{said}");
    cluster.add_flags(&["--image-credential-provider-bin-dir", &programs]);
    cluster.start_server();
    let run = |name: &str, path: &str, more: &str| {
        let line = format!("run {name} --image={REGISTRY}/{path}/busybox:1 --restart=Never");
        let line = format!("{line} {more} -- busybox id -u");
        cluster.kubectl(&line).ok();
    };
    let succeeds = |name: &str| {
        let wait = "wait --for=jsonpath={.status.phase}=Succeeded --timeout=180s";
        cluster.kubectl(&format!("{wait} pod/{name}")).ok();
    };
    run("by-plugin", "by-plugin", "");
    succeeds("by-plugin");
    run("stranger", "by-account", "");
    let reason = "{.status.containerStatuses[0].state.waiting.reason}=ImagePullBackOff";
    cluster.kubectl(&format!("wait --for=jsonpath={reason} pod/stranger --timeout=180s")).ok();
    // Now and then it is tried again, and then something else is said.
    until("it is said why there is no log", || {
        cluster.kubectl("logs stranger").stderr.contains("trying and failing to pull image")
    });
    let secret = "create secret docker-registry puller --docker-username=puller";
    let login = format!("{secret} --docker-password=sesame --docker-server={REGISTRY}");
    cluster.kubectl(&login).ok();
    cluster.kubectl("create serviceaccount puller").ok();
    let known = r#"{"imagePullSecrets":[{"name":"puller"}]}"#;
    cluster.kubectl_args(&["patch", "serviceaccount", "puller", "-p", known]).ok();
    run("by-account", "by-account", r#"--overrides={"spec":{"serviceAccountName":"puller"}}"#);
    succeeds("by-account");
    an_image_that_is_here_is_for_who_could_pull_it(&cluster, REGISTRY);
}

fn an_image_that_is_here_is_for_who_could_pull_it(cluster: &Cluster, registry: &str) {
    let image = format!("{registry}/by-account/busybox:1");
    let run = |namespace: &str, name: &str, policy: &str, more: &str| {
        let line = format!(
            "-n {namespace} run {name} --image={image} --image-pull-policy={policy} --restart=Never \
             {more} -- busybox true"
        );
        cluster.kubectl(&line).ok();
    };
    let waits = |name: &str, reason: &str| {
        let reason = format!("{{.status.containerStatuses[0].state.waiting.reason}}={reason}");
        cluster.kubectl(&format!("wait --for=jsonpath={reason} pod/{name} --timeout=180s")).ok();
    };
    // Who has no Secret asks the registry, and is told what it told others.
    run("default", "nobody", "IfNotPresent", "");
    waits("nobody", "ImagePullBackOff");
    run("default", "never", "Never", "");
    waits("never", "ErrImageNeverPull");
    let account = r#"--overrides={"spec":{"serviceAccountName":"puller"}}"#;
    run("default", "again", "IfNotPresent", account);
    let wait = "wait --for=jsonpath={.status.phase}=Succeeded --timeout=180s";
    cluster.kubectl(&format!("{wait} pod/again")).ok();
    let said = "get events --field-selector involvedObject.name=again,reason=Pulled -o \
                jsonpath={.items[*].message}";
    until("it is said that it may", || {
        cluster.kubectl(said).stdout.contains("already present on machine and can be accessed by")
    });
    // The node's own credentials are for all of its pods, as those of a plugin.
    let by_plugin = format!("run shared --image={registry}/by-plugin/busybox:1 --restart=Never");
    cluster.kubectl(&format!("{by_plugin} -- busybox true")).ok();
    cluster.kubectl(&format!("{wait} pod/shared")).ok();
}

#[test]
fn images_that_nothing_uses_go_when_their_disk_fills_up() {
    // Any disk is that full.
    let flags = [
        "--image-gc-high-threshold=1",
        "--image-gc-low-threshold=0",
        "--minimum-image-ttl-duration=1s",
    ];
    let Some(cluster) = Cluster::start_with(&flags) else { return };
    cluster.wait_node_ready();
    let data_dir = cluster.data_dir().to_string_lossy().into_owned();
    let tarball = busybox_tarball(&cluster, "example.com/unused:1");
    let path = tarball.to_string_lossy().into_owned();
    cluster.skiff(&["image", "import", &path, "--data-dir", &data_dir]).ok();
    // `skiff image` tells; nothing can be watched for.
    let start = std::time::Instant::now();
    loop {
        let listed = cluster.skiff(&["image", "ls", "--data-dir", &data_dir]).ok().stdout;
        assert!(listed.contains("skiff.local/toolbox"), "what is built in stays:\n{listed}");
        if !listed.contains("example.com/unused") {
            break;
        }
        assert!(start.elapsed().as_secs() < 60, "it is still there:\n{listed}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}
