//! The evaluator. Every step is charged as upstream charges it; an evaluation
//! that costs more than it may ends there.

use std::{borrow::Cow, sync::Arc};

use crate::{
    containers::{insert, shown},
    cost,
    declaration::Merge,
    fault::Fault,
    functions::Outcome,
    plan::{Call, Fold, Node, NodeId, Plan},
    value::{List, Map, Text, Value},
};

/// Evaluates a plan with these variables. Gives the value and what it cost.
pub(crate) fn evaluate<'a>(
    plan: &'a Plan,
    variables: &[Option<Value<'a>>],
    cost_max: u64,
) -> (Outcome<'a>, u64) {
    let mut evaluation = Evaluation { plan, variables, locals: Vec::new(), cost: 0, cost_max };
    let outcome = evaluation.node(plan.root);
    (outcome, evaluation.cost)
}

struct Evaluation<'a, 'v> {
    plan: &'a Plan,
    variables: &'v [Option<Value<'a>>],
    locals: Vec<Outcome<'a>>,
    cost: u64,
    cost_max: u64,
}

impl<'a> Evaluation<'a, '_> {
    fn charge(&mut self, cost: u64) -> Result<(), Fault> {
        self.cost = self.cost.saturating_add(cost);
        match self.cost > self.cost_max {
            true => Err(Fault::CostLimit),
            false => Ok(()),
        }
    }

    fn node(&mut self, id: NodeId) -> Outcome<'a> {
        let outcome = self.path(id)?;
        // Reading a name, a field or an element costs one for the path as a
        // whole, and one for each step along it, which `path` charges.
        if self.is_path(id) {
            self.charge(cost::SELECT)?;
        }
        outcome
    }

    /// Whether a node reads from something rather than computes.
    fn is_path(&self, id: NodeId) -> bool {
        matches!(
            &self.plan.nodes[id as usize],
            Node::Variable(_)
                | Node::Local(_)
                | Node::Select { .. }
                | Node::OptionalSelect { .. }
                | Node::Index { .. }
        )
    }

    /// A node without what reading costs as a whole. The outer error is that
    /// the budget is used up, which nothing may absorb.
    fn path(&mut self, id: NodeId) -> Result<Outcome<'a>, Fault> {
        let plan = self.plan;
        let outcome = match &plan.nodes[id as usize] {
            Node::Constant(value) => Ok(value.clone()),
            Node::Variable(number) => match self.variables.get(*number) {
                Some(Some(value)) => Ok(value.clone()),
                _ => Err(Fault::new("no such attribute(s)")),
            },
            Node::Local(slot) => self.locals[*slot].clone(),
            Node::Select { operand, field } => {
                let operand = self.path(*operand)?;
                self.step(operand, |value| select(value, field, false))
            }
            Node::OptionalSelect { operand, field } => {
                let operand = self.path(*operand)?;
                self.step(operand, |value| select(value, field, true))
            }
            Node::Index { operand, index, optional } => self.index(*operand, *index, *optional),
            Node::Has { operand, field } => {
                let operand = self.path(*operand)?;
                // The test itself is free, the step to the field is not.
                self.step(operand, |value| has(value, field))
            }
            Node::And(left, right) => self.logic(*left, *right, false),
            Node::Or(left, right) => self.logic(*left, *right, true),
            Node::Conditional { condition, yes, no } => {
                match self.node(*condition) {
                    // A branch that is a path is charged for its steps only.
                    Ok(Value::Bool(true)) => self.path(*yes)?,
                    Ok(Value::Bool(false)) => self.path(*no)?,
                    Ok(_) => Err(Fault::no_such_overload()),
                    Err(fault) => Err(fault),
                }
            }
            Node::NotStrictlyFalse(value) => {
                let value = self.node(*value);
                if matches!(value, Err(Fault::CostLimit)) {
                    return Err(Fault::CostLimit);
                }
                self.charge(1)?;
                Ok(Value::Bool(!matches!(value, Ok(Value::Bool(false)))))
            }
            Node::OptionalOr { left, right, value } => match self.node(*left) {
                Ok(Value::Optional(Some(found))) => match value {
                    true => Ok((*found).clone()),
                    false => Ok(Value::Optional(Some(found))),
                },
                Ok(Value::Optional(None)) => self.node(*right),
                Ok(_) => Err(Fault::no_such_overload()),
                Err(fault) => Err(fault),
            },
            Node::OneOf { value, set } => self
                .node(*value)
                .map(|value| Value::Bool(value.key().is_some_and(|key| set.contains(&key)))),
            Node::Call(call) => self.call(call),
            Node::List(elements) => self.list(elements),
            Node::Map(entries) => self.map(entries),
            Node::Message(fields) => self.message(fields),
            Node::Append { accu, element, optional } => self.append(*accu, *element, *optional),
            Node::Insert { accu, key, value } => self.insert(*accu, *key, *value),
            Node::Fold(fold) => self.fold(fold),
        };
        match outcome {
            Err(Fault::CostLimit) => Err(Fault::CostLimit),
            outcome => Ok(outcome),
        }
    }

    /// One step along a path.
    fn step(
        &mut self,
        operand: Outcome<'a>,
        read: impl FnOnce(&Value<'a>) -> Outcome<'a>,
    ) -> Outcome<'a> {
        let value = operand?;
        let outcome = read(&value);
        // An optional step to what is not there is free.
        if !matches!(outcome, Ok(Value::Optional(None))) {
            self.charge(cost::SELECT)?;
        }
        outcome
    }

    fn index(&mut self, operand: NodeId, index: NodeId, optional: bool) -> Outcome<'a> {
        let operand = self.path(operand)??;
        // A path used as an index is the step; anything else is computed first.
        let key = match self.is_path(index) {
            true => self.path(index)??,
            false => self.node(index)?,
        };
        self.step(Ok(operand), |value| at(value, &key, optional))
    }

    /// `&&` and `||`: `decides` is the value that makes the other operand not
    /// matter, even where that is an error.
    fn logic(&mut self, left: NodeId, right: NodeId, decides: bool) -> Outcome<'a> {
        let left = self.node(left);
        match left {
            Ok(Value::Bool(value)) if value == decides => return Ok(Value::Bool(decides)),
            Err(Fault::CostLimit) => return left,
            _ => {}
        }
        let right = self.node(right);
        match (left, right) {
            (_, Err(Fault::CostLimit)) => Err(Fault::CostLimit),
            (_, Ok(Value::Bool(value))) if value == decides => Ok(Value::Bool(decides)),
            (Ok(Value::Bool(_)), Ok(Value::Bool(_))) => Ok(Value::Bool(!decides)),
            (Err(fault), _) | (_, Err(fault)) => Err(fault),
            _ => Err(Fault::no_such_overload()),
        }
    }

    /// A call. One or two operands are all evaluated before a failure of one
    /// ends it; of more, the first failure does. They stay off the heap.
    fn call(&mut self, call: &'a Call) -> Outcome<'a> {
        match *call.args {
            [only] => match self.node(only) {
                Ok(value) => self.apply(call, &[value]),
                Err(fault) => self.failed(fault),
            },
            [left, right] => {
                let left = self.node(left);
                if matches!(left, Err(Fault::CostLimit)) {
                    return left;
                }
                match (left, self.node(right)) {
                    (Ok(left), Ok(right)) => self.apply(call, &[left, right]),
                    (_, Err(Fault::CostLimit)) => Err(Fault::CostLimit),
                    (Err(fault), _) | (_, Err(fault)) => self.failed(fault),
                }
            }
            ref many => {
                let args = many.iter().map(|arg| self.node(*arg)).collect::<Result<Vec<_>, _>>()?;
                self.apply(call, &args)
            }
        }
    }

    /// A call whose operand failed is charged as the least of calls.
    fn failed(&mut self, fault: Fault) -> Outcome<'a> {
        if fault != Fault::CostLimit {
            self.charge(1)?;
        }
        Err(fault)
    }

    fn apply(&mut self, call: &'a Call, args: &[Value<'a>]) -> Outcome<'a> {
        let before = call.cost.before(args);
        if let Some(cost) = before {
            self.charge(cost)?;
        }
        let unknown = |outcome: &Outcome<'_>| matches!(outcome, Err(fault) if *fault == Fault::no_such_overload());
        let mut outcome = Err(Fault::no_such_overload());
        for function in &call.functions {
            outcome = (function.run)(args);
            if !unknown(&outcome) {
                break;
            }
        }
        if before.is_none() {
            self.charge(call.cost.after(&outcome))?;
        }
        if unknown(&outcome) && !call.name.starts_with(['_', '!', '-', '@']) {
            let types: Vec<String> = args.iter().map(Value::type_name).collect();
            let message = format!("no such overload: {}({})", call.name, types.join(", "));
            return Err(Fault::new(message));
        }
        outcome
    }

    fn list(&mut self, elements: &'a [(NodeId, bool)]) -> Outcome<'a> {
        let mut values = Vec::with_capacity(elements.len());
        for (element, optional) in elements {
            let value = self.node(*element)?;
            values.extend(given(value, *optional)?);
        }
        self.charge(cost::LIST)?;
        Ok(Value::list(values))
    }

    fn map(&mut self, entries: &'a [(NodeId, NodeId, bool)]) -> Outcome<'a> {
        let mut made = Vec::with_capacity(entries.len());
        for (key, value, optional) in entries {
            let key = self.node(*key)?;
            let value = self.node(*value)?;
            made.extend(given(value, *optional)?.map(|value| (key, value)));
        }
        self.charge(cost::MAP)?;
        Ok(Value::Map(Map::of(made)?))
    }

    fn message(&mut self, fields: &'a [(Box<str>, NodeId, bool)]) -> Outcome<'a> {
        let mut made = Vec::with_capacity(fields.len());
        for (name, value, optional) in fields {
            let value = self.node(*value)?;
            let name = Value::String(Text::Borrowed(name));
            made.extend(given(value, *optional)?.map(|value| (name, value)));
        }
        self.charge(cost::OBJECT)?;
        Ok(Value::Map(Map::of(made)?))
    }

    /// Takes the accumulator out of its place, so that it is not shared while
    /// it grows; the step puts the result back.
    fn take(&mut self, accu: usize) -> Outcome<'a> {
        std::mem::replace(&mut self.locals[accu], Ok(Value::Null))
    }

    fn append(&mut self, accu: usize, element: NodeId, optional: bool) -> Outcome<'a> {
        let value = self.node(element)?;
        let value = given(value, optional)?;
        // The accumulator, the list of one, and adding them.
        self.charge(cost::SELECT + cost::LIST + 1)?;
        match self.take(accu)? {
            Value::List(List::Made(mut values, merge)) => {
                Arc::make_mut(&mut values).extend(value);
                Ok(Value::List(List::Made(values, merge)))
            }
            Value::List(list) => {
                let mut values = list.iter().collect::<Result<Vec<_>, _>>()?;
                values.extend(value);
                Ok(Value::List(List::Made(values.into(), Cow::Owned(Merge::Atomic))))
            }
            _ => Err(Fault::no_such_overload()),
        }
    }

    fn insert(&mut self, accu: usize, key: Option<NodeId>, value: NodeId) -> Outcome<'a> {
        let mut new = Vec::new();
        match key {
            Some(key) => {
                let key = self.node(key)?;
                new.push((key, self.node(value)?));
            }
            None => match self.node(value)? {
                Value::Map(map) => {
                    for key in map.keys() {
                        if let Some(value) = map.get(&key) {
                            new.push((key, value?));
                        }
                    }
                }
                _ => return Err(Fault::no_such_overload()),
            },
        }
        self.charge(cost::SELECT + 1)?;
        let Value::Map(Map::Made(mut entries)) = self.take(accu)? else {
            return Err(Fault::no_such_overload());
        };
        let made = Arc::make_mut(&mut entries);
        for (key, value) in new {
            insert(made, key, value)?;
        }
        Ok(Value::Map(Map::Made(entries)))
    }

    fn fold(&mut self, fold: &'a Fold) -> Outcome<'a> {
        let range = self.node(fold.range)?;
        let init = self.node(fold.init);
        if matches!(init, Err(Fault::CostLimit)) {
            return init;
        }
        let base = self.locals.len();
        self.locals.push(init);
        let outcome = self.iterate(fold, base, range).and_then(|()| self.node(fold.result));
        self.locals.truncate(base);
        outcome
    }

    fn iterate(&mut self, fold: &'a Fold, base: usize, range: Value<'a>) -> Result<(), Fault> {
        match range {
            Value::List(list) => {
                for (at, value) in list.iter().enumerate() {
                    let at = Ok(Value::Int(i64::try_from(at).unwrap_or(i64::MAX)));
                    let (first, second) = match fold.two {
                        true => (at, Some(value)),
                        false => (value, None),
                    };
                    if !self.turn(fold, base, first, second)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let second = fold.two.then(|| {
                        map.get(&key).unwrap_or_else(|| Err(Fault::no_such_key(shown(&key))))
                    });
                    if !self.turn(fold, base, Ok(key), second)? {
                        break;
                    }
                }
            }
            other => {
                return Err(Fault::new(format!(
                    "got '{}', expected iterable type",
                    other.type_name()
                )));
            }
        }
        Ok(())
    }

    /// One turn of a loop; whether there may be another.
    fn turn(
        &mut self,
        fold: &'a Fold,
        base: usize,
        first: Outcome<'a>,
        second: Option<Outcome<'a>>,
    ) -> Result<bool, Fault> {
        self.locals.push(first);
        self.locals.extend(second);
        let goes_on = match self.node(fold.condition) {
            Err(Fault::CostLimit) => return Err(Fault::CostLimit),
            condition => !matches!(condition, Ok(Value::Bool(false))),
        };
        if goes_on {
            let step = self.node(fold.step);
            if matches!(step, Err(Fault::CostLimit)) {
                return Err(Fault::CostLimit);
            }
            self.locals[base] = step;
        }
        self.locals.truncate(base + 1);
        Ok(goes_on)
    }
}

