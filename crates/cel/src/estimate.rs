//! What an expression may cost at most, before it is evaluated: from the bounds
//! that declarations give for sizes.

mod call;

use crate::{
    ast::{Ast, Expr, ExprId, Fold, Literal},
    check::Checked,
    cost::{self, Cost},
    declaration::{Declaration, Kind},
    types::Type,
};

/// A size or a cost: at least and at most. Saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

impl Bounds {
    pub(crate) const UNKNOWN: Bounds = Bounds { min: 0, max: u64::MAX };

    pub(crate) const fn new(min: u64, max: u64) -> Self {
        Self { min, max }
    }

    pub(crate) const fn fixed(value: u64) -> Self {
        Self { min: value, max: value }
    }

    pub(crate) fn add(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub(crate) fn multiply(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    pub(crate) fn scale(self, factor: f64) -> Self {
        Self { min: cost::scale(self.min, factor), max: cost::scale(self.max, factor) }
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// The most that a checked expression costs. `variables` is what each of the
/// environment's variables is declared as, where that is known.
pub(crate) fn cost_max(checked: &Checked, variables: &[Option<&Declaration>]) -> u64 {
    let count = checked.ast.len();
    let mut estimator = Estimator {
        checked,
        variables,
        locals: Vec::new(),
        sizes: vec![None; count],
        entries: vec![None; count],
        origins: vec![Origin::Computed; count],
    };
    estimator.cost(checked.root).max
}

/// The sizes of what a container holds.
#[derive(Clone, Copy, Debug)]
struct EntrySize {
    list: bool,
    key: Bounds,
    value: Bounds,
}

impl EntrySize {
    fn union(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let (a, b) = (a?, b?);
        Some(Self { list: a.list, key: a.key.union(b.key), value: a.value.union(b.value) })
    }
}

/// Which part of the declarations a value is.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'d> {
    /// None: an expression gives it.
    Computed,
    /// One that is not declared.
    Undeclared,
    Declared(&'d Declaration),
}

impl<'d> Origin<'d> {
    fn of(declared: Option<&'d Declaration>) -> Self {
        declared.map_or(Self::Undeclared, Self::Declared)
    }

    /// What is declared of the value.
    pub(crate) fn declared(self) -> Option<&'d Declaration> {
        match self {
            Self::Computed | Self::Undeclared => None,
            Self::Declared(declaration) => Some(declaration),
        }
    }
}

struct Local<'d> {
    name: Box<str>,
    origin: Origin<'d>,
    size: Option<Bounds>,
    entries: Option<EntrySize>,
}

/// What is known of an argument.
#[derive(Clone)]
pub(crate) struct Operand<'d> {
    pub(crate) id: ExprId,
    pub(crate) ty: Type,
    pub(crate) origin: Origin<'d>,
    pub(crate) size: Option<Bounds>,
    pub(crate) cost: Bounds,
    pub(crate) int: Option<i64>,
}

impl Operand<'_> {
    pub(crate) fn size(&self) -> Bounds {
        self.size.unwrap_or(Bounds::UNKNOWN)
    }
}

struct Estimator<'d> {
    checked: &'d Checked,
    variables: &'d [Option<&'d Declaration>],
    locals: Vec<Local<'d>>,
    sizes: Vec<Option<Bounds>>,
    entries: Vec<Option<EntrySize>>,
    /// Of each node.
    origins: Vec<Origin<'d>>,
}

