//! What is wrong with a text that should be JSON, in the words of Go's decoder:
//! clients, scripts and tests know them.
//!
//! Only asked once parsing has failed, so it reads the text a second time.

use serde_json::Value;

/// Go's limit of what is open.
const OPEN_MAX: usize = 10_000;

/// What Go's decoder says of a text; `None` where it finds nothing wrong.
pub fn json_fault(text: &[u8]) -> Option<String> {
    let mut scan = Scan { text, at: 0 };
    scan.document().err()
}

/// What Go calls the form of a value.
pub fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What Go's decoder says of a wrong type, in the words of upstream's converter,
/// which reads trees where the decoder reads texts.
pub fn converter_fault(decoder_says: &str) -> Option<String> {
    let rest = decoder_says.strip_prefix("json: cannot unmarshal ")?;
    let (got, wanted) = rest.split_once(" into ")?;
    let (_, wanted) = wanted.rsplit_once(" of type ")?;
    let got = match got.split(' ').next()? {
        "object" => "map",
        "array" => "slice",
        "number" => "int64",
        other => other,
    };
    // These read themselves.
    let own = ["resource.Quantity", "intstr.IntOrString", "v1.Time", "v1.MicroTime", "v1.Duration"];
    match wanted {
        _ if own.contains(&wanted) => None,
        _ if wanted.starts_with("map[") => Some(format!("cannot restore map from {got}")),
        _ if wanted.starts_with("[]") => Some(format!("cannot restore slice from {got}")),
        _ if wanted.contains('.') => Some(format!("cannot restore struct from: {got}")),
        scalar => Some(format!("unrecognized type: {scalar}")),
    }
}

struct Scan<'t> {
    text: &'t [u8],
    at: usize,
}

