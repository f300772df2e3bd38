//! Flags as rows, and the command line read by them as pflag does it.

use std::collections::BTreeMap;

/// What follows a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// `--flag` or `--flag=false`.
    Switch,
    /// `--flag VALUE` or `--flag=VALUE`; the word stands for it in the help.
    Value(&'static str),
    /// `--flag=VALUE`; `--flag` alone means this.
    Optional(&'static str),
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    /// Without dashes.
    pub(crate) name: &'static str,
    /// One letter, where there is one.
    pub(crate) short: Option<char>,
    /// What follows it.
    pub(crate) takes: Takes,
    /// Where it is not given; empty for unset.
    pub(crate) default: &'static str,
    /// One phrase.
    pub(crate) help: &'static str,
    /// What is said to who still gives it, and it stands in no help; empty for none.
    pub(crate) deprecated: &'static str,
}

/// A switch that is off.
pub(crate) const fn switch(name: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, takes: Takes::Switch, default: "", help, deprecated: "" }
}

/// A flag with a value, unset.
pub(crate) const fn value(name: &'static str, word: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, takes: Takes::Value(word), default: "", help, deprecated: "" }
}

impl Flag {
    /// The same with a letter.
    pub(crate) const fn short(self, letter: char) -> Self {
        Self { short: Some(letter), ..self }
    }

    /// The same with a default.
    pub(crate) const fn or(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    /// The same, which one should not give any more, with what to do instead.
    pub(crate) const fn deprecated(self, instead: &'static str) -> Self {
        Self { deprecated: instead, ..self }
    }

    /// The same, whose value may be left out.
    pub(crate) const fn optional(self, meaning: &'static str) -> Self {
        Self { takes: Takes::Optional(meaning), ..self }
    }
}

/// A command line that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    values: BTreeMap<&'static str, Vec<String>>,
    defaults: BTreeMap<&'static str, &'static str>,
    /// What is no flag.
    pub(crate) words: Vec<String>,
    /// How many of `words` stood before `--`, where there was one.
    pub(crate) dash: Option<usize>,
}

impl Parsed {
    /// Whether it was given.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Whether objects are named by `-f` or `-k`.
    pub(crate) fn has_files(&self) -> bool {
        self.is_set("filename") || self.is_set("kustomize")
    }

    /// The last value given, else the default; empty for neither.
    pub(crate) fn one(&self, name: &str) -> &str {
        match self.values.get(name).and_then(|values| values.last()) {
            Some(value) => value,
            None => self.defaults.get(name).copied().unwrap_or_default(),
        }
    }

    /// Whether a switch is on.
    pub(crate) fn on(&self, name: &str) -> bool {
        matches!(self.one(name), "true" | "1" | "t" | "T" | "TRUE" | "True")
    }

    /// All values, as given.
    pub(crate) fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// All values, split at commas.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let given = self.all(name).iter().flat_map(|value| value.split(','));
        given.map(str::to_owned).filter(|value| !value.is_empty()).collect()
    }

    /// Words before `--`.
    pub(crate) fn before_dash(&self) -> &[String] {
        &self.words[..self.dash.unwrap_or(self.words.len())]
    }

    /// Words behind `--`.
    pub(crate) fn after_dash(&self) -> &[String] {
        self.dash.map_or(&[], |at| &self.words[at..])
    }

    /// The same without a flag.
    pub(crate) fn without(&self, name: &str) -> Self {
        let mut others = self.clone();
        others.values.remove(name);
        others
    }

    /// Sets a value in place of what was given.
    #[cfg(test)]
    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.values.insert(name, vec![value.to_owned()]);
    }
}

/// Reads arguments. Flags may stand anywhere before `--`.
///
/// # Errors
/// What pflag says of unknown flags, missing and impossible values.
pub(crate) fn parse(known: &[&'static Flag], args: &[String]) -> Result<Parsed, String> {
    let mut parsed = Parsed {
        defaults: known.iter().map(|flag| (flag.name, flag.default)).collect(),
        ..Parsed::default()
    };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            parsed.dash = Some(parsed.words.len());
            parsed.words.extend(rest.cloned());
            break;
        }
        if let Some(long) = arg.strip_prefix("--") {
            let (name, given) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let flag = known
                .iter()
                .find(|flag| flag.name == name)
                .ok_or_else(|| format!("unknown flag: --{name}"))?;
            let value = match (flag.takes, given) {
                (_, Some(value)) => value,
                (Takes::Switch, None) => "true".into(),
                (Takes::Optional(meaning), None) => meaning.into(),
                (Takes::Value(_), None) => rest
                    .next()
                    .cloned()
                    .ok_or_else(|| format!("flag needs an argument: --{name}"))?,
            };
            keep(&mut parsed, flag, value)?;
        } else if arg.len() > 1 && arg.starts_with('-') {
            shorts(&mut parsed, known, arg, &mut rest)?;
        } else {
            parsed.words.push(arg.clone());
        }
    }
    Ok(parsed)
}

