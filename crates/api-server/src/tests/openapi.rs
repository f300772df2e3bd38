//! What the OpenAPI documents promise, beside what is known of a stock server's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::harness::{Cluster, cluster};

/// Path, method, operationId, action, kind; what it takes in path and query; what it
/// reads and writes.
const KNOWN: [&str; 22] = [
    "/api/v1/namespaces/{namespace}/pods/{name}/exec get connectCoreV1GetNamespacedPodExec connect PodExecOptions command,container,name,namespace,stderr,stdin,stdout,tty */* */*",
    "/api/v1/namespaces/{namespace}/pods/{name}/attach post connectCoreV1PostNamespacedPodAttach connect PodAttachOptions container,name,namespace,stderr,stdin,stdout,tty */* */*",
    "/api/v1/namespaces/{namespace}/pods/{name}/portforward get connectCoreV1GetNamespacedPodPortforward connect PodPortForwardOptions name,namespace,ports */* */*",
    "/api/v1/namespaces/{namespace}/pods/{name}/proxy options connectCoreV1OptionsNamespacedPodProxy connect PodProxyOptions name,namespace,path */* */*",
    "/api/v1/namespaces/{namespace}/services/{name}/proxy/{path} head connectCoreV1HeadNamespacedServiceProxyWithPath connect ServiceProxyOptions name,namespace,path,path */* */*",
    "/api/v1/nodes/{name}/proxy/{path} delete connectCoreV1DeleteNodeProxyWithPath connect NodeProxyOptions name,path,path */* */*",
    "/api/v1/namespaces/{namespace}/pods/{name}/log get readCoreV1NamespacedPodLog get Pod container,follow,insecureSkipTLSVerifyBackend,limitBytes,name,namespace,pretty,previous,sinceSeconds,stream,tailLines,timestamps */* json,protobuf,text/plain,yaml",
    "/api/v1/namespaces/{namespace}/pods/{name}/eviction post createCoreV1NamespacedPodEviction post Eviction dryRun,fieldManager,fieldValidation,name,namespace,pretty */* json,protobuf,yaml",
    "/api/v1/namespaces/{namespace}/pods/{name} patch patchCoreV1NamespacedPod patch Pod dryRun,fieldManager,fieldValidation,force,name,namespace,pretty application/apply-patch+yaml,application/json-patch+json,application/merge-patch+json,application/strategic-merge-patch+json json,protobuf,yaml",
    "/api/v1/namespaces/{namespace}/pods/{name} delete deleteCoreV1NamespacedPod delete Pod dryRun,gracePeriodSeconds,ignoreStoreReadErrorWithClusterBreakingPotential,name,namespace,orphanDependents,pretty,propagationPolicy */* json,protobuf,yaml",
    "/api/v1/namespaces/{namespace}/pods get listCoreV1NamespacedPod list Pod allowWatchBookmarks,continue,fieldSelector,labelSelector,limit,namespace,pretty,resourceVersion,resourceVersionMatch,sendInitialEvents,timeoutSeconds,watch */* json,json;stream=watch,protobuf,protobuf;stream=watch,yaml",
    "/api/v1/namespaces/{namespace}/pods delete deleteCoreV1CollectionNamespacedPod deletecollection Pod continue,dryRun,fieldSelector,gracePeriodSeconds,ignoreStoreReadErrorWithClusterBreakingPotential,labelSelector,limit,namespace,orphanDependents,pretty,propagationPolicy,resourceVersion,resourceVersionMatch,sendInitialEvents,timeoutSeconds */* json,protobuf,yaml",
    "/api/v1/watch/namespaces/{namespace}/pods get watchCoreV1NamespacedPodList watchlist Pod allowWatchBookmarks,continue,fieldSelector,labelSelector,limit,namespace,pretty,resourceVersion,resourceVersionMatch,sendInitialEvents,timeoutSeconds,watch */* json,json;stream=watch,protobuf,protobuf;stream=watch,yaml",
    "/apis/storagemigration.k8s.io/v1/watch/storageversionmigrations/{name} get watchStoragemigrationV1StorageVersionMigration watch StorageVersionMigration allowWatchBookmarks,continue,fieldSelector,labelSelector,limit,name,pretty,resourceVersion,resourceVersionMatch,sendInitialEvents,timeoutSeconds,watch */* json,json;stream=watch,protobuf,protobuf;stream=watch,yaml",
    "/api/ get getCoreAPIVersions - -  json,protobuf,yaml json,protobuf,yaml",
    "/apis/ get getAPIVersions - -  json,protobuf,yaml json,protobuf,yaml",
    "/apis/coordination.k8s.io/ get getCoordinationAPIGroup - -  json,protobuf,yaml json,protobuf,yaml",
    "/apis/storagemigration.k8s.io/v1/ get getStoragemigrationV1APIResources - -  json,protobuf,yaml json,protobuf,yaml",
    "/api/v1/ get getCoreV1APIResources - -  json,protobuf,yaml json,protobuf,yaml",
    "/version/ get getCodeVersion - -  json json",
    "/openid/v1/jwks/ get getServiceAccountIssuerOpenIDKeyset - -   application/jwk-set+json",
    "/.well-known/openid-configuration/ get getServiceAccountIssuerOpenIDConfiguration - -   json",
];

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn rows<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Every operation of a document, by path and method, with what the path says for all.
fn operations(document: &Value) -> BTreeMap<(String, String), Value> {
    let mut out = BTreeMap::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("a path") {
            if method == "parameters" {
                continue;
            }
            let mut operation = operation.clone();
            let all = [rows(&operation, "parameters"), rows(item, "parameters")].concat();
            operation["parameters"] = all.into();
            out.insert((path.clone(), method.clone()), operation);
        }
    }
    out
}

