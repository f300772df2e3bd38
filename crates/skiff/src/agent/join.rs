//! How a machine becomes a node: it verifies a server by the token's hash,
//! shows the token, and gets a certificate for a key that never leaves it.
//!
//! A machine that is a node already starts from what it kept, with no token and
//! no server in reach.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use client::{
    Ambient, Api, Backoff, Credentials, Error, Https, HttpsConfig, ListOptions, Reflected,
    Resource, reflect,
};
use jiff::Timestamp;
use pki::{client_key::ClientKey, clock::JudgedClock, join_token::JoinToken};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    greeting::{self, Fault},
    state::{self, State},
    time,
};
use crate::{
    StartError,
    config::{AgentConfig, Cluster},
};

const REQUESTS: Resource =
    Resource::cluster("certificates.k8s.io", "v1", "certificatesigningrequests");
const CONFIG_MAPS: Resource = Resource::namespaced("", "v1", "configmaps");
const NODES: Resource = Resource::cluster("", "v1", "nodes");
const NODE_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// How long a request for a certificate may wait for the controllers.
const SIGNED_MAX: Duration = Duration::from_secs(60);

/// Who this machine is in its cluster.
pub(super) struct Membership {
    pub(super) servers: Vec<String>,
    pub(super) node_key: ClientKey,
    pub(super) proxy_key: ClientKey,
    pub(super) cluster: Cluster,
    pub(super) ca_hash: [u8; 32],
    pub(super) node: Https,
    pub(super) proxy: Https,
}

/// What join needs beside its settings.
pub(super) struct Joiner<'a> {
    pub(super) config: &'a AgentConfig,
    pub(super) state: &'a State,
    pub(super) clock: &'a Arc<JudgedClock>,
    pub(super) ambient: &'a Ambient,
}

/// From what was kept, else by joining.
///
/// # Errors
/// What stands in the way for good, and what to do about it. While servers are
/// only away, a machine that has joined goes on with what it kept, and any other waits.
pub(super) async fn membership(joiner: &Joiner<'_>) -> Result<Membership, StartError> {
    if let Some(known) = joiner.in_force()? {
        return Ok(known);
    }
    // By a clock that is ahead the certificates may look as if they had run out.
    joiner.ask_time().await?;
    if let Some(known) = joiner.in_force()? {
        return Ok(known);
    }
    if let Some(known) = joiner.kept()? {
        if !joiner.clock.is_told() {
            warn!(
                "by this machine's clock the node's certificates have run out, and no server says \
                 what time it is: the node goes on with what it was told before"
            );
            return Ok(known);
        }
        joiner.can_join().map_err(|_| joiner.ran_out())?;
    }
    joiner.join().await?;
    joiner.kept()?.ok_or_else(|| {
        format!("{}: what was just written is not there", joiner.state.path("").display()).into()
    })
}

/// From what was kept; `None` where this machine has not joined.
///
/// # Errors
/// What is wrong with it, and where it is of no use any more.
pub(super) fn known(joiner: &Joiner<'_>) -> Result<Option<Membership>, StartError> {
    let known = joiner.kept()?;
    match known.is_some() && joiner.clock.is_told() && joiner.have_run_out() {
        true => Err(joiner.ran_out().into()),
        false => Ok(known),
    }
}

/// The transport of one of the machine's identities.
fn transport(
    state: &State,
    clock: &Arc<JudgedClock>,
    servers: Vec<String>,
    ca_pem: &str,
    (key, certificate): (&str, &str),
) -> Result<Https, StartError> {
    let credentials =
        Credentials::CertFiles { cert: state.path(certificate), key: state.path(key) };
    let ca_pem = ca_pem.as_bytes().to_vec();
    Ok(Https::new(HttpsConfig { servers, ca_pem, credentials, clock: Some(clock.clone()) })?)
}

