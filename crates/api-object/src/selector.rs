//! Label and field selectors, from query strings and from objects.

mod text;

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

/// A conjunction of requirements on labels. Empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What is asked of its value.
    pub operator: Operator,
}

/// What a requirement asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The label is there with one of these values.
    In(Vec<String>),
    /// The label is absent or has none of these values.
    NotIn(Vec<String>),
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is an integer above the bound.
    GreaterThan(i64),
    /// The label is an integer below the bound.
    LessThan(i64),
}

/// Why a selector could not be read; the text upstream would give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError(String);

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SelectorError {}

impl LabelSelector {
    /// From its requirements.
    pub fn new(requirements: Vec<Requirement>) -> Self {
        Self { requirements }
    }

    /// The requirements, all of which must hold.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Reads the query form: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`.
    ///
    /// # Errors
    /// Where the text does not parse or a key or value is no label.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let requirements = text::parse(text).map_err(SelectorError)?;
        Ok(Self { requirements })
    }

    /// Reads `{matchLabels, matchExpressions}`. `None` (unset) selects nothing
    /// in Kubernetes; that is the caller's to decide.
    ///
    /// # Errors
    /// Where an operator is unknown or its values do not fit.
    pub fn from_object(selector: &Value) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements
                .push(Requirement { key: key.clone(), operator: Operator::In(vec![value]) });
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let values: Vec<String> = expression["values"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|value| value.as_str().map(str::to_owned))
                .collect();
            let operator = match (expression["operator"].as_str().unwrap_or_default(), values) {
                ("In" | "NotIn", values) if values.is_empty() => {
                    return Err(SelectorError(
                        "for 'in', 'notin' operators, values set can't be empty".into(),
                    ));
                }
                ("In", values) => Operator::In(values),
                ("NotIn", values) => Operator::NotIn(values),
                ("Exists" | "DoesNotExist", values) if !values.is_empty() => {
                    return Err(SelectorError(
                        "values set must be empty for exists and does not exist".into(),
                    ));
                }
                ("Exists", _) => Operator::Exists,
                ("DoesNotExist", _) => Operator::DoesNotExist,
                (other, _) => {
                    return Err(SelectorError(format!(
                        "\"{other}\" is not a valid label selector operator"
                    )));
                }
            };
            let key = expression["key"].as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement { key, operator });
        }
        Ok(Self { requirements })
    }

    /// Reads what kinds that make pods have: `{matchLabels, matchExpressions}`, or
    /// the plain map of labels that a ReplicationController has.
    ///
    /// # Errors
    /// As [`Self::from_object`].
    pub fn of_pods(selector: &Value) -> Result<Self, SelectorError> {
        match selector.as_object() {
            // The parts of the newer form are never text.
            Some(map) if map.values().all(Value::is_string) => {
                let requirement = |(key, value): (&String, &Value)| Requirement {
                    key: key.clone(),
                    operator: Operator::In(vec![value.as_str().unwrap_or_default().to_owned()]),
                };
                Ok(Self { requirements: map.iter().map(requirement).collect() })
            }
            _ => Self::from_object(selector),
        }
    }

    /// From an equality map such as a Service's or ReplicationController's.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let requirement = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::In(vec![value.clone()]),
        };
        Self { requirements: labels.iter().map(requirement).collect() }
    }

    /// Whether labels satisfy every requirement.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            let number = || value.and_then(|value| value.parse::<i64>().ok());
            match &requirement.operator {
                Operator::In(values) => value.is_some_and(|value| values.contains(value)),
                Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
                Operator::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
                Operator::LessThan(bound) => number().is_some_and(|number| number < *bound),
            }
        })
    }
}

impl fmt::Display for LabelSelector {
    /// The query form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Requirement { key, operator }) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match operator {
                Operator::In(values) if values.len() == 1 => write!(f, "{key}={}", values[0]),
                Operator::In(values) => write!(f, "{key} in ({})", values.join(",")),
                Operator::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", values[0]),
                Operator::NotIn(values) => write!(f, "{key} notin ({})", values.join(",")),
                Operator::Exists => write!(f, "{key}"),
                Operator::DoesNotExist => write!(f, "!{key}"),
                Operator::GreaterThan(bound) => write!(f, "{key}>{bound}"),
                Operator::LessThan(bound) => write!(f, "{key}<{bound}"),
            }?;
        }
        Ok(())
    }
}

