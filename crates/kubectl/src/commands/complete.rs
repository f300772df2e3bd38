//! Completion of command lines: scripts for four shells, which ask `kubectl __complete`
//! for what can follow. What is asked and answered is cobra's protocol, so that the
//! scripts of the stock kubectl ask us as well, and ours that one: a candidate a line,
//! what it is behind a tab, and at last `:` and what the shell is to do.

use serde_json::Value;

use crate::{
    connection::Connection,
    failure::{Failure, Outcome, failed},
    flags::{self, Flag, Parsed, Takes},
    kuberc::Plugins,
    print::formats,
    session::{Environment, Session},
};

use super::{Command, GLOBAL, commands};

/// Cobra's directives: files may follow, none may, and no space follows.
const FILES: u8 = 0;
const NO_FILES: u8 = 4;
const NO_SPACE: u8 = 6;

/// What the words of a command are.
#[derive(Clone, Copy)]
enum Words {
    /// A type, then names of it; or `TYPE/NAME`.
    Types,
    /// Names of one type.
    Of(&'static str),
    /// Of the kubeconfig.
    Entries(&'static str),
    /// Fixed ones.
    These(&'static [&'static str]),
}

use Words::{Entries, Of, These, Types};

static WORDS: &[(&str, Words)] = &[
    ("annotate", Types),
    ("attach", Of("pods")),
    ("autoscale", Types),
    ("certificate approve", Of("certificatesigningrequests")),
    ("certificate deny", Of("certificatesigningrequests")),
    ("completion", These(&["bash", "fish", "powershell", "zsh"])),
    ("config delete-cluster", Entries("clusters")),
    ("config delete-context", Entries("contexts")),
    ("config delete-user", Entries("users")),
    ("config get-contexts", Entries("contexts")),
    ("config rename-context", Entries("contexts")),
    ("config set-cluster", Entries("clusters")),
    ("config set-context", Entries("contexts")),
    ("config set-credentials", Entries("users")),
    ("config use-context", Entries("contexts")),
    ("cordon", Of("nodes")),
    ("cp", Of("pods")),
    ("debug", Of("pods")),
    ("delete", Types),
    ("describe", Types),
    ("drain", Of("nodes")),
    ("edit", Types),
    ("exec", Of("pods")),
    ("explain", Types),
    ("expose", Types),
    ("get", Types),
    ("label", Types),
    ("logs", Of("pods")),
    ("patch", Types),
    ("port-forward", Of("pods")),
    ("rollout history", Types),
    ("rollout pause", Types),
    ("rollout restart", Types),
    ("rollout resume", Types),
    ("rollout status", Types),
    ("rollout undo", Types),
    ("scale", Types),
    ("set env", Types),
    ("set image", Types),
    ("set resources", Types),
    ("set selector", Types),
    ("set serviceaccount", Types),
    ("set subject", Types),
    ("taint", Of("nodes")),
    ("top node", Of("nodes")),
    ("top pod", Of("pods")),
    ("uncordon", Of("nodes")),
    ("wait", Types),
];

/// What can follow, and what the shell is to do.
#[derive(Debug, Default, PartialEq)]
struct Offer {
    candidates: Vec<(String, String)>,
    directive: u8,
}

impl Offer {
    fn of<'t>(
        all: impl IntoIterator<Item = (&'t str, &'t str)>,
        begun: &str,
        directive: u8,
    ) -> Self {
        let all = all.into_iter().filter(|(word, _)| word.starts_with(begun));
        let candidates = all.map(|(word, help)| (word.to_owned(), help.to_owned())).collect();
        Self { candidates, directive }
    }
}

/// Where a line stands.
struct Place<'l> {
    command: Option<&'static Command>,
    /// Of the command's name, where it is not whole.
    named: String,
    flags: Vec<&'static Flag>,
    /// What was typed of the last word.
    begun: &'l str,
    /// The flag whose value the last word is.
    value_of: Option<&'static Flag>,
}