impl Joiner<'_> {
    /// What was kept, where servers still take it.
    fn in_force(&self) -> Result<Option<Membership>, StartError> {
        Ok(self.kept()?.filter(|_| !self.have_run_out()))
    }

    /// When the first certificate ends; `None` where there is none.
    fn end(&self) -> Option<Timestamp> {
        [state::NODE_CERTIFICATE, state::PROXY_CERTIFICATE]
            .into_iter()
            .filter_map(|file| pki::client_key::expiry(&self.state.read(file).ok()??))
            .min()
    }

    fn have_run_out(&self) -> bool {
        self.end().is_some_and(|end| end <= self.clock.now())
    }

    /// What to do where they have, in the words of who starts agents.
    fn ran_out(&self) -> String {
        let end = self.end().map(|end| end.strftime("%Y-%m-%d").to_string());
        format!(
            "this node's certificates ran out on {}: start its agent once with --server and \
             --token; a token is made on a server with: skiff token create",
            end.unwrap_or_default()
        )
    }

    fn kept(&self) -> Result<Option<Membership>, StartError> {
        let read = |name| self.state.read(name);
        let texts = (
            read(state::CA)?,
            read(state::NODE_KEY)?,
            read(state::NODE_CERTIFICATE)?,
            read(state::PROXY_KEY)?,
            read(state::PROXY_CERTIFICATE)?,
            read(state::CLUSTER)?,
        );
        let (
            Some(ca),
            Some(node_key),
            Some(node_crt),
            Some(proxy_key),
            Some(proxy_crt),
            Some(told),
        ) = texts
        else {
            return Ok(None);
        };
        let ca_hash = pki::client_key::ca_hash(&ca)?;
        let former = self.state.former_cas()?;
        let is_ours = |hash: [u8; 32]| hash == ca_hash || former.contains(&hash);
        if self.config.token.as_ref().is_some_and(|token| !is_ours(token.ca_hash)) {
            return Err(format!(
                "this machine is a node of another cluster than the token is for; to move it: \
                 skiff killall, remove what is in {} but images, and start again",
                state::dir(&self.config.machine.data_dir).display()
            )
            .into());
        }
        let (node_key, proxy_key) =
            (ClientKey::from_pem(&node_key)?, ClientKey::from_pem(&proxy_key)?);
        let user = format!("system:node:{}", self.config.machine.node_name);
        let fits = |key: &ClientKey, pem: &str| key.renewal_of(pem).is_some();
        let named = pki::client_key::common_name(&node_crt).as_deref() == Some(user.as_str());
        if !(named && fits(&node_key, &node_crt) && fits(&proxy_key, &proxy_crt)) {
            return Ok(None);
        }
        let told: BTreeMap<String, String> = serde_json::from_str(&told)?;
        let servers = self.servers()?;
        let of = |files| transport(self.state, self.clock, servers.clone(), &ca, files);
        let node = of((state::NODE_KEY, state::NODE_CERTIFICATE))?;
        let proxy = of((state::PROXY_KEY, state::PROXY_CERTIFICATE))?;
        // Agents spread over the servers, and both identities of one go together.
        let first = self.ambient.random();
        node.begin_with(first);
        proxy.begin_with(first);
        let cluster = Cluster::told(&told)?;
        Ok(Some(Membership { servers, node_key, proxy_key, cluster, ca_hash, node, proxy }))
    }

    /// Those that were kept, and the one that was named.
    fn servers(&self) -> Result<Vec<String>, StartError> {
        let mut servers: Vec<String> = match self.state.read(state::SERVERS)? {
            Some(text) => serde_json::from_str(&text)?,
            None => Vec::new(),
        };
        servers.extend(self.config.server.clone().filter(|server| !servers.contains(server)));
        Ok(servers)
    }

    /// Asks the servers once what time it is, where a CA is known to know them by.
    ///
    /// # Errors
    /// Where what is kept cannot be read.
    pub(super) async fn ask_time(&self) -> Result<(), StartError> {
        if let Some(ca) = self.state.read(state::CA)? {
            let ca_hash = pki::client_key::ca_hash(&ca)?;
            time::ask_once(self.clock, &self.servers()?, ca_hash).await;
        }
        Ok(())
    }

    /// Where, and with what.
    fn can_join(&self) -> Result<(&String, &JoinToken), StartError> {
        self.config.server.as_ref().zip(self.config.token.as_ref()).ok_or_else(|| {
            "to join a cluster: skiff agent --server https://SERVER:6443 --token TOKEN; a token is \
             made on a server with: skiff token create"
                .into()
        })
    }

    async fn join(&self) -> Result<(), StartError> {
        let (server, token) = self.can_join()?;
        let ca = self.verified_ca(server, token).await?;
        self.state.write(state::CA, &ca)?;
        let name = &self.config.machine.node_name;
        let bootstrap = Https::new(HttpsConfig {
            servers: vec![server.clone()],
            ca_pem: ca.as_bytes().to_vec(),
            credentials: Credentials::Token(token.bootstrap_token()),
            clock: Some(self.clock.clone()),
        })?;
        let bootstrap = Api::new(Arc::new(bootstrap), "kubelet");
        let key = self.key(state::NODE_KEY)?;
        let request = key.request(&format!("system:node:{name}"), Some("system:nodes"))?;
        let issued = self
            .patiently("joining the cluster", || {
                certificate(&bootstrap, self.ambient, NODE_SIGNER, CLIENT, &request)
            })
            .await?;
        self.state.write(state::NODE_CERTIFICATE, &issued)?;

        let files = (state::NODE_KEY, state::NODE_CERTIFICATE);
        let node = transport(self.state, self.clock, vec![server.clone()], &ca, files)?;
        let node = Api::new(Arc::new(node), "kubelet");
        self.patiently("looking at the node's name", || self.unclaimed(&node, &key)).await?;
        let key = self.key(state::PROXY_KEY)?;
        let request = key.request(controllers::PROXY_USER, None)?;
        let issued = self
            .patiently("asking for the proxy's certificate", || {
                certificate(&node, self.ambient, CLIENT_SIGNER, CLIENT, &request)
            })
            .await?;
        self.state.write(state::PROXY_CERTIFICATE, &issued)?;
        let settings = self.patiently("asking for the cluster's settings", || told(&node)).await?;
        Cluster::told(&settings)?;
        self.state.write(state::CLUSTER, &serde_json::to_string(&settings)?)?;
        info!(node = name, server, "this machine has joined the cluster");
        Ok(())
    }

    /// New certificates where they are due at a time, or where they have not begun by then and
    /// `is_set`: the clock was set since they were looked at. Those that have run out renew nothing any more: then this
    /// machine joins anew, as the same node. Returns whether there are others now.
    ///
    /// # Errors
    /// Why there are none yet, and what to do where that does not change by itself.
    pub(super) async fn renew(
        &self,
        member: &Membership,
        now: Timestamp,
        is_set: bool,
    ) -> Result<bool, String> {
        let mut sets = self.ambient.clock_sets();
        if !self.clock.is_told() && self.have_run_out() {
            // They may only seem to have, and what is due nobody knows before a server has
            // said what time it is.
            sets.next().await;
            return Ok(false);
        }
        if self.have_run_out() {
            self.can_join().map_err(|_| self.ran_out())?;
            self.join().await.map_err(|error| error.to_string())?;
            return Ok(true);
        }
        let name = &self.config.machine.node_name;
        let due = |due, begin| due <= now || is_set && now < begin;
        renew(member, self.state, self.ambient, name, due).await
    }

    /// The cluster's CA, once a server has shown the one that the token names.
    async fn verified_ca(&self, server: &str, token: &JoinToken) -> Result<String, StartError> {
        let greeting = self
            .patiently("waiting for the server", || async move {
                greeting::greet(server).await.map_err(|fault| match fault {
                    Fault::Away(text) => Trouble::Passing(text),
                    Fault::Stranger(text) => Trouble::Final(text),
                })
            })
            .await?;
        let Some(ca) = greeting.ca_of(token.ca_hash) else {
            return Err(format!(
                "the server at {server} has another CA than the token says: it is of another \
                 cluster, or somebody pretends to be it. Check --server, or make a token on that \
                 server with: skiff token create"
            )
            .into());
        };
        match greeting.told(server, token.ca_hash) {
            // One server's word is less than what more of them have said before.
            _ if self.clock.is_told() => {}
            Ok(told) => time::hear(self.clock, &[told], 1),
            Err(error) => warn!(server, error, "what time it is by the server is not known"),
        }
        Ok(ca.to_owned())
    }

    /// The machine's key, the same at every attempt.
    fn key(&self, name: &str) -> Result<ClientKey, StartError> {
        if let Some(pem) = self.state.read(name)? {
            return Ok(ClientKey::from_pem(&pem)?);
        }
        let key = ClientKey::generate()?;
        self.state.write(name, &key.to_pem())?;
        Ok(key)
    }

    /// Two machines that joined at once under one name both have certificates;
    /// the one that registered first keeps the name.
    async fn unclaimed(&self, api: &Api, key: &ClientKey) -> Result<(), Trouble> {
        let name = &self.config.machine.node_name;
        match api.get(NODES, "", name).await {
            Ok(node) if node.meta.annotations.get(controllers::NODE_KEY) != Some(&key.hash()) => {
                Err(Trouble::Final(format!(
                    "another machine has become node \"{name}\" meanwhile: give this one a name of \
                     its own with --node-name"
                )))
            }
            Err(error) if !error.is_not_found() => Err(Trouble::of(&error)),
            _ => Ok(()),
        }
    }

    /// Tries until it works or cannot work; says once why it waits.
    async fn patiently<T, F>(&self, what: &str, attempt: impl Fn() -> F) -> Result<T, StartError>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let (mut failures, mut said) = (0, String::new());
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(Trouble::Final(why)) => return Err(why.into()),
                Err(Trouble::Passing(why)) => {
                    if said != why {
                        warn!("{what}: {why}; trying again");
                        said = why;
                    }
                    failures += 1;
                    let pause = Backoff::CONNECT.delay(failures);
                    tokio::time::sleep(self.ambient.jittered(pause)).await;
                }
            }
        }
    }
}

