//! The paths that are about no object: which versions, groups and resources there
//! are, and who the server is.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    Dialect,
    definitions::META,
    operation::{self, Answer, Operation},
    paths,
};
use crate::ResourceSpec;

/// What a document is about, named by its path below `/openapi/v3/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    /// `api`: the versions of the core group.
    CoreVersions,
    /// `apis`: the groups.
    Groups,
    /// `apis/apps`: the versions of a group.
    Group(String),
    /// `api/v1`, `apis/apps/v1`: group and version.
    Resources(String, String),
    /// `version`.
    Version,
    /// `openid/v1/jwks`.
    Keys,
    /// `.well-known/openid-configuration`.
    Issuer,
}

/// Those that every server has.
const OF_EVERY_SERVER: [Root; 5] =
    [Root::Issuer, Root::CoreVersions, Root::Groups, Root::Keys, Root::Version];

const VERSION: &str = "io.k8s.apimachinery.pkg.version.Info";

impl Root {
    /// Reads a path; `None` where no document can be at it.
    pub fn parse(path: &[&str]) -> Option<Self> {
        Some(match path {
            ["api", version] => Self::Resources(String::new(), (*version).into()),
            ["apis", group] => Self::Group((*group).into()),
            ["apis", group, version] => Self::Resources((*group).into(), (*version).into()),
            path => {
                let path = path.join("/");
                OF_EVERY_SERVER.into_iter().find(|root| root.path() == path)?
            }
        })
    }

    /// Its path, without a slash around it.
    pub fn path(&self) -> String {
        match self {
            Self::CoreVersions => "api".into(),
            Self::Groups => "apis".into(),
            Self::Group(group) => format!("apis/{group}"),
            Self::Resources(group, version) if group.is_empty() => format!("api/{version}"),
            Self::Resources(group, version) => format!("apis/{group}/{version}"),
            Self::Version => "version".into(),
            Self::Keys => "openid/v1/jwks".into(),
            Self::Issuer => ".well-known/openid-configuration".into(),
        }
    }

    /// Whether the document depends on a row. Custom groups have none that lists
    /// their versions, as upstream's have none.
    pub fn is_of(&self, row: &ResourceSpec) -> bool {
        match self {
            Self::Group(group) => row.group == *group && row.custom.is_none(),
            Self::Resources(group, version) => row.group == *group && row.version == *version,
            _ => row.group.is_empty(),
        }
    }

    /// Every document that there is for these rows, in the order of their paths.
    pub(super) fn all<'a>(rows: impl Iterator<Item = &'a ResourceSpec>) -> BTreeSet<Self> {
        let mut all = BTreeSet::from(OF_EVERY_SERVER);
        for row in rows {
            all.insert(Self::Resources(row.group.to_string(), row.version.to_string()));
            if !row.group.is_empty() && row.custom.is_none() {
                all.insert(Self::Group(row.group.to_string()));
            }
        }
        all
    }

    /// The shape of its answer; `None` for a text, or what has no shape.
    pub(super) fn shape(&self) -> Option<&'static str> {
        match self {
            Self::CoreVersions => Some("APIVersions"),
            Self::Groups => Some("APIGroupList"),
            Self::Group(_) => Some("APIGroup"),
            Self::Resources(..) => Some("APIResourceList"),
            Self::Version | Self::Keys | Self::Issuer => None,
        }
    }

    /// Adds its own path.
    pub(super) fn add(&self, out: &mut Map<String, Value>, dialect: Dialect) {
        let named = |group: &str| paths::title(&paths::group(group));
        let (id, tag, description) = match self {
            Self::CoreVersions => {
                ("getCoreAPIVersions".into(), "core".into(), "Which versions there are.")
            }
            Self::Groups => ("getAPIVersions".into(), "apis".into(), "Which groups there are."),
            Self::Group(group) => (
                format!("get{}APIGroup", named(group)),
                paths::group(group),
                "Which versions of the group there are.",
            ),
            Self::Resources(group, version) => (
                format!("get{}{}APIResources", named(group), paths::title(version)),
                format!("{}_{version}", paths::group(group)),
                "Which resources there are.",
            ),
            Self::Version => {
                ("getCodeVersion".into(), "version".into(), "Which version the server is.")
            }
            Self::Keys => (
                "getServiceAccountIssuerOpenIDKeyset".into(),
                "openid".into(),
                "The keys that service account tokens are verified with.",
            ),
            Self::Issuer => (
                "getServiceAccountIssuerOpenIDConfiguration".into(),
                "WellKnown".into(),
                "Who issues service account tokens.",
            ),
        };
        let documents = &paths::OBJECTS[..];
        let (consumes, produces): (&'static [&str], &[&str]) = match self {
            Self::Keys => (&[], &["application/jwk-set+json"]),
            Self::Issuer => (&[], &documents[..1]),
            Self::Version => (&["application/json"], &documents[..1]),
            _ => (&paths::OBJECTS, documents),
        };
        let answer = match (self, self.shape()) {
            (Self::Version, _) => Answer::Object(VERSION.into()),
            (_, Some(shape)) => Answer::Object(format!("{META}.{shape}")),
            (_, None) => Answer::Text,
        };
        let operation = Operation {
            id,
            tag,
            description: description.into(),
            consumes,
            produces: produces.to_vec(),
            codes: &[200],
            answer,
            ..Operation::default()
        };
        let path = format!("/{}/", self.path());
        out.insert(path, operation::path(vec![("get", operation)], dialect));
    }
}

/// The schema of the answer that is no kind.
pub(super) fn version() -> Option<(String, Value)> {
    const ALWAYS: [&str; 9] = [
        "major",
        "minor",
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    ];
    const MORE: [&str; 4] =
        ["emulationMajor", "emulationMinor", "minCompatibilityMajor", "minCompatibilityMinor"];
    let fields = ALWAYS.iter().chain(&MORE);
    let properties: Map<String, Value> =
        fields.map(|name| ((*name).to_owned(), json!({ "type": "string" }))).collect();
    let schema = json!({
        "description": "Which version the server is.", "type": "object",
        "properties": properties, "required": ALWAYS,
    });
    Some((VERSION.into(), schema))
}
