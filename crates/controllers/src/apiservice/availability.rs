//! Finds out whether the API servers beside this one answer.
//!
//! Each is asked when its APIService, its Service or its endpoints change, and then
//! again, at first soon (what was changed may not have come everywhere yet) and ever
//! less often: in the end once a minute, since an expired certificate or a process
//! that hangs changes no object. Upstream asks twice as often. Where there is none
//! beside this server, nobody wakes up.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api_object::time;
use api_types::discovery::EndpointSlice;
use bytes::Bytes;
use client::{
    Api, Backoff, Cached, Error, Informer, Outcome, PatchKind, Selection, WorkQueue, reconcile_loop,
};
use http::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::available::{self, Place, Said};
use crate::{
    Context,
    cached::{API_SERVICES, ENDPOINT_SLICES, SERVICES, Service},
    whole::Kept,
};

/// One that hangs must not keep others from being asked.
const WORKERS: usize = 4;
/// Upstream's time for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const WHILE_AVAILABLE: Backoff =
    Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(60) };
const WHILE_NOT: Backoff =
    Backoff { base: Duration::from_millis(250), cap: Duration::from_secs(30) };

/// What was found of an APIService, and how often in a row.
struct Found {
    spec: Value,
    available: bool,
    times: u32,
}

struct Availability {
    api: Api,
    api_services: Informer<Kept>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    found: Mutex<BTreeMap<String, Found>>,
    context: Context,
}

/// The controller. Never returns. Its keys are those of APIServices.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Availability {
        api: context.api.clone(),
        api_services: context.informers.get(Selection::all(API_SERVICES)),
        services: context.informers.get(Selection::all(SERVICES)),
        slices: context.informers.get(Selection::all(ENDPOINT_SLICES)),
        found: Mutex::default(),
        context,
    });
    let queue: Arc<WorkQueue<String>> = Arc::default();
    let keys = queue.clone();
    controller.api_services.on_change(move |change| {
        let spec = |object: &Arc<Cached<Kept>>| object.view.spec.clone();
        let same = change.old.as_ref().map(spec) == change.new.as_ref().map(spec);
        // What was said here is no reason to ask again.
        if !same || !available::is_said(&change.object().view.conditions()) {
            keys.add(change.object().key());
        }
    });
    let (keys, named) = (queue.clone(), controller.api_services.clone());
    controller.services.on_change(move |change| {
        naming(&named, &change.object().key()).for_each(|name| keys.add(name));
    });
    let (keys, named) = (queue.clone(), controller.api_services.clone());
    controller.slices.on_change(move |change| {
        for key in change.sides().filter_map(|slice| service_of(slice)) {
            naming(&named, &key).for_each(|name| keys.add(name));
        }
    });
    controller.api_services.wait_synced().await;
    controller.services.wait_synced().await;
    controller.slices.wait_synced().await;
    reconcile_loop("apiservice-availability", queue, WORKERS, move |name| {
        let controller = controller.clone();
        async move { controller.reconcile(&name).await }
    })
    .await;
}

/// The key of the Service that a slice belongs to.
fn service_of(slice: &Cached<EndpointSlice>) -> Option<String> {
    let name = slice.meta.labels.get("kubernetes.io/service-name")?;
    Some(format!("{}/{name}", slice.meta.namespace))
}

/// The APIServices that name a Service.
fn naming(api_services: &Informer<Kept>, key: &str) -> impl Iterator<Item = String> {
    let all = api_services.list().into_iter();
    all.filter(move |object| Place::of(&object.view.spec).is_some_and(|of| of.key() == key))
        .map(|object| object.meta.name.clone())
}

impl Availability {
    async fn reconcile(&self, name: &str) -> Outcome {
        let named = self.api_services.get(name);
        let place = named.as_ref().and_then(|object| Place::of(&object.view.spec));
        let (Some(object), Some(place)) = (named, place) else {
            self.found().remove(name);
            return Ok(None);
        };
        let service = self.services.get(&place.key());
        let slices = self.slices.list_namespace(&place.namespace);
        let of_service = slices
            .iter()
            .filter(|slice| service_of(slice).is_some_and(|key| key == place.key()))
            .map(|slice| &slice.view);
        let view = service.as_ref().map(|service| &service.view);
        // Who has no endpoints is looked at again when there are some.
        let (said, again) = match available::in_vain(&place, view, of_service) {
            Some(said) => (said, None),
            None => {
                let said = self.ask(&object, &place, view).await;
                let again = self.again(name, &object.view.spec, said.available);
                (said, Some(self.context.ambient.jittered(again)))
            }
        };
        self.report(&object, &said).await?;
        Ok(again)
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<String, Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what was found; when to ask again.
    fn again(&self, name: &str, spec: &Value, available: bool) -> Duration {
        let mut all = self.found();
        let before = all.remove(name).filter(|b| b.spec == *spec && b.available == available);
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        all.insert(name.to_owned(), Found { spec: spec.clone(), available, times });
        match available {
            true => WHILE_AVAILABLE.delay(times),
            false => WHILE_NOT.delay(times),
        }
    }

    /// Asks for the version's resources, by the way of everybody's requests: what
    /// stands in their way is what there is to find out.
    async fn ask(&self, object: &Cached<Kept>, place: &Place, service: Option<&Service>) -> Said {
        let text = |key: &str| object.view.spec[key].as_str().unwrap_or_default();
        let path = format!("/apis/{}/{}", text("group"), text("version"));
        let host = match service.map_or("", |service| service.spec.cluster_ip.as_str()) {
            "" | "None" => format!("{}.{}.svc", place.name, place.namespace),
            ip if ip.contains(':') => format!("[{ip}]"),
            ip => ip.to_owned(),
        };
        let url = format!("https://{host}:{}{path}", place.port);
        let asking = self.api.request(Method::GET, &path, None, Bytes::new());
        let answer = match timeout(ANSWER_MAX, asking).await {
            Ok(answer) => answer.map(drop).map_err(Some),
            Err(_) => Err(None),
        };
        available::asked(&url, answer)
    }

    async fn report(&self, object: &Cached<Kept>, said: &Said) -> Result<(), Error> {
        let now = time::format_seconds(self.context.ambient.now());
        let conditions = available::conditions(&object.view.conditions(), said, &now);
        let Some(conditions) = conditions else { return Ok(()) };
        let patch: Value = json!({
            "metadata": { "uid": object.meta.uid },
            "status": { "conditions": conditions },
        });
        let (name, kind) = (&object.meta.name, PatchKind::Merge);
        match self.api.patch(API_SERVICES, "", name, "status", kind, &patch).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}
