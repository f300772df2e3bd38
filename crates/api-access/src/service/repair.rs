//! Keeps IPAddresses and Services in step: an address of a Service that has no
//! IPAddress gets one, and an IPAddress of ours whose Service is gone goes.
//!
//! Both come and go in one commit, so there is nothing to do unless somebody
//! deletes an IPAddress by hand, or a Service is older than its kind. The two
//! watches tell at different times: a difference is looked at again a moment
//! later, and then against the API itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use api_object::Object;
use api_schema::tree;
use client::{Ambient, Api, DeleteOptions, Error, ListOptions, Preconditions, Reflected, reflect};
use serde_json::Value;
use tokio::sync::Notify;

use super::{
    allocators::held,
    reserved::{ALLOCATOR, MANAGED_BY, object},
};
use crate::state::{IP_ADDRESSES, SERVICES};

/// How long the watches have to come to an agreement.
const SETTLE: Duration = Duration::from_secs(1);

/// Namespace and name of a Service.
type Name = (String, String);

/// Who has which address, as Services say it and as IPAddresses say it.
#[derive(Debug, Default)]
struct Book {
    by_service: BTreeMap<Name, Vec<String>>,
    claimed: BTreeMap<String, Name>,
    /// IPAddresses of ours.
    stored: BTreeMap<String, Name>,
    /// Addresses that may differ.
    doubtful: BTreeSet<String>,
}

impl Book {
    fn service(&mut self, name: Name, addresses: Vec<String>) {
        let before = match addresses.is_empty() {
            true => self.by_service.remove(&name),
            false => self.by_service.insert(name.clone(), addresses.clone()),
        };
        for address in before.into_iter().flatten() {
            if self.claimed.get(&address) == Some(&name) {
                self.claimed.remove(&address);
            }
            self.doubt(address);
        }
        for address in addresses {
            self.claimed.insert(address.clone(), name.clone());
            self.doubt(address);
        }
    }

    fn address(&mut self, address: &str, parent: Option<Name>) {
        match parent {
            Some(parent) => drop(self.stored.insert(address.to_owned(), parent)),
            None => drop(self.stored.remove(address)),
        }
        self.doubt(address.to_owned());
    }

    fn doubt(&mut self, address: String) {
        match self.claimed.get(&address) == self.stored.get(&address) {
            true => self.doubtful.remove(&address),
            false => self.doubtful.insert(address),
        };
    }
}

/// The Service that an IPAddress of ours belongs to.
fn parent(object: &Object) -> Option<Name> {
    let ours = object.meta.labels.get(MANAGED_BY).is_some_and(|by| by == ALLOCATOR);
    let value: Value = serde_json::from_slice(&object.bytes).ok()?;
    let text = |path: &str| tree::text(&value, path).to_owned();
    ours.then(|| (text("spec.parentRef.namespace"), text("spec.parentRef.name")))
}

fn addresses(object: &Object) -> Result<Vec<String>, serde_json::Error> {
    let value: Value = serde_json::from_slice(&object.bytes)?;
    Ok(held(&value).into_iter().filter(|value| value.parse::<u16>().is_err()).collect())
}

/// Runs until it is dropped.
pub(crate) async fn run(api: Api, ambient: Ambient) {
    let book = Mutex::new(Book::default());
    let changed = Notify::new();
    let change = |with: &mut dyn FnMut(&mut Book)| {
        let mut book = book.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        with(&mut book);
        if !book.doubtful.is_empty() {
            changed.notify_one();
        }
    };
    let options = ListOptions::default();
    // What went while the watch was interrupted is not told: it begins anew.
    let services = reflect(&api, SERVICES, "", &options, &ambient, |told| match told {
        Reflected::Restart => change(&mut |book| {
            for name in book.by_service.keys().cloned().collect::<Vec<_>>() {
                book.service(name, Vec::new());
            }
        }),
        Reflected::Upsert(object) => change(&mut |book| {
            let name = (object.meta.namespace.clone(), object.meta.name.clone());
            match addresses(&object) {
                Ok(addresses) => book.service(name, addresses),
                // What it had stays its own.
                Err(error) => tracing::error!(?name, %error, "a Service cannot be read"),
            }
        }),
        Reflected::Delete(object) => change(&mut |book| {
            book.service((object.meta.namespace.clone(), object.meta.name.clone()), Vec::new());
        }),
        Reflected::Synced(_) | Reflected::Progress(_) => {}
    });
    let stored = reflect(&api, IP_ADDRESSES, "", &options, &ambient, |told| match told {
        Reflected::Restart => change(&mut |book| {
            for address in book.stored.keys().cloned().collect::<Vec<_>>() {
                book.address(&address, None);
            }
        }),
        Reflected::Upsert(object) => {
            change(&mut |book| book.address(&object.meta.name, parent(&object)));
        }
        Reflected::Delete(object) => change(&mut |book| book.address(&object.meta.name, None)),
        Reflected::Synced(_) | Reflected::Progress(_) => {}
    });
    let mend = async {
        loop {
            changed.notified().await;
            tokio::time::sleep(SETTLE).await;
            let doubtful: Vec<(String, Option<Name>, Option<Name>)> = {
                let book = book.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let of = |address: &String| {
                    (
                        address.clone(),
                        book.claimed.get(address).cloned(),
                        book.stored.get(address).cloned(),
                    )
                };
                book.doubtful.iter().map(of).collect()
            };
            for (address, claimed, stored) in doubtful {
                if let Err(error) = mend(&api, &address, claimed, stored).await {
                    tracing::warn!(address, %error, "an IPAddress is not in step; trying again");
                    changed.notify_one();
                }
            }
        }
    };
    tokio::select! {
        () = services => {}
        () = stored => {}
        () = mend => {}
    }
}