/// Why an attempt failed.
pub(super) enum Trouble {
    /// It may work later.
    Passing(String),
    /// It will not; says what to do.
    Final(String),
}

impl Trouble {
    fn of(error: &Error) -> Self {
        match error.code() {
            Some(401) => Self::Final(
                "the server does not accept the token: it is wrong, has expired or was revoked; \
                 make a new one on a server with: skiff token create"
                    .into(),
            ),
            _ => Self::Passing(error.to_string()),
        }
    }
}

/// What a certificate is asked for.
const CLIENT: &str = "client auth";
const SERVER: &str = "server auth";

/// How the node gets what it shows on its port.
pub(super) fn serving_certificates(node: &Https, ambient: &Ambient) -> ::node::Sign {
    let (api, ambient) = (Api::new(Arc::new(node.clone()), "kubelet"), ambient.clone());
    Arc::new(move |request| {
        let (api, ambient) = (api.clone(), ambient.clone());
        Box::pin(async move {
            let given = certificate(&api, &ambient, SERVING_SIGNER, SERVER, &request).await;
            given.map_err(|(Trouble::Passing(why) | Trouble::Final(why))| why)
        })
    })
}

/// Asks for a certificate and waits for it.
pub(super) async fn certificate(
    api: &Api,
    ambient: &Ambient,
    signer: &str,
    auth: &str,
    request: &str,
) -> Result<String, Trouble> {
    let object = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": format!("node-csr-{}", ambient.suffix(20))},
        "spec": {
            "request": STANDARD.encode(request),
            "signerName": signer,
            "usages": ["digital signature", auth],
        },
    });
    let created = api.create(REQUESTS, "", &object).await.map_err(|error| match error.code() {
        // The policy of a server that has just started comes a moment later.
        Some(403) => Trouble::Passing(format!("{error} (is the token one for agents?)")),
        _ => Trouble::of(&error),
    })?;
    let (sender, mut states) = mpsc::unbounded_channel();
    let options = ListOptions {
        field_selector: format!("metadata.name={}", created.meta.name),
        ..ListOptions::default()
    };
    let follow = reflect(api, REQUESTS, "", &options, ambient, move |event| {
        if let Reflected::Upsert(object) = event {
            // The receiver lives as long as this future.
            let _ = sender.send(object);
        }
    });
    let decided = async {
        while let Some(object) = states.recv().await {
            let value: Value = serde_json::from_slice(&object.bytes).unwrap_or_default();
            if let Some(outcome) = outcome(&value) {
                return outcome;
            }
        }
        Err(Trouble::Passing("the request was lost".into()))
    };
    tokio::select! {
        () = follow => Err(Trouble::Passing("the request was lost".into())),
        decided = tokio::time::timeout(SIGNED_MAX, decided) => decided.unwrap_or_else(|_| {
            Err(Trouble::Passing(format!(
                "certificate request {} was not signed within {SIGNED_MAX:?}", created.meta.name
            )))
        }),
    }
}

