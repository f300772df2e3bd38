//! Expressions that are true.

use serde_json::{Value as Json, json};

use super::run;

fn check(like: Json, object: Json, sources: &[&str]) {
    for source in sources {
        assert_eq!(run(source, &like, &object).0.as_deref(), Ok("true"), "{source}");
    }
}

fn always(sources: &[&str]) {
    check(json!({}), json!({}), sources);
}

#[test]
fn numbers() {
    always(&[
        "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 7 / 2 == 3 && -7 % 3 == -1",
        "-9223372036854775808 < 0 && 0x1F == 31 && 0x1Fu == 31u",
        "1.5 + 1.5 == 3.0 && 1e3 == 1000.0 && 1.0 / 0.0 > 1.0",
        "dyn(1) == 1u && dyn(1) == 1.0 && dyn(1u) < 1.5 && 9007199254740993 > 9007199254740992.0",
        "1 < 2u && 1u < 2.0 && 2.5 > 2 && dyn(9223372036854775807) != 9223372036854775808.0",
        "!(0.0 / 0.0 == 0.0 / 0.0)",
        "--1 == 1 && !!true && -(-1) == 1",
        "int('42') == 42 && int(3.9) == 3 && int(-3.9) == -3 && uint(3u) == 3u && double('1.5') == 1.5",
        "string(1.5) == '1.5' && string(1000000.0) == '1e+06' && string(0.00001) == '1e-05' && string(-1) == '-1'",
        "bool('true') && !bool('f') && string(true) == 'true'",
        "timestamp(0) == timestamp('1970-01-01T00:00:00Z') && int(timestamp('1970-01-01T00:01:00Z')) == 60",
    ]);
}

#[test]
fn logic() {
    always(&[
        "true || 1 / 0 > 0",
        "1 / 0 > 0 || true",
        "!(false && 1 / 0 > 0)",
        "!(1 / 0 > 0 && false)",
        "[1, 0, 2].exists(x, 2 / x == 1)",
        "![0, 1].all(x, 1 / x == 2)",
        "true ? true : 1 / 0 > 0",
        "true || false && false",
        "type(1) == int && type('') == string && type([]) == list && type({}) == map && type(type(1)) == type",
        "type(null) == null_type && type(optional.none()) == optional_type && null == null",
    ]);
}

#[test]
fn text() {
    always(&[
        "'tacocat'.charAt(3) == 'o' && 'ab'.charAt(2) == ''",
        "'hello mellow'.indexOf('') == 0 && 'hello mellow'.indexOf('ello', 2) == 7 && 'hi'.indexOf('x') == -1",
        "'hello mellow'.lastIndexOf('ello') == 7 && 'hello mellow'.lastIndexOf('ello', 6) == 1 && 'a'.lastIndexOf('ab') == -1",
        "['hello', 'mellow'].join(' ') == 'hello mellow' && [].join() == ''",
        "'TacoCÆt'.lowerAscii() == 'tacocÆt' && 'tacoCæt'.upperAscii() == 'TACOCæT'",
        "'hello hello'.replace('he', 'we', 1) == 'wello hello' && 'abc'.replace('', '-') == '-a-b-c-'",
        "'hello hello hello'.split(' ', 2) == ['hello', 'hello hello'] && 'abc'.split('') == ['a', 'b', 'c'] && 'a'.split('', 0) == []",
        "'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(0, 4) == 'taco' && 'ta©o😁'.substring(2, 3) == '©'",
        "'  \\ttrim\\n    '.trim() == 'trim' && strings.quote('a\"b\\n') == '\"a\\\\\"b\\\\n\"'",
        "'%s and %d, %.2f %x %X %%'.format(['a', 7, 1234.5, 255, 'hi']) == 'a and 7, 1,234.50 ff 6869 %'",
        "'%s'.format([[1, 'a', {'k': 1.5}]]) == '[1, \"a\", {\"k\":1.500000}]'",
        "'%s %s'.format([null, true]) == 'null true' && '%b'.format([true]) == '1' && '%o'.format([-8]) == '-10'",
        "'abc'.matches('^a.c$') && matches('abc', 'b') && !'ABC'.matches('abc')",
        "'abc 123'.find('[0-9]+') == '123' && 'abc'.find('x') == '' && '1 2 3'.findAll('[0-9]', 2) == ['1', '2']",
        "r'\\d' == '\\\\d' && b'\\xff' == b'\\377' && size(b'ÿ') == 2 && 'é'.size() == 1 && bytes('ÿ') == b'ÿ'",
        "'''a'b''' + \"c\" == 'a\\'bc'",
        "'a' < 'b' && b'a' < b'b' && 'abc'.contains('b')",
    ]);
}