impl<'l> Place<'l> {
    fn of(args: &'l [String]) -> Self {
        let (begun, before) = args.split_last().map_or(("", &[][..]), |(last, rest)| (last, rest));
        let command = super::find(before).ok().map(|(command, _)| command);
        let global = || GLOBAL.iter().collect();
        let flags: Vec<&'static Flag> = command.map_or_else(global, super::Command::known);
        let takes = |flag: &&&Flag| matches!(flag.takes, Takes::Value(_));
        let value_of = before.last().and_then(|word| {
            let long = word.strip_prefix("--");
            let by_name = |flag: &&&Flag| {
                long == Some(flag.name)
                    || (word.len() == 2 && flag.short.is_some_and(|c| *word == format!("-{c}")))
            };
            flags.iter().find(by_name).filter(takes).copied()
        });
        let mut named: Vec<&str> = Vec::new();
        let mut words = before.iter();
        while let Some(word) = words.next() {
            match word.starts_with('-') {
                true if super::takes_next(word) => drop(words.next()),
                true => {}
                false => named.push(word),
            }
        }
        Self { command, named: named.join(" "), flags, begun, value_of }
    }

    /// Commands that begin with what is there.
    fn commands(&self) -> Vec<(&'static str, &'static str)> {
        let prefix = match self.named.as_str() {
            "" => String::new(),
            named => format!("{named} "),
        };
        let mut all: Vec<(&'static str, &'static str)> = Vec::new();
        for command in commands() {
            let Some(rest) = command.name.strip_prefix(prefix.as_str()) else { continue };
            let (word, whole) =
                rest.split_once(' ').map_or((rest, true), |(word, _)| (word, false));
            if !all.iter().any(|(known, _)| *known == word) {
                all.push((word, if whole { command.help } else { "" }));
            }
        }
        all.sort_unstable();
        all
    }
}

/// Prints what can follow a line, whose last word is being typed.
pub(super) fn answer(args: &[String], environment: Environment, described: bool) -> Outcome {
    let mut args = args.to_vec();
    if let Some(last) = args.last_mut()
        && last == "\"\""
    {
        // PowerShell before 7.3 drops empty arguments.
        last.clear();
    }
    let args = args.as_slice();
    let place = Place::of(args);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return failed("no runtime") };
    let offer = runtime.block_on(offer(&place, args, environment));
    // What a shell asks for in between fails without a word: there is nothing to offer.
    let offer = offer.unwrap_or_else(|_| Offer { directive: NO_FILES, ..Offer::default() });
    for (word, help) in &offer.candidates {
        match help.as_str() {
            "" => println!("{word}"),
            _ if !described => println!("{word}"),
            help => println!("{word}\t{help}"),
        }
    }
    println!(":{}", offer.directive);
    Ok(())
}

async fn offer(place: &Place<'_>, args: &[String], environment: Environment) -> Outcome<Offer> {
    let begun = place.begun;
    let parsed = || {
        let line = &args[..args.len().saturating_sub(1)];
        let line = if place.value_of.is_some() { &line[..line.len() - 1] } else { line };
        let rest = super::find(line).map_or_else(|_| line.to_vec(), |(_, rest)| rest);
        flags::parse(&place.flags, &rest).unwrap_or_default()
    };
    let name = place.command.map_or("", |command| command.name);
    // Preferences that cannot be read allow nothing.
    let plugins = super::preferred(args).map_or(Plugins::None, |read| Plugins::of(&read));
    let session = |flags: Parsed| {
        let mut session = Session::new(flags, name, environment.clone());
        session.plugins = plugins.clone();
        session
    };
    let (flag, head, begun) = match begun.strip_prefix("--").and_then(|word| word.split_once('=')) {
        Some((flag, value)) => {
            let known = place.flags.iter().find(|known| known.name == flag).copied();
            (known, format!("--{flag}="), value)
        }
        None => (place.value_of, String::new(), begun),
    };
    if let Some(flag) = flag {
        let mut offer = value_offer(&session(parsed()), flag, begun).await?;
        offer.candidates.iter_mut().for_each(|(word, _)| word.insert_str(0, &head));
        return Ok(offer);
    }
    if begun.starts_with('-') {
        let spelled: Vec<(String, &str)> =
            place.flags.iter().map(|flag| (format!("--{}", flag.name), flag.help)).collect();
        let all = spelled.iter().map(|(word, help)| (word.as_str(), *help));
        return Ok(Offer::of(all, begun, NO_FILES));
    }
    let below = place.commands();
    let Some(command) = place.command else {
        return Ok(Offer::of(below, begun, NO_FILES));
    };
    let flags = parsed();
    if flags.words.is_empty() && !below.is_empty() {
        return Ok(Offer::of(below, begun, NO_FILES));
    }
    let Some((_, words)) = WORDS.iter().find(|(known, _)| *known == command.name) else {
        return Ok(Offer { directive: FILES, ..Offer::default() });
    };
    let typed = flags.words.clone();
    let session = session(flags);
    match words {
        These(all) if typed.is_empty() => {
            Ok(Offer::of(all.iter().map(|word| (*word, "")), begun, NO_FILES))
        }
        These(_) => Ok(Offer { directive: NO_FILES, ..Offer::default() }),
        Entries(list) => entries(&session, list, begun),
        Of(_) | Types if begun.contains('/') => {
            let (kind, begun) = begun.split_once('/').unwrap_or(("", begun));
            let mut offer = names(&session, kind, begun).await?;
            offer
                .candidates
                .iter_mut()
                .for_each(|(word, _)| word.insert_str(0, &format!("{kind}/")));
            Ok(offer)
        }
        Of(kind) => names(&session, kind, begun).await,
        Types if typed.is_empty() || typed.iter().all(|word| word.contains('/')) => {
            types(&session, begun).await
        }
        Types => names(&session, &typed[0], begun).await,
    }
}