/// Looks at one address as it is, and does what is missing.
async fn mend(
    api: &Api,
    address: &str,
    claimed: Option<Name>,
    stored: Option<Name>,
) -> Result<(), Error> {
    if let Some((namespace, name)) = stored.filter(|stored| claimed.as_ref() != Some(stored)) {
        if has(api, &namespace, &name, address).await? {
            return Ok(());
        }
        let found = match api.get(IP_ADDRESSES, "", address).await {
            Err(error) if error.is_not_found() => return Ok(()),
            found => found?,
        };
        if parent(&found) != Some((namespace, name)) {
            return Ok(());
        }
        let preconditions = Preconditions {
            uid: Some(found.meta.uid),
            resource_version: Some(found.meta.resource_version),
        };
        let options =
            DeleteOptions { preconditions: Some(preconditions), ..DeleteOptions::default() };
        ignore(api.delete(IP_ADDRESSES, "", address, &options).await.map(drop))?;
        tracing::info!(address, "an IPAddress whose Service is gone was removed");
    }
    if let Some((namespace, name)) = claimed
        && has(api, &namespace, &name, address).await?
    {
        let body = object(address, (&namespace, &name));
        ignore(api.create(IP_ADDRESSES, "", &body).await.map(drop))?;
    }
    Ok(())
}

/// Whether a Service has an address.
async fn has(api: &Api, namespace: &str, name: &str, address: &str) -> Result<bool, Error> {
    match api.get(SERVICES, namespace, name).await {
        Ok(service) => {
            let held = addresses(&service).map_err(|error| Error::Malformed(error.to_string()))?;
            Ok(held.iter().any(|held| held == address))
        }
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Somebody else was faster, which is what was wanted.
fn ignore(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_doubtful_until_it_agrees() {
        let name = |name: &str| ("ns".to_owned(), name.to_owned());
        let mut book = Book::default();
        let doubtful = |book: &Book| book.doubtful.iter().cloned().collect::<Vec<_>>().join(" ");
        book.service(name("a"), vec!["10.43.0.7".into()]);
        assert_eq!(doubtful(&book), "10.43.0.7", "its IPAddress is not told yet");
        book.address("10.43.0.7", Some(name("a")));
        assert_eq!(doubtful(&book), "");
        // Deleted by hand.
        book.address("10.43.0.7", None);
        assert_eq!(doubtful(&book), "10.43.0.7");
        book.address("10.43.0.7", Some(name("a")));
        // The Service goes, and is told first.
        book.service(name("a"), Vec::new());
        assert_eq!(doubtful(&book), "10.43.0.7");
        book.address("10.43.0.7", None);
        assert_eq!(doubtful(&book), "");
        // The next one with the address is told before the old one is gone.
        book.service(name("b"), vec!["10.43.0.8".into()]);
        book.address("10.43.0.8", Some(name("b")));
        book.service(name("c"), vec!["10.43.0.8".into()]);
        assert_eq!(doubtful(&book), "10.43.0.8");
        book.service(name("b"), Vec::new());
        book.address("10.43.0.8", Some(name("c")));
        assert_eq!(doubtful(&book), "");
    }
}