#[test]
fn lists_and_maps() {
    always(&[
        "[1, 2] + [3] == [1, 2, 3] && [1, 2][1] == 2 && size([1]) == 1 && 2 in [1, 2]",
        "{'a': 1}.a == 1 && {'a': 1}['a'] == 1 && 'a' in {'a': 1} && !('b' in {'a': 1}) && {1: 'x'}[1] == 'x'",
        "dyn({1: 'x'})[1u] == 'x' && dyn({1u: 'x'})[1.0] == 'x'",
        "[1, 2, 3].map(x, x * 2) == [2, 4, 6] && [1, 2, 3].map(x, x > 1, x * 2) == [4, 6]",
        "[[1], [2, 3]].map(x, x.map(y, y + 1)) == [[2], [3, 4]]",
        "[1, 2, 3].filter(x, x > 1) == [2, 3] && [1, 2].exists_one(x, x == 1) && [1, 2].existsOne(x, x == 1)",
        "[1, 2, 3].all(i, v, v == i + 1) && {'a': 1}.exists(k, v, k == 'a' && v == 1)",
        "[4, 5].transformList(i, v, i * v) == [0, 5] && [4, 5].transformMap(i, v, v) == {0: 4, 1: 5}",
        "{'a': 'b'}.transformMapEntry(k, v, {v: k}) == {'b': 'a'}",
        "[1, 2, 2].isSorted() && ![2, 1].isSorted() && [1, 2].sum() == 3 && [1.5, 2.0].max() == 2.0 && ['b', 'a'].min() == 'a'",
        "['a', 'b', 'b'].indexOf('b') == 1 && ['a', 'b', 'b'].lastIndexOf('b') == 2 && [1].indexOf(2) == -1",
        "[1, 2, 3, 4].slice(1, 3) == [2, 3] && [[1], [2, 3]].flatten() == [1, 2, 3] && lists.range(3) == [0, 1, 2]",
        "[3, 1, 2].sort() == [1, 2, 3] && [1, 2, 3].reverse() == [3, 2, 1] && [1, 2, 2].distinct() == [1, 2]",
        "['bb', 'a'].sortBy(x, x.size()) == ['a', 'bb'] && [1, 2].first().value() == 1 && [1, 2].last() == optional.of(2)",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1, 1]) && sets.intersects([1], [1, 2]) && !sets.intersects([1], [])",
        "has({'a': 1}.a) && !has({'a': 1}.b)",
    ]);
}

#[test]
fn optionals() {
    always(&[
        "optional.of(1).hasValue() && !optional.none().hasValue() && optional.of(1).value() == 1",
        "{'a': 1}.?a == optional.of(1) && {'a': 1}.?b == optional.none() && {'a': {'b': 1}}.?a.b.value() == 1",
        "{'a': {'b': 1}}.?c.b.orValue(5) == 5 && [1][?0].value() == 1 && [1][?3].orValue(7) == 7",
        "optional.none().or(optional.of(2)).value() == 2 && optional.of(1).orValue(1 / 0) == 1",
        "optional.of(2).optMap(x, x + 1) == optional.of(3) && optional.of(2).optFlatMap(x, optional.of(x)).value() == 2",
        "[?optional.of(1), ?optional.none(), 3] == [1, 3] && {?'a': optional.none(), 'b': 1} == {'b': 1}",
        "optional.ofNonZeroValue('') == optional.none() && [optional.of(1), optional.none()].unwrapOpt() == [1]",
    ]);
}

#[test]
fn times() {
    always(&[
        "duration('1h') == duration('60m') && duration('90s').getMinutes() == 1 && string(duration('1h1s')) == '3601s'",
        "timestamp('2024-01-31T10:30:05.123Z').getMonth() == 0 && timestamp('2024-02-29T00:00:00Z').getDate() == 29",
        "timestamp('2024-01-01T00:30:00Z').getHours('-01:00') == 23 && timestamp('2024-01-01T00:00:00Z').getDayOfWeek() == 1",
        "timestamp('2024-01-01T00:00:00.123Z').getMilliseconds() == 123 && timestamp('2024-03-01T00:00:00Z').getDayOfYear() == 60",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
        "timestamp('2024-01-01T00:00:00Z') + duration('1h') > timestamp('2024-01-01T00:00:00Z')",
    ]);
}