impl<'d> Estimator<'d> {
    fn ast(&self) -> &'d Ast {
        &self.checked.ast
    }

    fn ty(&self, id: ExprId) -> &'d Type {
        self.checked.ty(id)
    }

    fn local(&self, name: &str) -> Option<&Local<'d>> {
        self.locals.iter().rev().find(|local| *local.name == *name)
    }

    /// What variables are declared as, where nothing says which one.
    fn root(&self) -> Origin<'d> {
        Origin::of(self.variables.first().copied().flatten())
    }

    /// The origin of a part of a value. A part of what is computed counts as if it
    /// were what the first variable is: upstream takes the first step of any path
    /// for the name of a variable, and rules rely on what that makes cheap.
    fn part(
        &self,
        of: Origin<'d>,
        part: impl FnOnce(&'d Declaration) -> Option<&'d Declaration>,
    ) -> Origin<'d> {
        match of {
            Origin::Computed => self.root(),
            Origin::Undeclared => Origin::Undeclared,
            Origin::Declared(declaration) => Origin::of(part(declaration)),
        }
    }

    fn origin(&self, id: ExprId) -> Origin<'d> {
        if let Expr::Ident(name) = self.ast().expr(id)
            && let Some(local) = self.local(name)
        {
            return local.origin;
        }
        self.origins[id.0 as usize]
    }

    fn size(&mut self, id: ExprId) -> Option<Bounds> {
        if let Some(size) = self.sizes[id.0 as usize] {
            return Some(size);
        }
        let written = match self.ast().expr(id) {
            Expr::Literal(Literal::String(text)) => Some(text.chars().count()),
            Expr::Literal(Literal::Bytes(bytes)) => Some(bytes.len()),
            Expr::Literal(_) => Some(1),
            Expr::List(elements) => Some(elements.len()),
            Expr::Map(entries) => Some(entries.len()),
            _ => None,
        };
        if let Some(size) = written {
            return Some(Bounds::fixed(size as u64));
        }
        if let Origin::Declared(origin) = self.origin(id) {
            let size = Bounds::new(0, origin.elements_max);
            self.sizes[id.0 as usize] = Some(size);
            return Some(size);
        }
        if self.ty(id).is_scalar() {
            return Some(Bounds::fixed(1));
        }
        match self.ast().expr(id) {
            Expr::Ident(name) => self.local(name)?.size,
            _ => None,
        }
    }

    fn entry_size(&self, id: ExprId) -> Option<EntrySize> {
        self.entries[id.0 as usize].or_else(|| match self.ast().expr(id) {
            Expr::Ident(name) => self.local(name)?.entries,
            _ => None,
        })
    }

    fn set_size(&mut self, id: ExprId, size: Option<Bounds>) {
        if size.is_some() {
            self.sizes[id.0 as usize] = size;
        }
    }

    fn set_entries(&mut self, id: ExprId, entries: Option<EntrySize>) {
        if entries.is_some() {
            self.entries[id.0 as usize] = entries;
        }
    }

    fn cost(&mut self, id: ExprId) -> Bounds {
        match self.ast().expr(id) {
            Expr::Literal(_) => Bounds::default(),
            Expr::Ident(name) => {
                self.origins[id.0 as usize] = match self.local(name) {
                    Some(local) => local.origin,
                    None => match self.checked.variable(id) {
                        Some(number) => Origin::of(self.variables.get(number).copied().flatten()),
                        // The name of a type is the first step of a path too, so
                        // that the comparison `type(x) == int` is cheap.
                        None => self.root(),
                    },
                };
                Bounds::fixed(cost::SELECT)
            }
            Expr::Select { operand, field, test } => {
                let mut sum = self.cost(*operand);
                // Upstream leaves the step out where the operand's type is open or
                // optional, though it costs one there as well.
                let known = matches!(self.ty(*operand), Type::Map(_) | Type::Object(_));
                let computed = !self.is_path(*operand);
                if !*test || !known || computed {
                    sum = sum.add(Bounds::fixed(cost::SELECT));
                }
                if *test {
                    return sum;
                }
                if computed {
                    sum = sum.add(Bounds::fixed(cost::SELECT));
                }
                self.origins[id.0 as usize] = self.part(self.origin(*operand), |origin| {
                    // Of a map, upstream knows what all its values have in common
                    // only where they may be anything.
                    let any = |values: &&Declaration| matches!(values.kind, Kind::Any);
                    origin.field(field).or_else(|| origin.values().filter(any))
                });
                sum
            }
            Expr::Call { function, target, args } => self.call(id, function, *target, args),
            Expr::List(elements) => {
                let mut sum = Bounds::fixed(cost::LIST);
                let mut items = Bounds::new(u64::MAX, 0);
                if elements.is_empty() {
                    items.min = 0;
                }
                for element in elements {
                    sum = sum.add(self.cost(element.value));
                    items = items.union(self.size(element.value).unwrap_or(Bounds::UNKNOWN));
                }
                let key = Bounds::fixed(1);
                self.set_entries(id, Some(EntrySize { list: true, key, value: items }));
                sum
            }
            Expr::Map(entries) => {
                let mut sum = Bounds::fixed(cost::MAP);
                let start = if entries.is_empty() { 0 } else { u64::MAX };
                let (mut key, mut value) = (Bounds::new(start, 0), Bounds::new(start, 0));
                for entry in entries {
                    sum = sum.add(self.cost(entry.key)).add(self.cost(entry.value));
                    key = key.union(self.size(entry.key).unwrap_or(Bounds::UNKNOWN));
                    value = value.union(self.size(entry.value).unwrap_or(Bounds::UNKNOWN));
                }
                self.set_entries(id, Some(EntrySize { list: false, key, value }));
                sum
            }
            Expr::Struct { fields, .. } => fields
                .iter()
                .fold(Bounds::fixed(cost::OBJECT), |sum, field| sum.add(self.cost(field.value))),
            Expr::Fold(fold) => self.fold(id, fold),
        }
    }

    fn fold(&mut self, id: ExprId, fold: &Fold) -> Bounds {
        let ranged = self.cost(fold.range);
        let sum = ranged.add(self.cost(fold.init));
        let accu = Local {
            name: fold.accu.clone(),
            origin: self.origin(fold.init),
            size: self.size(fold.init),
            entries: self.entry_size(fold.init),
        };
        self.locals.push(accu);
        if self.is_bind(fold) {
            let sum = sum.add(self.cost(fold.result));
            self.locals.pop();
            let (size, entries) = (self.size(fold.result), self.entry_size(fold.result));
            self.set_size(id, size);
            self.set_entries(id, entries);
            return sum;
        }
        let depth = self.locals.len();
        self.push_iteration(fold);
        let each = self.cost(fold.condition);
        let each = each.add(self.cost(fold.step));
        self.locals.truncate(depth);
        let sum = sum.add(self.cost(fold.result));
        self.locals.pop();

        let count = self.size(fold.range).unwrap_or(Bounds::UNKNOWN);
        match self.ast().expr(fold.init) {
            Expr::Literal(_) => {
                let size = self.size(fold.init);
                self.set_size(id, size);
            }
            Expr::List(_) | Expr::Map(_) => {
                self.set_size(id, Some(count));
                let entries = self.entries[fold.step.0 as usize];
                self.set_entries(id, entries);
            }
            _ => {}
        }
        sum.add(count.multiply(each))
    }

    /// Whether a node reads from something rather than computes: a path that
    /// begins with what is computed costs one more, which upstream leaves out.
    fn is_path(&self, id: ExprId) -> bool {
        match self.ast().expr(id) {
            Expr::Ident(_) => true,
            Expr::Select { test, .. } => !test,
            Expr::Call { function, .. } => matches!(&**function, "_[_]" | "_[?_]" | "_?._"),
            _ => false,
        }
    }

    fn is_bind(&self, fold: &Fold) -> bool {
        matches!(self.ast().expr(fold.range), Expr::List(elements) if elements.is_empty())
            && matches!(self.ast().expr(fold.condition), Expr::Literal(Literal::Bool(false)))
            && &*fold.accu != crate::ast::ACCU
    }

    fn push_iteration(&mut self, fold: &Fold) {
        let entries = self.entry_size(fold.range);
        let origin = self.origin(fold.range);
        let list = match entries {
            Some(entries) => entries.list,
            None => matches!(self.ty(fold.range), Type::List(_)),
        };
        let (key_size, value_size) =
            (entries.map(|entries| entries.key), entries.map(|entries| entries.value));
        let values = self.part(
            origin,
            match list {
                true => Declaration::items,
                false => Declaration::values,
            },
        );
        let local =
            |name: &str, origin, size| Local { name: name.into(), origin, size, entries: None };
        // Keys of maps are text of any length, which is what is declared of them.
        static KEY: Declaration = Declaration {
            kind: crate::declaration::Kind::String,
            elements_max: 0,
            nullable: false,
        };
        let keys = self.part(origin, |origin| origin.values().filter(|_| !list).map(|_| &KEY));
        match &fold.var2 {
            Some(var2) => {
                self.locals.push(local(&fold.var, keys, key_size));
                self.locals.push(local(var2, values, value_size));
            }
            None if list => self.locals.push(local(&fold.var, values, value_size)),
            None => self.locals.push(local(&fold.var, keys, key_size)),
        }
    }

    fn operand(&mut self, id: ExprId, cost: Bounds) -> Operand<'d> {
        let accu = self.ast().ident(id) == Some(crate::ast::ACCU);
        Operand {
            id,
            ty: self.ty(id).clone(),
            origin: if accu { Origin::Computed } else { self.origin(id) },
            size: self.size(id),
            cost,
            int: match self.ast().expr(id) {
                Expr::Literal(Literal::Int(number)) => Some(*number),
                _ => None,
            },
        }
    }

    fn call(
        &mut self,
        id: ExprId,
        function: &str,
        target: Option<ExprId>,
        args: &[ExprId],
    ) -> Bounds {
        if function == "dyn" {
            let cost = self.cost(args[0]);
            let (size, entries) = (self.size(args[0]), self.entry_size(args[0]));
            self.set_size(id, size);
            self.set_entries(id, entries);
            return cost.add(Bounds::fixed(1));
        }
        let mut operands = Vec::with_capacity(args.len());
        for &arg in args {
            let cost = self.cost(arg);
            operands.push(self.operand(arg, cost));
        }
        let overloads = self.checked.overloads(id);
        if overloads.is_empty() {
            return Bounds::default();
        }
        let mut sum = match (function, args.first()) {
            ("_[_]" | "_[?_]" | "_?._", Some(&base)) if !self.is_path(base) => {
                Bounds::fixed(cost::SELECT)
            }
            _ => Bounds::default(),
        };
        let target = target.map(|target| {
            sum = self.cost(target);
            self.operand(target, sum)
        });
        let mut cost = Bounds::new(u64::MAX, 0);
        let mut size: Option<Bounds> = None;
        for overload in overloads {
            let args_cost = operands.iter().fold(Bounds::default(), |sum, arg| sum.add(arg.cost));
            let one = call::estimate(overload.cost, target.as_ref(), &operands, args_cost);
            cost = cost.union(one.cost);
            size = match (size, one.size) {
                (Some(size), Some(more)) => Some(size.union(more)),
                (size, more) => size.or(more),
            };
            self.call_entries(id, overload.cost, &operands);
            if overload.cost == Cost::Index {
                size = self.entry_size(args[0]).map(|entries| entries.value);
                self.origins[id.0 as usize] = self.part(
                    self.origin(args[0]),
                    match overload.params[0] {
                        crate::functions::Pattern::List(_) => Declaration::items,
                        _ => Declaration::values,
                    },
                );
            }
            size = size.or_else(|| self.size(id));
        }
        self.set_size(id, size);
        sum.add(cost)
    }

    /// What the result holds, where the operands hold something.
    fn call_entries(&mut self, id: ExprId, cost: Cost, operands: &[Operand<'d>]) {
        let pair = match (cost, operands) {
            (Cost::Conditional, [_, a, b]) | (Cost::Concat | Cost::ConcatList, [a, b]) => {
                EntrySize::union(self.entry_size(a.id), self.entry_size(b.id))
            }
            _ => None,
        };
        self.set_entries(id, pair);
    }
}