/// In the form of [`KNOWN`].
fn line((path, method): (&str, &str), operation: &Value) -> String {
    let short = |media: &str| {
        let media = media.replace("vnd.kubernetes.protobuf", "protobuf");
        let known = ["json", "protobuf", "yaml"].into_iter().find(|known| {
            let rest = media.strip_prefix("application/").and_then(|rest| rest.strip_prefix(known));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(';'))
        });
        match known {
            Some(_) => media.trim_start_matches("application/").to_owned(),
            None => media,
        }
    };
    let sorted = |mut words: Vec<String>| {
        words.sort();
        words.join(",")
    };
    let media = |key: &str| {
        let all = rows(operation, key).iter().filter_map(Value::as_str);
        sorted(all.map(short).collect())
    };
    let parameters = rows(operation, "parameters").iter().filter(|row| row["in"] != "body");
    let parameters = sorted(parameters.map(|row| text(row, "name").to_owned()).collect());
    let or = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let id = text(operation, "operationId");
    let action = or(text(operation, "x-kubernetes-action"));
    let kind = or(text(&operation["x-kubernetes-group-version-kind"], "kind"));
    let (consumes, produces) = (media("consumes"), media("produces"));
    format!("{path} {method} {id} {action} {kind} {parameters} {consumes} {produces}")
}

async fn document(cluster: &Cluster, path: &str) -> Value {
    let answer = cluster.get(path).await;
    assert_eq!(answer.code, 200, "{path}");
    answer.body
}

