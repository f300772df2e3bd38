//! A release: where it is, what it has, and that it is the project's.

use std::{
    error::Error,
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use node_image::Proxies;
use ring::{digest, signature};
use tokio::runtime::Runtime;

use super::VERSION;
use crate::{
    flags::{UsageError, Values},
    service,
};

/// What the installer leaves beside the kubeconfig: where releases are, and the
/// key that signs them.
const ORIGIN: &str = "/etc/skiff/releases";
const KEY: &str = "/etc/skiff/releases.pem";
/// More than a binary will ever have, and a packed one, which is unpacked from memory.
const BINARY_BYTES_MAX: u64 = 1 << 30;
const PACKED_BYTES_MAX: u64 = 1 << 26;
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// One that was found and verified.
pub(super) struct Release {
    source: Source,
    /// Not known of a folder's.
    pub(super) version: Option<String>,
    folder: String,
    sums: String,
}

impl Release {
    /// The one that the flags name, its checksums verified.
    pub(super) fn find(values: &Values, runtime: &Runtime) -> Result<Self, Box<dyn Error>> {
        let source = Source::of(values)?;
        let version = match (values.one("version"), &source) {
            (Some(version), _) => Some(version.to_owned()),
            (None, Source::Folder(_)) => None,
            (None, Source::Url(_)) => {
                let channel = values.one("channel").unwrap_or_default();
                let text = runtime.block_on(source.text(&format!("channels/{channel}")))?;
                Some(text.lines().next().unwrap_or_default().trim().to_owned())
            }
        };
        let folder = match &version {
            Some(version) => {
                let number = number(version).ok_or_else(|| {
                    UsageError(format!(
                        "\"{version}\" is no version of skiff: it looks like {VERSION}"
                    ))
                })?;
                let older = Some(number) < self::number(VERSION);
                if older && !values.is_set("version") {
                    return Err(format!(
                        "{version} is older than this, {VERSION}; to go back to it all the same: \
                         --version {version}"
                    )
                    .into());
                }
                format!("{version}/")
            }
            None => String::new(),
        };
        let sums = runtime.block_on(source.text(&format!("{folder}SHA256SUMS")))?;
        if values.one("skip-signature") == Some("true") {
            eprintln!(
                "skiff upgrade: warning: the signature is not verified, as --skip-signature says"
            );
        } else {
            let key = fs::read_to_string(KEY).map_err(|error| {
                format!(
                    "{KEY}: {error}; without the key of releases the signature cannot be \
                     verified: install once more with the installer of a release, or rely on the \
                     checksum alone with --skip-signature"
                )
            })?;
            let signature = runtime
                .block_on(source.bytes(&format!("{folder}SHA256SUMS.sig"), TEXT_BYTES_MAX))?;
            verify(&key, sums.as_bytes(), &signature)?;
        }
        if let Some(version) = &version {
            is_of(version, &sums)?;
        }
        Ok(Self { source, version, folder, sums })
    }

    /// The checksum of one of its files.
    pub(super) fn sum_of(&self, name: &str) -> Result<String, String> {
        let missing = || format!("SHA256SUMS has no line for {name}: the release is not complete");
        sum_of(&self.sums, name).ok_or_else(missing)
    }

    /// Downloads one of its files, packed where the release has it so, and verifies it.
    pub(super) fn fetch(
        &self,
        name: &str,
        into: &Path,
        runtime: &Runtime,
    ) -> Result<(), Box<dyn Error>> {
        let wanted = self.sum_of(name)?;
        let packed = format!("{name}.gz");
        match sum_of(&self.sums, &packed).filter(|_| self.source.may_have(&packed)) {
            Some(sum) => {
                let path = format!("{}{packed}", self.folder);
                let bytes = runtime.block_on(self.source.bytes(&path, PACKED_BYTES_MAX))?;
                // Before anything reads it: what is unpacked is the project's.
                same(&packed, &sum, &hex(&digest::digest(&digest::SHA256, &bytes)))?;
                unpack(&bytes, into).map_err(|error| format!("{}: {error}", into.display()))?;
            }
            None => runtime.block_on(self.source.file(&format!("{}{name}", self.folder), into))?,
        }
        Ok(same(name, &wanted, &hex_of(into)?)?)
    }
}

/// What a channel or a mirror calls a release is not signed; its list of contents has the
/// version in its name, and is.
fn is_of(version: &str, sums: &str) -> Result<(), String> {
    sum_of(sums, &format!("skiff-{version}.cdx.json")).map(drop).ok_or_else(|| {
        format!(
            "what is served as {version} is another release: the mirror is mixed up, or tampered \
             with; nothing was changed"
        )
    })
}

fn same(name: &str, wanted: &str, found: &str) -> Result<(), String> {
    if wanted == found {
        return Ok(());
    }
    Err(format!(
        "{name} does not have the checksum it should have: the download was cut short or tampered \
         with; nothing was changed"
    ))
}

fn unpack(packed: &[u8], into: &Path) -> io::Result<()> {
    let mut file = io::BufWriter::new(fs::File::create(into)?);
    let mut from = flate2::read::GzDecoder::new(packed).take(BINARY_BYTES_MAX);
    io::copy(&mut from, &mut file)?;
    file.flush()
}

/// Where releases come from.
enum Source {
    Url(String),
    /// The files of one release, without a network.
    Folder(PathBuf),
}

impl Source {
    fn of(values: &Values) -> Result<Self, Box<dyn Error>> {
        if let Some(dir) = values.one("airgap-dir") {
            return Ok(Self::Folder(dir.into()));
        }
        if let Some(url) = values.one("mirror") {
            return Ok(Self::Url(url.trim_end_matches('/').to_owned()));
        }
        match fs::read_to_string(ORIGIN) {
            Ok(url) if url.trim().starts_with("http") => {
                Ok(Self::Url(url.trim().trim_end_matches('/').to_owned()))
            }
            _ => Err(
                "it is not known where releases are: say --mirror URL or --airgap-dir DIR; the \
                      installer of a release leaves it in /etc/skiff/releases"
                    .into(),
            ),
        }
    }

    async fn text(&self, name: &str) -> Result<String, Box<dyn Error>> {
        let bytes = self.bytes(name, TEXT_BYTES_MAX).await?;
        Ok(String::from_utf8(bytes).map_err(|_| format!("{name} is no text"))?)
    }

    /// Whether it is worth asking for: a folder may have been made by hand, of the plain
    /// program alone.
    fn may_have(&self, file: &str) -> bool {
        match self {
            Self::Url(_) => true,
            Self::Folder(dir) => dir.join(file).exists(),
        }
    }

    async fn bytes(&self, name: &str, limit: u64) -> Result<Vec<u8>, Box<dyn Error>> {
        let mut bytes = Vec::new();
        self.copy(name, limit, &mut bytes).await?;
        Ok(bytes)
    }

    async fn file(&self, name: &str, into: &Path) -> Result<(), Box<dyn Error>> {
        let mut file = io::BufWriter::new(fs::File::create(into)?);
        self.copy(name, BINARY_BYTES_MAX, &mut file).await?;
        file.flush().map_err(|error| format!("{}: {error}", into.display()))?;
        Ok(())
    }

    async fn copy(
        &self,
        name: &str,
        limit: u64,
        into: &mut (dyn io::Write + Send),
    ) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Url(url) => {
                // sudo passes no proxies on; the service has those that it was installed with.
                let services = service::installed();
                let told = |name: &str| services.iter().find_map(|service| service.variable(name));
                let proxies = match Proxies::from_variables(|name| std::env::var(name).ok())? {
                    none if none == Proxies::default() => Proxies::from_variables(told)?,
                    typed => typed,
                };
                let url = format!("{url}/{name}");
                node_image::download(&url, &proxies, limit, into)
                    .await
                    .map_err(|error| format!("cannot download {url}: {error}"))?;
            }
            Self::Folder(dir) => {
                // A release's folder may be given, or the one around it.
                let file = name.rsplit('/').next().unwrap_or(name);
                let path = dir.join(file);
                let from = fs::File::open(&path)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                let copied = io::copy(&mut from.take(limit + 1), &mut &mut *into)?;
                if copied > limit {
                    return Err(format!("{}: larger than {limit} bytes", path.display()).into());
                }
            }
        }
        Ok(())
    }
}