/// The certificate, or why there is none; `None` while nobody has decided.
fn outcome(request: &Value) -> Option<Result<String, Trouble>> {
    let certificate = request["status"]["certificate"].as_str().filter(|text| !text.is_empty());
    if let Some(text) = certificate {
        let pem = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        return Some(pem.ok_or_else(|| Trouble::Passing("the certificate is unreadable".into())));
    }
    let conditions = request["status"]["conditions"].as_array()?;
    let refused = conditions.iter().find(|c| c["type"] == "Denied" || c["type"] == "Failed")?;
    let message = refused["message"].as_str().unwrap_or_default();
    Some(Err(Trouble::Final(message.to_owned())))
}

async fn told(api: &Api) -> Result<BTreeMap<String, String>, Trouble> {
    let map = api.get(CONFIG_MAPS, "kube-system", "skiff-cluster").await;
    let map = map.map_err(|error| Trouble::of(&error))?;
    let mut value: Value =
        serde_json::from_slice(&map.bytes).map_err(|error| Trouble::Passing(error.to_string()))?;
    serde_json::from_value(value["data"].take())
        .map_err(|error| Trouble::Passing(format!("kube-system/skiff-cluster: {error}")))
}

/// Both certificates, renewed where `is_due` says so of when one is to be and of when it
/// begins, and where there is none for the key. Returns whether any was.
pub(super) async fn renew(
    member: &Membership,
    state: &State,
    ambient: &Ambient,
    name: &str,
    is_due: impl Fn(Timestamp, Timestamp) -> bool,
) -> Result<bool, String> {
    let node = Api::new(Arc::new(member.node.clone()), "kubelet");
    let user = format!("system:node:{name}");
    let mut renewed = false;
    for (key, file, signer, user, group) in [
        (
            &member.node_key,
            state::NODE_CERTIFICATE,
            NODE_SIGNER,
            user.as_str(),
            Some("system:nodes"),
        ),
        (&member.proxy_key, state::PROXY_CERTIFICATE, CLIENT_SIGNER, controllers::PROXY_USER, None),
    ] {
        let known = state.read(file)?.unwrap_or_default();
        let dates = key.renewal_of(&known).zip(pki::client_key::beginning(&known));
        if dates.is_some_and(|(due, begin)| !is_due(due, begin)) {
            continue;
        }
        let request = key.request(user, group).map_err(|error| error.to_string())?;
        let new =
            certificate(&node, ambient, signer, CLIENT, &request).await.map_err(|trouble| {
                let (Trouble::Passing(why) | Trouble::Final(why)) = trouble;
                format!("{user}: {why}")
            })?;
        state.write(file, &new)?;
        info!(certificate = file, "certificate renewed");
        renewed = true;
    }
    Ok(renewed)
}

