//! What evaluations cost, in upstream's published numbers, which definitions
//! and policies rely on.

use serde_json::{Value as Json, json};

use super::{compile, run};

fn check(like: Json, object: Json, costs: &[(&str, u64)]) {
    for (source, cost) in costs {
        let (value, found) = run(source, &like, &object);
        assert_eq!((value.as_deref(), found), (Ok("true"), *cost), "{source}");
    }
}

#[test]
fn scalars() {
    check(
        json!({"val1": "int", "val2": "int"}),
        json!({"val1": i64::MAX, "val2": i64::MAX}),
        &[
            (
                "self.val1 == 9223372036854775807 && 9223372036854775807 == self.val1 && self.val1 == self.val2",
                11,
            ),
            ("self.val1 == self.val2", 5),
            ("type(self.val1) == int", 4),
        ],
    );
    check(
        json!({"val1": "int", "val4": "double"}),
        json!({"val1": 5, "val4": 10.0}),
        &[
            ("double(self.val1) < self.val4", 6),
            ("self.val1 < int(self.val4)", 6),
            ("double(5) < 10.0", 1),
            ("5 < int(10.0)", 1),
            ("double(self.val1) < 10.0", 4),
        ],
    );
    check(
        json!({"val1": "bytes", "val2": "bytes", "b": "bool"}),
        json!({"val1": "QUI=", "val2": "QUI=", "b": true}),
        &[
            ("self.val1 == self.val2", 5),
            ("self.val1 == b'AB'", 3),
            ("type(self.val1) == bytes", 4),
            ("size(self.val1) == 2", 4),
            ("type(self.b) == bool", 4),
        ],
    );
}

#[test]
fn text() {
    check(
        json!({"val1": "string", "val2": "string"}),
        json!({"val1": "Rook takes 👑", "val2": "Rook takes 👑"}),
        &[
            (
                "self.val1 == 'Rook takes 👑' && 'Rook takes 👑' == self.val1 && self.val1 == self.val2",
                14,
            ),
            ("self.val1.startsWith('Rook')", 3),
            ("!self.val1.startsWith('knight')", 4),
            ("self.val1.matches('^[^0-9]*$')", 8),
            ("type(self.val1) == string", 4),
            ("size(self.val1) == 12", 4),
            ("self.val1.charAt(3) == 'k'", 4),
            ("self.val1.indexOf('o') == 1", 4),
            ("self.val1.indexOf('o', 2) == 2", 4),
            ("self.val1.replace(' ', 'x') == 'Rookxtakesx👑'", 7),
            ("self.val1.replace(' ', 'x', 1) == 'Rookxtakes 👑'", 7),
            ("self.val1.split(' ') == ['Rook', 'takes', '👑']", 6),
            ("self.val1.split(' ', 2) == ['Rook', 'takes 👑']", 6),
            ("self.val1.substring(5) == 'takes 👑'", 5),
            ("self.val1.substring(0, 4) == 'Rook'", 5),
            ("self.val1.substring(4, 10).trim() == 'takes'", 6),
            ("self.val1.upperAscii() == 'ROOK TAKES 👑'", 6),
            ("self.val1.lowerAscii() == self.val1.lowerAscii()", 10),
            ("'%e'.format([3.14]) == '3.140000×10⁰⁰'", 3),
            ("'%o %o %o'.format([7, 8, 9]) == '7 10 11'", 2),
            ("'%b %b %b'.format([7, 8, 9]) == '111 1000 1001'", 3),
            (
                "'%d %s %f %s %s'.format([1, 'abc', 1.0, duration('1m'), timestamp('2000-01-01T00:00:00.000Z')]) == '1 abc 1.000000 60s 2000-01-01T00:00:00Z'",
                6,
            ),
        ],
    );
}

#[test]
fn times() {
    check(
        json!({"d": "duration", "t": "date-time", "day": "date"}),
        json!({"d": "1h2m3s4ms", "t": "2011-08-18T19:03:37.010000000+01:00", "day": "1997-07-16"}),
        &[
            ("self.d == duration('1h2m') + duration('3s4ms')", 4),
            ("self.d.getHours() == 1", 4),
            ("type(self.d) == google.protobuf.Duration", 4),
            ("self.day.getDate() == 16", 4),
            ("self.t == timestamp('2011-08-18T00:00:00.000+01:00') + duration('19h3m37s10ms')", 4),
            ("self.t.getDate('01:00') == 18", 4),
            ("type(self.t) == google.protobuf.Timestamp", 4),
        ],
    );
}

