//! Scripts that complete command lines of skiff in four shells.

use std::fmt::Write as _;

use super::{all, flags_of, spellings, value_of, words_of};

/// What `skiff kubectl` is; it answers for itself what can follow.
const KUBECTL: &str = "Control the cluster";

/// A shell and its script.
type Shell = (&'static str, fn() -> String);

/// Every shell that is served, by the name of its program.
pub(crate) const SHELLS: &[Shell] =
    &[("bash", bash), ("zsh", zsh), ("fish", fish), ("powershell", powershell)];

fn bash() -> String {
    let mut cases = String::new();
    for command in all() {
        let flags: Vec<String> = flags_of(command).flat_map(spellings).collect();
        let with = |file: bool| {
            let found =
                flags_of(command).filter(|flag| value_of(flag).is_some_and(|v| v.1 == file));
            found.flat_map(spellings).collect::<Vec<_>>().join("|")
        };
        let (files, values) = (with(true), with(false));
        let _ = writeln!(
            cases,
            "        {}) words='{}' flags='{} --help' files='{files}' values='{values}' ;;",
            command.name,
            words_of(command).join(" "),
            flags.join(" "),
        );
    }
    let names: Vec<&str> = all().iter().map(|command| command.name).collect();
    format!(
        r#"# bash completion of skiff; bash 3.2 and newer. Use it with:
#   skiff completion bash >/etc/bash_completion.d/skiff
_skiff() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    local words= flags= files= values=
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W '{names} kubectl help version' -- "$word"))
        return
    fi
    if [ "${{COMP_WORDS[1]}}" = kubectl ]; then
        _kubectl_builtin
        return
    fi
    case ${{COMP_WORDS[1]}} in
{cases}    esac
    case "|$files|" in
        *"|$before|"*) COMPREPLY=($(compgen -f -- "$word")); return ;;
    esac
    case "|$values|" in
        *"|$before|"*) return ;;
    esac
    case $word in
        -*) COMPREPLY=($(compgen -W "$flags" -- "$word")) ;;
        *)
            if [ "$COMP_CWORD" -eq 2 ] && [ -n "$words" ]; then
                COMPREPLY=($(compgen -W "$words" -- "$word"))
            else
                COMPREPLY=($(compgen -f -- "$word"))
            fi
            ;;
    esac
}}
{kubectl}complete -F _skiff skiff
"#,
        names = names.join(" "),
        kubectl = kubectl::completion_functions("bash"),
    )
}

/// For a text in single quotes, which every one of these shells but PowerShell
/// ends and begins again around a quote.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}

fn zsh() -> String {
    // `_arguments` and `_describe` have a meaning for these.
    let escaped = |text: &str| {
        quoted(
            &text.replace('\\', "\\\\").replace(':', "\\:").replace('[', "\\[").replace(']', "\\]"),
        )
    };
    let (mut commands, mut cases) = (String::new(), String::new());
    for command in all() {
        let _ = writeln!(commands, "        '{}:{}'", command.name, escaped(command.help));
        let _ = writeln!(cases, "        {})\n            specs=(", command.name);
        for flag in flags_of(command) {
            let value = match value_of(flag) {
                None => String::new(),
                Some((name, true)) => format!(":{name}:_files"),
                Some((name, false)) => format!(":{name}: "),
            };
            for spelling in spellings(flag) {
                let _ =
                    writeln!(cases, "                '*{spelling}[{}]{value}'", escaped(flag.help));
            }
        }
        let words = words_of(command);
        let rest = match words.is_empty() {
            true => "'*:file:_files'".to_owned(),
            false => format!("'1:what:({})' '*:file:_files'", words.join(" ")),
        };
        let _ = writeln!(cases, "                {rest}\n            )\n            ;;");
    }
    format!(
        r#"#compdef skiff
# zsh completion of skiff. Use it with:
#   skiff completion zsh >"${{fpath[1]}}/_skiff"
_skiff() {{
    local -a commands specs
    commands=(
{commands}        'kubectl:{KUBECTL}'
    )
    if (( CURRENT == 2 )); then
        _describe -t commands command commands
        return
    fi
    case $words[2] in
        kubectl)
            _kubectl_builtin
            return
            ;;
{cases}    esac
    shift words
    (( CURRENT-- ))
    _arguments $specs '(- *)--help[Say what it does and which flags it takes]'
}}
{kubectl}if [ "$funcstack[1]" = _skiff ]; then
    _skiff "$@"
else
    compdef _skiff skiff
fi
"#,
        kubectl = kubectl::completion_functions("zsh"),
    )
}

