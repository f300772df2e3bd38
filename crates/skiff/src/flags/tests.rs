use super::*;

fn args(line: &str) -> Result<Option<(Values, Vec<String>)>, UsageError> {
    parse_args(Commands::SERVER, line.split_whitespace().map(Into::into))
}

/// A command that takes the flag.
fn one_of(flag: &Flag) -> Commands {
    Commands(1 << flag.commands.0.trailing_zeros())
}

#[test]
fn rows_are_sound() {
    for (i, flag) in FLAGS.iter().enumerate() {
        for other in &FLAGS[i + 1..] {
            assert_ne!(flag.name, other.name);
            assert_ne!(flag.variable(), other.variable());
            assert!(flag.short.is_none() || flag.short != other.short, "{}", flag.name);
        }
        assert!(!flag.help.ends_with('.') && !flag.help.is_empty(), "{}", flag.name);
        assert!(help(one_of(flag)).contains(flag.help), "{}", flag.name);
    }
}

#[test]
fn every_flag_can_come_from_every_source() {
    for flag in FLAGS.iter().filter(|flag| flag.name != "config") {
        let (command, name) = (one_of(flag), flag.name);
        let dashes = if name.len() == 1 { "-" } else { "--" };
        let (value, line) = match flag.takes {
            Takes::Switch => ("true", format!("{dashes}{name}")),
            _ => ("x", format!("{dashes}{name} x")),
        };
        let words = line.split_whitespace().map(Into::into);
        let (from_args, _) = parse_args(command, words).expect(name).expect("no help");
        let from_env = from_environment(command, |variable| {
            (variable == flag.variable()).then(|| value.to_owned())
        })
        .expect(name);
        let text = format!("{name}: {value}");
        let from_file = from_config(command, &text, Values::default()).expect(name);
        assert_eq!(from_args, from_env);
        assert_eq!(from_env, from_file);
    }
}

#[test]
fn the_command_line_wins_and_lists_add_up() {
    let (line, rest) =
        args("--node-name a --tls-san x,y --tls-san z extra").expect("valid").expect("no help");
    let file = from_config(
        Commands::SERVER,
        "node-name: b\ncluster-domain: c.local\ntls-san: [q]",
        Values::default(),
    )
    .expect("valid");
    let all = line.or(file);
    assert_eq!(all.one("node-name"), Some("a"));
    assert_eq!(all.one("cluster-domain"), Some("c.local"));
    assert_eq!(all.one("token"), None);
    assert_eq!(all.many("tls-san"), ["x", "y", "z"]);
    assert_eq!(all.many("cluster-cidr"), ["10.42.0.0/16"]);
    assert_eq!(rest, ["extra"]);
}

#[test]
fn a_plus_adds_to_earlier_files() {
    let first =
        from_config(Commands::SERVER, "node-label: [a=1]", Values::default()).expect("valid");
    let added = from_config(Commands::SERVER, "node-label+: [b=2]", first.clone()).expect("valid");
    assert_eq!(added.many("node-label"), ["a=1", "b=2"]);
    let replaced = from_config(Commands::SERVER, "node-label: c=3", first).expect("valid");
    assert_eq!(replaced.many("node-label"), ["c=3"]);
}

#[test]
fn a_switch_is_on_or_off_in_many_words() {
    const NAME: &str = "disable-snapshots";
    let table = [("1", true), ("TRUE", true), ("yes", true), ("0", false), ("off", false)];
    for (text, on) in table {
        let wanted = Some(if on { "true" } else { "false" });
        let get = |variable: &str| (variable == "SKIFF_DISABLE_SNAPSHOTS").then(|| text.to_owned());
        let values = from_environment(Commands::SERVER, get).expect(text);
        assert_eq!(values.one(NAME), wanted, "{text}");
        let (values, _) = args(&format!("--{NAME}={text}")).expect(text).expect("no help");
        assert_eq!(values.one(NAME), wanted, "{text}");
        let file = format!("{NAME}: {text}");
        let values = from_config(Commands::SERVER, &file, Values::default()).expect(text);
        assert_eq!(values.one(NAME), wanted, "{text}");
    }
    // Letters are put together.
    let words = ["-wo".into(), "json".into()];
    let (values, _) = parse_args(Commands::STATUS, words).expect("valid").expect("no help");
    assert_eq!((values.one("watch"), values.one("output")), (Some("true"), Some("json")));
    let maybe = |_: &str| Some("maybe".to_owned());
    assert!(from_environment(Commands::UNINSTALL, maybe).expect_err("neither").0.contains("maybe"));
    assert!(args(&format!("--{NAME}=maybe")).is_err());
    let file = format!("{NAME}: maybe");
    assert!(from_config(Commands::SERVER, &file, Values::default()).is_err());
}

#[test]
fn variables_without_a_meaning_are_found() {
    let names = ["SKIFF_TOKEN", "SKIFF_CONFIG_FILE", "SKIFF_CLUSTER_CIDR", "K3S_TOKEN", "PATH"];
    let found = |command| without_meaning(command, names.map(str::to_owned));
    assert_eq!(found(Commands::SERVER), ["SKIFF_CONFIG_FILE"]);
    assert_eq!(found(Commands::AGENT), ["SKIFF_CONFIG_FILE", "SKIFF_CLUSTER_CIDR"]);
}

#[test]
fn bad_input_says_what() {
    assert!(args("--nope 1").expect_err("unknown").0.contains("nope"));
    assert!(args("--node-name").expect_err("no value").0.contains("node-name"));
    let inline = "kube-scheduler-config: {profiles: [{schedulerName: a}]}";
    let inline = from_config(Commands::SERVER, inline, Values::default()).expect("valid");
    let text = r#"{"profiles":[{"schedulerName":"a"}]}"#;
    assert_eq!(inline.one("kube-scheduler-config"), Some(text));
    for text in ["nope: 1", "node-name: [a]", "- a", "a: b: c", "node-name: {a: b}"] {
        assert!(from_config(Commands::SERVER, text, Values::default()).is_err(), "{text}");
    }
    let twice = "tls-san: a\ntls-san: b";
    assert_eq!(
        from_config(Commands::SERVER, twice, Values::default()).expect_err("twice").0,
        "line 2 column 1: duplicate mapping key: tls-san"
    );
}
