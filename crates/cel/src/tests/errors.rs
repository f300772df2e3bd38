//! What is wrong with expressions, and which evaluations fail, in upstream's words.

use serde_json::{Value as Json, json};

use super::{compile, run};

#[test]
fn expressions_that_do_not_compile() {
    let like = json!({"a": "int", "s": "string", "list": ["int"], "o": {"b": "int"}});
    for (source, wrong) in [
        (
            "self.a + foo",
            "ERROR: <input>:1:10: undeclared reference to 'foo' (in container '')\n | self.a + foo\n | .........^",
        ),
        (
            "1 + 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^",
        ),
        (
            "self.s.startsWith(1)",
            "ERROR: <input>:1:18: found no matching overload for 'startsWith' applied to 'string.(int)'\n | self.s.startsWith(1)\n | .................^",
        ),
        (
            "self.nope == 1",
            "ERROR: <input>:1:5: undefined field 'nope'\n | self.nope == 1\n | ....^",
        ),
        (
            "self.a.b == 1",
            "ERROR: <input>:1:7: type 'int' does not support field selection\n | self.a.b == 1\n | ......^",
        ),
        (
            "self.a ==",
            "ERROR: <input>:1:10: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | self.a ==\n | .........^",
        ),
        (
            "self.a == 1)",
            "ERROR: <input>:1:12: Syntax error: extraneous input ')' expecting <EOF>\n | self.a == 1)\n | ...........^",
        ),
        (
            "self.s == 'é' && nope",
            "ERROR: <input>:1:18: undeclared reference to 'nope' (in container '')\n | self.s == 'é' && nope\n | ...........．.....^",
        ),
        (
            "self.a &&\nself.s",
            "ERROR: <input>:1:5: expected type 'bool' but found 'int'\n | self.a &&\n | ....^\nERROR: <input>:2:5: expected type 'bool' but found 'string'\n | self.s\n | ....^",
        ),
        (
            "self.a.all(x, true)",
            "ERROR: <input>:1:5: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n | self.a.all(x, true)\n | ....^",
        ),
        (
            "self.list.all(x + 1, true)",
            "ERROR: <input>:1:17: argument must be a simple name\n | self.list.all(x + 1, true)\n | ................^",
        ),
        (
            "has(self)",
            "ERROR: <input>:1:5: invalid argument to has() macro\n | has(self)\n | ....^",
        ),
        (
            "[1, 'a'] == []",
            "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a'] == []\n | ....^",
        ),
        (
            "duration('1') == duration('1s')",
            "ERROR: <input>:1:10: invalid duration argument\n | duration('1') == duration('1s')\n | .........^",
        ),
        (
            "self.s.matches('(')",
            "ERROR: <input>:1:16: invalid matches argument\n | self.s.matches('(')\n | ...............^",
        ),
        ("package == 1", "ERROR: <input>:1:1: reserved identifier: package\n | package == 1\n | ^"),
        (
            "authorizer.path('/healthz').check('get').allowed()",
            "undeclared reference to 'authorizer' (in container '')",
        ),
        ("9223372036854775808 > 0", "invalid int literal"),
        ("Foo{a: 1}", "undeclared reference to 'Foo' (in container '')"),
        (
            "self.o == {'b': 1}",
            "found no matching overload for '_==_' applied to '(object, map(string, int))'",
        ),
        ("self.a # 1", "token recognition error at: '#'"),
        ("cel.bind(x, 1, x == 1)", "undeclared reference to 'x' (in container '')"),
        ("", "mismatched input '<EOF>'"),
    ] {
        let found = compile(source, &like).unwrap_err().to_string();
        let wanted = match wrong.starts_with("ERROR") {
            true => format!("compilation failed: {wrong}"),
            false => wrong.to_owned(),
        };
        assert!(found.contains(&wanted), "{source}\n{found}\n{wanted}");
    }
}

#[test]
fn sources_have_limits() {
    let like = json!({});
    let deep = format!("{}1{}", "(".repeat(300), ")".repeat(300));
    let long = format!("'{}'", "a".repeat(100_000));
    let chain = format!("1{}", " + 1".repeat(300));
    let doubling = format!("optional.of(1){}", ".optMap(x, x)".repeat(40));
    for (source, wrong) in [
        (&deep, "ERROR: <input>:-1:0: expression recursion limit exceeded: 250"),
        (&long, "expression code point size exceeds limit: size: 100002, limit 100000"),
        (&chain, "recursion limit"),
        (&doubling, "recursion limit"),
    ] {
        let found = compile(source, &like).unwrap_err().to_string();
        assert!(found.contains(wrong), "{found}");
    }
    // Long chains of one logical operator are no deep trees.
    let flat = vec!["true"; 2000].join(" && ");
    assert_eq!(run(&flat, &like, &json!({})).0.as_deref(), Ok("true"));
    let deep = format!("{}true{}", "[1].all(x, ".repeat(160), ")".repeat(160));
    assert_eq!(run(&deep, &like, &json!({})).0.as_deref(), Ok("true"));
    let deep = format!("{}1{} == 250", "(1 + ".repeat(249), ")".repeat(249));
    assert_eq!(run(&deep, &like, &json!({})).0.as_deref(), Ok("true"));
    let nested = format!("{}true{}", "[1].all(x, ".repeat(40), ")".repeat(40));
    assert_eq!(run(&nested, &like, &json!({})).0.as_deref(), Ok("true"));
}

