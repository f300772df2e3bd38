//! From a checked expression to what is evaluated: names are slots, literals
//! are values, constant parts are computed once. What is computed here costs
//! nothing when evaluated, which upstream's numbers depend on.

use std::collections::BTreeSet;

use crate::{
    ast::{ACCU, Expr, ExprId, Fold as AstFold, Literal},
    check::{Candidate, Checked, Reference},
    fault::Fault,
    functions::{Function, conversions::is_conversion, regex},
    value::{Key, Map, Text, Value},
};

/// The number of a node in its plan.
pub(crate) type NodeId = u32;

/// What to evaluate.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<Node>,
    pub(crate) root: NodeId,
}

/// One step.
#[derive(Debug)]
pub(crate) enum Node {
    Constant(Value<'static>),
    /// A variable of the environment.
    Variable(usize),
    /// A variable of a fold, by its place among those of the folds around.
    Local(usize),
    Select {
        operand: NodeId,
        field: Box<str>,
    },
    Has {
        operand: NodeId,
        field: Box<str>,
    },
    /// `a.?b`.
    OptionalSelect {
        operand: NodeId,
        field: Box<str>,
    },
    Index {
        operand: NodeId,
        index: NodeId,
        optional: bool,
    },
    And(NodeId, NodeId),
    Or(NodeId, NodeId),
    Conditional {
        condition: NodeId,
        yes: NodeId,
        no: NodeId,
    },
    NotStrictlyFalse(NodeId),
    /// `a.or(b)`, or with `value` `a.orValue(b)`.
    OptionalOr {
        left: NodeId,
        right: NodeId,
        value: bool,
    },
    /// `x in [constants]`.
    OneOf {
        value: NodeId,
        set: BTreeSet<Key<'static>>,
    },
    Call(Call),
    List(Box<[(NodeId, bool)]>),
    Map(Box<[(NodeId, NodeId, bool)]>),
    /// What is made by naming its type: fields by name.
    Message(Box<[(Box<str>, NodeId, bool)]>),
    /// The accumulator and one more element: the step of `map` and `filter`.
    Append {
        accu: usize,
        element: NodeId,
        optional: bool,
    },
    /// The accumulator and one more entry, or the entries of a map.
    Insert {
        accu: usize,
        key: Option<NodeId>,
        value: NodeId,
    },
    Fold(Fold),
}

/// A call: what to run, first that fits.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) functions: Box<[&'static Function]>,
    pub(crate) cost: crate::cost::Cost,
    pub(crate) args: Box<[NodeId]>,
}

/// A fold. Its variables are the locals from `base` on: accumulator, then one
/// or two of iteration.
#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) range: NodeId,
    pub(crate) two: bool,
    pub(crate) init: NodeId,
    pub(crate) condition: NodeId,
    pub(crate) step: NodeId,
    pub(crate) result: NodeId,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("name", &self.name).field("args", &self.args).finish()
    }
}

/// Plans a checked expression.
///
/// # Errors
/// A constant part has no value.
pub(crate) fn plan(checked: &Checked) -> Result<Plan, Fault> {
    let mut planner = Planner { checked, nodes: Vec::new(), scope: Vec::new() };
    let root = planner.node(checked.root)?;
    Ok(Plan { nodes: planner.nodes, root })
}

struct Planner<'c> {
    checked: &'c Checked,
    nodes: Vec<Node>,
    scope: Vec<Box<str>>,
}

