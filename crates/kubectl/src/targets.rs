//! What a command line means: resources by type and name, by selector, in files.

use std::sync::Arc;

use client::with_query;
use http::Method;
use serde_json::Value;

use crate::{
    discovery::ApiResource,
    failure::{Failure, Outcome, failed},
    manifest::{self, Manifest},
    session::{DryRun, Session},
};

/// One object, or the selected ones of a collection.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// What it is.
    pub(crate) resource: Arc<ApiResource>,
    /// Empty for none and for all.
    pub(crate) namespace: String,
    /// Empty for a collection.
    pub(crate) name: String,
    /// What a file says of it.
    pub(crate) manifest: Option<Manifest>,
}

/// What is said where nothing was named.
pub(crate) const NOTHING_NAMED: &str =
    "You must provide one or more resources by argument or filename.
Example resource specifications include:
   '-f rsrc.yaml'
   '--filename=rsrc.json'
   '<resource> <name>'
   '<resource>'";

/// What client-go says of a request for nothing.
const NO_NAME: &str = "resource name may not be empty";

/// How words are taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// A type alone means all of it.
    pub(crate) all_by_default: bool,
    /// What a lone word without a slash is an object of.
    pub(crate) default_type: Option<&'static str>,
}

/// The targets of words and of `-f`, `-l`, `--all`.
///
/// # Errors
/// Where nothing is named, or what is not known.
pub(crate) async fn find(
    session: &Session,
    words: &[String],
    reading: Reading,
) -> Outcome<Vec<Target>> {
    let flags = &session.flags;
    if flags.has_files() {
        if words.first().is_some_and(|word| word.contains('/')) {
            return failed("resource/name arguments cannot be provided when a path is specified");
        }
        if !words.is_empty() {
            return failed(
                "when paths, URLs, or stdin is provided as input, you may not specify resource arguments as well",
            );
        }
        return in_files(session).await;
    }
    if words.is_empty() {
        return failed(NOTHING_NAMED);
    }
    // A variable that is not set, in a script: no name is no collection.
    let names = if reading.default_type.is_some() { words } else { &words[1..] };
    if names.iter().any(String::is_empty) {
        return failed(NO_NAME);
    }
    by_words(session, words, reading).await
}

/// The objects in the files of `-f`.
///
/// # Errors
/// For files that are not there or hold something else.
pub(crate) async fn in_files(session: &Session) -> Outcome<Vec<Target>> {
    let (targets, failures) = of_files(session).await?;
    Failure::of(failures).map(|()| targets)
}

/// The objects in the files of `-f` that can be read, and why others cannot.
///
/// # Errors
/// For paths that are not there, and where nothing is in any.
pub(crate) async fn of_files(session: &Session) -> Outcome<(Vec<Target>, Vec<Failure>)> {
    let places = manifest::of(&session.flags)?;
    let mut targets = Vec::new();
    let mut failures = Vec::new();
    for place in places {
        let (manifests, unread) = manifest::read(&place).await;
        for manifest in manifests {
            match of_manifest(session, manifest).await {
                Ok(target) => targets.push(target),
                Err(error) => failures.push(error),
            }
        }
        failures.extend(unread);
    }
    if targets.is_empty() && failures.is_empty() && matches!(session.command, "apply" | "create") {
        return failed(format!("no objects passed to {}", session.command));
    }
    Ok((targets, failures))
}

async fn of_manifest(session: &Session, mut manifest: Manifest) -> Outcome<Target> {
    let resource = session.discovery().await?.of_object(&manifest.object, &manifest.source)?;
    let meta = &manifest.object["metadata"];
    let name = meta["name"].as_str().unwrap_or_default().to_owned();
    // Only what is created may be without: for others no name would be the whole collection.
    if name.is_empty() && session.command != "create" {
        return match (session.command, meta["generateName"].as_str()) {
            ("apply", Some(prefix)) => {
                failed(format!("from {prefix}: cannot use generate name with apply"))
            }
            ("delete", _) => {
                failed(format!("error when deleting {:?}: {NO_NAME}", manifest.source))
            }
            _ => failed(NO_NAME),
        };
    }
    let mut namespace = meta["namespace"].as_str().unwrap_or_default().to_owned();
    if resource.namespaced {
        let resolved = session.resolved().await?;
        if namespace.is_empty() {
            namespace = resolved.namespace.clone();
            manifest.object["metadata"]["namespace"] = namespace.clone().into();
        } else if resolved.namespace_given && namespace != resolved.namespace {
            return failed(format!(
                "the namespace from the provided object {namespace:?} does not match the namespace {:?}. You must pass '--namespace={namespace}' to perform this operation.",
                resolved.namespace
            ));
        }
    } else {
        namespace.clear();
    }
    Ok(Target { resource, namespace, name, manifest: Some(manifest) })
}