/// A conjunction of equalities on the fields a kind declares selectable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// (field, value, whether they must be equal or must differ).
    pub terms: Vec<(String, String, bool)>,
}

impl FieldSelector {
    /// Reads `a=b,c==d,e!=f`, with `\,`, `\=` and `\\` escaped in values.
    ///
    /// # Errors
    /// Where a term has no operator or an escape is unknown.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let invalid = |term: &str| {
            SelectorError(format!("invalid selector: '{term}'; can't understand '{term}'"))
        };
        let mut terms = Vec::new();
        for term in split_unescaped(text) {
            if term.is_empty() {
                continue;
            }
            let (at, operator) = ["!=", "==", "="]
                .iter()
                .filter_map(|operator| term.find(operator).map(|at| (at, *operator)))
                .min_by_key(|(at, operator)| (*at, std::cmp::Reverse(operator.len())))
                .ok_or_else(|| invalid(term))?;
            let value = unescape(&term[at + operator.len()..]).ok_or_else(|| invalid(term))?;
            terms.push((term[..at].to_owned(), value, operator != "!="));
        }
        Ok(Self { terms })
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether every term holds, given the value of each field.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> std::borrow::Cow<'a, str>) -> bool {
        self.terms.iter().all(|(name, value, equal)| (field(name) == value.as_str()) == *equal)
    }

    /// The value that a field is required to equal.
    pub fn required(&self, name: &str) -> Option<&str> {
        self.terms.iter().find(|(field, _, equal)| field == name && *equal).map(|t| t.1.as_str())
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                c @ ('\\' | ',' | '=') => out.push(c),
                _ => return None,
            },
            '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        text.split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.into(), value.into()))
            .collect()
    }

    #[test]
    fn what_a_label_selector_selects() {
        for (selector, object, selected) in [
            ("", "a=1", true),
            ("a=1", "a=1 b=2", true),
            ("a==1,b!=2", "a=1 b=2", false),
            ("b!=2", "", true),
            ("a in (1, 2)", "a=2", true),
            ("a notin (1,2)", "a=2", false),
            ("a notin (1,2)", "", true),
            ("a", "a=", true),
            ("!a", "a=", false),
            ("! a,b", "b=1", true),
            ("a>1,a<3", "a=2", true),
            ("a>1", "a=x", false),
            ("x.y/a=", "x.y/a=", true),
        ] {
            let parsed = LabelSelector::parse(selector).expect(selector);
            assert_eq!(parsed.matches(&labels(object)), selected, "{selector} on {object}");
            assert_eq!(LabelSelector::parse(&parsed.to_string()), Ok(parsed), "{selector}");
        }
    }

    #[test]
    fn bad_selectors_say_why() {
        for text in ["=a", "a=b=c", "a in b", "a in (b", "a b", "a>x", "-a=b", "a=b c", ",", "a=-"]
        {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
        for text in ["a", "a=\\x", "a=b=c"] {
            assert!(FieldSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn selectors_of_objects() {
        let selector = LabelSelector::from_object(&json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["test"]}],
        }))
        .expect("valid");
        assert!(selector.matches(&labels("app=web")));
        assert!(!selector.matches(&labels("app=web tier=test")));
        let bad = json!({"matchExpressions": [{"key": "a", "operator": "Is"}]});
        assert!(LabelSelector::from_object(&bad).is_err());
        let of_pods = |selector| LabelSelector::of_pods(&selector).expect("valid").to_string();
        assert_eq!(of_pods(json!({"app": "web", "matchLabels": "odd"})), "app=web,matchLabels=odd");
        assert_eq!(of_pods(json!({"matchLabels": {"app": "web"}})), "app=web");
        assert_eq!(of_pods(json!({})), "");
    }

    #[test]
    fn fields() {
        let selector =
            FieldSelector::parse(r"status.phase!=Running,spec.nodeName=a\,b").expect("valid");
        assert!(selector.matches(|field| if field == "spec.nodeName" {
            "a,b".into()
        } else {
            "".into()
        }));
        assert_eq!(selector.required("spec.nodeName"), Some("a,b"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,64}") {
            let _ = LabelSelector::parse(&text);
            let _ = FieldSelector::parse(&text);
        }
    }
}
