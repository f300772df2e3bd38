//! ResourceQuota: a namespace's objects may add up to so much. What a write
//! uses is charged to the quotas' status before it is stored; the quota
//! controller counts again, and gives back what was charged for nothing.

use std::{
    collections::{BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

use api_kinds::quota::{self, Amounts, Scope};
use api_object::{Quantity, Status};
use api_registry::{Attributes, Operation};
use api_schema::tree;
use client::{ListOptions, PatchKind};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::denied;
use crate::{Access, state::RESOURCE_QUOTAS};

/// How often a charge that somebody else was faster with is tried again. Only
/// the controller and other servers are: here one charges after the other.
const TRIES: usize = 20;

/// Lets one write of a namespace be charged after the other, so that many at
/// once do not all meet each other's charge. A few namespaces share a lock.
#[derive(Debug, Default)]
pub(crate) struct Locks([tokio::sync::Mutex<()>; 16]);

impl Locks {
    fn of(&self, namespace: &str) -> &tokio::sync::Mutex<()> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        let at = hasher.finish() % (self.0.len() as u64);
        &self.0[usize::try_from(at).unwrap_or(0)]
    }
}

pub(super) async fn charge(access: &Access, attributes: &mut Attributes) -> Result<(), Status> {
    let namespace = attributes.namespace.clone();
    if namespace.is_empty()
        || !is_counted(attributes)
        || !access.state().quotas.contains_key(&namespace)
    {
        return Ok(());
    }
    let api =
        access.api.get().ok_or_else(|| Status::internal("access control is not running yet"))?;
    let _one_by_one = access.quota_locks.of(&namespace).lock().await;
    let mut charged = BTreeSet::new();
    for _ in 0..TRIES {
        let list = api.list(RESOURCE_QUOTAS, &namespace, &ListOptions::default()).await;
        let items = list.map_err(refusal)?.items;
        let mut quotas: Vec<Value> = Vec::with_capacity(items.len());
        for item in items {
            quotas.push(serde_json::from_slice(&item).map_err(Status::internal)?);
        }
        quotas.retain(|quota| !charged.contains(tree::text(quota, "metadata.name")));
        let charges = judge(&quotas, attributes, access.now())?;
        if attributes.dry_run {
            return Ok(());
        }
        let mut is_done = true;
        for charge in charges {
            let (name, patch) = (&charge.quota, charge.patch());
            let patched =
                api.patch(RESOURCE_QUOTAS, &namespace, name, "status", PatchKind::Merge, &patch);
            match patched.await {
                Ok(_) => drop(charged.insert(charge.quota)),
                Err(error) if error.is_conflict() || error.is_not_found() => is_done = false,
                Err(error) => return Err(refusal(error)),
            }
        }
        if is_done {
            return Ok(());
        }
    }
    Err(denied(attributes, "the namespace's quotas are changed by others all the time; try again"))
}

/// Whether a write may use more than was used before.
fn is_counted(attributes: &Attributes) -> bool {
    let (group, plural) = (&attributes.resource.group, &attributes.resource.resource);
    match attributes.subresource.as_str() {
        "" if plural == "events" => false,
        "" => attributes.operation == Operation::Create || quota::counts_updates(group, plural),
        // A pod's containers get more in place.
        "resize" => plural == "pods" && group.is_empty(),
        _ => false,
    }
}

fn refusal(error: client::Error) -> Status {
    match error {
        client::Error::Status(status) => *status,
        other => Status::internal(other),
    }
}

/// What a write adds to a quota's use.
#[derive(Debug, PartialEq)]
struct Charge {
    quota: String,
    version: String,
    /// The new sums of what changes.
    used: Amounts,
}

impl Charge {
    fn patch(&self) -> Value {
        json!({
            "metadata": {"resourceVersion": self.version},
            "status": {"used": self.used},
        })
    }
}

/// What a write adds to each of the quotas, or why it may not be.
fn judge(quotas: &[Value], attributes: &Attributes, now: Timestamp) -> Result<Vec<Charge>, Status> {
    let Some(object) = &attributes.object else { return Ok(Vec::new()) };
    let (group, plural) =
        (attributes.resource.group.as_str(), attributes.resource.resource.as_str());
    let mut concerned = Vec::new();
    for one in quotas {
        let hard = quota::amounts(tree::get(one, "status.hard"));
        let names = quota::names_of(group, plural, hard.keys().map(String::as_str));
        let scopes = Scope::of(one);
        let in_scope = scopes.iter().all(|scope| scope.holds(group, plural, object));
        let name = tree::text(one, "metadata.name");
        if !in_scope {
            continue;
        }
        if names.is_empty() {
            // A quota that was not looked at yet limits nothing known.
            let wanted = quota::amounts(tree::get(one, "spec.hard"));
            let wanted = quota::names_of(group, plural, wanted.keys().map(String::as_str));
            if tree::get(one, "status.hard").is_null() && !wanted.is_empty() {
                return Err(denied(attributes, &unknown(name, &wanted)));
            }
            continue;
        }
        if attributes.operation == Operation::Create
            && let Some(why) = quota::unspecified(group, plural, &names, object)
        {
            return Err(denied(attributes, &format!("failed quota: {name}: {why}")));
        }
        let used = quota::amounts(tree::get(one, "status.used"));
        if names.iter().any(|name| !used.contains_key(*name)) {
            return Err(denied(attributes, &unknown(name, &names)));
        }
        let version = tree::text(one, "metadata.resourceVersion").to_owned();
        concerned.push((name.to_owned(), version, hard, used));
    }
    if concerned.is_empty() {
        return Ok(Vec::new());
    }
    let delta = delta(group, plural, object, attributes.old_object.as_ref(), now);
    let negative: Vec<&str> =
        delta.iter().filter(|(_, n)| n.is_negative()).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        let why = format!("quota usage is negative for resource(s): {}", negative.join(","));
        return Err(denied(attributes, &why));
    }
    let mut charges = Vec::new();
    for (name, version, hard, used) in concerned {
        let masked = |amounts: &Amounts, by: &dyn Fn(&str) -> bool| -> Amounts {
            let kept = amounts.iter().filter(|(name, _)| by(name));
            kept.map(|(name, amount)| (name.clone(), *amount)).collect()
        };
        let asked = masked(&delta, &|name| hard.contains_key(name));
        let sum: Amounts = asked
            .iter()
            .map(|(name, amount)| {
                let known = used.get(name).copied().unwrap_or_default();
                (name.clone(), known + *amount)
            })
            .collect();
        let exceeds = |name: &str| sum.get(name) > hard.get(name);
        let exceeded: BTreeSet<&str> =
            asked.keys().map(String::as_str).filter(|name| exceeds(name)).collect();
        if !exceeded.is_empty() {
            let only =
                |amounts: &Amounts| quota::print(&masked(amounts, &|n| exceeded.contains(n)));
            let why = format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                only(&asked),
                only(&used),
                only(&hard)
            );
            return Err(denied(attributes, &why));
        }
        if !sum.is_empty() {
            charges.push(Charge { quota: name, version, used: sum });
        }
    }
    Ok(charges)
}

