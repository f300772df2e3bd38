//! What is remembered of a webhook.

use api_kinds::{
    client_config,
    expression::{Admission, Has},
};
use api_schema::tree;
use cel::Program;
use serde_json::Value;

use super::matching::Matcher;

/// One webhook of a configuration.
#[derive(Debug)]
pub(crate) struct Webhook {
    pub(super) name: String,
    /// It among all webhooks: the configuration's name and its own.
    pub(super) key: String,
    pub(super) matcher: Matcher,
    pub(super) conditions: Conditions,
    /// Where it is; what is wrong with what its configuration says.
    pub(super) place: Result<api_schema::Webhook, String>,
    /// A webhook that does not answer is passed over.
    pub(super) ignore: bool,
    pub(super) seconds: u32,
    /// It does no harm in a dry run.
    pub(super) dry_run: bool,
    /// It wants to be asked again after a change.
    pub(super) willing: bool,
}

/// `matchConditions`, each with its text.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub(super) programs: Vec<(String, Result<Program, String>)>,
    pub(super) has: Has,
}

impl Conditions {
    pub(super) fn of(list: &[Value], params: bool) -> Self {
        let has = Has { params, authorizer: true, ..Has::default() };
        let compile = |condition: &Value| {
            let text = tree::text(condition, "expression");
            let program = Admission::default().compile(text, has);
            (text.to_owned(), program.map_err(|error| format!("compilation error: {error}")))
        };
        Self { programs: list.iter().map(compile).collect(), has }
    }
}

impl Webhook {
    /// The webhooks of a configuration.
    pub(crate) fn all(configuration: &Value) -> Vec<Self> {
        let own_name = tree::text(configuration, "metadata.name");
        let hooks = tree::list(configuration, "webhooks").iter();
        hooks.map(|hook| Self::of(own_name, hook)).collect()
    }

    fn of(configuration: &str, hook: &Value) -> Self {
        let name = tree::text(hook, "name").to_owned();
        let versions = tree::list(hook, "admissionReviewVersions");
        Self {
            key: format!("{configuration}/{name}"),
            matcher: Matcher::of_webhook(hook),
            conditions: Conditions::of(tree::list(hook, "matchConditions"), false),
            place: client_config::read(tree::get(hook, "clientConfig"), versions),
            ignore: tree::text(hook, "failurePolicy") == "Ignore",
            seconds: tree::int(hook, "timeoutSeconds")
                .and_then(|n| n.try_into().ok())
                .unwrap_or(10),
            dry_run: matches!(tree::text(hook, "sideEffects"), "None" | "NoneOnDryRun"),
            willing: tree::text(hook, "reinvocationPolicy") == "IfNeeded",
            name,
        }
    }
}
