//! `skiff certificate rotate-ca`: new CAs and token keys for the cluster, step by step,
//! each once all servers and nodes have done the one before.

use std::{collections::BTreeMap, error::Error, path::Path, time::Duration};

use api_object::time;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use client::{DeleteOptions, ListOptions, PatchKind};
use jiff::Timestamp;
use pki::rotation::{Change, Phase, State};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    admin::{self, Admin},
    flags::{UsageError, Values},
    rotation::{
        ANNOTATION, CA, CA_STATE, CLUSTER, CONFIG_MAPS, NAME, NAMESPACE, NODES, Rotation, SEALED,
        SECRETS, SINCE, TARGET, TYPE,
    },
    server::cluster_socket::{self, Answer, Ask},
};

/// The servers that are asked run themselves anew meanwhile, so nothing can be watched.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Looks that may fail while a server runs itself anew.
const FAILURES_EXPECTED: u32 = 20;
/// By then every token in a pod has been renewed (KEP-1205: an hour at most, renewed
/// after four fifths) and is signed with the new key.
const TOKENS_RENEWED: Duration = Duration::from_secs(3600);

pub(super) fn run(values: &Values, data_dir: &Path, words: &[&str]) -> Result<(), Box<dyn Error>> {
    let command = Command { kubeconfig: admin::find(values), data_dir, said: String::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match words {
        [] => runtime.block_on(command.rotate()),
        ["status"] => runtime.block_on(command.status()),
        ["finish"] => runtime.block_on(command.finish(false)),
        ["finish", "now"] => runtime.block_on(command.finish(true)),
        _ => Err(Box::new(UsageError(
            "say `rotate-ca`, `rotate-ca status` or `rotate-ca finish [now]`".into(),
        ))),
    }
}

struct Command<'a> {
    kubeconfig: admin::Source,
    data_dir: &'a Path,
    /// What is waited for, said once.
    said: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    status: Conditions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    conditions: Vec<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
}

/// Who is not where all shall be, with what is in the way.
fn missing(
    rotation: &Rotation,
    state: &State,
    servers: &[String],
    agents: &BTreeMap<String, (Option<String>, bool)>,
) -> (Vec<String>, Vec<String>) {
    let behind = servers.iter().filter(|name| !rotation.has(name, state)).cloned().collect();
    let text = state.to_string();
    let away = agents
        .iter()
        .filter(|(_, (at, _))| at.as_deref() != Some(text.as_str()))
        .map(|(name, (_, ready))| match ready {
            true => name.clone(),
            false => format!("{name} (not ready)"),
        })
        .collect();
    (behind, away)
}