fn unknown(quota: &str, names: &[&str]) -> String {
    format!("status unknown for quota: {quota}, resources: {}", names.join(","))
}

/// What is used beyond what the object used before; less is given back by the
/// controller.
fn delta(
    group: &str,
    plural: &str,
    object: &Value,
    old: Option<&Value>,
    now: Timestamp,
) -> Amounts {
    let mut delta = quota::usage(group, plural, object, now);
    if let Some(old) = old {
        for (name, before) in quota::usage(group, plural, old, now) {
            if let Some(amount) = delta.get_mut(&name) {
                *amount = if *amount > before { *amount - before } else { Quantity::default() };
            }
        }
    }
    delta.retain(|_, amount| !amount.is_zero());
    delta
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{user, write};

    fn pod(cpu: &str) -> Value {
        json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
        })
    }

    fn limited(hard: Value, used: Value) -> Value {
        json!({
            "metadata": {"name": "q", "resourceVersion": "7"},
            "spec": {"hard": hard},
            "status": {"hard": hard, "used": used},
        })
    }

    fn decide(
        quotas: &[Value],
        resource: &str,
        new: Value,
        old: Option<Value>,
    ) -> Result<String, String> {
        let operation = if old.is_some() { Operation::Update } else { Operation::Create };
        let asked = write(user("u", &[]), operation, resource, "ns", Some(new), old);
        let charges = judge(quotas, &asked, Timestamp::UNIX_EPOCH);
        let print = |charge: &Charge| quota::print(&charge.used);
        charges
            .map(|charges| charges.iter().map(print).collect::<Vec<_>>().join(" "))
            .map_err(|status| status.message)
    }

    #[test]
    fn charges_and_refusals() {
        let quota = limited(
            json!({"pods": "2", "requests.cpu": "1", "count/widgets.example.com": "1"}),
            json!({"pods": "1", "requests.cpu": "400m", "count/widgets.example.com": "1"}),
        );
        let quotas = [quota];
        let table = [
            ("pods", pod("500m"), Ok("pods=2,requests.cpu=900m")),
            (
                "pods",
                pod("700m"),
                Err(
                    "pods \"p\" is forbidden: exceeded quota: q, requested: requests.cpu=700m, used: requests.cpu=400m, limited: requests.cpu=1",
                ),
            ),
            (
                "pods",
                json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}),
                Err("pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: c"),
            ),
            ("configmaps", json!({"metadata": {"name": "m"}}), Ok("")),
            (
                "widgets.example.com",
                json!({"metadata": {"name": "w"}}),
                Err(
                    "widgets.example.com \"w\" is forbidden: exceeded quota: q, requested: count/widgets.example.com=1, used: count/widgets.example.com=1, limited: count/widgets.example.com=1",
                ),
            ),
        ];
        for (resource, object, wanted) in table {
            let is = decide(&quotas, resource, object, None);
            assert_eq!(is, wanted.map(str::to_owned).map_err(str::to_owned), "{resource}");
        }
        let fresh = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}});
        assert_eq!(
            decide(&[fresh], "pods", pod("1"), None),
            Err("pods \"p\" is forbidden: status unknown for quota: q, resources: pods".into())
        );
        let mut ended = limited(json!({"pods": "0"}), json!({"pods": "0"}));
        ended["spec"]["scopes"] = json!(["Terminating"]);
        assert_eq!(decide(&[ended], "pods", pod("1"), None), Ok(String::new()), "out of scope");
    }

    #[test]
    fn an_update_is_charged_for_what_it_adds() {
        let quotas = [limited(
            json!({"services.nodeports": "2", "requests.storage": "3Gi"}),
            json!({"services.nodeports": "1", "requests.storage": "1Gi"}),
        )];
        let service = |kind: &str, ports: usize| json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": vec![json!({}); ports]}});
        let update = |new, old| decide(&quotas, "services", new, Some(old));
        assert_eq!(
            update(service("NodePort", 2), service("NodePort", 1)),
            Ok("services.nodeports=2".into())
        );
        assert_eq!(update(service("ClusterIP", 2), service("NodePort", 2)), Ok(String::new()));
        assert!(update(service("NodePort", 2), service("ClusterIP", 2)).is_err());
        let quotas_of_cpu = [limited(
            json!({"pods": "1", "requests.cpu": "1"}),
            json!({"pods": "1", "requests.cpu": "400m"}),
        )];
        let resize = |cpu| decide(&quotas_of_cpu, "pods", pod(cpu), Some(pod("400m")));
        assert_eq!(resize("900m"), Ok("requests.cpu=900m".into()));
        assert_eq!(resize("300m"), Ok(String::new()), "given back by the controller");
        let more = resize("1100m").expect_err("too much");
        assert!(more.contains("exceeded quota: q, requested: requests.cpu=700m"), "{more}");
        for (operation, resource, counted) in [
            (Operation::Create, "pods", true),
            (Operation::Update, "pods", false),
            (Operation::Update, "pods/resize", true),
            (Operation::Update, "pods/status", false),
            (Operation::Update, "services", true),
            (Operation::Create, "events", false),
        ] {
            let asked = write(user("u", &[]), operation, resource, "ns", Some(pod("1")), None);
            assert_eq!(is_counted(&asked), counted, "{operation:?} {resource}");
        }
        let claim = |size: &str| json!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": size}}}});
        assert_eq!(
            decide(&quotas, "persistentvolumeclaims", claim("2Gi"), Some(claim("1Gi"))),
            Ok("requests.storage=2Gi".into())
        );
    }
}
