//! The folder `<data-dir>/server/manifests`: what lies in it is applied, kept
//! in sync when files change, and objects that leave a file go.
//!
//! Every server applies its own folder, whoever leads, so that a file is put on
//! one server and applied as long as that one lives; the same file on two of
//! them is applied twice, which server-side apply makes the same as once. What
//! a server has applied is written beside the folder, so that it knows at its
//! next start what a file has lost. A file that is taken away leaves its objects
//! alone, as with k3s: only what leaves a file that stays is deleted. `FILE.skip`
//! beside a file keeps it from being looked at.
//!
//! `plan` reads and decides; this acts.

mod folder;
mod plan;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use api_schema::Catalogue;
use bytes::Bytes;
use client::{Ambient, Api, Backoff, Recorder, Reference};
use http::Method;
use serde_json::Value;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use self::plan::{Applied, Manifest, Name};

/// Who owns the fields that files set.
const MANAGER: &str = "skiff-manifests";
/// A file that cannot be applied is tried again: what it needs may be made by
/// another. Also when the kinds that are served have changed.
const RETRY: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(300) };

/// What the loop works with.
pub(super) struct Settings {
    pub(super) data_dir: PathBuf,
    /// Whose events these are.
    pub(super) node_name: String,
    pub(super) api: Api,
    pub(super) ambient: Ambient,
    pub(super) catalogue: Arc<Catalogue>,
}

struct Manifests {
    settings: Settings,
    dir: PathBuf,
    record: PathBuf,
    recorder: Recorder,
    applied: Applied,
    /// What was in each file when it was last applied without a fault.
    done: BTreeMap<String, String>,
    failures: BTreeMap<String, u32>,
}