#[test]
fn kubernetes_types() {
    always(&[
        "quantity('1.5Gi').isGreaterThan(quantity('1500M')) && quantity('1k').asInteger() == 1000 && !quantity('50m').isInteger()",
        "quantity('1').add(quantity('500m')) == quantity('1.5') && quantity('3').sub(1).compareTo(quantity('2')) == 0",
        "quantity('-1').sign() == -1 && isQuantity('1Gi') && !isQuantity('1 Gi') && quantity('200m').asApproximateFloat() == 0.2",
        "ip('192.168.0.1').family() == 4 && ip('::1').isLoopback() && isIP('1.2.3.4') && !isIP('1.2.3.256') && !isIP('::ffff:1.2.3.4')",
        "ip.isCanonical('2001:db8::1') && !ip.isCanonical('2001:DB8::1') && string(ip('10.0.0.1')) == '10.0.0.1'",
        "ip('127.0.0.1') == ip('127.0.0.1') && type(ip('::1')) == net.IP && !ip('10.0.0.1').isGlobalUnicast() == false",
        "cidr('192.168.0.0/24').containsIP('192.168.0.5') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.0.0.1/8').masked() == cidr('10.0.0.0/8')",
        "cidr('10.0.0.0/8').prefixLength() == 8 && cidr('10.0.0.0/8').ip() == ip('10.0.0.0') && isCIDR('::/0') && !isCIDR('10.0.0.0/33')",
        "url('https://user@example.com:80/p a?k=v&k=w').getHost() == 'example.com:80'",
        "url('https://example.com:80/a?k=v%20x&k=w').getQuery() == {'k': ['v x', 'w']} && url('https://[::1]:80/').getHostname() == '::1'",
        "url('/path').getEscapedPath() == '/path' && url('https://a/b').getScheme() == 'https' && url('https://a').getPort() == ''",
        "isURL('https://a:80/') && !isURL('../a') && !isURL('') && !isURL('https://a:x/')",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-alpha.1').compareTo(semver('1.0.0')) == -1 && semver('1.2.3+b') == semver('1.2.3')",
        "semver('v1.02', true).minor() == 2 && isSemver('1.2.3-rc.1') && !isSemver('1.2') && isSemver('1.2', true)",
        "!format.dns1123Label().validate('my-label').hasValue() && format.dns1123Label().validate('My').hasValue()",
        "format.named('uuid').value().validate('x').value() == ['does not match the UUID format'] && format.named('nope') == optional.none()",
        "!format.date().validate('2021-01-01').hasValue() && !format.uri().validate('http://a/b').hasValue() && !format.byte().validate('aGk=').hasValue()",
    ]);
}

#[test]
fn data() {
    check(
        json!({
            "spec": {"replicas": "int", "min-ready": "int", "port": "int-or-string", "ratio": "double"},
            "tags": {"set": "string"}, "raw": "any",
        }),
        json!({
            "spec": {"replicas": 3, "min-ready": 1, "port": "http", "ratio": 2, "hidden": 7, "empty": null},
            "tags": ["b", "a"],
            "raw": {"x": [1, 2.5, "s", null, true, {"y": 18446744073709551615u64}]},
        }),
        &[
            "self.spec.replicas > self.spec.min__dash__ready",
            "self.spec.`replicas` == 3",
            "type(self.spec.port) == string && self.spec.port != 80",
            "self.spec.ratio == 2.0 && type(self.spec.ratio) == double",
            "self.tags == ['a', 'b'] && self.tags + ['a', 'c'] == ['c', 'b', 'a']",
            "self.raw.x[0] == 1 && self.raw.x[1] > 2 && self.raw.x[3] == null && self.raw.x[5].y == 18446744073709551615u",
            "self.spec == self.spec && !has(self.raw.nope)",
            "self.raw.x.size() == 6 && self.raw.exists(k, k == 'x')",
        ],
    );
}
