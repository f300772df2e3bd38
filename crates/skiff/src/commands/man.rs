//! `skiff man [COMMAND]`, and all pages into a folder for those who pack them.

use std::{error::Error, fs, path::Path};

use crate::{
    flags::{UsageError, Values},
    manual::roff,
};

pub(super) fn run(values: Values, words: Vec<String>) -> Result<(), Box<dyn Error>> {
    let pages = roff::pages();
    if let Some(dir) = values.one("into") {
        super::daemon::no_words(&words)?;
        fs::create_dir_all(dir).map_err(|error| format!("{dir}: {error}"))?;
        for (name, text) in pages {
            let path = Path::new(dir).join(name);
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        return Ok(());
    }
    let name = match words.as_slice() {
        [] => "skiff.8".to_owned(),
        [command] => format!("skiff-{command}.8"),
        _ => return Err(Box::new(UsageError("say one command".into()))),
    };
    let (_, text) = pages.iter().find(|(page, _)| *page == name).ok_or_else(|| {
        UsageError(format!("there is no page {name}; `skiff help` lists commands"))
    })?;
    print!("{text}");
    Ok(())
}
