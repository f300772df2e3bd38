//! `xtask dist OUT [--target TRIPLE]… [--profile NAME] [--binary FILE] [--releases URL]
//! [--key KEY.pem]`: a release.
//!
//! In `OUT/VERSION/` are a static binary for each target, the same packed by gzip, which is
//! what is downloaded, `SHA256SUMS`, its signature where a key is given, the manual pages, and the list of what is inside (CycloneDX
//! 1.5); in `OUT/` the installer that goes with them, and the channel files.
//! With `--binary` this one is packed for this machine and nothing is built. The key is ECDSA
//! over P-256: `openssl ecparam -name prime256v1 -genkey -noout`.
//!
//! Releases are for `x86_64-unknown-linux-gnu`, `aarch64-unknown-linux-gnu` and
//! `armv7-unknown-linux-gnueabihf`; `./x cross TARGET` gets what is needed to build for
//! one that is not this machine's. That of x86_64 is linked where glibc is 2.36 or newer.
//! Where none of the targets runs here the manual pages, which the program prints, are
//! left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::toolchain::{self, architecture};

const HOST: &str = "x86_64-unknown-linux-gnu";
/// The programs of a release: the one that is installed, and those inside it.
const PROGRAMS: [&str; 3] = ["skiff", "node-shim", "toolbox"];

struct Settings {
    out: PathBuf,
    targets: Vec<String>,
    profile: String,
    binary: Option<PathBuf>,
    releases: String,
    key: Option<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
/// The first step that fails, and why.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let settings = parse(args)?;
    let version = version()?;
    let folder = settings.out.join(&version);
    make(&folder)?;
    let mut names = Vec::new();
    for target in &settings.targets {
        let built = match &settings.binary {
            Some(binary) => binary.clone(),
            None => build(target, &settings.profile)?,
        };
        let name = format!("skiff-{}", architecture(target)?.name);
        fs::copy(&built, folder.join(&name))
            .map_err(|error| format!("{}: {error}", built.display()))?;
        // Without its name and time: one hash for two releases of one source.
        done(Command::new("gzip").args(["-n9kf", "--", &name]).current_dir(&folder))?;
        names.extend([format!("{name}.gz"), name]);
    }
    names.extend(manual_pages(&settings, &folder)?);
    let list = format!("skiff-{version}.cdx.json");
    write(&folder.join(&list), &contents(&version, &settings.targets)?)?;
    names.push(list);
    let mut words = vec!["--".to_owned()];
    words.extend(names);
    let sums = output(Command::new("sha256sum").args(&words).current_dir(&folder))?;
    write(&folder.join("SHA256SUMS"), &sums)?;
    let public = settings.key.as_deref().map(|key| sign(key, &folder)).transpose()?;
    write(&settings.out.join("install.sh"), &installer(&settings.releases, public.as_deref())?)?;
    make(&settings.out.join("channels"))?;
    for channel in ["stable", "latest"] {
        write(&settings.out.join("channels").join(channel), &format!("{version}\n"))?;
    }
    println!("{}", folder.display());
    Ok(())
}

/// Packs the manual pages, which the program of this machine prints; none where
/// only others are made.
fn manual_pages(settings: &Settings, folder: &Path) -> Result<Option<String>, String> {
    const PACKED: &str = "skiff-man.tar.gz";
    let known = settings.targets.iter().filter_map(|target| architecture(target).ok());
    let Some(ours) = known.into_iter().find(|architecture| architecture.is_own()) else {
        return Ok(None);
    };
    let program = folder.join(format!("skiff-{}", ours.name));
    let pages = folder.join("man");
    make(&pages)?;
    done(Command::new(&program).args(["man", "--into"]).arg(&pages))?;
    // One hash for two releases of one source: no times and owners in it.
    done(
        Command::new("tar")
            .args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"])
            .args(["--use-compress-program=gzip -n", "-cf", PACKED, "man"])
            .current_dir(folder),
    )?;
    fs::remove_dir_all(&pages).map_err(|error| format!("{}: {error}", pages.display()))?;
    Ok(Some(PACKED.to_owned()))
}

fn parse(args: &[String]) -> Result<Settings, String> {
    const USAGE: &str = "usage: dist OUT [--target TRIPLE]… [--profile NAME] [--binary FILE] \
                         [--releases URL] [--key KEY.pem]";
    let mut settings = Settings {
        out: PathBuf::new(),
        targets: Vec::new(),
        profile: "dist".into(),
        binary: None,
        releases: "@RELEASES@".into(),
        key: None,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().ok_or(format!("{arg} takes a value; {USAGE}"));
        match arg.as_str() {
            "--target" => settings.targets.push(value()?),
            "--profile" => settings.profile = value()?,
            "--binary" => settings.binary = Some(value()?.into()),
            "--releases" => settings.releases = value()?.trim_end_matches('/').to_owned(),
            "--key" => settings.key = Some(value()?.into()),
            out if !out.starts_with('-') && settings.out.as_os_str().is_empty() => {
                settings.out = std::path::absolute(out).map_err(|error| error.to_string())?;
            }
            _ => return Err(USAGE.into()),
        }
    }
    if settings.out.as_os_str().is_empty() {
        return Err(USAGE.into());
    }
    if settings.targets.is_empty() {
        settings.targets.push(HOST.into());
    }
    Ok(settings)
}

/// The version as the binary says it.
fn version() -> Result<String, String> {
    let source = "crates/skiff/src/commands/mod.rs";
    let text = read(Path::new(source))?;
    let line = text.lines().find_map(|line| line.strip_prefix("pub const VERSION: &str = \""));
    let version = line.and_then(|line| line.strip_suffix("\";"));
    version.map(str::to_owned).ok_or(format!("{source} has no line with the version"))
}

