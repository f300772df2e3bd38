//! Who the managers are: before the first apply, after a move from client-side
//! apply, too many of them, of a `Scale`, of another version.

use super::*;

#[test]
fn an_object_without_managers_gets_them_with_the_first_apply() {
    let mut state = State::new();
    state.object["spec"] = json!({ "replicas": 1, "text": "x" });
    state.write(&update("u", |o| o["spec"]["text"] = "y".into()), 1).expect("updated");
    assert_eq!(state.shown(), [""; 0]);
    let refused = state.write(&apply("a", json!({ "replicas": 2 })), 2);
    assert_eq!(
        refused,
        Err(r#"Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .spec.replicas"#.into())
    );
    state.write(&apply("a", json!({ "replicas": 1 })), 3).expect("applied");
    assert_eq!(
        state.shown(),
        [
            r#"a Apply 3: {"f:spec":{"f:replicas":{}}}"#,
            r#"before-first-apply Update 3: {"f:spec":{"f:replicas":{},"f:text":{}}}"#,
        ]
    );
}

#[test]
fn kubectl_moves_from_client_side_to_server_side() {
    let last = |replicas: i64| {
        json!({ "apiVersion": "v1", "spec": { "replicas": replicas, "text": "x" } }).to_string()
    };
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let stored = |replicas: i64| {
        let mut state = State::new();
        let shape = shape();
        let mut new = state.object.clone();
        new["metadata"]["annotations"] = json!({ annotation: last(1) });
        new["spec"] = json!({ "replicas": replicas, "text": "x" });
        let nothing = FieldSet::default();
        let change = Change {
            shape: &shape,
            api_version: "v1",
            versions: &OnlyVersion,
            manager: "kubectl-client-side-apply",
            subresource: "",
            ignored: &nothing,
            time: "0",
        };
        state.managers = change.update(&state.object, &new, Managers::default(), true);
        state.object = new;
        state
    };
    let config = |spec| Write::Apply {
        manager: "kubectl",
        config: json!({ "apiVersion": "v1", "spec": spec }),
        force: false,
    };
    let mut same = stored(1);
    same.write(&config(json!({ "replicas": 2 })), 1)
        .expect("what was applied before is no conflict");
    assert_eq!(same.object["spec"], json!({ "replicas": 2, "text": "x" }));
    assert_eq!(
        same.object["metadata"]["annotations"][annotation],
        "{\"apiVersion\":\"v1\",\"spec\":{\"replicas\":2}}\n"
    );
    let mut changed = stored(5);
    let refused = changed.write(&config(json!({ "replicas": 2, "text": "y" })), 1);
    assert_eq!(
        refused,
        Err(r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using v1: .spec.replicas"#.into())
    );
}

#[test]
fn the_oldest_updaters_are_merged() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let mut state = State::new();
    for (number, name) in names.into_iter().enumerate() {
        let shape = shape();
        let mut new = state.object.clone();
        new["metadata"]["labels"][name] = "1".into();
        let nothing = FieldSet::default();
        let change = Change {
            shape: &shape,
            api_version: "v1",
            versions: &OnlyVersion,
            manager: name,
            subresource: "",
            ignored: &nothing,
            time: &format!("{number:02}"),
        };
        state.managers = change.update(&state.object, &new, state.managers, number == 0);
        state.object = new;
    }
    let shown = state.shown();
    assert_eq!(shown.len(), 10);
    assert_eq!(
        shown[0],
        r#"ancient-changes Update 02: {"f:metadata":{"f:labels":{".":{},"f:a":{},"f:b":{},"f:c":{}}}}"#
    );
}

#[test]
fn replicas_have_the_same_managers_in_a_scale() {
    let mut state = State::new();
    state
        .write(&update("u", |o| o["spec"] = json!({ "replicas": 1, "text": "x" })), 0)
        .expect("ok");
    state.write(&apply("a", json!({ "replicas": 1 })), 1).expect("ok");
    let scale = state.managers.of_scale("v1", "spec.replicas");
    let names: Vec<String> = scale.iter().map(|manager| manager.id.to_string()).collect();
    assert_eq!(names, [r#""a""#, r#""u" using autoscaling/v1"#]);
    assert_eq!(state.managers.clone().with_scale(&scale, "v1", "spec.replicas"), state.managers);
    let mut scaled = Managers::default();
    scaled.put(Manager {
        id: ManagerId::updater("kubectl", "autoscaling/v1", "scale"),
        api_version: "autoscaling/v1".into(),
        time: "2".into(),
        fields: FieldSet::of_paths(&["spec.replicas"]),
    });
    state.managers = state.managers.with_scale(&scaled, "v1", "spec.replicas");
    assert_eq!(
        state.shown(),
        [
            r#"kubectl/scale Update 2: {"f:spec":{"f:replicas":{}}}"#,
            r#"u Update 0: {"f:spec":{"f:text":{}}}"#,
        ]
    );
}

/// Another version calls `text` `words`.
#[derive(Debug)]
struct Renamed(ShapeRef);

impl Versions for Renamed {
    fn convert(&self, object: &Value, api_version: &str) -> Option<(ShapeRef, Value)> {
        let mut object = object.clone();
        rename(&mut object, "text", "words");
        (api_version == "v2").then(|| (self.0.clone(), object))
    }

    fn convert_back(&self, mut object: Value, _: &str) -> Option<Value> {
        rename(&mut object, "words", "text");
        Some(object)
    }
}

fn rename(object: &mut Value, from: &str, to: &str) {
    if let Some(value) = crate::tree::remove(object, &format!("spec.{from}")) {
        object["spec"][to] = value;
    }
}

#[test]
fn fields_of_another_version_are_compared_in_it() {
    let table = TABLE.replace(" text 2 string omit", " words 2 string omit");
    let schema = Arc::new(Schema::parse(table.into()).expect("a table"));
    let renamed = Renamed(ShapeRef::find(&schema, "x.Root").expect("there"));
    let shape = shape();
    let nothing = FieldSet::default();
    let change = |manager| Change {
        shape: &shape,
        api_version: "v1",
        versions: &renamed,
        manager,
        subresource: "",
        ignored: &nothing,
        time: "1",
    };
    let mut managers = Managers::default();
    for (name, version, path) in [("a", "v2", "spec.words"), ("b", "v0", "spec.text")] {
        managers.put(Manager {
            id: ManagerId::applier(name, ""),
            api_version: version.into(),
            time: "0".into(),
            fields: FieldSet::of_paths(&[path]),
        });
    }
    let live = json!({ "metadata": {}, "spec": { "text": "x", "replicas": 1 } });
    let refused =
        change("c").apply(&live, json!({ "spec": { "text": "y" } }), managers.clone(), false);
    assert_eq!(
        refused.expect_err("managed").status().message,
        r#"Apply failed with 1 conflict: conflict with "a": .spec.words"#
    );
    let applied = change("a").apply(&live, json!({ "spec": { "replicas": 1 } }), managers, false);
    let applied = applied.expect("its own");
    assert_eq!(applied.object, json!({ "metadata": {}, "spec": { "replicas": 1 } }));
    let left: Vec<&str> = applied.managers.iter().map(|m| m.id.name.as_str()).collect();
    assert_eq!(left, ["a"], "a version that is gone says nothing");
}

#[test]
fn a_list_of_managers_that_makes_no_sense_is_refused() {
    let entry = |change: fn(&mut Value)| {
        let mut entry = json!({ "manager": "a", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": { "f:a": {} } });
        change(&mut entry);
        json!([entry])
    };
    assert!(Managers::from_tree(&entry(|_| {})).is_ok());
    for (list, why) in [
        (entry(|e| e["operation"] = "Create".into()), "operation must be `Apply` or `Update`"),
        (entry(|e| e["apiVersion"] = "".into()), "apiVersion must not be empty"),
        (entry(|e| e["fieldsType"] = "".into()), "missing fieldsType in managed fields entry 0"),
        (
            entry(|e| e["fieldsType"] = "V2".into()),
            "invalid fieldsType \"V2\" in managed fields entry 0",
        ),
        (entry(|e| e["fieldsV1"] = json!({ "f": {} })), "key must be 2 characters long: f"),
        (entry(|e| e["fieldsV1"] = json!({ "fx": {} })), "missing colon: fx"),
    ] {
        assert_eq!(Managers::from_tree(&list), Err(why.into()));
    }
}
