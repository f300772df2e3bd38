//! `xtask codegen FOLDER`: the table of shapes, from the facts about the API.
//!
//! FOLDER has `types.json` and `resources.json`; the result is
//! `crates/api-kinds/src/shapes.txt`, in the form that `api_schema`'s `text`
//! module reads. Written is what can be reached from the resources that are
//! served, their subresources, and [`ROOTS`].

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt::Write,
    fs,
    path::Path,
};

use serde_json::Value;

/// Types that no resource leads to: what requests and answers carry beside
/// objects, and what webhooks are sent.
const ROOTS: &[&str] = &[
    "admission/v1.AdmissionReview",
    "apidiscovery/v2.APIGroupDiscoveryList",
    "apiextensions/v1.ConversionReview",
    "meta/v1.APIGroupList",
    "meta/v1.APIResourceList",
    "meta/v1.APIVersions",
    "meta/v1.DeleteOptions",
    "meta/v1.ListMeta",
    "meta/v1.PartialObjectMetadata",
    "meta/v1.PartialObjectMetadataList",
    "meta/v1.Status",
    "meta/v1.Table",
    "meta/v1.WatchEvent",
];

/// Where upstream's server takes other values than the facts have.
const ENUMS: &[(&str, &str, &str)] = &[
    // It defines them by way of another type.
    ("EndpointSlice", "addressType", "IPv4|IPv6|FQDN"),
    // `Recreate` is behind a gate that is off.
    ("StatefulSetUpdateStrategy", "type", "RollingUpdate|OnDelete"),
];

const OUTPUT: &str = "crates/api-kinds/src/shapes.txt";

/// Names of primitives in the facts and in the table.
const PRIMITIVES: &[(&str, &str)] = &[
    ("string", "string"),
    ("bool", "bool"),
    ("int32", "int32"),
    ("int64", "int64"),
    ("float64", "float64"),
    ("bytes", "bytes"),
    ("any", "any"),
    ("JSON", "any"),
    ("Quantity", "quantity"),
    ("IntOrString", "intOrString"),
    ("Time", "time"),
    ("MicroTime", "microTime"),
    ("Duration", "duration"),
    ("FieldsV1", "object"),
    ("RawExtension", "object"),
    ("Object", "object"),
];

/// Runs the subcommand.
///
/// # Errors
/// Where the facts cannot be read or refer to what they do not have.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let [folder] = args else { return Err("usage: codegen FOLDER".into()) };
    generate(Path::new(folder)).map_err(|error| error.to_string())
}

/// What resources and their subresources are made of, beta versions that are
/// off by default left out.
fn served(resources: &Value) -> BTreeSet<String> {
    let rows = resources["resources"].as_array().into_iter().flatten();
    let served = rows.filter(|row| row["served"] != "off");
    let mut types = BTreeSet::new();
    for row in served {
        types.extend(row["type"].as_str());
        for sub in row["sub"].as_array().into_iter().flatten() {
            types
                .extend(["takes", "returns", "options"].iter().filter_map(|key| sub[key].as_str()));
        }
    }
    types.iter().filter(|name| name.contains('.')).map(|&name| name.to_owned()).collect()
}

fn generate(folder: &Path) -> Result<(), Box<dyn Error>> {
    let types: BTreeMap<String, Value> =
        serde_json::from_slice(&fs::read(folder.join("types.json"))?)?;
    let resources = serde_json::from_slice(&fs::read(folder.join("resources.json"))?)?;
    let facts = Facts { types };
    let mut done = BTreeMap::new();
    let mut open = served(&resources);
    open.extend(ROOTS.iter().map(|&root| root.to_owned()));
    while let Some(name) = open.pop_first() {
        let mut lines = String::new();
        facts.fields(&name, &mut Vec::new(), &mut lines, &mut open)?;
        done.insert(name, lines);
        open.retain(|name| !done.contains_key(name));
    }
    let mut text = String::from(
        "# Shapes of the API's types, one line a field. Made by `cargo run -p xtask -- codegen`;\n# the form is explained in crates/api-schema/src/text.rs.\n",
    );
    for (name, lines) in &done {
        let atomic = facts.types[name].get("st").is_some_and(|st| st == "atomic");
        let _ = writeln!(text, "{name}{}", if atomic { " atomic" } else { "" });
        text.push_str(lines);
    }
    fs::write(OUTPUT, text)?;
    println!("{OUTPUT}: {} shapes", done.len());
    Ok(())
}

struct Facts {
    types: BTreeMap<String, Value>,
}