impl Scan<'_> {
    fn document(&mut self) -> Result<(), String> {
        // What is open: true for an object.
        let mut open: Vec<bool> = Vec::new();
        'value: loop {
            self.spaces();
            match self.byte() {
                Some(b'{') => {
                    self.opened(&mut open, true)?;
                    self.spaces();
                    match self.byte() {
                        Some(b'}') => self.at += 1,
                        _ => {
                            self.key()?;
                            continue 'value;
                        }
                    }
                    open.pop();
                }
                Some(b'[') => {
                    self.opened(&mut open, false)?;
                    self.spaces();
                    match self.byte() {
                        Some(b']') => self.at += 1,
                        _ => continue 'value,
                    }
                    open.pop();
                }
                _ => self.scalar()?,
            }
            // After a value: what it is in goes on or ends.
            loop {
                self.spaces();
                match (open.last(), self.byte()) {
                    (None, None) => return Ok(()),
                    (None, Some(_)) => return Err(self.wrong("after top-level value")),
                    (Some(true), Some(b',')) => {
                        self.at += 1;
                        self.spaces();
                        self.key()?;
                        continue 'value;
                    }
                    (Some(false), Some(b',')) => {
                        self.at += 1;
                        continue 'value;
                    }
                    (Some(true), Some(b'}')) | (Some(false), Some(b']')) => {
                        self.at += 1;
                        open.pop();
                    }
                    (Some(true), _) => return Err(self.wrong("after object key:value pair")),
                    (Some(false), _) => return Err(self.wrong("after array element")),
                }
            }
        }
    }

    fn opened(&mut self, open: &mut Vec<bool>, object: bool) -> Result<(), String> {
        self.at += 1;
        open.push(object);
        if open.len() > OPEN_MAX { Err("exceeded max depth".into()) } else { Ok(()) }
    }

    /// A key and the colon that follows.
    fn key(&mut self) -> Result<(), String> {
        if self.byte() != Some(b'"') {
            return Err(self.wrong("looking for beginning of object key string"));
        }
        self.string()?;
        self.spaces();
        match self.byte() {
            Some(b':') => self.at += 1,
            _ => return Err(self.wrong("after object key")),
        }
        Ok(())
    }

    fn scalar(&mut self) -> Result<(), String> {
        match self.byte() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(self.wrong("looking for beginning of value")),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        for wanted in word.bytes() {
            if self.byte() != Some(wanted) {
                let wanted = char::from(wanted);
                return Err(self.wrong(&format!("in literal {word} (expecting '{wanted}')")));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), String> {
        self.at += 1;
        loop {
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.byte() {
                        Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => {
                            self.at += 1
                        }
                        Some(b'u') => {
                            self.at += 1;
                            for _ in 0..4 {
                                match self.byte() {
                                    Some(digit) if digit.is_ascii_hexdigit() => self.at += 1,
                                    _ => {
                                        let place = "in \\u hexadecimal character escape";
                                        return Err(self.wrong(place));
                                    }
                                }
                            }
                        }
                        _ => return Err(self.wrong("in string escape code")),
                    }
                }
                None | Some(0..=0x1f) => return Err(self.wrong("in string literal")),
                Some(_) => self.at += 1,
            }
        }
    }

    fn number(&mut self) -> Result<(), String> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        match self.byte() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.wrong("in numeric literal")),
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.some_digits("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.some_digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn some_digits(&mut self, place: &str) -> Result<(), String> {
        match self.byte() {
            Some(b'0'..=b'9') => self.digits(),
            _ => return Err(self.wrong(place)),
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn spaces(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.byte() {
            self.at += 1;
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The fault at the byte that does not fit.
    fn wrong(&self, place: &str) -> String {
        let shown = match self.byte() {
            None => return "unexpected end of JSON input".into(),
            Some(b'\'') => r"'\''".to_owned(),
            Some(b'"') => "'\"'".to_owned(),
            // A byte is shown as the character of that number.
            Some(byte) => match char::from(byte) {
                '\\' => r"'\\'".to_owned(),
                '\n' => r"'\n'".to_owned(),
                '\r' => r"'\r'".to_owned(),
                '\t' => r"'\t'".to_owned(),
                letter if letter.is_control() && byte < 0x80 => format!(r"'\x{byte:02x}'"),
                letter if letter.is_control() || byte == 0xad => format!(r"'\u{byte:04x}'"),
                '\u{a0}' => r"'\u00a0'".to_owned(),
                letter => format!("'{letter}'"),
            },
        };
        format!("invalid character {shown} {place}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn faults_read_like_gos() {
        for (text, fault) in [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            (r#"{"kind":"ConfigMap""#, "unexpected end of JSON input"),
            ("xx", "invalid character 'x' looking for beginning of value"),
            ("{} xx", "invalid character 'x' after top-level value"),
            ("{a", "invalid character 'a' looking for beginning of object key string"),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            (r#"{"a":1 "b"}"#, "invalid character '\"' after object key:value pair"),
            (r#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("tru", "unexpected end of JSON input"),
            ("trx", "invalid character 'x' in literal true (expecting 'u')"),
            ("01", "invalid character '1' after top-level value"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("\"\n\"", r"invalid character '\n' in string literal"),
            (r#""\x""#, "invalid character 'x' in string escape code"),
            (r#""\u00g0""#, r"invalid character 'g' in \u hexadecimal character escape"),
            ("'a'", r"invalid character '\'' looking for beginning of value"),
        ] {
            assert_eq!(json_fault(text.as_bytes()).as_deref(), Some(fault), "{text}");
        }
        assert_eq!(
            json_fault("[".repeat(OPEN_MAX + 1).as_bytes()).as_deref(),
            Some("exceeded max depth")
        );
    }

    #[test]
    fn wrong_types_as_the_converter_tells_them() {
        for (got, wanted, told) in [
            ("string", "int32", Some("unrecognized type: int32")),
            ("number", "string", Some("unrecognized type: string")),
            ("array", "map[string]string", Some("cannot restore map from slice")),
            ("array", "v1.PodSpec", Some("cannot restore struct from: slice")),
            ("object", "[]v1.Container", Some("cannot restore slice from map")),
            ("object", "resource.Quantity", None),
        ] {
            let says =
                format!("json: cannot unmarshal {got} into Go struct field A.b of type {wanted}");
            assert_eq!(converter_fault(&says).as_deref(), told);
        }
    }

    proptest! {
        /// Both agree about what is JSON; bytes that are no UTF-8 are for the other.
        #[test]
        fn it_finds_what_the_parser_finds(text in "[\\[\\]{},:\"\\\\ntrue0-9.eE \\-]{0,24}") {
            let parsed: Result<serde::de::IgnoredAny, _> = serde_json::from_str(&text);
            prop_assert_eq!(json_fault(text.as_bytes()).is_none(), parsed.is_ok(), "{}", text);
        }

        #[test]
        fn no_bytes_panic(text in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = json_fault(&text);
        }
    }
}
