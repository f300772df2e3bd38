//! `skiff image import|ls|rm`

use std::{
    error::Error,
    fs::File,
    io::{self, Read},
    path::Path,
};

use crate::{
    columns,
    flags::{UsageError, Values},
    node::{
        self,
        images::{
            self,
            socket::{self, Answer, Ask, Row},
        },
    },
};

pub(super) fn run(values: Values, words: Vec<String>) -> Result<(), Box<dyn Error>> {
    let data_dir = std::path::absolute(values.one("data-dir").unwrap_or_default())?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["import", files @ ..] if !files.is_empty() => {
            files.iter().try_for_each(|file| import(&data_dir, file))
        }
        ["ls" | "list"] => {
            let json = super::wants_json(&values)?;
            let rows = ask(&data_dir, Ask::List, &mut io::empty())?;
            match json {
                false => print!("{}", table(&rows)),
                true => println!("{}", serde_json::to_string_pretty(&rows)?),
            }
            Ok(())
        }
        ["rm" | "remove", names @ ..] if !names.is_empty() => names.iter().try_for_each(|name| {
            ask(&data_dir, Ask::Remove { name: (*name).into() }, &mut io::empty())?;
            println!("removed {name}");
            Ok(())
        }),
        _ => {
            Err(Box::new(UsageError("say `import FILE…` (- for stdin), `ls` or `rm NAME…`".into())))
        }
    }
}

fn import(data_dir: &Path, file: &str) -> Result<(), Box<dyn Error>> {
    let mut tarball: Box<dyn Read> = match file {
        "-" => Box::new(io::stdin()),
        path => Box::new(File::open(path).map_err(|error| format!("{path}: {error}"))?),
    };
    let what = if file == "-" { "stdin" } else { file };
    let imported = ask(data_dir, Ask::Import { what: what.into() }, &mut tarball)?;
    for image in imported {
        println!("imported {}", image.names.first().unwrap_or(&image.id));
    }
    Ok(())
}

/// Through the running server, to which the images belong; directly where none runs.
fn ask(data_dir: &Path, ask: Ask, tarball: &mut dyn Read) -> Result<Vec<Row>, Box<dyn Error>> {
    let told = socket::ask(data_dir, &ask, tarball)
        .map_err(|error| format!("{}: {error}", socket::path(data_dir).display()))?;
    let answer = match told {
        Some(answer) => answer,
        None => {
            // Held while we work, so that nothing starts meanwhile.
            let _lock = node::lock(data_dir)?;
            let store =
                images::open(&socket::images_dir(data_dir)).map_err(|error| error.to_string())?;
            socket::answer(&store, ask, tarball)
        }
    };
    match answer {
        Answer::Images(rows) => Ok(rows),
        Answer::Failed(error) => Err(error.into()),
    }
}

fn table(rows: &[Row]) -> String {
    let mut lines = vec![["IMAGE", "ID", "SIZE"].map(str::to_owned)];
    for row in rows {
        let id = row.id.trim_start_matches("sha256:").chars().take(12).collect::<String>();
        let size = format!("{:.1} MB", row.size_bytes as f64 / 1e6);
        let names =
            if row.names.is_empty() { vec!["<none>".to_owned()] } else { row.names.clone() };
        lines.extend(names.into_iter().map(|name| [name, id.clone(), size.clone()]));
    }
    columns::lay_out(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |name: &str| Row {
            names: vec![name.into()],
            id: format!("sha256:{}", "a".repeat(64)),
            size_bytes: 1_500_000,
        };
        let text = table(&[row("a"), row("docker.io/library/nginx:latest")]);
        let at: Vec<_> = text.lines().skip(1).map(|line| line.find("aaaaaaaaaaaa")).collect();
        assert!(at[0].is_some() && at[0] == at[1], "{text}");
        assert!(text.contains("1.5 MB"));
    }
}