#[test]
fn lists() {
    check(
        json!({"val1": ["int"], "val2": ["int"]}),
        json!({"val1": [1, 2, 3], "val2": [1, 2, 3]}),
        &[
            ("self.val1 == [1, 2, 3] && [1, 2, 3] == self.val1 && self.val1 == self.val2", 11),
            ("1 in self.val1", 5),
            ("self.val2[0] in self.val1", 8),
            ("!(0 in self.val1)", 6),
            ("self.val1 + self.val2 == [1, 2, 3, 1, 2, 3]", 6),
            ("self.val1 + [4, 5] == [1, 2, 3, 4, 5]", 4),
            ("has(self.val1)", 1),
            ("has(self.val1) && has(self.val2)", 2),
        ],
    );
    let large: Vec<i64> = (0..1000).collect();
    check(
        json!({"val1": {"set": "string"}, "val2": {"set": "string"}, "val3": {"set": "int"}}),
        json!({"val1": ["a", "b", "c"], "val2": ["a", "c", "b"], "val3": large}),
        &[
            ("self.val1 == ['c', 'b', 'a']", 3),
            ("self.val1 == self.val2", 5),
            ("'a' in self.val1", 5),
            ("self.val2[0] in self.val1", 8),
            ("!('x' in self.val1)", 6),
            ("self.val1 + self.val2 == ['a', 'b', 'c']", 6),
            ("self.val1 + ['c', 'd'] == ['a', 'b', 'c', 'd']", 4),
            ("sets.contains(self.val1, ['a'])", 6),
            ("sets.equivalent(self.val1, ['a', 'b', 'c'])", 21),
            ("sets.intersects(self.val1, ['a'])", 6),
            ("sets.contains(self.val3, [1])", 1003),
            ("!sets.equivalent(self.val3, [1, 2, 3])", 6004),
            ("sets.intersects(self.val3, [1])", 1003),
        ],
    );
    check(
        json!({"objs": [{"by": "k", "of": {"k": "string", "v": "string"}}]}),
        json!({"objs": [
            [{"k": "a", "v": "1"}, {"k": "b", "v": "2"}],
            [{"k": "b", "v": "2"}, {"k": "a", "v": "1"}],
            [{"k": "b", "v": "3"}, {"k": "a", "v": "1"}],
            [{"k": "c", "v": "4"}],
        ]}),
        &[
            ("self.objs[0] == self.objs[1]", 7),
            ("self.objs[0] + self.objs[2] == self.objs[2]", 11),
            ("self.objs[2] + self.objs[0] == self.objs[0]", 11),
            ("self.objs[0] == [self.objs[0][0], self.objs[0][1]]", 22),
            ("self.objs[0] == [self.objs[0][1], self.objs[0][0]]", 22),
            ("self.objs[2] + [self.objs[0][0], self.objs[0][1]] == self.objs[0]", 26),
            ("size(self.objs[0] + [self.objs[3][0]]) == 3", 20),
        ],
    );
}

