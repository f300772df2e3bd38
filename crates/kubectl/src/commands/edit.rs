//! `kubectl edit`: objects in the user's editor, and what changed as patches.

use serde_json::{Value, json};

use crate::{
    apply::{last_applied, three_way},
    document,
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    session::{Session, without_managed_fields},
    targets::{self, Reading, Target},
};

use super::{
    editor::{Edited, Form, HEAD, in_editor, keep},
    modify,
};

pub(super) static FLAGS: &[Flag] = &[
    switch("output-patch", "Output the patch if the resource is edited"),
    switch("windows-line-endings", "Taken for compatibility"),
    value("subresource", "NAME", "Edit the subresource of the object"),
    value("field-manager", "NAME", "Name of the manager used to track field ownership")
        .or("kubectl-edit"),
];

pub(super) async fn run(session: &Session) -> Outcome {
    let reading = Reading { all_by_default: true, ..Reading::default() };
    let (found, failures) = targets::objects(session, &session.flags.words, reading).await?;
    Failure::of(failures)?;
    if found.is_empty() {
        return failed("edit cancelled, no objects found");
    }
    let subject = |(target, object): (Target, Value)| {
        let shown = without_managed_fields(&object, &session.flags);
        Subject { target, shown, saved: None }
    };
    edit(session, found.into_iter().map(subject).collect()).await
}

/// An object that is edited.
struct Subject {
    target: Target,
    /// As it is on the server.
    shown: Value,
    /// As it was wanted, where that was sent and need not be again.
    saved: Option<Value>,
}

/// What goes to the editor: an object, or several as a list.
fn document_of(form: Form, subjects: &[Subject]) -> String {
    match subjects {
        [one] => form.document(&one.shown),
        several => {
            let items: Vec<&Value> = several.iter().map(|subject| &subject.shown).collect();
            let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items});
            form.document(&list)
        }
    }
}

/// What came from the editor, each with the number of its object.
///
/// # Errors
/// For an object of a list that was not there before.
fn assigned(subjects: &[Subject], mut edited: Value) -> Outcome<Vec<(usize, Value)>> {
    if subjects.len() == 1 {
        return Ok(vec![(0, edited)]);
    }
    let items = edited["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let numbered = |item: Value| {
        // Names may have been changed by mistake, which is told when it is saved.
        let uid = |object: &Value| object["metadata"]["uid"].as_str().map(str::to_owned);
        let wanted = uid(&item);
        let is_same = |subject: &Subject| wanted.is_some() && uid(&subject.shown) == wanted;
        match subjects.iter().position(is_same) {
            Some(at) => Ok((at, item)),
            None => failed(format!("no original object found for {item}")),
        }
    };
    items.into_iter().map(numbered).collect()
}

async fn edit(session: &Session, mut subjects: Vec<Subject>) -> Outcome {
    let form = Form::of(session)?;
    let before = document_of(form, &subjects);
    let several = subjects.len() > 1;
    let mut complaint = String::new();
    let mut text = before.clone();
    let mut lost = false;
    loop {
        let edited = in_editor(form, (HEAD, &complaint), &text).or_else(|error| match complaint
            .is_empty()
        {
            true => Err(error),
            false => kept(session, form, &text, error),
        })?;
        let bare = match edited {
            Edited::Empty => {
                session.say("Edit cancelled, saved file was empty.");
                return Ok(());
            }
            Edited::Same if complaint.is_empty() => {
                session.say("Edit cancelled, no changes made.");
                return Ok(());
            }
            Edited::Same => {
                let why = Failure::Message("Edit cancelled, no valid changes were saved.".into());
                return kept(session, form, &text, why);
            }
            Edited::Text(bare) if bare == before => {
                session.say("Edit cancelled, no changes made.");
                return Ok(());
            }
            Edited::Text(bare) => bare,
        };
        let wrong = match document::read(&bare) {
            Ok(wanted) if wanted.is_object() => {
                let mut again = String::new();
                let items = assigned(&subjects, wanted)
                    .or_else(|error| kept(session, form, &bare, error))?;
                if items.is_empty() {
                    session.say("Edit cancelled, no changes made.");
                }
                for (at, wanted) in items {
                    let Subject { target, shown, saved } = &mut subjects[at];
                    if saved.as_ref() == Some(&wanted) {
                        continue;
                    }
                    let error = match save(session, target, shown, &wanted, several).await {
                        Ok(there) => {
                            *shown = without_managed_fields(&there, &session.flags);
                            *saved = Some(wanted);
                            continue;
                        }
                        // It was saved, and nobody reads that any more.
                        Err(done @ Failure::Exit(_)) => return Err(done),
                        Err(error) => error,
                    };
                    match rejected(target, &error) {
                        Rejected::Again(said) => {
                            session.say(&said);
                            again.push_str(&error.text("edit"));
                            continue;
                        }
                        Rejected::Gone(said) => {
                            session.say(&said);
                            let file = keep(form, &bare)?;
                            session.say(&format!(
                                "The edits you made on deleted resources have been saved to {file:?}"
                            ));
                        }
                        Rejected::Later(said) => {
                            session.say(&said);
                            let file = keep(form, &bare)?;
                            session.say(&format!(
                                "You can run `kubectl replace -f {file}` to try this update again."
                            ));
                        }
                        Rejected::Never => return kept(session, form, &bare, error),
                    }
                    *saved = Some(wanted);
                    lost = true;
                }
                match (again.is_empty(), lost) {
                    (true, true) => return Err(Failure::Exit(1)),
                    (true, false) => return Ok(()),
                    (false, _) => again,
                }
            }
            Ok(_) => "the document is no mapping".to_owned(),
            Err(error) => format!("The edited file had a syntax error: {error}"),
        };
        // What was typed is not lost: the editor opens again with it.
        complaint = wrong;
        text = bare;
    }
}