#[tokio::test]
async fn operations_are_published_as_a_stock_server_publishes_them() {
    let cluster = cluster();
    let v2 = document(&cluster, "/openapi/v2").await;
    let all = operations(&v2);
    for known in KNOWN {
        let mut words = known.split(' ');
        let key = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let found = all.get(&(key.0.to_owned(), key.1.to_owned())).map(|of| line(key, of));
        assert_eq!(found.as_deref(), Some(known));
    }
    let bearer = serde_json::json!([{"BearerToken": []}]);
    assert_eq!(v2["security"], bearer);
    assert_eq!(v2["securityDefinitions"]["BearerToken"]["name"], "authorization");
    let codes = |path: &str, method: &str| {
        let responses = &all[&(path.to_owned(), method.to_owned())]["responses"];
        let codes = responses.as_object().expect("responses").keys().cloned();
        codes.collect::<Vec<_>>().join(" ")
    };
    let item = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
    assert_eq!(codes(item, "get"), "200 401");
    assert_eq!(codes(item, "put"), "200 201 401");
    assert_eq!(codes(item, "patch"), "200 201 401");
    assert_eq!(codes(item, "delete"), "200 202 401");
    let collection = item.trim_end_matches("/{name}");
    assert_eq!(codes(collection, "post"), "200 201 202 401");
    assert_eq!(codes(collection, "delete"), "200 401");
}

#[tokio::test]
async fn both_versions_promise_the_same() {
    let cluster = cluster();
    let second = operations(&document(&cluster, "/openapi/v2").await);
    let index = document(&cluster, "/openapi/v3").await;
    let mut third = BTreeMap::new();
    for (path, url) in index["paths"].as_object().expect("paths") {
        let document = document(&cluster, text(url, "serverRelativeURL")).await;
        assert!(document["components"]["securitySchemes"]["BearerToken"].is_object(), "{path}");
        third.extend(operations(&document));
    }
    assert_eq!(second.keys().collect::<Vec<_>>(), third.keys().collect::<Vec<_>>());
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect()
    };
    let words = |value: &Value, key: &str| -> BTreeSet<String> {
        rows(value, key).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for (key, second) in &second {
        let third = &third[key];
        assert_eq!(second["operationId"], third["operationId"], "{key:?}");
        let produced = keys(&third["responses"]["200"]["content"]);
        assert_eq!(words(second, "produces"), produced, "{key:?}");
        let consumed = keys(&third["requestBody"]["content"]);
        assert!(consumed.is_empty() || words(second, "consumes") == consumed, "{key:?}");
        let names = |operation: &Value| -> BTreeSet<String> {
            let all = rows(operation, "parameters").iter().filter(|row| row["in"] != "body");
            all.map(|row| format!("{} {}", text(row, "in"), text(row, "name"))).collect()
        };
        assert_eq!(names(second), names(third), "{key:?}");
    }
}

