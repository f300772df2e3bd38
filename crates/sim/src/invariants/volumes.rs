//! A volume is one claim's and a claim has one volume; neither changes while
//! both are there.

use crate::{Change, Cluster, Invariant, World};

pub(crate) struct Volumes;

const CLAIMS: &str = "/persistentvolumeclaims";

impl Invariant for Volumes {
    fn observe(&mut self, _: &World, cluster: &Cluster, change: &Change<'_>) -> Result<(), String> {
        let Some(new) = change.new else { return Ok(()) };
        let (what, at) = match change.resource {
            "/persistentvolumes" => ("claim", "/spec/claimRef/uid"),
            CLAIMS => ("volume", "/spec/volumeName"),
            _ => return Ok(()),
        };
        let of = |object: &serde_json::Value| {
            object.pointer(at).and_then(|text| text.as_str()).map(str::to_owned)
        };
        let (before, now) = (change.old.and_then(of), of(new));
        if let (Some(before), Some(now)) = (&before, &now)
            && before != now
        {
            return Err(format!("the {what} of {} was {before} and is {now}", change.key));
        }
        let Some(volume) = now.filter(|_| change.resource == CLAIMS) else { return Ok(()) };
        let sharing: Vec<&str> = cluster
            .all(CLAIMS)
            .filter(|(_, claim)| claim["spec"]["volumeName"] == *volume)
            .map(|(key, _)| key)
            .collect();
        match sharing.len() {
            1 => Ok(()),
            _ => Err(format!("{volume} is the volume of {sharing:?}")),
        }
    }
}