async fn value_offer(session: &Session, flag: &Flag, begun: &str) -> Outcome<Offer> {
    match (flag.name, flag.takes) {
        ("namespace", _) => names(session, "namespaces", begun).await,
        ("context", _) => entries(session, "contexts", begun),
        ("cluster", _) => entries(session, "clusters", begun),
        ("user", _) => entries(session, "users", begun),
        ("dry-run", _) => {
            let modes = ["client", "none", "server"];
            Ok(Offer::of(modes.map(|word| (word, "")), begun, NO_FILES))
        }
        ("output", Takes::Value(named)) if named != "FILE" => {
            let all = formats(named).into_iter().map(|word| (word, ""));
            Ok(Offer::of(all, begun, NO_FILES))
        }
        // `none|server|client`
        (_, Takes::Value(words)) if words.contains('|') => {
            Ok(Offer::of(words.split('|').map(|word| (word, "")), begun, NO_FILES))
        }
        (_, Takes::Value("FILE" | "FILES" | "DIR" | "[KEY=]FILE")) => {
            Ok(Offer { directive: FILES, ..Offer::default() })
        }
        _ => Ok(Offer { directive: NO_FILES, ..Offer::default() }),
    }
}

fn entries(session: &Session, list: &str, begun: &str) -> Outcome<Offer> {
    let config = session.sources.load()?;
    let all = config[list].as_array().into_iter().flatten();
    let all = all.filter_map(|entry| entry["name"].as_str()).map(|name| (name, ""));
    Ok(Offer::of(all, begun, NO_FILES))
}

async fn types(session: &Session, begun: &str) -> Outcome<Offer> {
    let discovery = session.discovery().await?;
    let all = discovery.all().iter().filter(|r| r.preferred && r.can("list"));
    // `events` of the core group and of the other is one word.
    let mut words: Vec<&str> = all.map(|r| r.plural.as_str()).collect();
    words.sort_unstable();
    words.dedup();
    let mut offer = Offer::of(words.into_iter().map(|word| (word, "")), begun, NO_FILES);
    // Of those that are asked for by several words, `get pods,serv`.
    if let Some((head, last)) = begun.rsplit_once(',') {
        let all = discovery.all().iter().filter(|r| r.preferred && r.can("list"));
        offer = Offer::of(all.map(|r| (r.plural.as_str(), "")), last, NO_SPACE);
        offer.candidates.iter_mut().for_each(|(word, _)| word.insert_str(0, &format!("{head},")));
    }
    Ok(offer)
}

async fn names(session: &Session, kind: &str, begun: &str) -> Outcome<Offer> {
    const LISTED_MAX: &str = "1000";
    let resource = session.discovery().await?.resolve(kind)?.remove(0);
    let namespace = match session.all_namespaces() || !resource.namespaced {
        true => String::new(),
        false => session.namespace().await?,
    };
    let connection: &Connection = session.connection().await?;
    let path = client::with_query(resource.path(&namespace, ""), &[("limit", LISTED_MAX)]);
    let list: Value = connection.get(&path).await?;
    let items = list["items"].as_array().into_iter().flatten();
    let found = items.filter_map(|item| item["metadata"]["name"].as_str()).map(|name| (name, ""));
    Ok(Offer::of(found, begun, NO_FILES))
}

