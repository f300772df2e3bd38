//! What is missing, what is not as it should be, what has to be said.

use api_kinds::flow_control::{self, BootstrapObject};
use serde_json::{Value, json};

const DANGLING: &str = "Dangling";

/// A FlowSchema or a PriorityLevelConfiguration.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) generation: i64,
    /// The annotation by which people take an object over.
    pub(super) auto_update: Option<String>,
    pub(super) spec: Value,
    pub(super) conditions: Vec<Value>,
}

/// A write.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    Create { plural: &'static str, object: &'static Value },
    Correct { plural: &'static str, name: String, spec: Value },
    Report { name: String, conditions: Vec<Value> },
}

pub(super) fn plan(schemas: &[Seen], levels: &[Seen], now: &str) -> Vec<Action> {
    let mut actions = Vec::new();
    for wanted in flow_control::objects() {
        let known = if wanted.plural == "flowschemas" { schemas } else { levels };
        let name = wanted.object["metadata"]["name"].as_str().unwrap_or_default();
        match known.iter().find(|seen| seen.name == name) {
            None => {
                actions.push(Action::Create { plural: wanted.plural, object: &wanted.object });
            }
            Some(seen) => actions.extend(correct(wanted, seen)),
        }
    }
    let exists = |name: &str| levels.iter().any(|level| level.name == name);
    actions.extend(schemas.iter().filter_map(|schema| report(schema, exists, now)));
    actions
}

fn correct(wanted: &BootstrapObject, seen: &Seen) -> Option<Action> {
    let mut spec = wanted.object["spec"].clone();
    // How many seats the exempt level counts with is the operator's choice.
    if let Some(exempt) = seen.spec.get("exempt") {
        spec["exempt"] = exempt.clone();
    }
    let ours = match seen.auto_update.as_deref() {
        Some(said) => said == "true",
        // Nobody has touched it.
        None => seen.generation == 1,
    };
    (seen.spec != spec && (wanted.mandatory || ours)).then(|| Action::Correct {
        plural: wanted.plural,
        name: seen.name.clone(),
        spec,
    })
}

/// Says whether the level of a schema exists, where that is not said already.
fn report(schema: &Seen, exists: impl Fn(&str) -> bool, now: &str) -> Option<Action> {
    let level = schema.spec["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
    let (status, reason, words) = match exists(level) {
        true => ("False", "Found", "and it exists"),
        false => ("True", "NotFound", "but there is no such object"),
    };
    let mut condition = json!({
        "type": DANGLING,
        "status": status,
        "reason": reason,
        "message": format!(
            "This FlowSchema references the PriorityLevelConfiguration object named {level:?} {words}"
        ),
        "lastTransitionTime": now,
    });
    let at = schema.conditions.iter().position(|known| known["type"] == DANGLING);
    if let Some(known) = at.map(|at| &schema.conditions[at])
        && known["status"] == status
    {
        if known["message"] == condition["message"] {
            return None;
        }
        condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
    }
    let mut conditions = schema.conditions.clone();
    match at {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    Some(Action::Report { name: schema.name.clone(), conditions })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> (Vec<Seen>, Vec<Seen>) {
        let of = |plural| {
            let objects = flow_control::objects().iter().filter(|object| object.plural == plural);
            let seen = objects.map(|object| Seen {
                name: object.object["metadata"]["name"].as_str().expect("text").into(),
                generation: 1,
                auto_update: Some("true".into()),
                spec: object.object["spec"].clone(),
                conditions: Vec::new(),
            });
            seen.collect::<Vec<_>>()
        };
        let (mut schemas, levels) = (of("flowschemas"), of("prioritylevelconfigurations"));
        for action in plan(&schemas, &levels, "then") {
            let Action::Report { name, conditions } = action else { panic!("{action:?}") };
            let schema = schemas.iter_mut().find(|schema| schema.name == name).expect("it");
            schema.conditions = conditions;
        }
        (schemas, levels)
    }

    #[test]
    fn a_new_cluster_gets_everything_and_then_nothing_more() {
        assert_eq!(plan(&[], &[], "now").len(), flow_control::objects().len());
        let (schemas, levels) = everything();
        assert_eq!(plan(&schemas, &levels, "now"), []);
        assert_eq!(schemas[0].conditions[0]["status"], "False");
        assert_eq!(schemas[0].conditions[0]["reason"], "Found");
    }

    #[test]
    fn what_people_changed_stays_but_what_must_not_change() {
        let (mut schemas, levels) = everything();
        for schema in &mut schemas {
            schema.spec["matchingPrecedence"] = 77.into();
            schema.generation = 2;
            schema.auto_update = Some("false".into());
        }
        let corrected: Vec<String> = plan(&schemas, &levels, "now")
            .into_iter()
            .map(|action| match action {
                Action::Correct { name, .. } => name,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(corrected, ["exempt", "catch-all"]);
        schemas.iter_mut().for_each(|schema| schema.auto_update = None);
        assert_eq!(plan(&schemas, &levels, "now").len(), 2, "changed once, so no longer ours");
        schemas.iter_mut().for_each(|schema| schema.auto_update = Some("true".into()));
        assert_eq!(plan(&schemas, &levels, "now").len(), schemas.len());
    }

    #[test]
    fn the_exempt_level_may_count_with_any_number_of_seats() {
        let (schemas, mut levels) = everything();
        levels[0].spec["exempt"]["nominalConcurrencyShares"] = 7.into();
        assert_eq!(plan(&schemas, &levels, "now"), []);
    }

    #[test]
    fn a_schema_without_its_level_says_so() {
        let (mut schemas, levels) = everything();
        schemas.push(Seen {
            name: "mine".into(),
            spec: json!({ "priorityLevelConfiguration": { "name": "gone" } }),
            conditions: vec![json!({ "type": "Other" })],
            ..Seen::default()
        });
        let actions = plan(&schemas, &levels, "now");
        let [Action::Report { name, conditions }] = actions.as_slice() else {
            panic!("{actions:?}")
        };
        assert_eq!(name, "mine");
        assert_eq!(conditions[0], json!({ "type": "Other" }), "others' conditions stay");
        assert_eq!(
            conditions[1],
            json!({
                "type": "Dangling", "status": "True", "reason": "NotFound",
                "message": "This FlowSchema references the PriorityLevelConfiguration object named \"gone\" but there is no such object",
                "lastTransitionTime": "now",
            })
        );
    }
}
