//! `ConversionReview`: what a conversion webhook is asked, and what of its
//! answer is believed.

use api_schema::tree;
use serde_json::{Map, Value, json};

/// A version of the review. They look the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    /// Its webhooks need not repeat what they were asked.
    V1Beta1,
}

impl Version {
    /// The one to speak of those that a webhook understands, which are in the
    /// order of its liking.
    pub(crate) fn choose(understood: &[String]) -> Option<Self> {
        understood.iter().find_map(|version| match version.as_str() {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1Beta1),
            _ => None,
        })
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "apiextensions.k8s.io/v1",
            Self::V1Beta1 => "apiextensions.k8s.io/v1beta1",
        }
    }
}

/// The body of a call.
pub(crate) fn request(version: Version, uid: &str, api_version: &str, objects: &[Value]) -> Value {
    json!({
        "kind": "ConversionReview",
        "apiVersion": version.api_version(),
        "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": objects},
    })
}

/// The converted objects of an answer, in the order of `objects`. Their metadata
/// is that of the originals, but for labels and annotations.
///
/// # Errors
/// What is wrong with the answer, or what the webhook says is wrong with the
/// objects, in upstream's words: `failed: …` or `returned …`.
pub(crate) fn read(
    answer: &Value,
    version: Version,
    uid: &str,
    api_version: &str,
    objects: &[Value],
) -> Result<Vec<Value>, String> {
    let expected = version.api_version();
    let (said, kind) = (tree::text(answer, "apiVersion"), tree::text(answer, "kind"));
    let silent = version == Version::V1Beta1 && said.is_empty() && kind.is_empty();
    if (said, kind) != (expected, "ConversionReview") && !silent {
        return Err(format!(
            "failed: expected webhook response of {expected}, Kind=ConversionReview, got {said}, Kind={kind}"
        ));
    }
    let response = tree::get(answer, "response");
    if response.is_null() {
        return Err("failed: no response provided".into());
    }
    let echoed = tree::text(response, "uid");
    if echoed != uid && version == Version::V1 {
        return Err(format!("failed: expected response.uid={uid:?}, got {echoed:?}"));
    }
    let status = tree::text(response, "result.status");
    if status != "Success" {
        return Err(match tree::text(response, "result.message") {
            "" => format!("failed: response.result.status was '{status}', not 'Success'"),
            message => format!("failed: {message}"),
        });
    }
    let converted = tree::list(response, "convertedObjects");
    if converted.len() != objects.len() {
        return Err(format!("returned {} objects, expected {}", converted.len(), objects.len()));
    }
    let pairs = objects.iter().zip(converted).enumerate();
    pairs
        .map(|(index, (original, converted))| {
            one(original, converted, api_version)
                .map_err(|why| format!("returned invalid converted object at index {index}: {why}"))
        })
        .collect()
}

fn one(original: &Value, converted: &Value, api_version: &str) -> Result<Value, String> {
    fn text(object: &Value, field: &str) -> String {
        tree::text(object, field).to_owned()
    }
    let received = text(converted, "apiVersion");
    if received != api_version {
        return Err(format!("invalid groupVersion (expected {api_version}, received {received})"));
    }
    let (expected, received) = (text(original, "kind"), text(converted, "kind"));
    if expected != received {
        return Err(format!("invalid kind (expected {expected}, received {received})"));
    }
    if !tree::get(converted, "metadata").is_object() {
        return Err("invalid metadata: it must be an object".into());
    }
    for (field, name) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let path = format!("metadata.{field}");
        let (expected, received) = (text(original, &path), text(converted, &path));
        if expected != received {
            return Err(format!("must have the same {name}: {received} != {expected}"));
        }
    }
    let mut object = converted.clone();
    tree::copy(original, &mut object, "metadata");
    for field in ["labels", "annotations"] {
        let path = format!("metadata.{field}");
        let given = tree::get(converted, &path);
        if !is_texts(given) {
            return Err(format!("{path} must be a map of strings"));
        }
        tree::copy(converted, &mut object, &path);
    }
    Ok(object)
}