static SCRIPTS: &[(&str, &str)] = &[
    ("bash", include_str!("complete/kubectl.bash")),
    ("fish", include_str!("complete/kubectl.fish")),
    ("powershell", include_str!("complete/kubectl.ps1")),
    ("zsh", include_str!("complete/kubectl.zsh")),
];

/// Where a script begins to say for which program it is.
static REGISTERED: &[(&str, &str)] = &[
    ("bash", "complete -F"),
    ("fish", "complete -c kubectl -e"),
    ("powershell", "Register-ArgumentCompleter"),
    ("zsh", "if [ \"$funcstack[1]\" = _kubectl ]"),
];

/// The functions of a shell's script, for that of a program of which `kubectl` is a
/// command; empty for other shells.
pub(crate) fn functions(shell: &str) -> &'static str {
    let of = |rows: &'static [(&str, &'static str)]| {
        rows.iter().find(|(name, _)| *name == shell).map_or("", |(_, text)| *text)
    };
    let (script, end) = (of(SCRIPTS), of(REGISTERED));
    let script = script.find(end).map_or("", |at| &script[..at]);
    // Without the comments above them, which are about the other program.
    let starts = ["_kubectl_builtin()", "function __"];
    starts.iter().find_map(|start| script.find(start)).map_or("", |at| &script[at..])
}

/// Prints a shell's script.
pub(super) async fn script(session: &Session) -> Outcome {
    match session.flags.words.as_slice() {
        [] => Err(Failure::Arguments("Shell not specified.".into())),
        [shell] => match SCRIPTS.iter().find(|(name, _)| name == shell) {
            Some((_, script)) => session.out(script),
            None => Err(Failure::Arguments(format!("Unsupported shell type {shell:?}."))),
        },
        _ => Err(Failure::Arguments("Too many arguments. Expected only the shell type.".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(line: &str) -> (Vec<String>, u8) {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let place = Place::of(&args);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let offer = runtime.block_on(offer(&place, &args, Environment::default())).expect(line);
        (offer.candidates.into_iter().map(|(word, _)| word).collect(), offer.directive)
    }

    #[test]
    fn commands_flags_and_their_values_are_offered() {
        for (line, words) in [
            ("rollo", vec!["rollout"]),
            ("rollout st", vec!["status"]),
            ("-n x config use", vec!["use-context"]),
            ("get --show-k", vec!["--show-kind"]),
            ("get -o ya", vec!["yaml"]),
            ("get --output=ya", vec!["--output=yaml"]),
            ("get -o wi", vec!["wide"]),
            ("apply -o wi", vec![]),
            ("create configmap -o cu", vec![]),
            ("events -o js", vec!["json", "jsonpath", "jsonpath-as-json", "jsonpath-file"]),
            ("cluster-info dump -o w", vec![]),
            ("api-resources -o ", vec!["json", "kyaml", "name", "wide", "yaml"]),
            ("config get-contexts -o ", vec!["name"]),
            ("delete -o ", vec!["name"]),
            ("edit -o ", vec!["json", "kyaml", "yaml"]),
            ("apply --dry-run=cl", vec!["--dry-run=client"]),
            ("completion z", vec!["zsh"]),
            ("completion zsh z", vec![]),
            ("create conf", vec!["configmap"]),
            ("create secret ", vec!["docker-registry", "generic", "tls"]),
        ] {
            assert_eq!(offered(line).0, words, "{line}");
        }
        assert_eq!(offered("apply -f ").1, FILES);
        assert_eq!(offered("get -l ").1, NO_FILES);
    }

    #[test]
    fn rows_are_of_commands() {
        for (name, _) in WORDS {
            assert!(commands().any(|command| command.name == *name), "{name}");
        }
        for (shell, _) in SCRIPTS {
            let functions = functions(shell);
            assert!(functions.contains("__complete") && !functions.starts_with('#'), "{shell}");
            assert!(!functions.contains("CommandName"), "{shell}");
        }
    }
}
