//! `kubectl kustomize`: the objects of a folder, printed.

use std::path::Path;

use crate::{
    failure::{Failure, Outcome, failed},
    flags::{Flag, value},
    kustomize,
    print::yaml,
    session::Session,
};

pub(super) static FLAGS: &[Flag] =
    &[value("output", "FILE", "If specified, write output to this path").short('o')];

pub(super) async fn run(session: &Session) -> Outcome {
    let folder = match session.flags.words.as_slice() {
        [] => ".",
        [folder] => folder,
        _ => return failed("specify one path to kustomization.yaml"),
    };
    let objects = kustomize::build(Path::new(folder))?;
    let text = objects.iter().map(yaml::document).collect::<Vec<_>>().join("---\n");
    match session.flags.one("output") {
        "" => session.out(&text),
        path => {
            std::fs::write(path, text).map_err(|error| Failure::Message(format!("{path}: {error}")))
        }
    }
}