/// `-it`, `-nNAME`, `-n=NAME`, `-n NAME`.
fn shorts<'a>(
    parsed: &mut Parsed,
    known: &[&'static Flag],
    arg: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<(), String> {
    let letters = &arg[1..];
    for (at, letter) in letters.char_indices() {
        let flag = known
            .iter()
            .find(|flag| flag.short == Some(letter))
            .ok_or_else(|| format!("unknown shorthand flag: {letter:?} in {arg}"))?;
        let behind = &letters[at + letter.len_utf8()..];
        if let Some(value) = behind.strip_prefix('=') {
            return keep(parsed, flag, value.to_owned());
        }
        match flag.takes {
            Takes::Switch => keep(parsed, flag, "true".into())?,
            Takes::Optional(meaning) => keep(parsed, flag, meaning.into())?,
            Takes::Value(_) if !behind.is_empty() => {
                return keep(parsed, flag, behind.to_owned());
            }
            Takes::Value(_) => {
                let value = rest
                    .next()
                    .cloned()
                    .ok_or_else(|| format!("flag needs an argument: {letter:?} in {arg}"))?;
                return keep(parsed, flag, value);
            }
        }
    }
    Ok(())
}

fn keep(parsed: &mut Parsed, flag: &'static Flag, value: String) -> Result<(), String> {
    let bad = |why: &str| {
        let name = match flag.short {
            Some(letter) => format!("-{letter}, --{}", flag.name),
            None => format!("--{}", flag.name),
        };
        format!("invalid argument {value:?} for {name:?} flag: {why}")
    };
    let booleans =
        ["true", "false", "1", "0", "t", "f", "T", "F", "True", "False", "TRUE", "FALSE"];
    match flag.takes {
        Takes::Switch if !booleans.contains(&value.as_str()) => {
            return Err(bad(&format!("strconv.ParseBool: parsing {value:?}: invalid syntax")));
        }
        Takes::Value("N") if value.parse::<i64>().is_err() => {
            return Err(bad(&format!("strconv.ParseInt: parsing {value:?}: invalid syntax")));
        }
        Takes::Value("TIME") if crate::duration::parse(&value).is_none() => {
            let why = match value.bytes().all(|b| b.is_ascii_digit()) && !value.is_empty() {
                true => "missing unit in",
                false => "invalid",
            };
            return Err(bad(&format!("time: {why} duration {value:?}")));
        }
        _ => {}
    }
    parsed.values.entry(flag.name).or_default().push(value);
    Ok(())
}

/// Flags as `--help` prints them.
pub(crate) fn help(flags: &[&'static Flag]) -> String {
    let mut text = String::new();
    let mut flags = flags.to_vec();
    flags.retain(|flag| flag.deprecated.is_empty());
    flags.sort_by_key(|flag| flag.name);
    for flag in flags {
        let short = flag.short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
        let what = match (flag.takes, flag.default) {
            (Takes::Switch, "") => "=false".to_owned(),
            (Takes::Value("N" | "TIME" | "SECONDS|TIME"), default) if !default.is_empty() => {
                format!("={default}")
            }
            (Takes::Switch, default) => format!("={default}"),
            (Takes::Value(word), "") => format!("={word}"),
            (_, default) => format!("='{default}'"),
        };
        text.push_str(&format!("    {short}--{}{what}:\n\t{}\n\n", flag.name, flag.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    static FLAGS: &[Flag] = &[
        value("namespace", "NAME", "where").short('n'),
        switch("stdin", "in").short('i'),
        switch("tty", "terminal").short('t'),
        switch("wait", "waits").or("true"),
        value("replicas", "N", "how many"),
        value("dry-run", "MODE", "only look").optional("unchanged").or("none"),
    ];

    fn read(line: &str) -> Result<Parsed, String> {
        let known: Vec<&Flag> = FLAGS.iter().collect();
        parse(&known, &line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn every_form_of_a_flag_is_read() {
        for line in ["-n a", "-na", "-n=a", "--namespace a", "--namespace=a", "-itna", "-it -n a"] {
            assert_eq!(read(line).expect(line).one("namespace"), "a", "{line}");
        }
        let parsed = read("exec -it pod -- sh -c -n").expect("valid");
        assert!(parsed.on("stdin") && parsed.on("tty") && parsed.on("wait"));
        assert_eq!(parsed.before_dash(), ["exec", "pod"]);
        assert_eq!(parsed.after_dash(), ["sh", "-c", "-n"]);
        assert!(!read("--wait=false").expect("valid").on("wait"));
        assert_eq!(read("").expect("valid").one("dry-run"), "none");
        assert_eq!(read("--dry-run x").expect("valid").one("dry-run"), "unchanged");
        assert_eq!(read("--dry-run=server").expect("valid").one("dry-run"), "server");
        assert_eq!(read("-").expect("valid").words, ["-"]);
    }

    #[test]
    fn what_is_wrong_is_said_in_pflags_words() {
        for (line, error) in [
            ("--foo", "unknown flag: --foo"),
            ("-z", "unknown shorthand flag: 'z' in -z"),
            ("--namespace", "flag needs an argument: --namespace"),
            ("-n", "flag needs an argument: 'n' in -n"),
            (
                "--replicas=x",
                r#"invalid argument "x" for "--replicas" flag: strconv.ParseInt: parsing "x": invalid syntax"#,
            ),
            (
                "--tty=x",
                r#"invalid argument "x" for "-t, --tty" flag: strconv.ParseBool: parsing "x": invalid syntax"#,
            ),
        ] {
            assert_eq!(read(line), Err(error.to_owned()), "{line}");
        }
    }
}
