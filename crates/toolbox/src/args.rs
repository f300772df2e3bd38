//! Command lines: `--name value`, `--name=value`, switches, and the rest.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

/// What a program was called with.
pub(crate) struct Args {
    words: Vec<OsString>,
}

impl Args {
    pub(crate) fn new(words: Vec<OsString>) -> Self {
        Args { words }
    }

    /// Takes a switch such as `-l` away; was it there?
    pub(crate) fn switch(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|w| w != name);
        self.words.len() != before
    }

    /// Takes `--name value` or `--name=value` away and reads the value.
    pub(crate) fn option<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let prefix = format!("{name}=");
        let Some(at) = self
            .words
            .iter()
            .position(|w| w == name || w.to_str().is_some_and(|w| w.starts_with(&prefix)))
        else {
            return Ok(None);
        };
        let word = self.words.remove(at);
        let value = if word == name {
            if at >= self.words.len() {
                return Err(format!("{name} needs a value"));
            }
            self.words.remove(at).into_string().map_err(|_| format!("{name}: not UTF-8"))?
        } else {
            word.to_string_lossy()[prefix.len()..].to_owned()
        };
        value.parse().map(Some).map_err(|_| format!("{name}: cannot read {value:?}"))
    }

    /// The words that are left, as text.
    pub(crate) fn rest(self) -> Vec<String> {
        self.words.into_iter().map(|w| w.to_string_lossy().into_owned()).collect()
    }

    /// The words that are left, as paths.
    pub(crate) fn paths(self) -> Vec<PathBuf> {
        self.words.into_iter().map(PathBuf::from).collect()
    }

    /// Exactly one word is left.
    pub(crate) fn one(self, what: &str) -> Result<String, String> {
        let mut rest = self.rest();
        match (rest.pop(), rest.is_empty()) {
            (Some(word), true) => Ok(word),
            _ => Err(format!("expected exactly one {what}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Args;

    #[test]
    fn options_in_both_forms_and_the_rest() {
        let words = ["--port", "80", "a", "--text=x=y", "-l"];
        let mut args = Args::new(words.map(Into::into).to_vec());
        assert_eq!(args.option::<u16>("--port"), Ok(Some(80)));
        assert_eq!(args.option::<String>("--text"), Ok(Some("x=y".into())));
        assert_eq!(args.option::<u16>("--none"), Ok(None));
        assert!(args.switch("-l") && !args.switch("-a"));
        assert_eq!(args.rest(), ["a"]);
        let mut args = Args::new(vec!["--port".into()]);
        assert!(args.option::<u16>("--port").is_err());
        let mut args = Args::new(vec!["--port=x".into()]);
        assert!(args.option::<u16>("--port").is_err());
    }
}
