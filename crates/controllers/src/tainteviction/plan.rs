//! When a pod has to leave.

use api_types::core::{Taint, Toleration};
use jiff::{SignedDuration, Timestamp};

/// When a pod has to leave its node; never, mostly. `since` is when each
/// taint came.
pub(super) fn leaves_at(
    taints: &[Taint],
    tolerations: &[Toleration],
    since: impl Fn(&Taint) -> Timestamp,
) -> Option<Timestamp> {
    let executes = taints.iter().filter(|taint| taint.effect == "NoExecute");
    let due = executes.filter_map(|taint| {
        let mut matching =
            tolerations.iter().filter(|toleration| toleration.tolerates(taint)).peekable();
        if matching.peek().is_none() {
            return Some(since(taint));
        }
        // The shortest patience counts; without a number it is endless.
        let patience = matching.filter_map(|toleration| toleration.toleration_seconds).min()?;
        since(taint).checked_add(SignedDuration::from_secs(patience.max(0))).ok()
    });
    due.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience() {
        let taint = |key: &str, effect: &str| Taint {
            key: key.into(),
            effect: effect.into(),
            ..Taint::default()
        };
        let bears = |key: &str, seconds: Option<i64>| Toleration {
            key: key.into(),
            operator: "Exists".into(),
            toleration_seconds: seconds,
            ..Toleration::default()
        };
        let (a, b) = (taint("a", "NoExecute"), taint("b", "NoExecute"));
        let table = [
            (vec![], vec![], None),
            (vec![taint("a", "NoSchedule")], vec![], None),
            (vec![a.clone()], vec![], Some(0)),
            (vec![a.clone()], vec![bears("b", None)], Some(0)),
            (vec![a.clone()], vec![bears("a", None)], None),
            (vec![a.clone()], vec![bears("a", Some(300))], Some(300)),
            (vec![a.clone()], vec![bears("a", Some(300)), bears("", Some(30))], Some(30)),
            (vec![a.clone(), b.clone()], vec![bears("a", None)], Some(0)),
            (vec![a, b], vec![bears("a", Some(300)), bears("b", Some(60))], Some(60)),
        ];
        for (taints, tolerations, wanted) in table {
            let at = leaves_at(&taints, &tolerations, |_| Timestamp::UNIX_EPOCH);
            assert_eq!(at.map(Timestamp::as_second), wanted, "{taints:?} {tolerations:?}");
        }
    }
}