#[test]
fn maps_and_objects() {
    check(
        json!({"val1": {"*": "string"}, "val2": {"*": "string"}, "enumStr": "string"}),
        json!({"val1": {"k1": "a", "k2": "b"}, "val2": {"k2": "b", "k1": "a"}, "enumStr": "Pending"}),
        &[
            ("self.val1 == self.val2", 5),
            ("'k1' in self.val1", 3),
            ("!('k3' in self.val1)", 4),
            ("self.val1 == {'k1': 'a', 'k2': 'b'}", 3),
            ("self.enumStr == 'Pending'", 3),
            ("self.enumStr in ['Pending', 'Available']", 2),
        ],
    );
    check(
        json!({"a": {"b": "int", "c": "int"}, "a1": {"b1": {"c1": "int"}, "d2": {"e2": "int"}}}),
        json!({"a": {"b": 1}, "a1": {"b1": {"c1": 4}}}),
        &[
            ("has(self.a.b)", 2),
            ("has(self.a1.b1.c1)", 3),
            ("!(has(self.a1.d2) && has(self.a1.d2.e2))", 3),
            ("!has(self.a1.d2)", 3),
        ],
    );
    check(
        json!({"val": {"*": "int"}}),
        json!({"val": {"b": 1, "d": 2}}),
        &[
            ("!has(self.val.a)", 3),
            ("has(self.val.b)", 2),
            ("self.val.all(k, self.val[k] > 0)", 17),
            ("!self.val.exists(k, self.val[k] == 3)", 20),
            ("self.val.exists_one(k, self.val[k] == 2)", 14),
            ("!self.val.exists_one(k, self.val[k] > 0)", 17),
            ("size(self.val) == 2", 4),
            ("size(self.val.filter(k, self.val[k] > 1)) == 1", 26),
            ("self.val.all(k, v, v > 0)", 13),
            ("!self.val.exists(k, v, v == 3)", 16),
            ("self.val.existsOne(k, v, v == 2)", 10),
            ("self.val.transformMap(k, v, v > 1, v + 1).size() == 1", 14),
            ("self.val.transformMap(k, v, v + 1).size() == 2", 15),
            ("self.val.transformMapEntry(k, v, v > 1, {k + '2': v + 1}).size() == 1", 45),
            ("self.val.transformMapEntry(k, v, {k + '2': v + 1}).size() == 2", 77),
        ],
    );
}

#[test]
fn comprehensions() {
    check(
        json!({"listMap": {"by": "k", "of": {"k": "string", "v": "string", "v2": "string"}}}),
        json!({"listMap": [
            {"k": "a1", "v": "b1"}, {"k": "a2", "v": "b2"}, {"k": "a3", "v": "b3", "v2": "z"},
        ]}),
        &[
            ("has(self.listMap[0].v)", 3),
            ("self.listMap.all(m, m.k.startsWith('a'))", 21),
            ("self.listMap.all(m, !has(m.v2) || m.v2 == 'z')", 21),
            ("self.listMap.exists(m, m.k.endsWith('1'))", 13),
            ("self.listMap.exists_one(m, m.k == 'a3')", 15),
            ("!self.listMap.all(m, m.k.endsWith('1'))", 18),
            ("!self.listMap.exists(m, m.v == 'x')", 25),
            ("!self.listMap.exists_one(m, m.k.startsWith('a'))", 20),
            ("size(self.listMap.filter(m, m.k == 'a1')) == 1", 27),
            ("self.listMap.exists(m, m.k == 'a1' && m.v == 'b1')", 16),
            ("self.listMap.map(m, m.v).exists(v, v == 'b1')", 55),
            ("self.listMap.exists(m, has(m.v2) && m.v2 == 'z')", 21),
            ("!self.listMap.all(m, has(m.v2) && m.v2 != 'z')", 10),
            ("self.listMap.exists_one(m, has(m.v2) && m.v2 == 'z')", 12),
            ("self.listMap.filter(m, has(m.v2) && m.v2 == 'z').size() == 1", 24),
            ("self.listMap.map(m, has(m.v2) && m.v2 == 'z', m.v2).size() == 1", 25),
            ("self.listMap.filter(m, has(m.v2) && m.v2 == 'z').map(m, m.v2).size() == 1", 39),
            ("self.listMap.exists(m, m.v2 == 'z')", 24),
            ("!self.listMap.all(m, m.v2 != 'z')", 22),
            ("self.listMap.transformList(i, m, has(m.v2) && m.v2 == 'z', m.v2).size() == 1", 25),
            ("self.listMap.transformList(i, m, m.v).size() == 3", 47),
        ],
    );
    check(
        json!({"array": ["int"]}),
        json!({"array": [1, 1, 2, 2, 3, 3, 4, 5]}),
        &[
            ("2 in self.array", 10),
            ("self.array.all(e, e > 0)", 43),
            ("self.array.exists(e, e > 2)", 36),
            ("self.array.exists_one(e, e > 4)", 22),
            ("!self.array.all(e, e < 2)", 21),
            ("!self.array.exists(e, e < 0)", 52),
            ("!self.array.exists_one(e, e == 2)", 25),
            ("size(self.array.filter(e, e%2 == 0)) == 3", 68),
            ("self.array.map(e, e * 20).filter(e, e > 50).exists(e, e == 60)", 194),
            ("self.array.transformList(i, e, e > 2, e * 2).size() > 0", 77),
            ("self.array.transformList(i, e, e * 2).size() > 0", 117),
        ],
    );
}