fn is_texts(value: &Value) -> bool {
    let texts = |map: &Map<String, Value>| map.values().all(Value::is_string);
    value.is_null() || value.as_object().is_some_and(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str) -> Value {
        json!({
            "apiVersion": version, "kind": "A",
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "generation": 3, "labels": {"l": "1"}},
        })
    }

    fn answer(change: impl FnOnce(&mut Value)) -> Result<Vec<Value>, String> {
        let mut answer = json!({
            "apiVersion": Version::V1.api_version(), "kind": "ConversionReview",
            "response": {"uid": "1", "result": {"status": "Success"}, "convertedObjects": [object("g/v2")]},
        });
        change(&mut answer["response"]);
        read(&answer, Version::V1, "1", "g/v2", &[object("g/v1")])
    }

    #[test]
    fn the_version_that_a_webhook_likes_best_is_spoken() {
        let choose = |understood: &[&str]| {
            Version::choose(&understood.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(choose(&["v9", "v1beta1", "v1"]), Some(Version::V1Beta1));
        assert_eq!(choose(&["v1", "v1beta1"]), Some(Version::V1));
        assert_eq!(choose(&["v9"]), None);
        let request = request(Version::V1Beta1, "1", "g/v2", &[object("g/v1")]);
        assert_eq!(request["apiVersion"], "apiextensions.k8s.io/v1beta1");
        assert_eq!(request["request"]["desiredAPIVersion"], "g/v2");
    }

    #[test]
    fn answers_of_v1beta1_need_not_repeat_the_question() {
        let read = |answer: Value| read(&answer, Version::V1Beta1, "1", "g/v2", &[object("g/v1")]);
        let response =
            json!({"result": {"status": "Success"}, "convertedObjects": [object("g/v2")]});
        let version = "apiextensions.k8s.io/v1beta1";
        assert_eq!(read(json!({"response": response})), Ok(vec![object("g/v2")]));
        assert_eq!(
            read(json!({"apiVersion": version, "kind": "ConversionReview", "response": response})),
            Ok(vec![object("g/v2")])
        );
        let other = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response,
        });
        assert_eq!(
            read(other),
            Err(format!(
                "failed: expected webhook response of {version}, Kind=ConversionReview, got apiextensions.k8s.io/v1, Kind=ConversionReview"
            ))
        );
    }

    #[test]
    fn metadata_is_the_originals_but_for_labels_and_annotations() {
        let objects = answer(|response| {
            let converted = &mut response["convertedObjects"][0];
            converted["metadata"]["generation"] = 9.into();
            converted["metadata"]["labels"] = json!({"m": "2"});
            converted["spec"] = json!({"x": 1});
        })
        .expect("valid");
        let mut expected = object("g/v2");
        expected["metadata"]["labels"] = json!({"m": "2"});
        expected["spec"] = json!({"x": 1});
        assert_eq!(objects, [expected]);
    }

    #[test]
    fn answers_that_are_not_believed() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 8] = [
            (|r| *r = Value::Null, "failed: no response provided"),
            (|r| r["uid"] = "2".into(), "failed: expected response.uid=\"1\", got \"2\""),
            (|r| r["result"] = json!({"status": "Failure", "message": "no"}), "failed: no"),
            (|r| r["convertedObjects"] = json!([]), "returned 0 objects, expected 1"),
            (
                |r| r["convertedObjects"][0]["apiVersion"] = "g/v3".into(),
                "returned invalid converted object at index 0: invalid groupVersion (expected g/v2, received g/v3)",
            ),
            (
                |r| r["convertedObjects"][0]["kind"] = "B".into(),
                "returned invalid converted object at index 0: invalid kind (expected A, received B)",
            ),
            (
                |r| r["convertedObjects"][0]["metadata"]["uid"] = "x".into(),
                "returned invalid converted object at index 0: must have the same UID: x != u",
            ),
            (
                |r| r["convertedObjects"][0]["metadata"]["labels"] = json!({"a": 1}),
                "returned invalid converted object at index 0: metadata.labels must be a map of strings",
            ),
        ];
        for (change, why) in cases {
            assert_eq!(answer(change), Err(why.to_owned()));
        }
    }
}
