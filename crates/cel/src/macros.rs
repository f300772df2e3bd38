//! Macros: calls that become folds and tests when they are parsed.

use crate::{
    ast::{ACCU, Ast, Element, Entry, Expr, ExprId, Fold, Literal},
    functions::Library,
    parse::Stop,
};

type Expand = fn(&mut Expansion<'_>, Option<ExprId>, &[ExprId]) -> Result<ExprId, Stop>;

/// Name, number of arguments, whether it is called on something, what it becomes.
const MACROS: &[(&str, usize, bool, Expand)] = &[
    ("has", 1, false, |x, _, args| x.has(args[0])),
    ("all", 2, true, |x, target, args| x.quantifier(Quantifier::All, target, &args[..1], args[1])),
    ("exists", 2, true, |x, target, args| {
        x.quantifier(Quantifier::Exists, target, &args[..1], args[1])
    }),
    ("exists_one", 2, true, |x, target, args| {
        x.quantifier(Quantifier::One, target, &args[..1], args[1])
    }),
    ("existsOne", 2, true, |x, target, args| {
        x.quantifier(Quantifier::One, target, &args[..1], args[1])
    }),
    ("all", 3, true, |x, target, args| x.quantifier(Quantifier::All, target, &args[..2], args[2])),
    ("exists", 3, true, |x, target, args| {
        x.quantifier(Quantifier::Exists, target, &args[..2], args[2])
    }),
    ("exists_one", 3, true, |x, target, args| {
        x.quantifier(Quantifier::One, target, &args[..2], args[2])
    }),
    ("existsOne", 3, true, |x, target, args| {
        x.quantifier(Quantifier::One, target, &args[..2], args[2])
    }),
    ("map", 2, true, |x, target, args| x.map(target, &args[..1], None, args[1])),
    ("map", 3, true, |x, target, args| x.map(target, &args[..1], Some(args[1]), args[2])),
    ("filter", 2, true, |x, target, args| {
        let element = x.ast.copy(args[0]);
        x.map(target, &args[..1], Some(args[1]), element)
    }),
    ("transformList", 3, true, |x, target, args| x.map(target, &args[..2], None, args[2])),
    ("transformList", 4, true, |x, target, args| x.map(target, &args[..2], Some(args[2]), args[3])),
    ("transformMap", 3, true, |x, target, args| x.make_map(target, args, None, true)),
    ("transformMap", 4, true, |x, target, args| x.make_map(target, args, Some(args[2]), true)),
    ("transformMapEntry", 3, true, |x, target, args| x.make_map(target, args, None, false)),
    ("transformMapEntry", 4, true, |x, target, args| {
        x.make_map(target, args, Some(args[2]), false)
    }),
    ("optMap", 2, true, |x, target, args| x.optional("optMap", target, args, true)),
    ("optFlatMap", 2, true, |x, target, args| x.optional("optFlatMap", target, args, false)),
    ("sortBy", 2, true, |x, target, args| x.sort_by(target, args)),
];

/// What the call becomes, or `None` where it is no macro.
pub(crate) fn expand(
    ast: &mut Ast,
    libraries: &[Library],
    offset: u32,
    name: &str,
    target: Option<ExprId>,
    args: &[ExprId],
) -> Option<Result<ExprId, Stop>> {
    if name == "bind"
        && libraries.contains(&Library::Bindings)
        && target.is_some_and(|target| ast.ident(target) == Some("cel"))
        && let [var, value, result] = *args
    {
        return Some(Expansion { ast, offset }.named(var, value, result));
    }
    let (.., expand) = MACROS.iter().find(|(known, count, on_target, _)| {
        *known == name && *count == args.len() && *on_target == target.is_some()
    })?;
    Some(expand(&mut Expansion { ast, offset }, target, args))
}

#[derive(Clone, Copy)]
enum Quantifier {
    All,
    Exists,
    One,
}

/// Nodes that macros add stand where the macro is called.
struct Expansion<'a> {
    ast: &'a mut Ast,
    offset: u32,
}