#[test]
fn a_number_or_text() {
    check(
        json!({"something": "int-or-string"}),
        json!({"something": "25%"}),
        &[
            ("type(self.something) == int ? self.something == 1 : self.something == '25%'", 7),
            ("type(self.something) == string && self.something == '25%'", 7),
            ("self.something == '25%'", 3),
            ("self.something != 1", 3),
            ("self.something == 1 || self.something == '25%'", 6),
            ("self.something == '25%' || self.something == 1", 3),
            ("self.something != ['anything']", 3),
        ],
    );
}

#[test]
fn estimates() {
    let like = json!({
        "i": "int",
        "s": "string:10",
        "long": "string:1000",
        "list": ["string:10", 100],
        "open": ["int"],
        "map": {"*": "string:5", "max": 20},
        "objs": [{"long": "string:5"}, 10],
        "__if__": "string:10",
    });
    for (source, cost) in [
        ("true", 0),
        ("self.i > 5", 3),
        // What is declared of numbers has no size.
        ("self.i == 5", 2),
        ("self.s == 'abc'", 3),
        ("self.long == self.long", 104),
        ("self.long.contains('abc')", 102),
        ("self.long.matches('^[a-z]+$')", 204),
        ("has(self.list)", 1),
        ("self.list.all(x, x == 'a')", 2 + 100 * (2 + 1 + 2) + 1),
        ("self.open.exists(x, x == 1)", 2 + (1 << 20) * (3 + 1 + 1) + 1),
        ("self.map.all(k, self.map[k] == 'abc')", 2 + 20 * (2 + 1 + 4 + 1) + 1),
        ("'a' in self.list", 102),
        ("self.list.isSorted()", 202),
        ("lists.range(10).size() == 10", 10 + 11 + 1 + 1),
        // Elements and fields of what is computed count as if they were `self`,
        // which has no size and fields of its own.
        ("(self.s == '' ? self.list : []).all(x, x.contains('ab'))", 413),
        ("(self.i > 1 ? self.objs : []).all(x, x.long.contains('ab'))", 1064),
        ("(self.i > 1 ? self.objs[0] : self.objs[1]).long.contains('ab')", 8),
        ("self.?list.orValue([]).all(x, x.contains('ab'))", u64::MAX),
        ("self.__if__.contains('ab')", 3),
        ("size(self.if) == 1", 4),
    ] {
        let found = compile(source, &like).unwrap().cost_max();
        assert_eq!(found, cost, "{source}");
    }
}

#[test]
fn no_evaluation_costs_more_than_its_estimate() {
    let like = json!({"s": "string:20", "list": ["string:5", 6], "i": "int"});
    let object = json!({
        "s": "abcdefghijabcdefghij",
        "list": ["aaaaa", "bbbbb", "ccccc", "ddddd", "eeeee", "fffff"],
        "i": 3,
    });
    for source in [
        "self.list.all(x, x.size() == 5)",
        "self.list.exists(x, x == 'fffff')",
        "self.list.map(x, x + self.s).filter(x, x.contains('a')).size() == 6",
        "self.s.replace('a', 'bb').size() > 20",
        "self.s.split('j').size() == 3",
        "self.list.sortBy(x, x)[0] == 'aaaaa'",
        "self.list.transformMap(i, v, v).size() == 6",
        "optional.of(self.s).optMap(x, x + x).orValue('').size() == 40",
        "optional.of({'a': self.s}).a.value().size() == 20",
        "optional.of(self.list)[?5].hasValue() && self.?s.orValue('').size() == 20",
        "has({'a': self.i}.a) && [self.s, self.s][1] == self.s",
        "self.s.matches('^[a-z]*$') && self.s.find('[a-c]+') == 'abc'",
        "self.list.indexOf('fffff') == 5 && self.list.max() == 'fffff'",
    ] {
        let most = compile(source, &like).unwrap().cost_max();
        let (value, cost) = run(source, &like, &object);
        assert_eq!(value.as_deref(), Ok("true"), "{source}");
        assert!(cost <= most, "{source}: {cost} > {most}");
    }
}