impl Facts {
    /// Writes the fields of a struct, those of embedded structs among them, and
    /// notes which structs they refer to.
    fn fields(
        &self,
        name: &str,
        within: &mut Vec<u64>,
        out: &mut String,
        open: &mut BTreeSet<String>,
    ) -> Result<(), Box<dyn Error>> {
        let facts = self.types.get(name).ok_or_else(|| format!("no type {name}"))?;
        let fields = facts["fields"].as_array().ok_or_else(|| format!("{name} has no fields"))?;
        for field in fields {
            if field.get("inline").is_some() {
                let inner = field["t"].as_str().ok_or("an embedded struct without type")?;
                let number = field.get("p").and_then(Value::as_u64);
                if number.is_none() {
                    // TypeMeta: protobuf carries it in the envelope.
                    for line in self.embedded(inner, open)?.lines() {
                        let mut words = line.trim_start().splitn(3, ' ');
                        let (name, rest) = (words.next(), words.nth(1));
                        let _ = writeln!(
                            out,
                            " {} 0 {}",
                            name.unwrap_or_default(),
                            rest.unwrap_or_default()
                        );
                    }
                    continue;
                }
                within.extend(number);
                self.fields(inner, within, out, open)?;
                within.pop();
            } else if field["n"].as_str().is_some_and(|name| name != "-") {
                self.field(name, field, within, out, open)?;
            }
        }
        Ok(())
    }

    fn embedded(&self, name: &str, open: &mut BTreeSet<String>) -> Result<String, Box<dyn Error>> {
        let mut lines = String::new();
        self.fields(name, &mut Vec::new(), &mut lines, open)?;
        Ok(lines)
    }

    fn field(
        &self,
        owner: &str,
        field: &Value,
        within: &[u64],
        out: &mut String,
        open: &mut BTreeSet<String>,
    ) -> Result<(), Box<dyn Error>> {
        let text = |key: &str| field.get(key).and_then(Value::as_str);
        let flag = |key: &str| field.get(key).and_then(Value::as_bool).unwrap_or(false);
        let list = |key: &str, by: &str| {
            let values = field.get(key).and_then(Value::as_array)?;
            Some(values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(by))
        };
        // The forms of a union have names in protobuf only.
        let name = if flag("nojson") { text("pn") } else { text("n") };
        let name = name.ok_or("a field without a name")?;
        let number = field.get("p").and_then(Value::as_u64).unwrap_or(0);
        let ty = self.ty(field, open)?;
        let _ = write!(out, " {name} {number} {ty}");
        if let Some(union) = self.union(field) {
            open.insert(union.to_owned());
            let _ = write!(out, " as={union}");
        }
        if flag("omit") {
            out.push_str(" omit");
        }
        if flag("req") || !(flag("opt") || flag("omit")) {
            out.push_str(" required");
        }
        if !within.is_empty() {
            let within: Vec<String> = within.iter().map(u64::to_string).collect();
            let _ = write!(out, " in={}", within.join("."));
        }
        let atomic = [text("lt"), text("mt"), text("st")].contains(&Some("atomic"));
        if atomic {
            out.push_str(" atomic");
        }
        if text("lt") == Some("set") {
            out.push_str(" set");
        }
        if let Some(keys) = list("lk", ",") {
            let _ = write!(out, " keys={keys}");
        }
        let strategy = text("ps").unwrap_or_default();
        if strategy.contains("merge") {
            let _ = write!(out, " merge={}", text("pk").unwrap_or_default());
        }
        if strategy.contains("retainKeys") {
            out.push_str(" retain");
        }
        let known = ENUMS.iter().find(|(ty, field, _)| owner.ends_with(ty) && *field == name);
        let values = known.map(|(_, _, values)| (*values).to_owned());
        if let Some(values) = values.or_else(|| list("e", "|")) {
            let _ = write!(out, " enum={values}");
        }
        if let Some(default) = field.get("d") {
            let _ = write!(out, " default={default}");
        }
        out.push('\n');
        Ok(())
    }

    /// The type of a field that is a union of JSON's forms, with an encoding of
    /// its own.
    fn union<'a>(&self, field: &'a Value) -> Option<&'a str> {
        let name = field["t"].as_str()?;
        self.types.get(name)?.get("ju").map(|_| name)
    }

    /// `[]core/v1.Container`, `*int32`, `{}quantity`.
    fn ty(&self, field: &Value, open: &mut BTreeSet<String>) -> Result<String, Box<dyn Error>> {
        let name = field["t"].as_str().ok_or("a field without a type")?;
        let holds = match field.get("k").and_then(Value::as_str) {
            None => "",
            Some("ptr") => "*",
            Some("list") => "[]",
            Some("map") => "{}",
            Some(other) => return Err(format!("unknown holder {other}").into()),
        };
        if let Some((_, primitive)) = PRIMITIVES.iter().find(|(facts, _)| *facts == name) {
            return Ok(format!("{holds}{primitive}"));
        }
        if self.union(field).is_some() {
            return Ok(format!("{holds}any"));
        }
        let facts = self.types.get(name).ok_or_else(|| format!("no type {name}"))?;
        if facts.get("alias").is_some_and(|alias| alias["k"] == "list" && alias["t"] == "string") {
            return Ok(if holds.is_empty() {
                "[]string".into()
            } else {
                format!("{holds}strings")
            });
        }
        open.insert(name.to_owned());
        Ok(format!("{holds}{name}"))
    }
}
