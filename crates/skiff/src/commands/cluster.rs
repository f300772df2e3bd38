//! `skiff cluster status|remove`

use std::{error::Error, path::Path};

use crate::{
    columns,
    flags::{UsageError, Values},
    server::cluster_socket::{self, Answer, Ask, Row},
    status::without_majority,
};

pub(super) fn run(values: Values, words: Vec<String>) -> Result<(), Box<dyn Error>> {
    let data_dir = std::path::absolute(values.one("data-dir").unwrap_or_default())?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["status"] => match ask(&data_dir, Ask::Status)? {
            Answer::Status(rows) => {
                match super::wants_json(&values)? {
                    false => print!("{}", table(&rows)),
                    true => println!("{}", serde_json::to_string_pretty(&rows)?),
                }
                if let Some(lost) = without_majority(&rows) {
                    eprintln!("skiff cluster: {lost}");
                }
                Ok(())
            }
            other => Err(format!("an answer to something else: {other:?}").into()),
        },
        ["remove", name] => {
            let Answer::Removed(tokens) = ask(&data_dir, Ask::Remove((*name).into()))? else {
                return Err("an answer to something else".into());
            };
            println!(
                "removed {name}; its data directory is of no use any more, and its Node object is \
                 deleted with `kubectl delete node {name}`. {}",
                about_tokens(&tokens)
            );
            Ok(())
        }
        _ => Err(Box::new(UsageError("say `status` or `remove NAME`".into()))),
    }
}

fn about_tokens(revoked: &Result<Vec<String>, String>) -> String {
    match revoked {
        Ok(ids) if ids.is_empty() => {
            "It had no token of its own in the cluster; `skiff token list` shows those there are"
                .to_owned()
        }
        Ok(ids) => format!(
            "The token in it ({}) lets nobody in any more: those to come need another server's",
            ids.join(", ")
        ),
        Err(why) => format!(
            "The token in it may still let servers in, for it could not be deleted ({why}): \
             `skiff token list` shows which it is, and `skiff token delete ID` revokes it"
        ),
    }
}

fn ask(data_dir: &Path, ask: Ask) -> Result<Answer, Box<dyn Error>> {
    let answer = cluster_socket::ask(data_dir, &ask);
    match answer.map_err(|error| cluster_socket::unanswered(data_dir, &error))? {
        Answer::Failed(why) => Err(why.into()),
        answer => Ok(answer),
    }
}

fn table(rows: &[Row]) -> String {
    let head =
        ["NAME", "ROLE", "ADDRESS", "VERSION", "TERM", "LOG", "APPLIED", "SNAPSHOT", "HEALTH"];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        let position = |number: u64| match row.term {
            0 => "-".to_owned(),
            _ => number.to_string(),
        };
        [
            row.name.clone(),
            row.role.clone(),
            row.address.clone(),
            row.version.clone(),
            position(row.term),
            position(row.last_log_index),
            position(row.applied_index),
            position(row.snapshot_index),
            row.health.clone(),
        ]
    }));
    columns::lay_out(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_do_not_answer_have_no_position() {
        let one = Row {
            name: "pi".into(),
            role: "leader".into(),
            term: 3,
            health: "ok".into(),
            ..Row::default()
        };
        let two = Row { name: "pi-2".into(), health: "unreachable: gone".into(), ..Row::default() };
        let text = table(&[one, two]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].split_whitespace().count(), 9);
        assert!(lines[1].starts_with("pi    leader") && lines[1].ends_with("0         ok"));
        assert!(lines[2].contains("-         unreachable: gone"), "{text}");
    }
}
