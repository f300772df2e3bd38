//! Structural schemas: what a CustomResourceDefinition says of its objects.
//!
//! A [`Node`] is one schema (`openAPIV3Schema`, or a property, or an element),
//! read once from JSON and shared by every request. Everything a custom object
//! goes through is a walk of its tree along the nodes:
//!
//! * `decode`: bytes to a tree; duplicate fields are found ([`duplicates`]),
//! * `prune`: what the schema does not name goes; it is told to strict clients,
//! * `default`: what is absent is filled in, for requests and for what was stored,
//! * `validate`: types, bounds, patterns, junctors, in upstream's words, with
//!   unchanged faults of the stored object tolerated (ratcheting),
//! * `lists`: sets and maps in lists hold each key once,
//! * `embedded`: objects inside objects have metadata as good as their own.
//!
//! [`Rule`]s (`x-kubernetes-validations`) are kept as data, at the node whose
//! value is their `self`; `declare` says what expressions see of a schema, and
//! [`rules`] compiles, tells of and evaluates them.
//! Whether a schema is structural at all is checked where definitions are
//! validated (`api-kinds`); [`Node::parse`] takes what it understands.
//! Descriptions are not kept: they are in the definition, which documents are
//! made from.

mod declare;
mod decode;
mod default;
mod embedded;
mod format;
mod lists;
mod parse;
mod prune;
pub mod rules;
mod shapes;
#[cfg(test)]
mod tests;
mod validate;

pub(crate) use decode::duplicates;
pub(crate) use embedded::conform;
pub(crate) use parse::canonical;
pub use parse::check_pattern;
use serde_json::Value;

use crate::{Faults, ListType, Path};

/// `type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is said: `x-kubernetes-int-or-string`,
    /// `x-kubernetes-preserve-unknown-fields`, or inside a junctor.
    #[default]
    Any,
    /// `object`.
    Object,
    /// `array`.
    Array,
    /// `string`.
    String,
    /// `integer`.
    Integer,
    /// `number`.
    Number,
    /// `boolean`.
    Boolean,
}

impl Kind {
    /// The word in a schema; empty for [`Kind::Any`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    /// The kind that a word in a schema names.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::Any,
            Self::Object,
            Self::Array,
            Self::String,
            Self::Integer,
            Self::Number,
            Self::Boolean,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == word)
    }
}

/// `additionalProperties`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Additional {
    /// Not said: other properties than the named are pruned.
    #[default]
    None,
    /// `true`: any scalar.
    Any,
    /// What each other property is.
    Node(Box<Node>),
}

/// One schema.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// What a value is.
    pub kind: Kind,
    /// Null is a value too.
    pub nullable: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-preserve-unknown-fields`: nothing unnamed is pruned here.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`: has apiVersion, kind and metadata.
    pub embedded: bool,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic: bool,
    /// `x-kubernetes-list-type`.
    pub list_type: ListType,
    /// `x-kubernetes-list-map-keys`.
    pub list_keys: Vec<Box<str>>,
    /// Named properties, sorted by name.
    pub properties: Vec<(Box<str>, Node)>,
    /// Other properties.
    pub additional: Additional,
    /// Elements.
    pub items: Option<Box<Node>>,
    /// What an absent value becomes.
    pub default: Option<Value>,
    /// `x-kubernetes-validations`.
    pub rules: Vec<Rule>,
    /// What makes a value of the kind a good one; most schemas say nothing.
    pub checks: Option<Box<Checks>>,
}

/// Value validations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checks {
    /// `date-time`, `int32`; formats that nobody knows mean nothing.
    pub format: Box<str>,
    /// Inclusive unless [`Self::exclusive_maximum`].
    pub maximum: Option<f64>,
    /// The maximum itself is too large.
    pub exclusive_maximum: bool,
    /// Inclusive unless [`Self::exclusive_minimum`].
    pub minimum: Option<f64>,
    /// The minimum itself is too small.
    pub exclusive_minimum: bool,
    /// A number is a whole multiple of this.
    pub multiple_of: Option<f64>,
    /// Characters of a string.
    pub max_length: Option<u64>,
    /// Characters of a string.
    pub min_length: Option<u64>,
    /// Elements of a list.
    pub max_items: Option<u64>,
    /// Elements of a list.
    pub min_items: Option<u64>,
    /// Properties of an object.
    pub max_properties: Option<u64>,
    /// Properties of an object.
    pub min_properties: Option<u64>,
    /// A part of a string matches it.
    pub pattern: Option<Pattern>,
    /// The allowed values.
    pub values: Vec<Value>,
    /// Properties that must be there.
    pub required: Vec<Box<str>>,
    /// Schemas that must all hold.
    pub all_of: Vec<Node>,
    /// Schemas of which one or more must hold.
    pub any_of: Vec<Node>,
    /// Schemas of which exactly one must hold.
    pub one_of: Vec<Node>,
    /// A schema that must not hold.
    pub not: Option<Box<Node>>,
}

/// A compiled `pattern`.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As the definition has it.
    pub text: Box<str>,
    /// As it is matched.
    pub regex: regex::Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// One of a node's `x-kubernetes-validations`, as data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The expression over `self` and `oldSelf`.
    pub rule: String,
    /// What is said where it does not hold; empty for a text made of the rule.
    pub message: String,
    /// An expression for the message; empty for none.
    pub message_expression: String,
    /// `FieldValueInvalid`, `FieldValueForbidden`, …; empty for the first.
    pub reason: String,
    /// The field that the fault is told of, relative to the node: `.a.b`.
    pub field_path: String,
    /// Runs on creation too, with `oldSelf` an optional.
    pub optional_old_self: bool,
}

/// How one node contains another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A named property.
    Property(&'a str),
    /// Any other property.
    Additional,
    /// An element.
    Items,
}

impl Node {
    /// Faults of a part of an object, such as a default: values, lists, and what
    /// is embedded.
    pub fn validate_part(&self, value: &Value, path: &Path<'_>, faults: &mut Faults) {
        self.validate(value, None, path, faults);
        self.validate_embedded(value, path, faults);
        self.validate_lists(value, path, faults);
    }

    /// The property of this name.
    pub fn property(&self, name: &str) -> Option<&Self> {
        let at = self.properties.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.properties[at].1)
    }

    /// What an entry of an object is: the named property, or the additional one.
    /// `None` where nothing is said of it.
    pub fn entry(&self, name: &str) -> Option<&Self> {
        self.property(name).or(match &self.additional {
            Additional::Node(node) => Some(node),
            Additional::None | Additional::Any => None,
        })
    }

    /// The nodes below this one that values can reach (junctors are not).
    pub fn children(&self) -> impl Iterator<Item = (Step<'_>, &Self)> {
        let additional = match &self.additional {
            Additional::Node(node) => Some((Step::Additional, &**node)),
            Additional::None | Additional::Any => None,
        };
        let properties = self.properties.iter().map(|(name, node)| (Step::Property(name), node));
        let items = self.items.iter().map(|node| (Step::Items, &**node));
        properties.chain(additional).chain(items)
    }

    /// Whether this node or one below it has rules.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty() || self.children().any(|(_, node)| node.has_rules())
    }
}