fn fish() -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let mut text = "# fish completion of skiff. Use it with:\n\
                    #   skiff completion fish >~/.config/fish/completions/skiff.fish\n"
        .to_owned();
    for command in all() {
        let _ = writeln!(
            text,
            "complete -c skiff -n __fish_use_subcommand -f -a {} -d '{}'",
            command.name,
            escaped(command.help)
        );
    }
    text.push_str(kubectl::completion_functions("fish"));
    let _ = writeln!(
        text,
        "complete -c skiff -n __fish_use_subcommand -f -a kubectl -d '{KUBECTL}'\n\
         complete -c skiff -n '__fish_seen_subcommand_from kubectl; and not __kubectl_wants_files' -f -a '(__kubectl_offer)'\n\
         complete -c skiff -n '__fish_seen_subcommand_from kubectl; and __kubectl_wants_files' -F"
    );
    for command in all() {
        let on = format!("complete -c skiff -n '__fish_seen_subcommand_from {}'", command.name);
        for word in words_of(command) {
            let _ = writeln!(text, "{on} -f -a {word}");
        }
        for flag in flags_of(command) {
            let value = match value_of(flag) {
                None => "",
                Some((_, true)) => " -r -F",
                Some((_, false)) => " -x",
            };
            let name = match (flag.name.len(), flag.short) {
                (1, _) => format!("-s {}", flag.name),
                (_, Some(short)) => format!("-s {short} -l {}", flag.name),
                (_, None) => format!("-l {}", flag.name),
            };
            let _ = writeln!(text, "{on} {name}{value} -d '{}'", escaped(flag.help));
        }
    }
    text
}

fn powershell() -> String {
    let escaped = |text: &str| text.replace('\'', "''");
    let list = |items: &[(String, &str)]| {
        let rows = items.iter().map(|(word, help)| {
            format!("        [pscustomobject]@{{ Word = '{word}'; Help = '{}' }}\n", escaped(help))
        });
        rows.collect::<String>()
    };
    let mut commands: Vec<(String, &str)> =
        all().iter().map(|command| (command.name.to_owned(), command.help)).collect();
    commands.push(("kubectl".into(), KUBECTL));
    let mut cases = String::new();
    for command in all() {
        let words = words_of(command).into_iter().map(|word| (word.to_owned(), word));
        let flags = flags_of(command)
            .flat_map(|flag| spellings(flag).into_iter().map(|spelling| (spelling, flag.help)));
        let items: Vec<(String, &str)> = words.chain(flags).collect();
        let _ = writeln!(cases, "        '{}' {{ @(\n{}        ) }}", command.name, list(&items));
    }
    format!(
        r#"# PowerShell completion of skiff. Use it with:
#   skiff completion powershell | Out-String | Invoke-Expression
{kubectl}Register-ArgumentCompleter -Native -CommandName skiff -ScriptBlock {{
    param($wordToComplete, $commandAst, $cursorPosition)
    $elements = @($commandAst.CommandElements | ForEach-Object {{ $_.ToString() }})
    if ($elements.Count -gt 1 -and $elements[1] -eq 'kubectl' -and ($elements.Count -gt 2 -or -not $wordToComplete)) {{
        return __KubectlOffer $wordToComplete $commandAst
    }}
    $isFirst = $elements.Count -eq 1 -or ($elements.Count -eq 2 -and $wordToComplete)
    $found = if ($isFirst) {{ @(
{first}        )
    }} else {{ switch ($elements[1]) {{
{cases}    }} }}
    $found | Where-Object {{ $_.Word -like "$wordToComplete*" }} | ForEach-Object {{
        [System.Management.Automation.CompletionResult]::new($_.Word, $_.Word, 'ParameterValue', $_.Help)
    }}
}}
"#,
        first = list(&commands),
        kubectl = kubectl::completion_functions("powershell"),
    )
}
