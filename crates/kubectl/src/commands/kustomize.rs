//! `kubectl kustomize`: the objects of a folder, printed.

use std::path::Path;

use crate::{
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    kustomize,
    print::yaml,
    session::Session,
};

/// What a build may be told elsewhere, and is not done here.
const REFUSED: &[&str] = &["enable-helm", "enable-alpha-plugins", "network"];

pub(super) static FLAGS: &[Flag] = &[
    value("output", "FILE", "If specified, write output to this path").short('o'),
    value(
        "load-restrictor",
        "LoadRestrictionsRootOnly",
        "Files are read from the folder and below; another value is refused",
    )
    .or("LoadRestrictionsRootOnly"),
    switch("enable-helm", "Not known to this kubectl: it is refused"),
    value("helm-command", "FILE", "Taken for compatibility: no chart is built").or("helm"),
    value("helm-api-versions", "NAMES", "Taken for compatibility: no chart is built"),
    value("helm-kube-version", "VERSION", "Taken for compatibility: no chart is built"),
    switch("helm-debug", "Taken for compatibility: no chart is built"),
    switch("enable-alpha-plugins", "Not known to this kubectl: it is refused"),
    switch("network", "Not known to this kubectl: it is refused"),
    value("network-name", "NAME", "Taken for compatibility: no function is run").or("bridge"),
    value("mount", "OPTIONS", "Taken for compatibility: no function is run"),
    value("env", "NAME=VALUE", "Taken for compatibility: no function is run").short('e'),
    switch("as-current-user", "Taken for compatibility: no function is run"),
];

pub(super) async fn run(session: &Session) -> Outcome {
    let folder = match session.flags.words.as_slice() {
        [] => ".",
        [folder] => folder,
        _ => return failed("specify one path to kustomization.yaml"),
    };
    if let Some(flag) = REFUSED.iter().find(|flag| session.flags.on(flag)) {
        return failed(format!(
            "--{flag} is not known to this kubectl: build with kustomize itself"
        ));
    }
    match session.flags.one("load-restrictor") {
        "LoadRestrictionsRootOnly" => {}
        "LoadRestrictionsNone" => {
            return failed(
                "--load-restrictor=LoadRestrictionsNone is not known to this kubectl: files are read from the folder and below",
            );
        }
        other => {
            return failed(format!(
                "illegal flag value --load-restrictor {other}; legal values: [LoadRestrictionsRootOnly LoadRestrictionsNone]"
            ));
        }
    }
    let objects = kustomize::build(Path::new(folder))?;
    let text = objects.iter().map(yaml::document).collect::<Vec<_>>().join("---\n");
    match session.flags.one("output") {
        "" => session.out(&text),
        path => {
            std::fs::write(path, text).map_err(|error| Failure::Message(format!("{path}: {error}")))
        }
    }
}