fn fails(like: &Json, object: &Json, failures: &[(&str, &str)]) {
    for (source, wrong) in failures {
        let (value, _) = run(source, like, object);
        assert_eq!(value.map_err(|fault| fault.to_string()), Err((*wrong).to_owned()), "{source}");
    }
}

#[test]
fn evaluations_that_fail() {
    fails(
        &json!({"a": "int", "m": {"*": "int"}, "list": ["int"], "port": "int-or-string", "null": "int"}),
        &json!({"m": {}, "list": [1], "port": "http"}),
        &[
            ("self.a == 1", "no such key: a"),
            ("self.m['x'] == 1", "no such key: x"),
            ("self.list[1] == 1", "index out of bounds: 1"),
            ("self.list[-1] == 1", "index out of bounds: -1"),
            ("1 / self.list.size() == 1 && 1 / (self.list.size() - 1) == 1", "division by zero"),
            ("1 % 0 == 1", "modulus by zero"),
            ("9223372036854775807 + 1 > 0", "integer overflow"),
            ("-9223372036854775808 / -1 > 0", "integer overflow"),
            ("0u - 1u > 0u", "unsigned integer overflow"),
            ("self.port + 1 == 2", "no such overload"),
            ("self.port.sum() == 2 || self.port > 3", "no such overload: sum(string)"),
        ],
    );
    fails(
        &json!({"list": ["int"], "s": "string"}),
        &json!({"list": [1], "s": "x"}),
        &[
            ("int(self.s) == 1", "type conversion error from 'string' to 'int'"),
            ("int(1e30 + 1.0) == 1", "integer overflow"),
            ("optional.none().value() == 1", "optional.none() dereference"),
            ("{'a': 1, 'a': self.list.size()} == {}", "insert failed: key a already exists"),
            ("[1, 1].transformMapEntry(i, v, {v: i}) == {}", "insert failed: key 1 already exists"),
            ("'abc'.substring(2, 1) == ''", "invalid substring range. start: 2, end: 1"),
            ("'abc'.charAt(9) == ''", "index out of range: 9"),
            ("[1].slice(0, 2) == []", "cannot slice(0, 2), list is length 1"),
            ("self.list.filter(x, x > 1).max() == 1", "max called on empty list"),
            (
                "quantity('x').isInteger()",
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            (
                "ip('x').family() == 4",
                "IP Address \"x\" parse error during conversion from string: ParseAddr(\"x\"): unable to parse IP",
            ),
            (
                "timestamp('2024-01-01T00:00:00Z').getHours('Europe/Berlin') == 1",
                "unknown time zone Europe/Berlin",
            ),
            (
                "'%d'.format(['a']) == ''",
                "error during formatting: decimal clause can only be used on integers, was given string",
            ),
            ("'%d %d'.format([1]) == ''", "index 1 out of range"),
            ("dyn(1).startsWith('a')", "no such overload: startsWith(int, string)"),
        ],
    );
}

#[test]
fn results_have_limits() {
    let like = json!({"s": "string", "list": ["int"]});
    let object = json!({"s": "a".repeat(100_000), "list": [1]});
    fails(
        &like,
        &object,
        &[
            ("self.s.replace('a', self.s).size() > 0", "text of more than 16777216 bytes"),
            (
                "lists.range(self.list.size() * 2000000).size() > 0",
                "operation cancelled: actual cost limit exceeded",
            ),
        ],
    );
}

#[test]
fn data_that_is_not_as_declared() {
    let like = json!({"a": "int", "s": "string", "b": "bool", "d": "duration"});
    let object = json!({"a": "x", "s": 1, "b": "x", "d": "x"});
    fails(
        &like,
        &object,
        &[
            ("self.a == 1", "invalid data, expected int, got string"),
            ("self.s == ''", "invalid data, expected string, got int64"),
            ("self.b", "invalid data, expected bool, got string"),
            ("self.d == duration('1s')", "Invalid duration x: unable to parse"),
        ],
    );
}
