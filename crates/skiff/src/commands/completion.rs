//! `skiff completion SHELL`

use std::error::Error;

use crate::{
    flags::{UsageError, Values},
    manual::completion::SHELLS,
};

pub(super) fn run(_: Values, words: Vec<String>) -> Result<(), Box<dyn Error>> {
    let names: Vec<&str> = SHELLS.iter().map(|(name, _)| *name).collect();
    let say = || UsageError(format!("say which shell: {}", names.join(", ")));
    let [shell] = words.as_slice() else { return Err(Box::new(say())) };
    let (_, make) = SHELLS.iter().find(|(name, _)| name == shell).ok_or_else(say)?;
    print!("{}", make());
    Ok(())
}