async fn by_words(session: &Session, words: &[String], reading: Reading) -> Outcome<Vec<Target>> {
    let flags = &session.flags;
    let discovery = session.discovery().await?;
    let everywhere = session.all_namespaces();
    let namespace = if everywhere { String::new() } else { session.namespace().await? };
    let target = |resource: &Arc<ApiResource>, name: &str| Target {
        resource: resource.clone(),
        namespace: if resource.namespaced { namespace.clone() } else { String::new() },
        name: name.to_owned(),
        manifest: None,
    };
    let slashes = words.iter().filter(|word| word.contains('/')).count();
    if slashes > 0 {
        if slashes < words.len() {
            return failed(
                "there is no need to specify a resource type as a separate argument when passing arguments in resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of 'kubectl get resource resource/<resource_name>'",
            );
        }
        let mut targets = Vec::new();
        for word in words {
            let (kind, name) = word.split_once('/').unwrap_or((word, ""));
            if kind.is_empty() || name.is_empty() || name.contains('/') {
                return failed("arguments in resource/name form may not have more than one slash");
            }
            for resource in discovery.resolve(kind)? {
                targets.push(target(&resource, name));
            }
        }
        return named_anywhere(targets, everywhere);
    }
    if let Some(kind) = reading.default_type
        && (words.len() == 1 || discovery.find(&words[0]).is_none())
    {
        if !session.selector().is_empty() {
            let kind = kind.trim_end_matches('s');
            let why = format!("cannot specify both a {kind} name and a --selector option");
            return Err(Failure::Arguments(why));
        }
        let resource = discovery.resolve(kind)?.remove(0);
        return Ok(words.iter().map(|name| target(&resource, name)).collect());
    }
    let mut resources = Vec::new();
    for word in words[0].split(',') {
        resources.extend(discovery.resolve(word)?);
    }
    let names = &words[1..];
    let selects = !session.selector().is_empty()
        || !flags.one("field-selector").is_empty()
        || flags.on("all");
    if names.is_empty() {
        if !selects && !reading.all_by_default {
            return failed("resource(s) were provided, but no name was specified");
        }
        return Ok(resources.iter().map(|resource| target(resource, "")).collect());
    }
    if selects {
        return failed("name cannot be provided when a selector is specified");
    }
    let targets =
        resources.iter().flat_map(|resource| names.iter().map(|name| target(resource, name)));
    named_anywhere(targets.collect(), everywhere)
}

fn named_anywhere(targets: Vec<Target>, everywhere: bool) -> Outcome<Vec<Target>> {
    if everywhere && targets.iter().any(|target| target.resource.namespaced) {
        return failed("a resource cannot be retrieved by name across all namespaces");
    }
    Ok(targets)
}

/// The selector that picks among the objects of files.
///
/// # Errors
/// Where it is none.
pub(crate) fn labels(text: &str) -> Outcome<api_object::LabelSelector> {
    api_object::LabelSelector::parse(text).map_err(|error| {
        Failure::Message(format!("the provided selector {text:?} is not valid: {error}"))
    })
}

/// The targets of files that a selector picks.
pub(crate) fn selected(targets: Vec<Target>, selector: &api_object::LabelSelector) -> Vec<Target> {
    let fits = |target: &Target| {
        let manifest = target.manifest.as_ref();
        let labels = manifest.map(|manifest| manifest.object["metadata"]["labels"].clone());
        let labels = labels.map(serde_json::from_value).and_then(Result::ok);
        selector.matches(&labels.unwrap_or_default())
    };
    targets.into_iter().filter(fits).collect()
}

/// The query of a list: selectors, and more.
pub(crate) fn selection(session: &Session, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut query: Vec<(String, String)> = Vec::new();
    let selectors = [
        ("labelSelector", session.selector()),
        ("fieldSelector", session.flags.one("field-selector")),
    ];
    for (key, selector) in selectors.into_iter().filter(|(_, selector)| !selector.is_empty()) {
        query.push((key.to_owned(), selector.to_owned()));
    }
    query.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    query
}

/// A path with its query.
pub(crate) fn path(path: String, query: &[(String, String)]) -> String {
    let pairs: Vec<(&str, &str)> = query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    with_query(path, &pairs)
}

/// A whole collection, in chunks where it is long. What the chunks have in
/// `list_key` is put together.
///
/// # Errors
/// The server's Status.
pub(crate) async fn list(
    session: &Session,
    target: &Target,
    accept: &str,
    list_key: &str,
    more: &[(&str, &str)],
) -> Outcome<Value> {
    let connection = session.connection().await?;
    let chunk = match session.flags.one("chunk-size") {
        "" => "500",
        size => size,
    };
    let mut whole: Option<Value> = None;
    let mut next = String::new();
    loop {
        let mut query = selection(session, more);
        if chunk != "0" {
            query.push(("limit".into(), chunk.into()));
        }
        if !next.is_empty() {
            query.push(("continue".into(), next.clone()));
        }
        let at = path(target.resource.path(&target.namespace, ""), &query);
        let page = connection.request_as(Method::GET, &at, accept, None).await;
        let mut page = page.map_err(|error| unfound(session, target, error))?;
        next = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        whole = Some(match whole {
            None => page,
            Some(mut whole) => {
                if let (Some(all), Some(more)) =
                    (whole[list_key].as_array_mut(), page[list_key].as_array_mut())
                {
                    all.append(more);
                }
                whole["metadata"] = page["metadata"].take();
                whole
            }
        });
        if next.is_empty() {
            return Ok(whole.unwrap_or_default());
        }
    }
}

