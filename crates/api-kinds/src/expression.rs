//! CEL expressions in kinds: the one place where they are checked.
//!
//! Whether an expression is there is checked by who has it, in upstream's words;
//! what it says is not looked at yet.

use api_schema::{Faults, Path};

/// What an expression is about: which names it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// `device`: a claim's or a class's selector.
    Device,
    /// `object`, `oldObject`, `request`, `authorizer`: when a webhook is asked.
    WebhookMatch,
    /// The same with `params`, `namespaceObject` and variables: an admission policy.
    Policy,
}

/// Faults of an expression.
pub(crate) fn check(path: &Path<'_>, text: &str, of: Of, faults: &mut Faults) {
    // Only a device's selector has nobody before it who asks for it to be there.
    if of == Of::Device && text.trim().is_empty() {
        faults.invalid(
            path,
            text,
            "compilation failed: ERROR: <input>:1:1: Syntax error: mismatched input '<EOF>'",
        );
    }
}

/// Words of the language, which cannot be the name of a variable.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Whether a text can be the name of a variable.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
        && !RESERVED.contains(&text)
}