/// What this machine's program is called in a release.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "arm" => "armv7",
        other => other,
    }
}

/// `v1.37.0+skiff2` as numbers that can be compared.
fn number(version: &str) -> Option<[u64; 4]> {
    let (level, ours) = version.strip_prefix('v')?.split_once("+skiff")?;
    let mut parts = level.split('.');
    let mut next = || parts.next()?.parse().ok();
    let found = [next()?, next()?, next()?, ours.parse().ok()?];
    parts.next().is_none().then_some(found)
}

/// The checksum of a file by name, as sha256sum(1) writes it.
fn sum_of(sums: &str, name: &str) -> Option<String> {
    let mut found = sums.lines().filter_map(|line| line.split_once("  "));
    let (sum, _) = found.find(|(sum, file)| {
        *file == name && sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit())
    })?;
    Some(sum.to_lowercase())
}

pub(super) fn hex_of(path: &Path) -> Result<String, String> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut read = || -> io::Result<()> {
        let mut file = fs::File::open(path)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match io::Read::read(&mut file, &mut buffer)? {
                0 => return Ok(()),
                n => context.update(&buffer[..n]),
            }
        }
    };
    read().map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(hex(&context.finish()))
}

fn hex(digest: &digest::Digest) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Verifies as the installer does: ECDSA over P-256 and SHA-256, the key as PEM.
fn verify(key: &str, text: &[u8], signed: &[u8]) -> Result<(), String> {
    /// The uncompressed point ends a SubjectPublicKeyInfo (RFC 5480).
    const POINT_BYTES: usize = 65;
    let body: String = key.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body.trim())
        .map_err(|error| format!("{KEY}: {error}"))?;
    let point = der
        .len()
        .checked_sub(POINT_BYTES)
        .map(|at| &der[at..])
        .filter(|point| point.first() == Some(&4))
        .ok_or_else(|| format!("{KEY} is no public key of ECDSA over P-256"))?;
    signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, point)
        .verify(text, signed)
        .map_err(|_| {
            "the signature of SHA256SUMS is not the project's: the files were tampered with; \
             nothing was changed"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(number("v1.37.0+skiff12"), Some([1, 37, 0, 12]));
        assert!(number("v1.37.0+skiff9") < number("v1.37.0+skiff10"));
        assert!(number(VERSION).is_some());
        for text in ["", "1.37.0+skiff1", "v1.37+skiff1", "v1.37.0", "v1.37.0.1+skiff1", "../x"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn sums_are_found_by_the_whole_name() {
        let sum = "a".repeat(64);
        let sums =
            format!("{sum}  skiff-aarch64\n{}  skiff-x86_64\nxyz  skiff-armv7\n", "B".repeat(64));
        assert_eq!(sum_of(&sums, "skiff-x86_64"), Some("b".repeat(64)));
        assert_eq!(sum_of(&sums, "skiff-armv7"), None);
        assert_eq!(sum_of(&sums, "skiff"), None);
        let sums = format!("{sum}  skiff-v1.37.0+skiff2.cdx.json\n");
        assert_eq!(is_of("v1.37.0+skiff2", &sums), Ok(()));
        let error = is_of("v1.37.0+skiff20", &sums).expect_err("another");
        assert!(error.contains("v1.37.0+skiff20 is another release"), "{error}");
    }

    /// The packed file is taken where there is one, the plain one elsewhere, and neither
    /// without the sum that it should have.
    #[test]
    fn packed_and_plain_are_verified() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| dir.path().join(name);
        let put = |name: &str, bytes: &[u8]| fs::write(path(name), bytes).expect("our own folder");
        let runtime = Runtime::new().expect("a runtime");
        let program = [7; 100_000];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&program).expect("memory");
        let packed = gzip.finish().expect("memory");
        let sum = |bytes: &[u8]| hex(&digest::digest(&digest::SHA256, bytes));
        let fetch = |sums: &[(&str, &[u8])]| {
            let lines = sums.iter().map(|(name, bytes)| format!("{}  {name}\n", sum(bytes)));
            let source = Source::Folder(dir.path().into());
            let (folder, sums) = (String::new(), lines.collect());
            let release = Release { source, version: None, folder, sums };
            release.fetch("skiff", &path("new"), &runtime).map_err(|error| error.to_string())?;
            fs::read(path("new")).map_err(|error| error.to_string())
        };
        let both: [(&str, &[u8]); 2] = [("skiff", &program), ("skiff.gz", &packed)];

        put("skiff.gz", &packed);
        assert_eq!(fetch(&both), Ok(program.to_vec()), "packed alone");
        let refused = |sums: &[(&str, &[u8])], name: &str| {
            let error = fetch(sums).expect_err("refused");
            assert!(error.starts_with(&format!("{name} does not have the checksum")), "{error}");
        };
        refused(&[("skiff", b"another"), both[1]], "skiff");
        put("skiff.gz", &packed[..packed.len() - 9]);
        refused(&both, "skiff.gz");
        fs::remove_file(path("skiff.gz")).expect("our own file");
        put("skiff", &program);
        assert_eq!(fetch(&both), Ok(program.to_vec()), "plain alone");
        put("skiff", b"another");
        refused(&both, "skiff");
    }

    /// The same key and signature as openssl makes for the installer.
    #[test]
    fn signatures_are_openssls() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let run = |line: &str| {
            let done = Command::new("sh").args(["-c", line]).current_dir(dir.path()).output();
            assert!(done.expect("sh").status.success(), "{line}");
        };
        run("openssl ecparam -name prime256v1 -genkey -noout -out key.pem && \
             openssl ec -in key.pem -pubout -out public.pem && echo sums >SHA256SUMS && \
             openssl dgst -sha256 -sign key.pem -out SHA256SUMS.sig SHA256SUMS");
        let read = |name: &str| fs::read(dir.path().join(name)).expect("openssl wrote it");
        let key = String::from_utf8(read("public.pem")).expect("PEM");
        let signed = read("SHA256SUMS.sig");
        assert_eq!(verify(&key, b"sums\n", &signed), Ok(()));
        let error = verify(&key, b"sumz\n", &signed).expect_err("tampered with");
        assert!(error.contains("tampered"), "{error}");
        assert!(verify("no key", b"sums\n", &signed).expect_err("no key").contains(KEY));
    }
}
