//! PriorityLevelConfiguration: how many requests of a level are served at once,
//! and what becomes of the others.

use std::sync::Arc;

use api_schema::{Column, Faults, Generation, Hooks, Path, ResourceSpec, Schema, tree};
use serde_json::Value;

use super::{GROUP, bootstrap, conditions};
use crate::row::{Build, row as new_row};

const SHARES_DEFAULT: i64 = 30;
const QUEUES_MAX: i64 = 10_000_000;
/// How much of a hash is left to deal hands from.
const HASH_BITS: u32 = 60;

pub(crate) fn row(schema: &Arc<Schema>) -> ResourceSpec {
    let mut row = ResourceSpec {
        columns: vec![
            Column::name(),
            Column::text(
                "Type",
                "`type` indicates whether this priority level is subject to limitation on request execution.  A value of `\"Exempt\"` means that requests of this priority level are not subject to a limit (and thus are never queued) and do not detract from the capacity made available to other priority levels.  A value of `\"Limited\"` means that (a) requests of this priority level _are_ subject to limits and (b) some of the server's limited capacity is made available exclusively to this priority level. Required.",
                |object, _| tree::text(object, "spec.type").into(),
            ),
            Column::text(
                "NominalConcurrencyShares",
                "`nominalConcurrencyShares` (NCS) contributes to the computation of the NominalConcurrencyLimit (NominalCL) of this level. This is the number of execution seats available at this priority level.",
                |object, _| or_none(object, "spec.limited.nominalConcurrencyShares"),
            ),
            Column::text(
                "Queues",
                "`queues` is the number of queues for this priority level. The queues exist independently at each apiserver. The value must be positive.  Setting it to 1 effectively precludes shufflesharding and thus makes the distinguisher method of associated flow schemas irrelevant.  This field has a default value of 64.",
                |object, _| or_none(object, "spec.limited.limitResponse.queuing.queues"),
            ),
            Column::text(
                "HandSize",
                "`handSize` is a small positive number that configures the shuffle sharding of requests into queues.  When enqueuing a request at this priority level the request's flow identifier (a string pair) is hashed and the hash value is used to shuffle the list of queues and deal a hand of the size specified here.  The request is put into one of the shortest queues in that hand. `handSize` must be no larger than `queues`, and should be significantly smaller (so that a few heavy flows do not saturate most of the queues).  See the user-facing documentation for more extensive guidance on setting this field.  This field has a default value of 8.",
                |object, _| or_none(object, "spec.limited.limitResponse.queuing.handSize"),
            ),
            Column::text(
                "QueueLengthLimit",
                "`queueLengthLimit` is the maximum number of requests allowed to be waiting in a given queue of this priority level at a time; excess requests are rejected.  This value must be positive.  If not specified, it will be defaulted to 50.",
                |object, _| or_none(object, "spec.limited.limitResponse.queuing.queueLengthLimit"),
            ),
            Column::age(),
        ],
        generation: Generation::Spec,
        hooks: Hooks {
            default: |_, object| default(object),
            validate,
            validate_status: |_, new, _, faults| conditions(new, faults),
            ..Hooks::default()
        },
        ..new_row(
            schema,
            GROUP,
            "v1",
            "prioritylevelconfigurations",
            "PriorityLevelConfiguration",
            "flowcontrol/v1.PriorityLevelConfiguration",
        )
    };
    row.cluster_scoped().with_status();
    row
}

fn or_none(object: &Value, path: &str) -> Value {
    match tree::get(object, path) {
        Value::Null => "<none>".into(),
        number => number.clone(),
    }
}

