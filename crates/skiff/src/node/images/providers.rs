//! Credential plugins: programs that know the credentials of a registry, asked as a
//! kubelet asks them (`--image-credential-provider-config`,
//! <https://kubernetes.io/docs/tasks/administer-cluster/kubelet-credential-provider/>).
//!
//! Answers are kept for as long as they say, since a program is run for each.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use api_object::time::parse_duration;
use node_image::{Auth, Reference};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::credentials::{fits, fitting};

/// Of the file and of what goes through a plugin's pipes.
const FILE_VERSIONS: [&str; 3] =
    ["kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1beta1", "kubelet.config.k8s.io/v1alpha1"];
const PLUGIN_VERSIONS: [&str; 3] = [
    "credentialprovider.kubelet.k8s.io/v1",
    "credentialprovider.kubelet.k8s.io/v1beta1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
];
/// Upstream's patience with a plugin.
const PLUGIN_MAX: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// Answers that are kept at once; more make the oldest be asked for again.
const KEPT_MAX: usize = 256;

/// The plugins of a node; none where there is no file.
#[derive(Debug, Default)]
pub(super) struct Providers {
    all: Vec<Provider>,
    kept: Mutex<Vec<Kept>>,
}

#[derive(Debug)]
struct Provider {
    program: PathBuf,
    spec: FileProvider,
    default_life: Duration,
}

/// What a plugin has answered.
#[derive(Debug)]
struct Kept {
    /// The number of the plugin.
    of: usize,
    /// The image, its registry, or nothing for all of them.
    key: String,
    until: Instant,
    auths: Vec<(String, Auth)>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    providers: Vec<FileProvider>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileProvider {
    name: String,
    #[serde(default)]
    match_images: Vec<String>,
    #[serde(default)]
    default_cache_duration: String,
    api_version: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
}

#[derive(Debug, Deserialize)]
struct Variable {
    name: String,
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    cache_key_type: String,
    cache_duration: Option<String>,
    #[serde(default)]
    auth: BTreeMap<String, AnswerAuth>,
}

#[derive(Debug, Deserialize)]
struct AnswerAuth {
    username: String,
    password: String,
}

impl Providers {
    /// Reads the file; its programs are in `programs`.
    ///
    /// # Errors
    /// What is wrong with the file, or which program is not there.
    pub(super) fn open(file: &Path, programs: &Path) -> Result<Self, String> {
        let told = |error: String| format!("{}: {error}", file.display());
        let text = fs::read_to_string(file).map_err(|error| told(error.to_string()))?;
        let all = parse(&text).map_err(told)?;
        let provider = |spec: FileProvider| {
            let program = programs.join(&spec.name);
            match program.metadata() {
                Ok(meta) if meta.is_file() => {}
                Ok(_) => return Err(format!("{} is not a program", program.display())),
                Err(error) => return Err(format!("{}: {error}", program.display())),
            }
            let life = parse_duration(&spec.default_cache_duration).unwrap_or_default();
            let default_life = Duration::from_nanos(u64::try_from(life).unwrap_or_default());
            Ok(Provider { program, spec, default_life })
        };
        let all = all.into_iter().map(provider).collect::<Result<_, _>>().map_err(told)?;
        Ok(Self { all, kept: Mutex::default() })
    }

    /// The credentials that plugins have for an image. A plugin that fails is told of in
    /// the log; another one may know.
    pub(super) async fn find(&self, image: &Reference) -> Vec<Auth> {
        let mut found = Vec::new();
        for (of, provider) in self.all.iter().enumerate() {
            if !provider.spec.match_images.iter().any(|name| fits(name, image)) {
                continue;
            }
            if let Some(auths) = self.kept(of, image) {
                found.extend(fitting(auths, image));
                continue;
            }
            match provider.ask(image).await {
                Ok(answer) => found.extend(fitting(self.keep(of, provider, image, answer), image)),
                Err(error) => {
                    let plugin = provider.spec.name.as_str();
                    tracing::warn!(plugin, error, "a credential plugin gives no credentials");
                }
            }
        }
        found
    }

    fn kept(&self, of: usize, image: &Reference) -> Option<Vec<(String, Auth)>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = ["", &image.registry, &name(image)].map(str::to_owned);
        let now = Instant::now();
        let fits = |kept: &&Kept| kept.of == of && kept.until > now && keys.contains(&kept.key);
        kept.iter().find(fits).map(|kept| kept.auths.clone())
    }