/// What follows from a refusal, and what is said of it at once.
#[derive(Debug, PartialEq)]
enum Rejected {
    /// The editor opens again.
    Again(String),
    /// There is nothing to edit any more.
    Gone(String),
    /// It may be tried again without the editor.
    Later(String),
    /// It did not come to a request.
    Never,
}

fn rejected(target: &Target, error: &Failure) -> Rejected {
    let subject = format!("error: {} {:?}", target.resource.qualified(), target.name);
    match error.code() {
        Some(422) => Rejected::Again(format!("{subject} is invalid")),
        Some(404) => Rejected::Gone(format!("{subject} could not be found on the server")),
        Some(_) => Rejected::Later(format!("{subject} could not be patched: {}", error.message())),
        None => Rejected::Never,
    }
}

/// Ends with a failure, but not without what was typed.
fn kept<T>(session: &Session, form: Form, text: &str, error: Failure) -> Outcome<T> {
    let file = keep(form, text)?;
    session.say(&format!("A copy of your changes has been stored to {file:?}"));
    Err(error)
}

/// Sends what changed; the object as it is then.
async fn save(
    session: &Session,
    target: &Target,
    before: &Value,
    wanted: &Value,
    several: bool,
) -> Outcome<Value> {
    for key in ["apiVersion", "kind"] {
        if before[key] != wanted[key] {
            return failed(format!("At least one of apiVersion, kind and name was changed: {key}"));
        }
    }
    if before["metadata"]["name"] != wanted["metadata"]["name"] {
        return failed("At least one of apiVersion, kind and name was changed: name");
    }
    let resource = &target.resource;
    let spec = api_kinds::catalogue().by_kind(&resource.group, &resource.version, &resource.kind);
    let shape = spec.map(|spec| spec.shape.clone());
    let mut patch = three_way::patch(before, wanted, before, shape.as_ref());
    if patch == json!({}) {
        match several {
            true => session.tell(before, "skipped")?,
            false => session.say("Edit cancelled, no changes made."),
        }
        return Ok(before.clone());
    }
    if session.flags.on("save-config") {
        let mut saved = wanted.clone();
        last_applied::set(&mut saved);
        patch = three_way::patch(before, &saved, before, shape.as_ref());
    }
    if session.flags.on("output-patch") {
        session.out(&format!("Patch: {patch}\n"))?;
    }
    // Who wrote meanwhile must not be overwritten unseen.
    patch["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
    let kind = if shape.is_some() { modify::STRATEGIC } else { modify::MERGE };
    let subresource = session.flags.one("subresource");
    let saved = modify::patch(session, target, subresource, kind, &patch, "kubectl-edit").await?;
    session.tell(&saved, "edited")?;
    Ok(saved)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::discovery::ApiResource;

    use super::*;

    #[test]
    fn several_objects_are_a_list_of_which_some_come_back() {
        let subject = |name: &str| Subject {
            target: Target {
                resource: Arc::default(),
                namespace: String::new(),
                name: name.to_owned(),
                manifest: None,
            },
            shown: json!({
                "apiVersion": "v1", "kind": "X", "metadata": {"name": name, "uid": name},
            }),
            saved: None,
        };
        let alone = [subject("a")];
        assert_eq!(
            document_of(Form::Yaml, &alone),
            "apiVersion: v1\nkind: X\nmetadata:\n  name: a\n  uid: a\n"
        );
        let numbers = |subjects: &[Subject], edited: Value| {
            let found = assigned(subjects, edited).map_err(|error| error.message())?;
            Ok::<_, String>(found.into_iter().map(|(at, _)| at).collect::<Vec<_>>())
        };
        assert_eq!(numbers(&alone, json!({"metadata": {"name": "other"}})), Ok(vec![0]));
        let both = [subject("a"), subject("b")];
        let list = document_of(Form::Yaml, &both);
        assert!(list.starts_with("apiVersion: v1\nitems:\n- apiVersion: v1\n"), "{list}");
        assert!(list.ends_with("kind: List\nmetadata: {}\n"), "{list}");
        let read = |list: &str| document::read(list).expect("valid");
        // A name that was changed is still known, to be refused when it is saved.
        assert_eq!(numbers(&both, read(&list.replace("name: a", "name: other"))), Ok(vec![0, 1]));
        assert_eq!(numbers(&both, json!({"items": [both[1].shown.clone()]})), Ok(vec![1]));
        let stranger = numbers(&both, read(&list.replace("uid: a", "uid: c")));
        assert!(stranger.expect_err("of nobody").starts_with("no original object found for"));
    }

    #[test]
    fn a_refusal_says_what_follows() {
        let resource = ApiResource {
            group: "apps".into(),
            plural: "deployments".into(),
            ..ApiResource::default()
        };
        let target = Target {
            resource: Arc::new(resource),
            namespace: String::new(),
            name: "lost".into(),
            manifest: None,
        };
        let subject = "error: deployments.apps \"lost\"";
        for (code, expected) in [
            (422, Rejected::Again(format!("{subject} is invalid"))),
            (404, Rejected::Gone(format!("{subject} could not be found on the server"))),
            (409, Rejected::Later(format!("{subject} could not be patched: no"))),
            (400, Rejected::Later(format!("{subject} could not be patched: no"))),
        ] {
            let mut status = api_object::Status::internal("no");
            status.code = code;
            status.message = "no".to_owned();
            assert_eq!(rejected(&target, &status.into()), expected, "{code}");
        }
        let own = Failure::Message("no".into());
        assert_eq!(rejected(&target, &own), Rejected::Never);
    }
}