fn default(object: &mut Value) {
    if let Some(limited) = tree::at_mut(object, "spec.limited").filter(|it| it.is_object()) {
        tree::set_if_unset(limited, "nominalConcurrencyShares", SHARES_DEFAULT);
        tree::set_if_unset(limited, "lendablePercent", 0);
        if let Some(queuing) =
            tree::at_mut(limited, "limitResponse.queuing").filter(|it| it.is_object())
        {
            for (field, number) in [("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)] {
                if tree::int(queuing, field).unwrap_or(0) == 0 {
                    tree::set(queuing, field, number);
                }
            }
        }
    }
    if let Some(exempt) = tree::at_mut(object, "spec.exempt").filter(|it| it.is_object()) {
        tree::set_if_unset(exempt, "nominalConcurrencyShares", 0);
        tree::set_if_unset(exempt, "lendablePercent", 0);
    }
}

fn validate(row: &ResourceSpec, object: &Value, faults: &mut Faults) {
    let (path, spec) = (Path::new("spec"), tree::get(object, "spec"));
    let kind = tree::text(spec, "type");
    if (tree::text(object, "metadata.name") == "exempt") != (kind == "Exempt") {
        let detail = "type must be 'Exempt' if and only if name is 'exempt'";
        faults.invalid(&path.child("type"), kind, detail);
    }
    let (limited, exempt) = (tree::get(spec, "limited"), tree::get(spec, "exempt"));
    match kind {
        "Exempt" => {
            if !limited.is_null() {
                let detail = "must be nil if the type is not Limited";
                faults.forbidden(&path.child("limited"), detail);
            }
            shares(&path.child("exempt"), exempt, faults);
        }
        "Limited" => {
            if !exempt.is_null() {
                faults.forbidden(&path.child("exempt"), "must be nil if the type is Limited");
            }
            let at = path.child("limited");
            match limited {
                Value::Null => faults.required(&at, "must not be empty when type is Limited"),
                limited => validate_limited(&at, limited, faults),
            }
        }
        other => faults.unsupported(&path.child("type"), other, ["Exempt", "Limited"]),
    }
    bootstrap::must_stay(row, object, faults);
}

fn shares(path: &Path<'_>, level: &Value, faults: &mut Faults) {
    let field = "nominalConcurrencyShares";
    if let Some(shares) = tree::int(level, field).filter(|&shares| shares < 0) {
        faults.invalid(&path.child(field), shares, "must be a non-negative integer");
    }
    let field = "lendablePercent";
    if let Some(percent) = tree::int(level, field).filter(|it| !(0..=100).contains(it)) {
        faults.invalid(&path.child(field), percent, "must be between 0 and 100, inclusive");
    }
}

fn validate_limited(path: &Path<'_>, limited: &Value, faults: &mut Faults) {
    shares(path, limited, faults);
    let field = "borrowingLimitPercent";
    if let Some(percent) = tree::int(limited, field).filter(|&percent| percent < 0) {
        let detail = "if specified, must be a non-negative integer";
        faults.invalid(&path.child(field), percent, detail);
    }
    let path = path.child("limitResponse");
    let queuing = tree::get(limited, "limitResponse.queuing");
    let at = path.child("queuing");
    match tree::text(limited, "limitResponse.type") {
        "Reject" if !queuing.is_null() => {
            faults.forbidden(&at, "must be nil if limited.limitResponse.type is not Limited");
        }
        "Reject" => {}
        "Queue" if queuing.is_null() => {
            faults.required(&at, "must not be empty if limited.limitResponse.type is Limited");
        }
        "Queue" => validate_queuing(&at, queuing, faults),
        other => faults.unsupported(&path.child("type"), other, ["Queue", "Reject"]),
    }
}

fn validate_queuing(path: &Path<'_>, queuing: &Value, faults: &mut Faults) {
    let number = |field| tree::int(queuing, field).unwrap_or(0);
    let (length, queues, hand) = (number("queueLengthLimit"), number("queues"), number("handSize"));
    if length <= 0 {
        faults.invalid(&path.child("queueLengthLimit"), length, "must be positive");
    }
    let at = path.child("queues");
    if queues <= 0 {
        faults.invalid(&at, queues, "must be positive");
    } else if queues > QUEUES_MAX {
        faults.invalid(&at, queues, format!("must not be greater than {QUEUES_MAX}"));
    }
    let at = path.child("handSize");
    if hand <= 0 {
        faults.invalid(&at, hand, "must be positive");
    } else if hand > queues {
        let detail = format!("should not be greater than queues ({queues})");
        faults.invalid(&at, hand, detail);
    } else if entropy_bits(queues, hand) > f64::from(HASH_BITS) {
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        faults.invalid(&at, hand, detail);
    }
}

/// How many bits it takes to deal a hand: the number of ways is the product of
/// what is left in the deck for each card. Stops where it is too much anyway.
fn entropy_bits(queues: i64, hand: i64) -> f64 {
    let mut bits = 0.0;
    for left in (queues - hand + 1..=queues).rev() {
        // Decks are small enough for exact floats.
        bits += (left as f64).log2();
        if bits > f64::from(HASH_BITS) {
            break;
        }
    }
    bits.ceil()
}