impl Expansion<'_> {
    fn add(&mut self, expr: Expr) -> ExprId {
        self.ast.add(self.offset, expr)
    }

    fn ident(&mut self, name: &str) -> ExprId {
        self.add(Expr::Ident(name.into()))
    }

    fn accu(&mut self) -> ExprId {
        self.ident(ACCU)
    }

    fn literal(&mut self, literal: Literal) -> ExprId {
        self.add(Expr::Literal(literal))
    }

    fn call(&mut self, function: &str, args: Vec<ExprId>) -> ExprId {
        self.add(Expr::Call { function: function.into(), target: None, args })
    }

    fn method(&mut self, function: &str, target: ExprId, args: Vec<ExprId>) -> ExprId {
        self.add(Expr::Call { function: function.into(), target: Some(target), args })
    }

    fn list(&mut self, elements: &[ExprId]) -> ExprId {
        let elements = elements.iter().map(|&value| Element { value, optional: false }).collect();
        self.add(Expr::List(elements))
    }

    fn stop(&self, at: ExprId, message: impl Into<String>) -> Stop {
        Stop { offset: Some(self.ast.offset(at)), message: message.into() }
    }

    fn has(&mut self, arg: ExprId) -> Result<ExprId, Stop> {
        match self.ast.expr(arg) {
            Expr::Select { operand, field, test: false } => {
                let (operand, field) = (*operand, field.clone());
                Ok(self.add(Expr::Select { operand, field, test: true }))
            }
            _ => Err(self.stop(arg, "invalid argument to has() macro")),
        }
    }

    /// The names of one or two iteration variables.
    fn vars(&self, vars: &[ExprId], wrong: &str) -> Result<(Box<str>, Option<Box<str>>), Stop> {
        let mut names = Vec::new();
        for &var in vars {
            let name = self.ast.ident(var).ok_or_else(|| self.stop(var, wrong))?;
            if name == "__result__" {
                return Err(self.stop(var, "iteration variable overwrites accumulator variable"));
            }
            if names.contains(&name) {
                return Err(self.stop(var, format!("duplicate variable name: {name}")));
            }
            names.push(name);
        }
        Ok((names[0].into(), names.get(1).map(|&name| name.into())))
    }

    fn quantifier(
        &mut self,
        quantifier: Quantifier,
        target: Option<ExprId>,
        vars: &[ExprId],
        predicate: ExprId,
    ) -> Result<ExprId, Stop> {
        let vars = self.vars(vars, "argument must be a simple name")?;
        let accu = self.accu();
        let (init, condition, step) = match quantifier {
            Quantifier::All => {
                let init = self.literal(Literal::Bool(true));
                let tested = self.accu();
                let condition = self.call("@not_strictly_false", vec![tested]);
                (init, condition, self.call("_&&_", vec![accu, predicate]))
            }
            Quantifier::Exists => {
                let init = self.literal(Literal::Bool(false));
                let tested = self.accu();
                let not = self.call("!_", vec![tested]);
                let condition = self.call("@not_strictly_false", vec![not]);
                (init, condition, self.call("_||_", vec![accu, predicate]))
            }
            Quantifier::One => {
                let init = self.literal(Literal::Int(0));
                let condition = self.literal(Literal::Bool(true));
                let one = self.literal(Literal::Int(1));
                let more = self.call("_+_", vec![accu, one]);
                let same = self.accu();
                (init, condition, self.call("_?_:_", vec![predicate, more, same]))
            }
        };
        let mut result = self.accu();
        if let Quantifier::One = quantifier {
            let one = self.literal(Literal::Int(1));
            result = self.call("_==_", vec![result, one]);
        }
        Ok(self.fold(target, vars, init, condition, step, result))
    }

    fn fold(
        &mut self,
        target: Option<ExprId>,
        (var, var2): (Box<str>, Option<Box<str>>),
        init: ExprId,
        condition: ExprId,
        step: ExprId,
        result: ExprId,
    ) -> ExprId {
        let range = target.expect("the table says that it is called on something");
        let accu = ACCU.into();
        let fold = Fold { range, var, var2, accu, init, condition, step, result };
        self.add(Expr::Fold(Box::new(fold)))
    }

    /// `filter ? step : accumulator`.
    fn filtered(&mut self, filter: Option<ExprId>, step: ExprId) -> ExprId {
        let Some(filter) = filter else { return step };
        let same = self.accu();
        self.call("_?_:_", vec![filter, step, same])
    }

    fn map(
        &mut self,
        target: Option<ExprId>,
        vars: &[ExprId],
        filter: Option<ExprId>,
        transform: ExprId,
    ) -> Result<ExprId, Stop> {
        let wrong = match vars.len() {
            1 => "argument is not an identifier",
            _ => "argument must be a simple name",
        };
        let vars = self.vars(vars, wrong)?;
        let init = self.list(&[]);
        let condition = self.literal(Literal::Bool(true));
        let (accu, element) = (self.accu(), self.list(&[transform]));
        let step = self.call("_+_", vec![accu, element]);
        let step = self.filtered(filter, step);
        let result = self.accu();
        Ok(self.fold(target, vars, init, condition, step, result))
    }

    fn make_map(
        &mut self,
        target: Option<ExprId>,
        args: &[ExprId],
        filter: Option<ExprId>,
        keep_key: bool,
    ) -> Result<ExprId, Stop> {
        let vars = self.vars(&args[..2], "argument must be a simple name")?;
        let transform = args[args.len() - 1];
        let init = self.add(Expr::Map(Vec::<Entry>::new()));
        let condition = self.literal(Literal::Bool(true));
        let mut insert = vec![self.accu()];
        if keep_key {
            insert.push(self.ident(&vars.0));
        }
        insert.push(transform);
        let step = self.call("cel.@mapInsert", insert);
        let step = self.filtered(filter, step);
        let result = self.accu();
        Ok(self.fold(target, vars, init, condition, step, result))
    }

    /// `cel.bind(name, value, result)`.
    fn named(&mut self, var: ExprId, value: ExprId, result: ExprId) -> Result<ExprId, Stop> {
        match self.ast.ident(var).map(str::to_owned) {
            Some(name) => Ok(self.bind(&name, value, result)),
            None => Err(self.stop(var, "cel.bind() variable names must be simple identifiers")),
        }
    }

    /// Gives a value a name within `result`: a fold over nothing.
    fn bind(&mut self, name: &str, value: ExprId, result: ExprId) -> ExprId {
        let range = self.list(&[]);
        let condition = self.literal(Literal::Bool(false));
        let step = self.ident(name);
        let fold = Fold {
            range,
            var: "#unused".into(),
            var2: None,
            accu: name.into(),
            init: value,
            condition,
            step,
            result,
        };
        self.add(Expr::Fold(Box::new(fold)))
    }

    fn optional(
        &mut self,
        macro_name: &str,
        target: Option<ExprId>,
        args: &[ExprId],
        wrap: bool,
    ) -> Result<ExprId, Stop> {
        let target = target.expect("the table says that it is called on something");
        let Some(name) = self.ast.ident(args[0]).map(str::to_owned) else {
            return Err(self.stop(
                args[0],
                format!("{macro_name}() variable name must be a simple identifier"),
            ));
        };
        let has_value = self.method("hasValue", target, Vec::new());
        let again = self.ast.copy(target);
        let value = self.method("value", again, Vec::new());
        let mut some = self.bind(&name, value, args[1]);
        if wrap {
            some = self.call("optional.of", vec![some]);
        }
        let none = self.call("optional.none", Vec::new());
        Ok(self.call("_?_:_", vec![has_value, some, none]))
    }

    fn sort_by(&mut self, target: Option<ExprId>, args: &[ExprId]) -> Result<ExprId, Stop> {
        const INPUT: &str = "@__sortBy_input__";
        let target = target.expect("the table says that it is called on something");
        if matches!(self.ast.expr(target), Expr::Literal(_) | Expr::Map(_) | Expr::Struct { .. }) {
            return Err(self.stop(
                target,
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression",
            ));
        }
        let input = self.ident(INPUT);
        let keys = self.map(Some(input), &args[..1], None, args[1])?;
        let input = self.ident(INPUT);
        let sorted = self.method("@sortByAssociatedKeys", input, vec![keys]);
        Ok(self.bind(INPUT, target, sorted))
    }
}
