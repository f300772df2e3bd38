//! A tree as source again, for tests. What macros became cannot be written.

use crate::ast::{Ast, Expr, ExprId, Literal};

/// The source of a tree, with parentheses around everything.
pub(crate) fn print(ast: &Ast, id: ExprId) -> Option<String> {
    let list = |ids: &[ExprId]| -> Option<String> {
        let printed: Option<Vec<String>> = ids.iter().map(|id| print(ast, *id)).collect();
        Some(printed?.join(", "))
    };
    let mark = |optional: bool| if optional { "?" } else { "" };
    Some(match ast.expr(id) {
        Expr::Literal(literal) => self::literal(literal),
        Expr::Ident(name) => name.to_string(),
        Expr::Select { operand, field, test: false } => {
            format!("({}).`{field}`", print(ast, *operand)?)
        }
        Expr::Call { function, target: None, args } => match (&**function, &args[..]) {
            ("_?_:_", [condition, yes, no]) => format!(
                "(({}) ? ({}) : ({}))",
                print(ast, *condition)?,
                print(ast, *yes)?,
                print(ast, *no)?
            ),
            ("_[_]", [operand, index]) => {
                format!("({})[{}]", print(ast, *operand)?, print(ast, *index)?)
            }
            ("_[?_]", [operand, index]) => {
                format!("({})[?{}]", print(ast, *operand)?, print(ast, *index)?)
            }
            ("_?._", [operand, field]) => match ast.expr(*field) {
                Expr::Literal(Literal::String(field)) => {
                    format!("({}).?`{field}`", print(ast, *operand)?)
                }
                _ => return None,
            },
            ("@in", [left, right]) => {
                format!("({} in {})", print(ast, *left)?, print(ast, *right)?)
            }
            ("!_", [operand]) => format!("(!({}))", print(ast, *operand)?),
            ("-_", [operand]) => format!("(-({}))", print(ast, *operand)?),
            (name, [left, right]) if name.starts_with('_') => {
                let operator = name.trim_matches('_');
                format!("({} {operator} {})", print(ast, *left)?, print(ast, *right)?)
            }
            (name, args) => format!("{name}({})", list(args)?),
        },
        Expr::Call { function, target: Some(target), args } => {
            format!("({}).{function}({})", print(ast, *target)?, list(args)?)
        }
        Expr::List(elements) => {
            let mut printed = Vec::new();
            for element in elements {
                printed.push(format!("{}{}", mark(element.optional), print(ast, element.value)?));
            }
            format!("[{}]", printed.join(", "))
        }
        Expr::Map(entries) => {
            let mut printed = Vec::new();
            for entry in entries {
                let (key, value) = (print(ast, entry.key)?, print(ast, entry.value)?);
                printed.push(format!("{}{key}: {value}", mark(entry.optional)));
            }
            format!("{{{}}}", printed.join(", "))
        }
        Expr::Struct { name, fields } => {
            let mut printed = Vec::new();
            for field in fields {
                let value = print(ast, field.value)?;
                printed.push(format!("{}`{}`: {value}", mark(field.optional), field.name));
            }
            format!("{name}{{{}}}", printed.join(", "))
        }
        Expr::Select { test: true, .. } | Expr::Fold(_) => return None,
    })
}

fn literal(literal: &Literal) -> String {
    let escaped =
        |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect() };
    match literal {
        Literal::Null => "null".into(),
        Literal::Bool(value) => value.to_string(),
        Literal::Int(number) => format!("{number}"),
        Literal::Uint(number) => format!("{number}u"),
        Literal::Double(number) => format!("{number:e}"),
        Literal::String(text) => {
            let codes: String = text.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect();
            format!("'{codes}'")
        }
        Literal::Bytes(bytes) => format!("b'{}'", escaped(bytes)),
    }
}