impl Command<'_> {
    fn admin(&self) -> Result<Admin, String> {
        // Anew each time: servers write it with each change.
        self.kubeconfig.open_beside(self.data_dir).map_err(|error| error.to_string())
    }

    fn servers(&self) -> Result<Vec<String>, String> {
        match cluster_socket::ask(self.data_dir, &Ask::Status) {
            Ok(Answer::Status(rows)) => Ok(rows.into_iter().map(|row| row.name).collect()),
            Ok(other) => Err(format!("an answer to something else: {other:?}")),
            Err(error) => Err(cluster_socket::unanswered(self.data_dir, &error)),
        }
    }

    /// Does what may be done again, and again while this machine's server may be running
    /// itself anew: it has no socket and no API then, or other certificates than the
    /// kubeconfig of a moment ago.
    async fn patiently<T>(&self, act: impl AsyncFn() -> Result<T, String>) -> Result<T, String> {
        let mut failures = 0;
        loop {
            match act().await {
                Err(_) if failures < FAILURES_EXPECTED && self.rotates() => failures += 1,
                done => return done,
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn rotates(&self) -> bool {
        pki::rotation::has_come(&pki::directory(self.data_dir))
    }

    async fn found(&self) -> Result<Option<Rotation>, String> {
        let admin = self.admin()?;
        match admin.api.get(SECRETS, NAMESPACE, NAME).await {
            Ok(secret) => serde_json::from_slice(&secret.bytes)
                .map(Some)
                .map_err(|error| format!("{NAMESPACE}/{NAME}: {error}")),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(admin.explained(&error)),
        }
    }

    /// The agents by name: where each says it is, and whether it is Ready.
    async fn agents(&self) -> Result<BTreeMap<String, (Option<String>, bool)>, String> {
        let listed = self.admin()?.api.list(NODES, "", &ListOptions::default()).await;
        let mut agents = BTreeMap::new();
        for item in listed.map_err(|error| error.to_string())?.items {
            let object = api_object::Object::parse(item).map_err(|error| error.to_string())?;
            let annotations = &object.meta.annotations;
            if !annotations.contains_key(controllers::NODE_KEY) {
                continue;
            }
            let node: NodeStatus = serde_json::from_slice(&object.bytes).unwrap_or_default();
            let ready =
                node.status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True");
            let at = annotations.get(ANNOTATION).cloned();
            agents.insert(object.meta.name.clone(), (at, ready));
        }
        Ok(agents)
    }

    async fn rotate(mut self) -> Result<(), Box<dyn Error>> {
        let (mut state, change) = match self.patiently(|| self.found()).await? {
            Some(rotation) => self.open(&rotation)?,
            None => self.begin().await?,
        };
        if state.phase == Phase::Trust {
            self.reach(&state, &change).await?;
            state = self.enter(&state, Phase::Sign).await?;
        }
        if state.phase == Phase::Drop {
            return self.end(&state, &change).await;
        }
        self.reach(&state, &change).await?;
        println!(
            "The new CAs sign, and everybody trusts both. Now, and before the old ones are dropped:\n\
             - give out kubeconfigs anew: {} is, others hold the old CA and certificates;\n\
             - certificates that were signed on request (kubectl get csr), and tokens in Secrets \
             of type kubernetes.io/service-account-token, end with the old CAs: make them anew;\n\
             - restart workloads that read the cluster's CA or their token only at their start \
             (kubectl rollout restart);\n\
             - join tokens of before name the old CA, and are still good with the new one's name \
             in its place: give out new ones (`skiff token create`), and where the old ones may be \
             in somebody's hands take those away (`skiff token rotate`, `skiff token delete`). {} \
             names the new CA by itself;\n\
             - take a snapshot, and keep what `skiff snapshot key` prints now: it is another key.\n\
             Then, after an hour at the earliest: skiff certificate rotate-ca finish",
            self.kubeconfig.file.display(),
            self.data_dir.join("server/token").display()
        );
        Ok(())
    }

    async fn status(self) -> Result<(), Box<dyn Error>> {
        let Some(rotation) = self.patiently(|| self.found()).await? else {
            println!("no rotation of the CAs is under way");
            return Ok(());
        };
        let (state, _) = self.open(&rotation)?;
        println!(
            "{}, since {}",
            match state.phase {
                Phase::Trust => "the new CAs are being made known; the old ones sign",
                Phase::Sign => "the new CAs sign; the old ones are trusted",
                Phase::Drop => "the old CAs are being dropped",
            },
            rotation.text(SINCE).unwrap_or_default()
        );
        let all = self.patiently(async || Ok((self.servers()?, self.agents().await?))).await?;
        let (servers, agents) = missing(&rotation, &state, &all.0, &all.1);
        for (what, names) in [("servers", servers), ("agents", agents)] {
            match names.is_empty() {
                true => println!("all {what} are there"),
                false => println!("{what} to come: {}", names.join(", ")),
            }
        }
        Ok(())
    }

    async fn finish(mut self, now: bool) -> Result<(), Box<dyn Error>> {
        let Some(rotation) = self.patiently(|| self.found()).await? else {
            return Err("no rotation of the CAs is under way; begin one with: skiff certificate \
                        rotate-ca"
                .into());
        };
        let (mut state, change) = self.open(&rotation)?;
        if state.phase == Phase::Trust {
            return Err(
                "the new CAs do not sign yet; go on with: skiff certificate rotate-ca".into()
            );
        }
        if state.phase == Phase::Sign {
            let since = rotation.text(SINCE).and_then(|text| time::parse(&text));
            let age = Timestamp::now().duration_since(since.unwrap_or(Timestamp::UNIX_EPOCH));
            let renewed = Duration::try_from(age).is_ok_and(|age| age >= TOKENS_RENEWED);
            if !(now || renewed) {
                return Err(format!(
                    "the new keys sign since {}: tokens in running pods are renewed within an \
                     hour, and until then some are of the old key. Wait, or say `rotate-ca finish \
                     now`",
                    rotation.text(SINCE).unwrap_or_default()
                )
                .into());
            }
            self.reach(&state, &change).await?;
            state = self.enter(&state, Phase::Drop).await?;
        }
        self.end(&state, &change).await
    }

    async fn end(&mut self, state: &State, change: &Change) -> Result<(), Box<dyn Error>> {
        self.reach(state, change).await?;
        let options = DeleteOptions::default();
        let deleted = async || {
            let admin = self.admin()?;
            match admin.api.delete(SECRETS, NAMESPACE, NAME, &options).await {
                // The answer to the try before was lost.
                Err(error) if error.is_not_found() => Ok(()),
                done => done.map(drop).map_err(|error| admin.explained(&error)),
            }
        };
        self.patiently(deleted).await?;
        println!("The old CAs and keys are trusted by nobody any more.");
        Ok(())
    }

    fn open(&self, rotation: &Rotation) -> Result<(State, Change), Box<dyn Error>> {
        let state = rotation.target().ok_or_else(|| {
            format!("{NAMESPACE}/{NAME} says no phase that this version of skiff knows")
        })?;
        let sealed: Vec<String> = SEALED.iter().filter_map(|key| rotation.text(key)).collect();
        let sealed: Vec<&str> = sealed.iter().map(String::as_str).collect();
        let dir = pki::directory(self.data_dir);
        let change = Change::open(&dir, &state.id, &sealed).map_err(|error| {
            format!(
                "{error}: run this on a server, with the --data-dir that it has and the \
                 --kubeconfig that it writes"
            )
        })?;
        Ok((state, change))
    }

    async fn begin(&self) -> Result<(State, Change), Box<dyn Error>> {
        let dir = pki::directory(self.data_dir);
        if !dir.exists() {
            return Err(format!(
                "{}: no server's keys are here; run this on a server, with its --data-dir",
                dir.display()
            )
            .into());
        }
        let servers = self.servers()?;
        let (state, change) = Change::begin(&dir, Timestamp::now())?;
        let sealed = change.seal(&state.id)?;
        let mut data = BTreeMap::from([
            (TARGET, STANDARD.encode(state.to_string())),
            (SINCE, STANDARD.encode(time::format_seconds(Timestamp::now()))),
        ]);
        for (key, text) in SEALED.into_iter().zip(sealed) {
            data.insert(key, STANDARD.encode(text));
        }
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": TYPE,
            "metadata": {"name": NAME, "namespace": NAMESPACE}, "data": data,
        });
        let admin = self.admin()?;
        let made = admin.api.create(SECRETS, NAMESPACE, &secret).await;
        made.map_err(|error| admin.explained(&error))?;
        println!("new CAs are made; {} are to know them", servers.join(", "));
        Ok((state, change))
    }

    /// Moves the servers on.
    async fn enter(&self, from: &State, phase: Phase) -> Result<State, Box<dyn Error>> {
        let state = State { id: from.id.clone(), phase };
        let patch = json!({"data": {
            TARGET: STANDARD.encode(state.to_string()),
            SINCE: STANDARD.encode(time::format_seconds(Timestamp::now())),
        }});
        let moved = async || {
            let admin = self.admin()?;
            let kind = PatchKind::Merge;
            let moved = admin.api.patch(SECRETS, NAMESPACE, NAME, "", kind, &patch).await;
            moved.map(drop).map_err(|error| admin.explained(&error))
        };
        let moved = self.patiently(moved).await;
        moved.map_err(|error| format!("{error}; say it again, it goes on where it was"))?;
        Ok(state)
    }

    /// Waits until all servers are in a phase, tells the agents, and waits for them.
    async fn reach(&mut self, state: &State, change: &Change) -> Result<(), Box<dyn Error>> {
        let trusted = change.trusted(state.phase)?;
        let mut failures = 0;
        loop {
            let looked = match self.found().await {
                Ok(None) => return Err("the rotation was deleted meanwhile".into()),
                Ok(Some(rotation)) => self.look(&rotation, state, &trusted).await,
                Err(error) => Err(error),
            };
            match looked {
                Ok(true) => return Ok(()),
                Ok(false) => failures = 0,
                // A server that starts has no socket, no API, or other certificates than
                // the kubeconfig of a moment ago: that is said where it lasts.
                Err(error) => {
                    failures += 1;
                    if failures > FAILURES_EXPECTED {
                        self.say(format!("this machine's server does not answer: {error}"));
                    }
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn look(
        &mut self,
        rotation: &Rotation,
        state: &State,
        trusted: &str,
    ) -> Result<bool, String> {
        let servers = self.servers()?;
        let (behind, _) = missing(rotation, state, &servers, &BTreeMap::new());
        if !behind.is_empty() {
            self.say(format!(
                "waiting for servers: {} (one that is gone for good: skiff cluster remove NAME)",
                behind.join(", ")
            ));
            return Ok(false);
        }
        let admin = self.admin()?;
        let data = json!({"data": {CA: trusted, CA_STATE: state.to_string()}});
        let known = admin.api.get(CONFIG_MAPS, NAMESPACE, CLUSTER).await;
        let known = known.map_err(|error| error.to_string())?;
        let known: Value = serde_json::from_slice(&known.bytes).unwrap_or_default();
        if known["data"][CA_STATE] != data["data"][CA_STATE] {
            let kind = PatchKind::Merge;
            let told = admin.api.patch(CONFIG_MAPS, NAMESPACE, CLUSTER, "", kind, &data).await;
            told.map_err(|error| error.to_string())?;
        }
        let (_, away) = missing(rotation, state, &servers, &self.agents().await?);
        if !away.is_empty() {
            self.say(format!(
                "waiting for agents: {} (one that is gone for good: kubectl delete node NAME)",
                away.join(", ")
            ));
            return Ok(false);
        }
        println!("{state}: all servers and agents are there");
        Ok(true)
    }

    fn say(&mut self, text: String) {
        if self.said != text {
            println!("{text}; it may be stopped here and run again later");
            self.said = text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_runs_itself_anew_is_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let command = Command {
            kubeconfig: admin::Source::default(),
            data_dir: dir.path(),
            said: String::new(),
        };
        let tried = std::cell::Cell::new(0);
        let third = async || {
            tried.set(tried.get() + 1);
            if tried.get() < 3 { Err("no answer".to_owned()) } else { Ok(()) }
        };
        assert_eq!(command.patiently(third).await, Err("no answer".into()), "no rotation yet");
        let keys = pki::directory(dir.path());
        std::fs::create_dir_all(keys.join("rotating")).expect("a folder of ours");
        assert_eq!(command.patiently(third).await, Ok(()));
        assert_eq!(tried.get(), 3);
    }

    #[test]
    fn who_is_missing_is_named() {
        let state: State = "0123456789abcdef/sign".parse().expect("a state");
        let mut rotation = Rotation::default();
        rotation.data.insert("server.a".into(), STANDARD.encode(state.to_string()));
        rotation.data.insert("server.b".into(), STANDARD.encode("0123456789abcdef/trust"));
        let servers = ["a", "b", "c"].map(str::to_owned);
        let agents = BTreeMap::from([
            ("x".to_owned(), (Some(state.to_string()), true)),
            ("y".to_owned(), (None, true)),
            ("z".to_owned(), (Some("0123456789abcdef/trust".to_owned()), false)),
        ]);
        let (behind, away) = missing(&rotation, &state, &servers, &agents);
        assert_eq!(behind, ["b", "c"]);
        assert_eq!(away, ["y", "z (not ready)"]);
    }
}
