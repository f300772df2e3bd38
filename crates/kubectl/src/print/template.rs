//! Go's templates (`text/template`), as far as they are used to print objects:
//! everything but methods, functions as values and complex numbers.

mod base64;
mod functions;
mod given;
pub(super) mod go_text;
mod lexer;
mod parser;
mod printf;
mod run;

use std::collections::BTreeMap;

use serde_json::Value;

use super::json;

use self::{given::Given, parser::Parser, run::Run};

/// Deeper ones would only serve to exhaust the stack.
const DEEPEST: usize = 100;

/// A template.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    text: String,
    nodes: Vec<Node>,
    named: BTreeMap<String, Vec<Node>>,
}

/// What a template came to before it failed, and why it did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Broken {
    /// What was written, and what helps to find the mistake.
    pub(crate) out: String,
    pub(crate) why: String,
}

/// What stands where in a template, for what is said of it.
#[derive(Clone, Debug)]
struct Place {
    at: usize,
    text: String,
}

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Print(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    Named(String, Option<Pipe>, Place),
    Break,
    Continue,
}

/// Commands, each of which gets the value of the one before as its last
/// argument; and the variables that the outcome is given to.
#[derive(Clone, Debug)]
struct Pipe {
    variables: Vec<String>,
    declares: bool,
    commands: Vec<Command>,
    place: Place,
}

#[derive(Clone, Debug)]
struct Command {
    /// One at least.
    operands: Vec<Operand>,
    place: Place,
}

#[derive(Clone, Debug)]
struct Operand {
    term: Term,
    place: Place,
}

#[derive(Clone, Debug)]
enum Term {
    Literal(Value),
    Nil,
    Dot,
    /// `.a.b`
    Field(Vec<String>),
    /// `$name.a.b`
    Variable(String, Vec<String>),
    Function(String),
    Inner(Pipe),
    /// Fields of something else.
    Chain(Box<Operand>, Vec<String>),
}

impl Operand {
    /// As it is written among others.
    fn shown(&self) -> String {
        match self.term {
            Term::Inner(_) => format!("({})", self.place.text),
            _ => self.place.text.clone(),
        }
    }
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// Says what is malformed, or not known here.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser::new(text);
        let nodes = parser.whole()?;
        Ok(Self { text: text.to_owned(), nodes, named: parser.named })
    }

    /// The text that the template makes of an object.
    ///
    /// # Errors
    /// Where a function does not fit its arguments.
    pub(crate) fn run(&self, object: &Value) -> Result<String, Broken> {
        let given = Given::plain(object.clone());
        let mut run = Run {
            out: String::new(),
            variables: vec![("$".into(), given.clone())],
            named: &self.named,
            depth: 0,
            name: "output",
            place: None,
        };
        let Err(why) = run.nodes(&self.nodes, &given) else { return Ok(run.out) };
        let (at, there) = run.place.map_or((0, ""), |place| (place.at, &place.text));
        let (line, column) = line_and_column(&self.text, at);
        let name = go_text::quoted(run.name, '"');
        let why = format!("template: output:{line}:{column}: executing {name} at <{there}>: {why}");
        let out = format!(
            "{}Error executing template: {why}. Printing more information for debugging the template:\n\ttemplate was:\n\t\t{}\n\traw data was:\n\t\t{}\n\tobject given to template engine was:\n\t\t{}\n\n",
            run.out,
            self.text,
            json::compact(object),
            go_text::shown(object),
        );
        let why = format!("error executing template {}: {why}", go_text::quoted(&self.text, '"'));
        Err(Broken { out, why })
    }
}

