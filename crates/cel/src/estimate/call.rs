//! What one call may cost, by its kind of cost.

use super::{Bounds, Operand};
use crate::{
    cost::{Cost, DECISION, LIST, PATTERN, TRAVERSE},
    declaration::Declaration,
    types::Type,
};

/// A cost, and the size of the result where the call says something about it.
pub(super) struct Estimate {
    pub(super) cost: Bounds,
    pub(super) size: Option<Bounds>,
}

const ONE: Bounds = Bounds::fixed(1);
/// The length that a format's expression is taken to have.
const FORMAT_PATTERN_LEN: f64 = 128.0;
/// The length that a format's name is taken to have.
const FORMAT_NAME_LEN: u64 = 64;

/// The cost of a call and its arguments, without that of its target.
pub(super) fn estimate(
    cost: Cost,
    target: Option<&Operand<'_>>,
    args: &[Operand<'_>],
    args_cost: Bounds,
) -> Estimate {
    let (call, size) = match cost {
        Cost::Logic => {
            let (left, right) = (args[0].cost, args[1].cost);
            return Estimate { cost: Bounds::new(left.min, left.add(right).max), size: None };
        }
        Cost::Conditional => {
            let cost = args[0].cost.add(args[1].cost.union(args[2].cost));
            let size = args[1].size().union(args[2].size());
            return Estimate { cost, size: Some(size) };
        }
        _ => call(cost, target, args),
    };
    Estimate { cost: call.add(args_cost), size }
}

fn call(
    cost: Cost,
    target: Option<&Operand<'_>>,
    args: &[Operand<'_>],
) -> (Bounds, Option<Bounds>) {
    let size = |at: usize| args.get(at).map_or(Bounds::UNKNOWN, Operand::size);
    let text = |bounds: Bounds| bounds.scale(TRAVERSE);
    let whole = target.map(Operand::size);
    match (cost, whole) {
        (Cost::Equal, _) => (equal(&args[0], &args[1]), None),
        (Cost::NotEqual | Cost::Order, _) => (compared(size(0), size(1)), None),
        (Cost::Concat, _) => {
            let sum = size(0).add(size(1));
            (text(sum), Some(sum))
        }
        (Cost::ConcatList, _) => (ONE, Some(size(0).add(size(1)))),
        (Cost::InList, _) => (size(1), None),
        (Cost::Affix, _) => (text(size(0)), None),
        (Cost::Contains, Some(whole)) => (text(whole).multiply(text(size(0))), None),
        (Cost::Matches, Some(whole)) => (matching(whole, size(0)), None),
        (Cost::Find, Some(whole)) => (matching(whole, size(0)), Some(Bounds::new(0, whole.max))),
        (Cost::ToBytes, _) => {
            let of = size(0);
            (text(of), Some(Bounds::new(of.min, of.max.wrapping_mul(4))))
        }
        (Cost::BytesToText, _) => {
            let of = size(0);
            (text(of), Some(Bounds::new(of.min / 4, of.max)))
        }
        (Cost::Quote, _) => {
            let of = size(0);
            let most = of.max.wrapping_mul(2).wrapping_add(2);
            (text(of), Some(Bounds::new(of.min.saturating_add(2), most)))
        }
        (Cost::Format, Some(whole)) => (text(whole), None),
        (Cost::Scan, Some(whole)) => (scan(target, whole), None),
        (Cost::Transform, Some(whole)) => (text(whole), Some(whole)),
        (Cost::Replace, Some(whole)) => {
            (whole.scale(2.0 * TRAVERSE), Some(replaced(whole, size(0), size(1))))
        }
        (Cost::Split, Some(whole)) => {
            let limit = args.get(1).and_then(|limit| limit.int);
            let most = limit.map_or(whole.max, |limit| limit as u64);
            (whole.scale(2.0 * TRAVERSE), Some(Bounds::new(0, most)))
        }
        (Cost::Join, Some(whole)) => {
            let joined = joined(target, whole, args.first());
            (text(joined), Some(joined))
        }
        (Cost::Parse { sized }, _) => {
            let of = size(0);
            (text(of), sized.then_some(of))
        }
        (Cost::ParseTwice, _) => (size(0).scale(2.0 * TRAVERSE), None),
        (Cost::ContainsIp { parse }, _) => {
            let parse = if parse { text(size(0)) } else { Bounds::default() };
            (Bounds::new(8, 32).scale(TRAVERSE).add(parse), None)
        }
        (Cost::ContainsCidr { parse }, _) => {
            let parse = if parse { text(size(0)) } else { Bounds::default() };
            let masked = Bounds::new(4, 16).scale(TRAVERSE).add(ONE);
            (Bounds::new(8, 32).scale(TRAVERSE).add(masked).add(parse), None)
        }
        (Cost::Validate, Some(_)) => (text(size(0)).scale(FORMAT_PATTERN_LEN * PATTERN), None),
        (Cost::Slice, Some(whole)) => {
            let from = args[0].int.map_or(0, at_least_zero);
            let to = args[1].int.map_or(whole.max, at_least_zero);
            allocating(1.0, Bounds::fixed(to.wrapping_sub(from)))
        }
        (Cost::Range, _) => {
            let end = args[0].int.map_or(u64::MAX, at_least_zero);
            allocating(1.0, Bounds::fixed(end))
        }
        (Cost::Reverse, Some(whole)) => allocating(1.0, whole),
        (Cost::Flatten, Some(whole)) => {
            let depth = args.first().map_or(1, |depth| depth.int.map_or(u64::MAX, at_least_zero));
            allocating(depth as f64, whole)
        }
        (Cost::Distinct, Some(whole)) => allocating(2.0, whole.multiply(whole)),
        (Cost::Sort, Some(whole)) => each_with_each(target, whole),
        (Cost::SortBy, Some(_)) => each_with_each(args.first(), size(0)),
        (Cost::Sets(times), _) => {
            (size(0).multiply(size(1)).scale(f64::from(times)).add(ONE), None)
        }
        (Cost::Decide, _) => (Bounds::fixed(DECISION), None),
        _ => (ONE, None),
    }
}

fn at_least_zero(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn compared(a: Bounds, b: Bounds) -> Bounds {
    // What is declared of numbers and objects has no size: comparing them is
    // free here and costs one when it happens. As upstream has it, since rules
    // over long lists of numbers are just within the limit.
    let most = a.max.min(b.max);
    Bounds::new(u64::from(most > 0), most).scale(TRAVERSE)
}

fn equal(a: &Operand<'_>, b: &Operand<'_>) -> Bounds {
    match (&a.ty, &b.ty) {
        (Type::Opaque(left), Type::Opaque(right)) if left == right => match *left {
            "kubernetes.NamedFormat" => Bounds::new(1, FORMAT_NAME_LEN).scale(TRAVERSE),
            "kubernetes.URL" => {
                let most = b.size.map_or(1, |size| size.max);
                Bounds::new(1, most).scale(TRAVERSE)
            }
            _ => ONE,
        },
        _ => compared(a.size(), b.size()),
    }
}

fn matching(text: Bounds, pattern: Bounds) -> Bounds {
    text.add(ONE).scale(TRAVERSE).multiply(pattern.scale(PATTERN))
}

/// The type and size of the elements of a list, where it is one.
fn element(list: Option<&Operand<'_>>) -> Option<(Type, Bounds)> {
    let list = list?;
    let (Type::List(of) | Type::Optional(of)) = &list.ty else { return None };
    let declared = list.origin.declared().and_then(Declaration::items);
    let size = declared.map_or(Bounds::UNKNOWN, |items| Bounds::new(0, items.elements_max));
    Some(((**of).clone(), size))
}

fn scan(target: Option<&Operand<'_>>, whole: Bounds) -> Bounds {
    match element(target) {
        Some((Type::String | Type::Bytes, size)) => whole.multiply(ONE.add(size.scale(TRAVERSE))),
        Some(_) => whole,
        None => whole.scale(TRAVERSE),
    }
}

fn joined(target: Option<&Operand<'_>>, whole: Bounds, by: Option<&Operand<'_>>) -> Bounds {
    let elements = element(target).map_or(Bounds::default(), |(_, size)| whole.multiply(size));
    let Some(by) = by else { return elements };
    let gaps = Bounds::new(whole.min.saturating_sub(1), whole.max.saturating_sub(1));
    elements.add(by.size().multiply(gaps))
}

/// How long text gets when every `from` in it becomes `to`.
fn replaced(whole: Bounds, from: Bounds, to: Bounds) -> Bounds {
    // One bound: how often something is replaced, and what stays of the rest.
    // Nothing is found between all characters.
    let bound = |whole: u64, from: u64, shrinks: bool| match from {
        0 => (whole.saturating_add(1), whole),
        _ if shrinks => (0, whole),
        from => ((whole as f64 / from as f64).ceil() as u64, 0),
    };
    let (most, stays_most) = bound(whole.max, from.min, to.max <= from.min);
    let (least, stays_least) = bound(whole.min, from.max, from.max <= to.min);
    Bounds::new(least, most).multiply(to).add(Bounds::new(stays_least, stays_most))
}

fn allocating(factor: f64, size: Bounds) -> (Bounds, Option<Bounds>) {
    (size.scale(factor).add(Bounds::fixed(1 + LIST)), Some(size))
}

fn each_with_each(list: Option<&Operand<'_>>, size: Bounds) -> (Bounds, Option<Bounds>) {
    let text = matches!(element(list), Some((Type::String | Type::Bytes, _)));
    allocating(if text { 2.0 + TRAVERSE } else { 2.0 }, size.multiply(size))
}