/// When the first certificate is due.
pub(super) fn next_renewal(member: &Membership, state: &State) -> Result<Timestamp, String> {
    let due = |key: &ClientKey, file| -> Result<Timestamp, String> {
        let pem = state.read(file)?.unwrap_or_default();
        Ok(key.renewal_of(&pem).unwrap_or(Timestamp::UNIX_EPOCH))
    };
    let node = due(&member.node_key, state::NODE_CERTIFICATE)?;
    Ok(node.min(due(&member.proxy_key, state::PROXY_CERTIFICATE)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_of_a_request() {
        let told = |value: Value| {
            outcome(&value).map(|outcome| match outcome {
                Ok(pem) => pem,
                Err(Trouble::Final(why)) => format!("never: {why}"),
                Err(Trouble::Passing(why)) => format!("later: {why}"),
            })
        };
        assert_eq!(told(json!({})), None);
        assert_eq!(told(json!({"status": {"conditions": [{"type": "Approved"}]}})), None);
        let denied = json!([{"type": "Denied", "message": "taken"}]);
        assert_eq!(
            told(json!({"status": {"conditions": denied}})).as_deref(),
            Some("never: taken")
        );
        let signed = json!({"status": {"certificate": STANDARD.encode("PEM")}});
        assert_eq!(told(signed).as_deref(), Some("PEM"));
    }
}