/// Says what was listed, where the server found nothing or fault with the question.
fn unfound(session: &Session, target: &Target, error: Failure) -> Failure {
    let Failure::Status(mut status) = error else { return error };
    if matches!(status.code, 400 | 404) {
        let kind = &target.resource;
        let resource = format!("{}/{}, Resource={}", kind.group, kind.version, kind.plural);
        let (labels, fields) = (session.selector(), session.flags.one("field-selector"));
        let what = match (labels, fields) {
            ("", "") => format!("Unable to list {resource:?}"),
            _ => format!(
                "Unable to find {resource:?} that match label selector {labels:?}, field selector {fields:?}"
            ),
        };
        status.message = format!("{what}: {}", status.message);
    }
    Failure::Status(status)
}

impl Target {
    /// The object, or those that are selected, with their kind.
    ///
    /// # Errors
    /// The server's Status.
    pub(crate) async fn objects(&self, session: &Session) -> Outcome<Vec<Value>> {
        if !self.name.is_empty() {
            return Ok(vec![self.object(session).await?]);
        }
        let mut found = list(session, self, "application/json", "items", &[]).await?;
        let items = found["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        Ok(items.into_iter().map(|item| self.with_kind(item)).collect())
    }

    /// The named object.
    ///
    /// # Errors
    /// The server's Status.
    pub(crate) async fn object(&self, session: &Session) -> Outcome<Value> {
        session.connection().await?.get(&self.path()).await
    }

    /// Where it is.
    pub(crate) fn path(&self) -> String {
        self.resource.path(&self.namespace, &self.name)
    }

    /// Items of a list do not say what they are.
    fn with_kind(&self, mut item: Value) -> Value {
        item["kind"] = self.resource.kind.clone().into();
        item["apiVersion"] = self.resource.api_version().into();
        item
    }

    /// The target that an object of its collection is.
    pub(crate) fn of(&self, object: &Value) -> Self {
        let meta = &object["metadata"];
        Self {
            resource: self.resource.clone(),
            namespace: meta["namespace"].as_str().unwrap_or_default().to_owned(),
            name: meta["name"].as_str().unwrap_or_default().to_owned(),
            manifest: None,
        }
    }
}

/// The objects in the files of `-f`, for `--local`: no server is asked, so a kind
/// is taken as the built-in table has it, or by its name.
///
/// # Errors
/// Where there are words, no files, or files that hold something else.
pub(crate) async fn local(session: &Session, words: &[String]) -> Outcome<Vec<(Target, Value)>> {
    let flags = &session.flags;
    // Two commands of upstream's let words pass that they do not look at.
    let lenient = matches!(session.command, "set env" | "set serviceaccount");
    if !flags.has_files() && (lenient || words.is_empty()) {
        return failed(NOTHING_NAMED);
    }
    if !words.is_empty() && !lenient {
        return failed(
            "you must specify resources by --filename when --local is set.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'",
        );
    }
    if session.dry_run() == DryRun::Server {
        return failed(
            "cannot specify --local and --dry-run=server - did you mean --dry-run=client?",
        );
    }
    let mut found = Vec::new();
    for place in manifest::of(flags)? {
        let (manifests, failures) = manifest::read(&place).await;
        Failure::of(failures)?;
        for manifest in manifests {
            let object = manifest.object.clone();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
            let (group, version) = match version.split_once('/') {
                Some((group, version)) => (group.to_owned(), version.to_owned()),
                None => (String::new(), version),
            };
            let known = api_kinds::catalogue().by_kind(&group, &version, &kind);
            let plural = known.map_or_else(|| kind.to_lowercase(), |spec| spec.plural.to_string());
            let resource = ApiResource { group, version, plural, kind, ..ApiResource::default() };
            let (namespace, name) =
                (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
            let resource = Arc::new(resource);
            found.push((Target { resource, namespace, name, manifest: Some(manifest) }, object));
        }
    }
    Ok(found)
}

/// Every object that the words and flags name; failures last. With `--local` those
/// of the files, as they are there.
///
/// # Errors
/// Where the words are not understood.
pub(crate) async fn objects(
    session: &Session,
    words: &[String],
    reading: Reading,
) -> Outcome<(Vec<(Target, Value)>, Vec<Failure>)> {
    if session.flags.on("local") {
        return Ok((local(session, words).await?, Vec::new()));
    }
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for target in find(session, words, reading).await? {
        match target.objects(session).await {
            Ok(objects) => {
                for object in objects {
                    let mut one = target.of(&object);
                    one.manifest.clone_from(&target.manifest);
                    found.push((one, object));
                }
            }
            Err(error) => failures.push(error),
        }
    }
    Ok((found, failures))
}
