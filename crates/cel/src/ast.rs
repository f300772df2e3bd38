//! The syntax tree: an arena of nodes, each with its place in the source.

/// The number of a node in its [`Ast`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ExprId(pub(crate) u32);

/// A constant as written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    Literal(Literal),
    /// A name; a leading dot is part of it.
    Ident(Box<str>),
    /// `operand.field`, or the test `has(operand.field)`.
    Select {
        operand: ExprId,
        field: Box<str>,
        test: bool,
    },
    /// A function or operator; operators go by names such as `_+_`.
    Call {
        function: Box<str>,
        target: Option<ExprId>,
        args: Vec<ExprId>,
    },
    List(Vec<Element>),
    Map(Vec<Entry>),
    /// `name{field: value}`.
    Struct {
        name: Box<str>,
        fields: Vec<Field>,
    },
    Fold(Box<Fold>),
}

/// An element of a list; an optional one (`?x`) is left out where it is none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Element {
    pub(crate) value: ExprId,
    pub(crate) optional: bool,
}

/// An entry of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: ExprId,
    pub(crate) value: ExprId,
    pub(crate) optional: bool,
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    pub(crate) value: ExprId,
    pub(crate) optional: bool,
    pub(crate) offset: u32,
}

/// What every comprehension macro becomes: over `range`, while `condition`, the
/// accumulator becomes `step`; then `result`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fold {
    pub(crate) range: ExprId,
    pub(crate) var: Box<str>,
    /// The second variable of the two-variable macros.
    pub(crate) var2: Option<Box<str>>,
    pub(crate) accu: Box<str>,
    pub(crate) init: ExprId,
    pub(crate) condition: ExprId,
    pub(crate) step: ExprId,
    pub(crate) result: ExprId,
}

/// The accumulator of macros: no name that source can write.
pub(crate) const ACCU: &str = "@result";

/// A parsed expression.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ast {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
struct Node {
    expr: Expr,
    /// Where it is, in code points from the start of the source.
    offset: u32,
    /// Levels below and including this node.
    depth: u32,
}

impl Ast {
    pub(crate) fn add(&mut self, offset: u32, mut expr: Expr) -> ExprId {
        let mut depth = 0;
        children_mut(&mut expr, |child| depth = depth.max(self.depth(*child)));
        let id = ExprId(u32::try_from(self.nodes.len()).expect("sources are bounded"));
        self.nodes.push(Node { expr, offset, depth: depth + 1 });
        id
    }

    pub(crate) fn expr(&self, id: ExprId) -> &Expr {
        &self.nodes[id.0 as usize].expr
    }

    pub(crate) fn replace(&mut self, id: ExprId, expr: Expr) {
        self.nodes[id.0 as usize].expr = expr;
    }

    pub(crate) fn offset(&self, id: ExprId) -> u32 {
        self.nodes[id.0 as usize].offset
    }

    pub(crate) fn depth(&self, id: ExprId) -> u32 {
        self.nodes[id.0 as usize].depth
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = ExprId> + use<> {
        (0..self.nodes.len() as u32).map(ExprId)
    }

    /// Calls `with` for every node directly below.
    pub(crate) fn each_child(&self, id: ExprId, mut with: impl FnMut(ExprId)) {
        children_mut(&mut self.expr(id).clone(), |child| with(*child));
    }

    /// The name, where the node is a plain one.
    pub(crate) fn ident(&self, id: ExprId) -> Option<&str> {
        match self.expr(id) {
            Expr::Ident(name) => Some(name),
            _ => None,
        }
    }

    /// `a.b.c` where the node is names joined by dots.
    pub(crate) fn qualified(&self, id: ExprId) -> Option<String> {
        match self.expr(id) {
            Expr::Ident(name) => Some(name.to_string()),
            Expr::Select { operand, field, test: false } => {
                Some(format!("{}.{field}", self.qualified(*operand)?))
            }
            _ => None,
        }
    }

    /// The same tree again under other numbers: macros may use one argument
    /// twice, and each use has types of its own.
    pub(crate) fn copy(&mut self, id: ExprId) -> ExprId {
        let mut expr = self.expr(id).clone();
        let offset = self.offset(id);
        children_mut(&mut expr, |child| *child = self.copy(*child));
        self.add(offset, expr)
    }
}

/// Calls `with` for every direct child.
fn children_mut(expr: &mut Expr, mut with: impl FnMut(&mut ExprId)) {
    match expr {
        Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select { operand, .. } => with(operand),
        Expr::Call { target, args, .. } => target.iter_mut().chain(args).for_each(with),
        Expr::List(elements) => elements.iter_mut().for_each(|element| with(&mut element.value)),
        Expr::Map(entries) => {
            for entry in entries {
                with(&mut entry.key);
                with(&mut entry.value);
            }
        }
        Expr::Struct { fields, .. } => fields.iter_mut().for_each(|field| with(&mut field.value)),
        Expr::Fold(fold) => {
            for child in [
                &mut fold.range,
                &mut fold.init,
                &mut fold.condition,
                &mut fold.step,
                &mut fold.result,
            ] {
                with(child);
            }
        }
    }
}