/// Builds one static binary.
fn build(target: &str, profile: &str) -> Result<PathBuf, String> {
    // The same bytes wherever the sources and the registry are kept.
    let here = std::env::current_dir().map_err(|error| error.to_string())?;
    let cargo_home = std::env::var("CARGO_HOME").ok();
    let home = std::env::var("HOME").map(|home| format!("{home}/.cargo")).ok();
    let mut flags = vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=/skiff", here.display()),
    ];
    flags.extend(architecture(target)?.flags.iter().map(ToString::to_string));
    let target_dir = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    let made = std::path::absolute(&target_dir).map_err(|error| error.to_string())?;
    flags.push(format!("--remap-path-prefix={}=/skiff/target", made.display()));
    flags.extend(cargo_home.or(home).map(|cargo| format!("--remap-path-prefix={cargo}=/cargo")));
    let mut cargo = toolchain::cargo(target)?;
    cargo
        .args(["build", "--locked", "--profile", profile, "--package", "skiff"])
        .args(["--target", target])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    // Of this commit also where an earlier one was built before; without git, of none.
    for (variable, format) in [("SOURCE_DATE_EPOCH", "%ct"), ("SKIFF_COMMIT", "%H")] {
        if std::env::var_os(variable).is_none()
            && let Ok(text) =
                output(Command::new("git").args(["log", "-1", &format!("--format={format}")]))
        {
            cargo.env(variable, text.trim());
        }
    }
    done(&mut cargo)?;
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(Path::new(&target_dir).join(target).join(folder).join("skiff"))
}

/// What is linked into the binary and the small ELFs inside it, as CycloneDX.
fn contents(version: &str, targets: &[String]) -> Result<String, String> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--locked", "--format-version", "1"]);
    for target in targets {
        cargo.args(["--filter-platform", target]);
    }
    let text = output(&mut cargo)?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let linked = linked(&metadata);
    let packages = metadata["packages"].as_array().ok_or("cargo metadata names no packages")?;
    let packages = packages.iter().filter(|p| linked.contains(text_of(&p["id"])));
    let component = |package: &Value| {
        let (name, version) = (package["name"].as_str()?, package["version"].as_str()?);
        // Without a source it is a part of skiff.
        package["source"].as_str()?;
        Some(json!({
            "type": "library",
            "name": name,
            "version": version,
            "purl": format!("pkg:cargo/{name}@{version}"),
            "licenses": [{"expression": package["license"].as_str().unwrap_or("NOASSERTION")}],
        }))
    };
    let list = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "skiff", "version": version}},
        "components": packages.filter_map(component).collect::<Vec<_>>(),
    });
    Ok(format!("{list:#}\n"))
}

/// The packages that end up in a program: neither what tests use, nor what only
/// the build runs.
fn linked(metadata: &Value) -> BTreeSet<&str> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let packages: BTreeMap<&str, &Value> = packages.map(|p| (text_of(&p["id"]), p)).collect();
    let nodes = metadata["resolve"]["nodes"].as_array().into_iter().flatten();
    let nodes: BTreeMap<&str, &Value> = nodes.map(|node| (text_of(&node["id"]), node)).collect();
    let is_macro = |id: &str| {
        let targets = packages.get(id).and_then(|package| package["targets"].as_array());
        let mut kinds = targets.into_iter().flatten().flat_map(|t| t["kind"].as_array());
        kinds.any(|kinds| kinds.iter().any(|kind| kind == "proc-macro"))
    };
    let roots = packages.iter().filter(|(_, p)| PROGRAMS.contains(&text_of(&p["name"])));
    let mut to_see: Vec<&str> = roots.map(|(id, _)| *id).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = to_see.pop() {
        if is_macro(id) || !seen.insert(id) {
            continue;
        }
        let deps = nodes.get(id).and_then(|node| node["deps"].as_array());
        for dep in deps.into_iter().flatten() {
            let mut kinds = dep["dep_kinds"].as_array().into_iter().flatten();
            if kinds.any(|kind| kind["kind"].is_null()) {
                to_see.push(text_of(&dep["pkg"]));
            }
        }
    }
    seen
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Signs `SHA256SUMS`; the public key as PEM.
fn sign(key: &Path, folder: &Path) -> Result<String, String> {
    done(
        Command::new("openssl")
            .args(["dgst", "-sha256", "-out", "SHA256SUMS.sig", "-sign"])
            .arg(std::path::absolute(key).map_err(|error| error.to_string())?)
            .arg("SHA256SUMS")
            .current_dir(folder),
    )?;
    output(Command::new("openssl").args(["ec", "-pubout", "-in"]).arg(key))
}

/// The installer of this release.
fn installer(releases: &str, public_key: Option<&str>) -> Result<String, String> {
    let mut text = read(Path::new("installer/install.sh"))?;
    for (mark, value) in [
        ("'@RELEASES@'", format!("'{releases}'")),
        ("'@PUBLIC_KEY@'", format!("'{}'", public_key.unwrap_or("@PUBLIC_KEY@").trim_end())),
        ("@SYSTEMD@\n", read(Path::new("systemd/skiff.service"))?),
        ("@OPENRC@\n", read(Path::new("systemd/skiff.openrc"))?),
    ] {
        if text.matches(mark).count() != 1 {
            return Err(format!("installer/install.sh has not one {mark}"));
        }
        text = text.replace(mark, &value);
    }
    Ok(text)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn make(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

fn done(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
}

pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let mut text = format!("{command:?}: {}", output.status);
        let _ = write!(text, "\n{}", String::from_utf8_lossy(&output.stderr));
        return Err(text);
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{command:?}: {error}"))
}