/// An optional element or entry is there only where it has a value.
fn given(value: Value<'_>, optional: bool) -> Result<Option<Value<'_>>, Fault> {
    match (optional, value) {
        (false, value) => Ok(Some(value)),
        (true, Value::Optional(value)) => Ok(value.map(|value| (*value).clone())),
        (true, _) => Err(Fault::no_such_overload()),
    }
}

fn select<'a>(value: &Value<'a>, field: &str, optional: bool) -> Outcome<'a> {
    let (map, optional) = match value {
        Value::Map(map) => (map, optional),
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => match &**inner {
            Value::Map(map) => (map, true),
            _ => return Err(Fault::no_such_overload()),
        },
        _ => return Err(Fault::no_such_overload()),
    };
    wrap(map.field(field), optional, || field.to_owned())
}

fn wrap<'a>(
    found: Option<Outcome<'a>>,
    optional: bool,
    key: impl FnOnce() -> String,
) -> Outcome<'a> {
    match (found, optional) {
        (Some(value), false) => value,
        (Some(value), true) => Ok(Value::some(value?)),
        (None, true) => Ok(Value::Optional(None)),
        (None, false) => Err(Fault::no_such_key(key())),
    }
}

fn has<'a>(value: &Value<'a>, field: &str) -> Outcome<'a> {
    match value {
        Value::Map(map) => match map.field(field) {
            Some(Err(fault)) => Err(fault),
            found => Ok(Value::Bool(found.is_some())),
        },
        Value::Optional(None) => Ok(Value::Bool(false)),
        Value::Optional(Some(inner)) => has(inner, field),
        _ => Err(Fault::no_such_overload()),
    }
}

fn at<'a>(value: &Value<'a>, key: &Value<'a>, optional: bool) -> Outcome<'a> {
    let (value, optional) = match value {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => (&**inner, true),
        value => (value, optional),
    };
    match value {
        Value::List(list) => {
            let place = match key {
                Value::Int(at) => usize::try_from(*at).ok(),
                Value::Uint(at) => usize::try_from(*at).ok(),
                Value::Double(at) if at.fract() == 0.0 && *at >= 0.0 => Some(*at as usize),
                _ => {
                    return Err(Fault::new(format!(
                        "unsupported index type '{}' in list",
                        key.type_name()
                    )));
                }
            };
            match (place.and_then(|at| list.get(at)), optional) {
                (None, false) => Err(Fault::new(format!("index out of bounds: {}", shown(key)))),
                (found, optional) => wrap(found, optional, String::new),
            }
        }
        Value::Map(map) => wrap(map.get(key), optional, || shown(key)),
        _ => Err(Fault::no_such_overload()),
    }
}