/// Follows the folder until dropped.
pub(super) async fn run(settings: Settings) {
    let dir = settings.data_dir.join("server/manifests");
    let record = settings.data_dir.join("server/manifests.json");
    let changed = Arc::new(Notify::new());
    let told = changed.clone();
    if let Err(error) = folder::follow(dir.clone(), move || told.notify_one()) {
        error!(path = %dir.display(), %error, "manifests are not applied");
        return;
    }
    let told = changed.clone();
    settings.catalogue.on_change(move || told.notify_one());
    let applied = match plan::read_record(&record) {
        Ok(applied) => applied,
        Err(error) => {
            warn!(path = %record.display(), %error, "what was applied before is not known; nothing of it is deleted");
            Applied::default()
        }
    };
    let recorder = Recorder::new(
        settings.api.named("skiff/manifests"),
        "manifests",
        &settings.node_name,
        settings.ambient.clone(),
    );
    let mut manifests = Manifests {
        settings,
        dir,
        record,
        recorder,
        applied,
        done: BTreeMap::new(),
        failures: BTreeMap::new(),
    };
    loop {
        let worst = manifests.sync().await;
        match worst {
            0 => changed.notified().await,
            failures => {
                let pause = manifests.settings.ambient.jittered(RETRY.delay(failures));
                tokio::select! {
                    () = changed.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

impl Manifests {
    /// Applies what has changed. Answers with the fewest failures in a row of a
    /// file that is not applied, 0 for none.
    async fn sync(&mut self) -> u32 {
        let files = match folder::read(&self.dir) {
            Ok(files) => files,
            Err(error) => {
                error!(path = %self.dir.display(), %error, "manifests cannot be read");
                return 1;
            }
        };
        self.failures.retain(|file, _| files.contains_key(file));
        self.done.retain(|file, _| files.contains_key(file));
        for (file, text) in files {
            if self.done.get(&file) == Some(&text) {
                continue;
            }
            let faults = self.apply_file(&file, &text).await;
            if faults.is_empty() {
                self.failures.remove(&file);
                self.done.insert(file, text);
                continue;
            }
            let said = faults.join("; ");
            error!(file, error = said, "a manifest is not applied");
            let about = Reference {
                kind: "Node".into(),
                name: self.settings.node_name.clone(),
                api_version: "v1".into(),
                ..Reference::default()
            };
            self.recorder.warning(&about, "ApplyManifestFailed", format!("{file}: {said}"));
            *self.failures.entry(file).or_default() += 1;
        }
        self.failures.values().min().copied().unwrap_or(0)
    }

    /// Applies all objects of a file and deletes those that it had before; the
    /// faults, each with the object's name. One that is refused keeps no other.
    async fn apply_file(&mut self, file: &str, text: &str) -> Vec<String> {
        let manifests = match plan::read(text) {
            Ok(manifests) => manifests,
            Err(error) => return vec![error],
        };
        let before = self.applied.files.get(file).cloned().unwrap_or_default();
        let mut faults = Vec::new();
        let mut now = Vec::new();
        for manifest in &manifests {
            match self.apply(manifest).await {
                Ok(name) => now.push(name),
                Err(error) => faults.push(format!("{manifest}: {error}")),
            }
        }
        // What could not be applied may be one of before under another spelling:
        // nothing is deleted until the whole file is understood.
        let gone = match faults.is_empty() {
            true => plan::gone(&before, &now, &self.applied, file),
            false => Vec::new(),
        };
        for name in &gone {
            if let Err(error) = self.delete(name).await {
                faults.push(format!("{name}: not deleted: {error}"));
            }
        }
        let kept = match faults.is_empty() {
            true => now,
            false => plan::union(before, now),
        };
        if self.applied.files.get(file) != Some(&kept) {
            info!(file, objects = kept.len(), deleted = gone.len(), "applied a manifest");
            self.applied.files.insert(file.to_owned(), kept);
            if let Err(error) = plan::write_record(&self.record, &self.applied) {
                faults.push(format!("{}: {error}", self.record.display()));
            }
        }
        faults
    }

    fn path(&self, manifest: &Manifest) -> Result<(String, Name), String> {
        let (group, version) = manifest.group_version();
        let spec = (self.settings.catalogue.by_kind(group, version, &manifest.kind))
            .ok_or("no such kind is served yet")?;
        let namespace = match (spec.namespaced, manifest.namespace.as_str()) {
            (false, _) => String::new(),
            (true, "") => "default".to_owned(),
            (true, namespace) => namespace.to_owned(),
        };
        let name = Name {
            api_version: manifest.api_version.clone(),
            kind: manifest.kind.clone(),
            namespace,
            name: manifest.name.clone(),
        };
        Ok((name.path(&spec.plural), name))
    }

    async fn apply(&self, manifest: &Manifest) -> Result<Name, String> {
        let (path, name) = self.path(manifest)?;
        let mut object = manifest.object.clone();
        if !name.namespace.is_empty() {
            object["metadata"]["namespace"] = name.namespace.as_str().into();
        }
        let path = format!("{path}?fieldManager={MANAGER}&force=true");
        let body = serde_json::to_vec(&object).map_err(|error| error.to_string())?;
        self.settings
            .api
            .request(Method::PATCH, &path, Some("application/apply-patch+yaml"), body.into())
            .await
            .map(|_| name)
            .map_err(|error| error.to_string())
    }

    /// Deletes an object unless somebody else has taken it over meanwhile.
    async fn delete(&self, name: &Name) -> Result<(), String> {
        let (group, version) = name.group_version();
        let Some(spec) = self.settings.catalogue.by_kind(group, version, &name.kind) else {
            // With its kind went the objects.
            return Ok(());
        };
        let (api, path) = (&self.settings.api, name.path(&spec.plural));
        let found = match api.request(Method::GET, &path, None, Bytes::new()).await {
            Err(error) if error.is_not_found() => return Ok(()),
            found => found.map_err(|error| error.to_string())?,
        };
        let object: Value = serde_json::from_slice(&found).map_err(|error| error.to_string())?;
        let managers = object["metadata"]["managedFields"].as_array();
        if !managers.is_some_and(|all| all.iter().any(|entry| entry["manager"] == MANAGER)) {
            return Ok(());
        }
        let options = serde_json::json!({
            "propagationPolicy": "Background",
            "preconditions": {"uid": object["metadata"]["uid"]},
        });
        let body = Bytes::from(options.to_string());
        match api.request(Method::DELETE, &path, Some("application/json"), body).await {
            Err(error) if !error.is_not_found() => Err(error.to_string()),
            _ => Ok(()),
        }
    }
}

/// The folder, made so that somebody finds it.
pub(super) fn make(data_dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(data_dir.join("server/manifests"))
}