/// Counted as Go does: lines from one, and bytes of a line from none.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = before.iter().filter(|byte| **byte == b'\n').count();
    (lines + 1, before.len() - line_start)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_print_what_go_prints() {
        let object = json!({
            "items": [{"name": "a", "n": 1}, {"name": "b", "n": 2, "labels": {"x": "y"}}],
            "data": {"k": "aGk="}, "on": true,
        });
        for (template, text) in [
            ("{{range .items}}{{.name}} {{end}}", "a b "),
            ("{{range $i, $e := .items}}{{$i}}{{$e.name}}{{end}}", "0a1b"),
            ("{{range $k, $v := .data}}{{$k}}={{$v | base64decode}}{{end}}", "k=hi"),
            ("{{.nope}} {{.data.nope}}", "<no value> <no value>"),
            ("{{if .on}}yes{{else}}no{{end}}", "yes"),
            ("{{if eq 1 2}}a{{else if .nope}}b{{else}}c{{end}}", "c"),
            ("{{with .data}}{{.k}}{{end}}", "aGk="),
            ("{{index .items 1 \"name\"}} {{(index .items 0).n}}", "b 1"),
            ("{{len .items}}{{\"\\n\"}}", "2\n"),
            ("{{printf \"%-4s|%3d\" \"a\" 7}}", "a   |  7"),
            ("{{range .items}}{{if .labels}}{{.labels}}{{end}}{{end}}", "map[x:y]"),
            ("a {{- /* none */ -}} b", "ab"),
            ("{{range .items}}{{if and (eq .name \"b\") (gt .n 1)}}{{.n}}{{end}}{{end}}", "2"),
            ("{{$x := \"\"}}{{range .items}}{{$x = .name}}{{end}}{{$x}}", "b"),
            ("{{range .nope}}x{{else}}none{{end}}", "none"),
            ("{{range .items}}{{.name}}{{break}}{{end}}", "a"),
            ("{{range .items}}{{if eq .name \"a\"}}{{continue}}{{end}}{{.name}}{{end}}", "b"),
            ("{{range 3}}{{.}}{{end}}{{range $i := 2}}{{$i}}{{end}}", "01201"),
            (
                "{{define \"x\"}}[{{.}}]{{end}}{{template \"x\" .on}}{{template \"x\"}}",
                "[true][<no value>]",
            ),
            ("{{block \"y\" .data}}{{.k}}{{end}}", "aGk="),
            ("{{'c'}} {{'\\n'}} {{'\u{e9}'}}", "99 10 233"),
            (
                "{{100000.0}} {{1e-6}} {{1e21}} {{0x10}} {{1_000}} {{017}} {{-3}}",
                "100000 1e-06 1e+21 16 1000 15 -3",
            ),
            ("{{\"a\\x41\"}}{{`r\"aw`}}", "aAr\"aw"),
            (
                "{{html \"<a b='c'>&\"}} {{html .nope}}",
                "&lt;a b=&#39;c&#39;&gt;&amp; &lt;no value&gt;",
            ),
            ("{{js \"<a\\n\\\"'=\\\\\"}}", "\\u003Ca\\u000A\\\"\\'\\u003D\\\\"),
            ("{{urlquery \"a b&c/d?~-_.*\"}}", "a+b%26c%2Fd%3F~-_.%2A"),
            ("{{print 1 2 \"a\" \"b\" 3}}{{println 1 \"a\"}}", "1 2ab31 a\n"),
            ("{{slice \"abc\" 1 2}}{{slice \"abc\" 1}}{{index \"abc\" 1}}", "bbc98"),
            (
                "{{or 0 \"x\"}} {{and 1 0 (index .nope 1)}} {{eq 1 2 1}} {{eq .nope nil}}",
                "x 0 true true",
            ),
            ("{{with .nope}}{{else with .on}}{{.}}{{end}}", "true"),
            ("{{exists .data \"k\"}} {{exists .data \"q\"}} {{print nil}}", "true false <nil>"),
            (
                "{{printf \"%.2f\" 1.0}} {{printf \"%99999999999d\" 1}}",
                "1.00 %!(NOVERB)%!(EXTRA int=1)",
            ),
        ] {
            let parsed =
                Template::parse(template).unwrap_or_else(|why| panic!("{template}: {why}"));
            assert_eq!(parsed.run(&object).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn what_is_malformed_or_unknown_is_said() {
        for (template, why) in [
            ("{{.a", "unclosed action"),
            ("{{foo .a}}", "not defined"),
            ("{{if .a}}x", "EOF"),
            ("{{end}}", "unexpected"),
            ("{{break}}", "{{break}} outside {{range}}"),
            ("{{range .a}}{{else}}{{break}}{{end}}", "{{break}} outside {{range}}"),
            ("{{template}}", "in template clause"),
            ("{{define}}{{end}}", "in define clause"),
            ("{{define \"x\"}}a", "unexpected EOF"),
            ("{{if 1}}{{else}}{{else}}{{end}}", "expected end; found {{else}}"),
            ("{{if}}x{{end}}", "missing value for if"),
            ("{{'ab'}}", "malformed character constant: 'ab'"),
            ("{{'", "unterminated character constant"),
            ("{{$x}}", "undefined variable \"$x\""),
            ("{{.a[0]}}", "bad character U+005B '['"),
            ("{{.a && .b}}", "unexpected \"&\" in operand"),
            ("{{.a | 3}}", "non executable command in pipeline stage 2"),
            ("{{range $i, $j, $k := .a}}{{end}}", "too many declarations in range"),
            ("{{(.a}}", "unclosed left paren"),
            ("{{)}}", "unexpected right paren"),
            ("{{\n.a\n\n", "output:4: unclosed action started at output:1"),
            ("{{}}", "missing value for command"),
            ("{{1x}}", "bad number syntax"),
        ] {
            assert!(Template::parse(template).expect_err(template).contains(why), "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let executing = |name: &str, at: &str, there: &str, why: &str| {
            format!("template: output:{at}: executing {name:?} at <{there}>: {why}")
        };
        let field = "can't evaluate field x in type interface {}";
        let text = "wrong type for value; expected string; got";
        let index = "error calling index: index out of range: 5";
        for (template, why) in [
            ("{{.n.x}}", executing("output", "1:4", ".n.x", field)),
            ("a\nb {{- .n.x -}}", executing("output", "2:8", ".n.x", field)),
            ("{{with $.n}}{{$.n.x}}{{end}}", executing("output", "1:15", "$.n.x", field)),
            (
                "{{(index .a  0).x}}",
                executing("output", "1:13", "0", "can't evaluate field x in type int64"),
            ),
            ("{{range .a}}{{.x}}{{end}}", executing("output", "1:14", ".x", field)),
            ("{{printf .n}}", executing("output", "1:9", ".n", &format!("{text} int64"))),
            (
                "{{\"a\" 1}}",
                executing("output", "1:2", "\"a\"", "can't give argument to non-function \"a\""),
            ),
            ("{{$x = 1}}", executing("output", "1:7", "1", "undefined variable: $x")),
            ("{{1 | index  .a 5}}", executing("output", "1:6", "index .a 5", index)),
            (
                "{{if .no}}{{else if index .a 5}}{{end}}",
                executing("output", "1:20", "index .a 5", index),
            ),
            ("{{range .s}}{{end}}", executing("output", "1:8", ".s", "range can't iterate over t")),
            (
                "{{len}}",
                executing("output", "1:2", "len", "wrong number of args for len: want 1 got 0"),
            ),
            ("{{.n 1}}", executing("output", "1:2", ".n", "n is not a method but has arguments")),
            (
                "{{template  \"q\" .n}}",
                executing("output", "1:12", "{{template \"q\" .n}}", "template \"q\" not defined"),
            ),
            (
                "{{define \"d\"}}{{.x}}{{end}}{{template \"d\" .n}}",
                executing("d", "1:16", ".x", "can't evaluate field x in type int64"),
            ),
        ] {
            let told = Template::parse(template)
                .expect(template)
                .run(&json!({"a": [1], "n": 1, "s": "t"}));
            let told = told.map_err(|broken| broken.why);
            assert_eq!(told, Err(format!("error executing template {template:?}: {why}")));
        }
        for (template, why) in [
            ("a\n{{nope}}", "template: output:2: function \"nope\" not defined"),
            ("{{if .a}}\n\n", "template: output:3: unexpected EOF"),
            ("\n{{.a", "template: output:2: unclosed action"),
        ] {
            assert_eq!(Template::parse(template).expect_err(template), why);
        }
    }

    #[test]
    fn what_helps_to_find_the_mistake_is_printed() {
        let template = Template::parse("a{{.a.b}}").expect("valid");
        let broken = template.run(&json!({"a": "<"})).expect_err("no field");
        assert_eq!(
            broken.out,
            "aError executing template: template: output:1:5: executing \"output\" at <.a.b>: can't evaluate field b in type interface {}. Printing more information for debugging the template:\n\ttemplate was:\n\t\ta{{.a.b}}\n\traw data was:\n\t\t{\"a\":\"\\u003c\"}\n\tobject given to template engine was:\n\t\tmap[a:<]\n\n"
        );
    }

    #[test]
    fn what_does_not_fit_an_object_is_said() {
        for (template, why) in [
            ("{{eq}}", "wrong number of args for eq: want at least 1 got 0"),
            ("{{eq 1}}", "error calling eq: missing argument for comparison"),
            ("{{eq 1 \"a\"}}", "incompatible types for comparison: int and string"),
            ("{{lt 1}}", "wrong number of args for lt: want 2 got 1"),
            ("{{not}}", "wrong number of args for not: want 1 got 0"),
            ("{{index}}", "wrong number of args for index: want at least 1 got 0"),
            ("{{index .a 5}}", "index out of range: 5"),
            ("{{slice .a 5}}", "index out of range: 5"),
            ("{{slice .a 1 0}}", "invalid slice index"),
            ("{{len 3}}", "len of type int"),
            ("{{printf 1}}", "expected string; found 1"),
            ("{{nil}}", "nil is not a command"),
            ("{{template \"no\"}}", "template \"no\" not defined"),
            (
                "{{define \"r\"}}{{template \"r\"}}{{end}}{{template \"r\"}}",
                "maximum template depth",
            ),
            ("{{$x := \"aaaaaaaa\"}}{{range 60}}{{$x = print $x $x}}{{end}}", "too long"),
        ] {
            let told = Template::parse(template).expect(template).run(&json!({"a": [1, 2]}));
            let told = told.expect_err(template).why;
            assert!(told.contains(why), "{template}: {told}");
        }
    }

    #[test]
    fn any_text_is_read_or_refused() {
        let words = [
            "{{",
            "}}",
            "{{",
            "}}",
            "{{- ",
            " -}}",
            "if ",
            "else",
            "end",
            "range ",
            "with ",
            "define ",
            "block ",
            "template ",
            "break",
            "continue",
            "eq",
            "printf ",
            "index ",
            "slice ",
            "len ",
            "\"%d\"",
            "\"x\"",
            "'c'",
            "'",
            "\"",
            "`",
            "(",
            ")",
            "|",
            ":=",
            "=",
            ",",
            "$",
            "$x",
            ".",
            ".a",
            " ",
            "1",
            "-1",
            "1.5",
            "0x",
            "\\",
            "\u{e9}",
            "/*",
            "*/",
            "nil",
            "and ",
            "js ",
            "%*d",
        ];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap_or_default() % below
        };
        for _ in 0..20_000 {
            let length = 1 + next(16);
            let text: String = (0..length).map(|_| words[next(words.len())]).collect();
            for text in [format!("{{{{{text}}}}}"), text] {
                if let Ok(template) = Template::parse(&text) {
                    let _told = template.run(&json!({"a": [1, {"b": "c"}]}));
                }
            }
        }
        for deep in ["{{if 1}}", "{{if 1}}{{else if 1}}", "{{with .}}{{else with .}}"] {
            assert!(Template::parse(&deep.repeat(50_000)).is_err());
        }
        assert!(Template::parse(&format!("{{{{{}", "(".repeat(50_000) + "}}")).is_err());
    }
}
