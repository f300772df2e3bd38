//! Events of both groups.

use super::*;

#[test]
fn both_events_are_one() {
    let spec = row(["events.k8s.io", "v1", "events"]);
    let stored_as = spec.stored_as.expect("another's storage");
    let event = created(&spec, &sample(&spec));
    let stored = (stored_as.to_stored)(event.clone());
    assert_eq!(stored["involvedObject"]["name"], "a");
    assert_eq!(stored["reportingComponent"], "x/y");
    let core = row(["", "v1", "events"]);
    let (_, warnings) = core
        .conform(stored.clone(), api_schema::FieldValidation::Strict)
        .expect("the core shape has every field");
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!((stored_as.from_stored)(stored), event);
}
