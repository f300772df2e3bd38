//! Formats of text by name: those of Kubernetes' names, and some of OpenAPI's.

use api_object::name;

use super::{
    Function, Library, Outcome, Overload,
    Pattern::{List, Opaque, Optional, String as Str},
    function, global, member, no,
    url::Url,
};
use crate::{cost::Cost, time, time::Timestamp, value::Value};

const FORMAT: super::Pattern = Opaque("kubernetes.NamedFormat");

/// A format.
#[derive(Debug)]
pub struct NamedFormat {
    pub(crate) name: &'static str,
    /// What is wrong with a text; nothing where it is of the format.
    check: fn(&str) -> Vec<String>,
    /// The length of a regular expression that would do the same, which is what
    /// a check costs.
    pub(crate) pattern_len: u64,
}

macro_rules! formats {
    ($($name:literal $called:literal $len:literal $check:expr;)*) => {
        const FORMATS: &[(&str, NamedFormat)] = &[
            $(($name, NamedFormat { name: $called, check: $check, pattern_len: $len })),*
        ];
        pub(super) const FUNCTIONS: &[Function] = &[
            row("validate", &[member(&[FORMAT, Str], Optional(&List(&Str)), Cost::Validate)], validate),
            row("format.named", &[global(&[Str], Optional(&FORMAT), Cost::Unit)], |args| match args {
                [Value::String(name)] => Ok(match named(name) {
                    Some(format) => Value::some(Value::Format(format)),
                    None => Value::Optional(None),
                }),
                _ => no(),
            }),
            $(row(concat!("format.", $name), CONSTANT, |_| match named($name) {
                Some(format) => Ok(Value::Format(format)),
                None => no(),
            })),*
        ];
    };
}

formats! {
    "dns1123Label" "DNS1123Label" 30 name::dns1123_label;
    "dns1123Subdomain" "DNS1123Subdomain" 60 name::dns1123_subdomain;
    "dns1035Label" "DNS1035Label" 30 name::dns1035_label;
    "qualifiedName" "QualifiedName" 60 name::qualified_name;
    "dns1123LabelPrefix" "DNS1123LabelPrefix" 30 |text| name::dns1123_label(&unmasked(text));
    "dns1123SubdomainPrefix" "DNS1123SubdomainPrefix" 60 |text| name::dns1123_subdomain(&unmasked(text));
    "dns1035LabelPrefix" "DNS1035LabelPrefix" 30 |text| name::dns1035_label(&unmasked(text));
    "labelValue" "LabelValue" 40 name::label_value;
    "uri" "URI" 1103 |text| Url::parse(text).err().into_iter().collect();
    "uuid" "uuid" 92 |text| unless(is_uuid(text), "does not match the UUID format");
    "byte" "byte" 84 |text| unless(is_base64(text), "invalid base64");
    "date" "date" 136 |text| unless(time::date(text).is_ok(), "invalid date");
    "datetime" "datetime" 136 |text| unless(Timestamp::parse(text).is_ok(), "invalid datetime");
}

const CONSTANT: &[Overload] = &[global(&[], FORMAT, Cost::Unit)];

const fn row(
    name: &'static str,
    overloads: &'static [Overload],
    run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
) -> Function {
    function(Library::Format, name, overloads, run)
}

fn named(name: &str) -> Option<&'static NamedFormat> {
    FORMATS.iter().find(|(known, _)| *known == name).map(|(_, format)| format)
}

fn validate<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Format(format), Value::String(text)] => {
            let wrong = (format.check)(text);
            Ok(match wrong.is_empty() {
                true => Value::Optional(None),
                false => Value::some(Value::list(wrong.into_iter().map(Value::text).collect())),
            })
        }
        _ => no(),
    }
}

/// A prefix of a name may end in a dash, since more follows.
fn unmasked(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => prefix.to_owned(),
    }
}

fn unless(right: bool, wrong: &str) -> Vec<String> {
    if right { Vec::new() } else { vec![wrong.to_owned()] }
}

fn is_uuid(text: &str) -> bool {
    // The dashes may be left out.
    let digits: Vec<char> = text.chars().filter(|c| *c != '-').collect();
    let dashes = text.char_indices().filter(|(_, c)| *c == '-');
    digits.len() == 32
        && digits.iter().all(char::is_ascii_hexdigit)
        && dashes.map(|(at, _)| at).all(|at| [8, 13, 18, 23].contains(&at))
}

fn is_base64(text: &str) -> bool {
    use base64::Engine;
    !text.is_empty() && base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}