impl Planner<'_> {
    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        (self.nodes.len() - 1) as NodeId
    }

    fn constant(&self, id: NodeId) -> Option<&Value<'static>> {
        match &self.nodes[id as usize] {
            Node::Constant(value) => Some(value),
            _ => None,
        }
    }

    fn slot(&self, name: &str) -> Option<usize> {
        self.scope.iter().rposition(|known| **known == *name)
    }

    fn node(&mut self, id: ExprId) -> Result<NodeId, Fault> {
        let ast = &self.checked.ast;
        let node = match ast.expr(id) {
            Expr::Literal(literal) => Node::Constant(value(literal)),
            Expr::Ident(name) => match (self.checked.reference(id), self.slot(name)) {
                (Some(Reference::Variable(number)), _) => Node::Variable(*number),
                (Some(Reference::Type(ty)), _) => Node::Constant(Value::Type(ty.clone())),
                (None, Some(slot)) => Node::Local(slot),
                (None, None) => return Err(Fault::new(format!("no such attribute(s): {name}"))),
            },
            Expr::Select { operand, field, test } => {
                let operand = self.node(*operand)?;
                let field = field.clone();
                match test {
                    true => Node::Has { operand, field },
                    false => Node::Select { operand, field },
                }
            }
            Expr::Call { function, target, args } => return self.call(id, function, *target, args),
            Expr::List(elements) => {
                let mut planned = Vec::with_capacity(elements.len());
                for element in elements {
                    planned.push((self.node(element.value)?, element.optional));
                }
                return Ok(self.list(planned));
            }
            Expr::Map(entries) => {
                let mut planned = Vec::with_capacity(entries.len());
                for entry in entries {
                    planned.push((self.node(entry.key)?, self.node(entry.value)?, entry.optional));
                }
                return self.map(planned);
            }
            Expr::Struct { fields, .. } => {
                let mut planned = Vec::with_capacity(fields.len());
                for field in fields {
                    planned.push((field.name.clone(), self.node(field.value)?, field.optional));
                }
                Node::Message(planned.into())
            }
            Expr::Fold(fold) => Node::Fold(self.fold(fold)?),
        };
        Ok(self.add(node))
    }

    fn list(&mut self, elements: Vec<(NodeId, bool)>) -> NodeId {
        let constants: Option<Vec<Value<'static>>> = elements
            .iter()
            .map(|(id, optional)| self.constant(*id).filter(|_| !optional).cloned())
            .collect();
        self.add(match constants {
            Some(values) => Node::Constant(Value::list(values)),
            None => Node::List(elements.into()),
        })
    }

    fn map(&mut self, entries: Vec<(NodeId, NodeId, bool)>) -> Result<NodeId, Fault> {
        let constants: Option<Vec<_>> = entries
            .iter()
            .map(|(key, value, optional)| {
                let key = self.constant(*key).filter(|_| !optional)?;
                Some((key.clone(), self.constant(*value)?.clone()))
            })
            .collect();
        let node = match constants {
            Some(entries) => Node::Constant(Value::Map(Map::of(entries)?)),
            None => Node::Map(entries.into()),
        };
        Ok(self.add(node))
    }

    fn fold(&mut self, fold: &AstFold) -> Result<Fold, Fault> {
        let range = self.node(fold.range)?;
        let init = self.node(fold.init)?;
        let before = self.scope.len();
        self.scope.push(fold.accu.clone());
        self.scope.push(fold.var.clone());
        self.scope.extend(fold.var2.clone());
        let condition = self.node(fold.condition)?;
        let step = self.node(fold.step)?;
        self.scope.truncate(before + 1);
        let result = self.node(fold.result)?;
        self.scope.truncate(before);
        Ok(Fold { range, two: fold.var2.is_some(), init, condition, step, result })
    }

    fn call(
        &mut self,
        id: ExprId,
        function: &str,
        target: Option<ExprId>,
        args: &[ExprId],
    ) -> Result<NodeId, Fault> {
        if let Some(node) = self.accumulate(function, args)? {
            return Ok(self.add(node));
        }
        let mut planned = Vec::with_capacity(args.len() + 1);
        for arg in target.iter().chain(args) {
            planned.push(self.node(*arg)?);
        }
        let node = match (function, &planned[..]) {
            ("_&&_", &[left, right]) => Node::And(left, right),
            ("_||_", &[left, right]) => Node::Or(left, right),
            ("_?_:_", &[condition, yes, no]) => Node::Conditional { condition, yes, no },
            ("@not_strictly_false", &[value]) => Node::NotStrictlyFalse(value),
            ("_[_]", &[operand, index]) => Node::Index { operand, index, optional: false },
            ("_[?_]", &[operand, index]) => Node::Index { operand, index, optional: true },
            ("_?._", &[operand, field]) => match self.constant(field) {
                Some(Value::String(field)) => {
                    Node::OptionalSelect { operand, field: field[..].into() }
                }
                _ => return Err(Fault::no_such_overload()),
            },
            ("or", &[left, right]) => Node::OptionalOr { left, right, value: false },
            ("orValue", &[left, right]) => Node::OptionalOr { left, right, value: true },
            ("@in", &[value, list]) => match self.constants_set(id, list) {
                Some(set) if set.is_empty() => Node::Constant(Value::Bool(false)),
                Some(set) => Node::OneOf { value, set },
                None => self.plain(id, planned)?,
            },
            (name, &[arg]) if is_conversion(name) && self.constant(arg).is_some() => {
                match (self.constant(arg).cloned(), self.checked.candidates(id)) {
                    (Some(value), [first, ..]) => Node::Constant((first.function.run)(&[value])?),
                    _ => return Err(Fault::no_such_overload()),
                }
            }
            (name, &[_, pattern]) if regex::PATTERN_FUNCTIONS.contains(&name) => {
                self.compile_pattern(pattern)?;
                self.plain(id, planned)?
            }
            (name, &[_, pattern, _]) if regex::PATTERN_FUNCTIONS.contains(&name) => {
                self.compile_pattern(pattern)?;
                self.plain(id, planned)?
            }
            _ => self.plain(id, planned)?,
        };
        Ok(self.add(node))
    }

    fn plain(&self, id: ExprId, args: Vec<NodeId>) -> Result<Node, Fault> {
        let candidates = self.checked.candidates(id);
        let Some(first) = candidates.first() else { return Err(Fault::no_such_overload()) };
        let mut functions: Vec<&'static Function> = Vec::new();
        for Candidate { function, .. } in candidates {
            if !functions.iter().any(|known| std::ptr::eq(*known, *function)) {
                functions.push(function);
            }
        }
        // Where types are known only when evaluated, a call that may be of
        // several kinds costs one unit.
        let same = candidates.iter().all(|other| other.overload.cost == first.overload.cost);
        let cost = if same { first.overload.cost } else { crate::cost::Cost::Unit };
        let (name, functions) = (first.function.name, functions.into());
        Ok(Node::Call(Call { name, functions, cost, args: args.into() }))
    }

    /// A literal that is used as a regular expression is compiled once.
    fn compile_pattern(&mut self, id: NodeId) -> Result<(), Fault> {
        if let Node::Constant(value) = &mut self.nodes[id as usize]
            && let Value::String(text) = value
        {
            let pattern = regex::Pattern::new(text).map_err(Fault::new)?;
            *value = Value::String(Text::Pattern(pattern.into()));
        }
        Ok(())
    }

    /// The elements of a constant list of scalars.
    fn constants_set(&self, id: ExprId, list: NodeId) -> Option<BTreeSet<Key<'static>>> {
        let Some(Value::List(list)) = self.constant(list) else { return None };
        // A map may be what is looked into as well, where the type is not known.
        let [_] = self.checked.candidates(id) else { return None };
        list.iter().map(|value| value.ok()?.key()).collect()
    }

    /// `accumulator + [x]` and insertion into the accumulator, which must not
    /// copy what was accumulated. In both, the accumulator is used once.
    fn accumulate(&mut self, function: &str, args: &[ExprId]) -> Result<Option<Node>, Fault> {
        let ast = &self.checked.ast;
        let Some(&first) = args.first() else { return Ok(None) };
        if ast.ident(first) != Some(ACCU) {
            return Ok(None);
        }
        let Some(accu) = self.slot(ACCU) else { return Ok(None) };
        Ok(match (function, args) {
            ("_+_", [_, list]) => match ast.expr(*list) {
                Expr::List(elements) if elements.len() == 1 => {
                    let (element, optional) = (elements[0].value, elements[0].optional);
                    Some(Node::Append { accu, element: self.node(element)?, optional })
                }
                _ => None,
            },
            ("cel.@mapInsert", [_, entries]) => {
                Some(Node::Insert { accu, key: None, value: self.node(*entries)? })
            }
            ("cel.@mapInsert", [_, key, value]) => {
                let key = Some(self.node(*key)?);
                Some(Node::Insert { accu, key, value: self.node(*value)? })
            }
            _ => None,
        })
    }
}

fn value(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(number) => Value::Int(*number),
        Literal::Uint(number) => Value::Uint(*number),
        Literal::Double(number) => Value::Double(*number),
        Literal::String(text) => Value::text(text.as_str()),
        Literal::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
    }
}