    fn keep(
        &self,
        of: usize,
        provider: &Provider,
        image: &Reference,
        answer: Answer,
    ) -> Vec<(String, Auth)> {
        let auths: Vec<(String, Auth)> = answer
            .auth
            .into_iter()
            .map(|(name, AnswerAuth { username, password })| (name, Auth { username, password }))
            .collect();
        let life = match answer.cache_duration.as_deref().map(parse_duration) {
            Some(Some(nanos)) => Duration::from_nanos(u64::try_from(nanos).unwrap_or_default()),
            _ => provider.default_life,
        };
        let key = match answer.cache_key_type.as_str() {
            "Global" => String::new(),
            "Registry" => image.registry.clone(),
            _ => name(image),
        };
        if !life.is_zero() {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            kept.retain(|kept| kept.until > now && (kept.of, &kept.key) != (of, &key));
            if kept.len() >= KEPT_MAX {
                kept.remove(0);
            }
            kept.push(Kept { of, key, until: now + life, auths: auths.clone() });
        }
        auths
    }
}

/// An image without its tag, which credentials do not depend on.
fn name(image: &Reference) -> String {
    format!("{}/{}", image.registry, image.repository)
}

impl Provider {
    async fn ask(&self, image: &Reference) -> Result<Answer, String> {
        let spec = &self.spec;
        let asked = json!({
            "kind": "CredentialProviderRequest", "apiVersion": spec.api_version,
            "image": name(image),
        });
        let told = |error: io::Error| error.to_string();
        let mut child = tokio::process::Command::new(&self.program)
            .args(&spec.args)
            .envs(spec.env.iter().map(|variable| (&variable.name, &variable.value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(told)?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err("it has no pipes".into());
        };
        let (mut answer, mut complaint) = (Vec::new(), Vec::new());
        let (mut stdout, mut stderr) =
            (stdout.take(ANSWER_BYTES_MAX), stderr.take(ANSWER_BYTES_MAX));
        let all = async {
            // One that answers without a look at what is asked closes its end.
            let _ = stdin.write_all(asked.to_string().as_bytes()).await;
            drop(stdin);
            let (said, _) =
                tokio::join!(stdout.read_to_end(&mut answer), stderr.read_to_end(&mut complaint));
            said?;
            child.wait().await
        };
        let status = timeout(PLUGIN_MAX, all).await.map_err(|_| "it does not answer")?;
        let status = status.map_err(told)?;
        if !status.success() {
            let why = String::from_utf8_lossy(&complaint);
            return Err(format!("{status}: {}", why.trim()));
        }
        read(&answer, &spec.api_version)
    }
}

fn read(answer: &[u8], version: &str) -> Result<Answer, String> {
    let answer: Answer = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    if answer.kind != "CredentialProviderResponse" || answer.api_version != version {
        return Err(format!(
            "it answers a {} of {}, not a CredentialProviderResponse of {version}",
            answer.kind, answer.api_version
        ));
    }
    match answer.cache_key_type.as_str() {
        "Image" | "Registry" | "Global" => Ok(answer),
        other => Err(format!("its cacheKeyType is {other:?}, not Image, Registry or Global")),
    }
}

fn parse(text: &str) -> Result<Vec<FileProvider>, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    if file.kind != "CredentialProviderConfig" || !FILE_VERSIONS.contains(&&*file.api_version) {
        return Err(format!(
            "it is a {} of {}, not a CredentialProviderConfig of {}",
            file.kind, file.api_version, FILE_VERSIONS[0]
        ));
    }
    if file.providers.is_empty() {
        return Err("at least 1 item in providers is required".into());
    }
    let mut names = Vec::new();
    for provider in &file.providers {
        let name = provider.name.as_str();
        let fault = |why: &str| Err(format!("provider {name:?}: {why}"));
        if name.is_empty() || name.contains(['/', ' ']) || name == "." || name == ".." {
            return fault("its name is that of a program, without a path and spaces");
        }
        if names.contains(&name) {
            return fault("there are two of this name");
        }
        names.push(name);
        if provider.match_images.is_empty() {
            return fault("at least 1 item in matchImages is required");
        }
        if !PLUGIN_VERSIONS.contains(&&*provider.api_version) {
            return fault(&format!("apiVersion must be one of {}", PLUGIN_VERSIONS.join(", ")));
        }
        match parse_duration(&provider.default_cache_duration) {
            Some(0..) => {}
            _ => return fault("defaultCacheDuration must be a duration such as 12h"),
        }
    }
    Ok(file.providers)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const CONFIG: &str = "
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: plugin
  matchImages: ['*.example.com', other.io/team]
  defaultCacheDuration: 12h
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  args: [get]
  env: [{name: ANSWER, value: of-the-file}]
";

    fn image(name: &str) -> Reference {
        Reference::parse(name).expect("a name")
    }

    /// Providers with a program of this script; it writes down what it was asked.
    fn providers(dir: &Path, script: &str) -> Providers {
        let file = dir.join("config.yaml");
        fs::write(&file, CONFIG).expect("written");
        let program = dir.join("plugin");
        let text =
            format!("#!/bin/sh\ncat >> {}; echo >> {0}\n{script}\n", dir.join("asked").display());
        fs::write(&program, text).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("changed");
        Providers::open(&file, dir).expect("well written")
    }

    fn asked(dir: &Path) -> Vec<String> {
        let text = fs::read_to_string(dir.join("asked")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    async fn users(providers: &Providers, name: &str) -> Vec<String> {
        let found = providers.find(&image(name)).await;
        found.into_iter().map(|auth| format!("{}:{}", auth.username, auth.password)).collect()
    }

    #[tokio::test]
    async fn a_plugin_is_asked_for_what_it_is_for_and_its_answer_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let providers = providers(
            dir.path(),
            r#"echo '{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1",
                "cacheKeyType":"Registry","cacheDuration":"5m0s",
                "auth":{"*.example.com":{"username":"'$1'","password":"'$ANSWER'"},
                    "r.example.com/a":{"username":"narrow","password":"x"}}}'"#,
        );
        let both = ["narrow:x", "get:of-the-file"];
        assert_eq!(users(&providers, "r.example.com/a/app:1").await, both);
        let request = r#"{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"r.example.com/a/app","kind":"CredentialProviderRequest"}"#;
        assert_eq!(asked(dir.path()), [request]);
        // Of the same registry it has answered, of another one it is asked, and of what it is
        // not for it is not.
        assert_eq!(users(&providers, "r.example.com/b").await, ["get:of-the-file"]);
        assert_eq!(asked(dir.path()).len(), 1);
        assert_eq!(users(&providers, "q.example.com/b").await, ["get:of-the-file"]);
        assert_eq!(asked(dir.path()).len(), 2);
        assert_eq!(users(&providers, "other.io/others/app").await, [""; 0]);
        assert_eq!(asked(dir.path()).len(), 2);
    }

    #[tokio::test]
    async fn a_plugin_that_fails_gives_nothing_and_is_asked_again() {
        for script in [
            "echo no >&2; exit 3",
            "echo nonsense",
            r#"echo '{"kind":"Other","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Image"}'"#,
            r#"echo '{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Day"}'"#,
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            let providers = providers(dir.path(), script);
            for _ in 0..2 {
                assert_eq!(users(&providers, "r.example.com/a").await, [""; 0], "{script}");
            }
            assert_eq!(asked(dir.path()).len(), 2, "{script}");
        }
    }

    #[test]
    fn faults_of_the_file_are_named() {
        for (from, to, why) in [
            ("CredentialProviderConfig", "Config", "not a CredentialProviderConfig"),
            ("config.k8s.io/v1", "config.k8s.io/v9", "not a CredentialProviderConfig"),
            ("name: plugin", "name: ../plugin", "without a path"),
            ("['*.example.com', other.io/team]", "[]", "matchImages"),
            ("12h", "soon", "defaultCacheDuration"),
            ("kubelet.k8s.io/v1\n  args", "kubelet.k8s.io/v9\n  args", "apiVersion"),
            ("args:", "arguments:", "unknown field"),
        ] {
            let text = CONFIG.replace(from, to);
            assert_ne!(text, CONFIG, "{from}");
            let error = parse(&text).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("config.yaml"), CONFIG).expect("written");
        let error = Providers::open(&dir.path().join("config.yaml"), dir.path()).expect_err("none");
        assert!(error.contains("plugin: No such file"), "{error}");
    }
}