/// `rbac.authorization.k8s.io` → `RbacAuthorization`.
fn title(words: &str) -> String {
    let words = words.trim_end_matches(".k8s.io").split('.');
    words.map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

/// The operations of one row of the facts: path, method, operationId, action.
fn expected(fact: &Value) -> Vec<[String; 4]> {
    let (group, version, kind) = (text(fact, "group"), text(fact, "version"), text(fact, "kind"));
    let root = match group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    let named =
        format!("{}{}", title(if group.is_empty() { "core" } else { group }), title(version));
    let namespaced = fact["namespaced"] == true;
    let (scope, of) = match namespaced {
        true => ("/namespaces/{namespace}", "Namespaced"),
        false => ("", ""),
    };
    let everywhere = format!("{root}/{}", text(fact, "plural"));
    let collection = format!("{root}{scope}/{}", text(fact, "plural"));
    let item = format!("{collection}/{{name}}");
    let mut out: Vec<[String; 4]> = Vec::new();
    let mut add = |path: &str, method: &str, id: String, action: &str| {
        out.push([path.to_owned(), method.to_owned(), id, action.to_owned()]);
    };
    let has = |of: &Value, verb: &str| rows(of, "verbs").iter().any(|served| served == verb);
    if has(fact, "list") {
        add(&collection, "get", format!("list{named}{of}{kind}"), "list");
        if namespaced {
            add(&everywhere, "get", format!("list{named}{kind}ForAllNamespaces"), "list");
        }
    }
    if has(fact, "create") {
        add(&collection, "post", format!("create{named}{of}{kind}"), "post");
    }
    if has(fact, "deletecollection") {
        let id = format!("delete{named}Collection{of}{kind}");
        add(&collection, "delete", id, "deletecollection");
    }
    let at_item = [
        ("get", "get", "read", "get"),
        ("update", "put", "replace", "put"),
        ("patch", "patch", "patch", "patch"),
        ("delete", "delete", "delete", "delete"),
    ];
    for (verb, method, called, action) in at_item {
        if has(fact, verb) {
            add(&item, method, format!("{called}{named}{of}{kind}"), action);
        }
    }
    if has(fact, "watch") {
        let below = |path: &str| path.replacen(&root, &format!("{root}/watch"), 1);
        add(&below(&item), "get", format!("watch{named}{of}{kind}"), "watch");
        add(&below(&collection), "get", format!("watch{named}{of}{kind}List"), "watchlist");
        if namespaced {
            let id = format!("watch{named}{kind}ListForAllNamespaces");
            add(&below(&everywhere), "get", id, "watchlist");
        }
    }
    for sub in rows(fact, "sub") {
        let name = text(sub, "name");
        let path = format!("{item}/{name}");
        let end = format!("{of}{kind}{}", title(name));
        if sub["options"].is_string() && name != "log" {
            let methods = match sub["pathSuffix"] == true {
                true => &["delete", "get", "head", "options", "patch", "post", "put"][..],
                false => &["get", "post"][..],
            };
            for method in methods {
                let id = format!("connect{named}{}{end}", title(method));
                if sub["pathSuffix"] == true {
                    let below = format!("{path}/{{path}}");
                    add(&below, method, format!("{id}WithPath"), "connect");
                }
                add(&path, method, id, "connect");
            }
            continue;
        }
        for (verb, method, called, action) in
            at_item.into_iter().chain([("create", "post", "create", "post")])
        {
            if has(sub, verb) {
                add(&path, method, format!("{called}{named}{end}"), action);
            }
        }
    }
    out
}

/// The facts about a stock server, of what is served here: no path more and none less.
#[tokio::test]
async fn every_path_of_a_stock_server_is_published_and_no_other() {
    let Ok(facts) = std::fs::read("../../../shared/kubernetes-api/resources.json") else {
        println!("skipped: no ../shared/kubernetes-api beside the checkout");
        return;
    };
    let facts: Value = serde_json::from_slice(&facts).expect("JSON");
    let cluster = cluster();
    let mut ours = operations(&document(&cluster, "/openapi/v2").await);
    // The paths about no resource, of which the facts say nothing.
    ours.retain(|(path, _), _| !path.ends_with('/'));
    let (mut rows_seen, mut seen) = (0, 0);
    for fact in rows(&facts, "resources").iter().filter(|fact| fact["served"] != "off") {
        let of = [text(fact, "group"), text(fact, "version"), text(fact, "plural")];
        let Some(spec) = cluster.server.parts.catalogue.find(of[0], of[1], of[2]) else { continue };
        let mut fact = fact.clone();
        // Some can only be read here; discovery's test says which.
        if let Some(verbs) = fact["verbs"].as_array_mut() {
            verbs.retain(|verb| spec.allows(verb.as_str().unwrap_or_default()));
        }
        rows_seen += 1;
        for [path, method, id, action] in expected(&fact) {
            seen += 1;
            let found = ours.remove(&(path.clone(), method.clone()));
            let found = found.unwrap_or_else(|| panic!("{method} {path} is not published"));
            assert_eq!(text(&found, "operationId"), id, "{method} {path}");
            assert_eq!(text(&found, "x-kubernetes-action"), action, "{method} {path}");
        }
    }
    assert!(ours.is_empty(), "a stock server has none of {:?}", ours.keys());
    println!("{seen} operations of {rows_seen} resources compared");
    assert!(seen > 800, "only {seen} operations were compared");
}
