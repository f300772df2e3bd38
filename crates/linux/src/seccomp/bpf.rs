//! A profile as a classic BPF program (seccomp(2), `linux/filter.h`): the
//! architecture is checked, then a binary tree over the system call's number
//! leads to a few instructions that decide.

use std::collections::HashMap;

use super::{Action, Arch, Comparison, Condition, Profile, Rule, numbers::NUMBERS};

/// Longer programs are refused by the kernel (`BPF_MAXINSNS`).
const INSTRUCTIONS_MAX: usize = 4096;

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jump_true: u8,
    pub(super) jump_false: u8,
    pub(super) k: u32,
}

pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_GREATER_EQUAL: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Set in the number of x32 calls, which arrive as x86_64.
const X32_BIT: u32 = 0x4000_0000;

const ENOSYS: u16 = 38;

fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, k }
}

fn jump(code: u16, k: u32, jump_true: usize, jump_false: usize) -> Instruction {
    // Callers keep jumps short; a longer one would be a wrong program.
    let short = |len: usize| u8::try_from(len).expect("a condition has few instructions");
    Instruction { code, jump_true: short(jump_true), jump_false: short(jump_false), k }
}

fn answer(action: Action) -> Instruction {
    let value = match action {
        Action::KillProcess => 0x8000_0000,
        Action::KillThread => 0,
        Action::Trap => 0x0003_0000,
        Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
        Action::Trace(value) => 0x7ff0_0000 | u32::from(value),
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
    };
    plain(RETURN, value)
}

/// What decides one system call: conditions and their action in order, then the
/// action for the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decision {
    rules: Vec<(Vec<Condition>, Action)>,
    otherwise: Action,
}

pub(super) fn compile(profile: &Profile, arches: &[Arch]) -> Result<Vec<Instruction>, String> {
    for rule in &profile.rules {
        if rule.conditions.iter().any(|condition| condition.argument > 5) {
            return Err("a system call has six arguments".into());
        }
    }
    let mut program = vec![plain(LOAD, ARCH)];
    for arch in arches {
        let mut body = vec![plain(LOAD, NUMBER)];
        if *arch == Arch::X86_64 {
            body.push(jump(JUMP_GREATER_EQUAL, X32_BIT, 0, 1));
            body.push(answer(Action::Errno(ENOSYS)));
        }
        body.extend(tree(&ranges(profile, *arch)));
        program.push(jump(JUMP_EQUAL, audit_arch(*arch), 1, 0));
        program.push(plain(JUMP, body.len() as u32));
        program.extend(body);
    }
    // A foreign architecture would reach other calls under known numbers.
    program.push(answer(match profile.default {
        Action::Allow | Action::Log => profile.default,
        _ => Action::KillProcess,
    }));
    if program.len() > INSTRUCTIONS_MAX {
        return Err(format!("the filter has {} instructions, more than 4096", program.len()));
    }
    Ok(program)
}

fn audit_arch(arch: Arch) -> u32 {
    match arch {
        Arch::X86_64 => 0xc000_003e,
        Arch::X86 => 0x4000_0003,
        Arch::Aarch64 => 0xc000_00b7,
        Arch::Arm => 0x4000_0028,
    }
}

/// Numbers at which the decision changes, from 0 on.
fn ranges(profile: &Profile, arch: Arch) -> Vec<(u32, Decision)> {
    let column = arch as usize;
    let mut numbers: Vec<(u32, &str)> = NUMBERS
        .iter()
        .filter_map(|(name, numbers)| u32::try_from(numbers[column]).ok().map(|n| (n, *name)))
        .collect();
    // Private calls of 32-bit ARM, beyond the table's range.
    if arch == Arch::Arm {
        numbers.extend([(0xf_0001, "breakpoint"), (0xf_0002, "cacheflush"), (0xf_0005, "set_tls")]);
    }
    numbers.sort_unstable();
    let last = numbers.iter().map(|(n, _)| *n).filter(|n| *n < 0xf_0000).max().unwrap_or(0);
    let mut by_name: HashMap<&str, Vec<&Rule>> = HashMap::new();
    for rule in &profile.rules {
        for name in &rule.names {
            by_name.entry(name).or_default().push(rule);
        }
    }
    let default = Decision { rules: Vec::new(), otherwise: profile.default };
    let newer = Decision { rules: Vec::new(), otherwise: profile.newer };
    let mut ranges = vec![(0, default.clone())];
    let mut at = 0;
    for (number, name) in numbers {
        if number > at {
            let gap = if at > last { newer.clone() } else { default.clone() };
            ranges.push((at, gap));
        }
        let fitting = by_name.get(name).map_or(&[][..], Vec::as_slice);
        ranges.push((number, decision(profile, fitting)));
        at = number + 1;
    }
    ranges.push((at, newer));
    // Later entries for one number win, equal neighbours are one.
    let mut merged: Vec<(u32, Decision)> = Vec::new();
    for (start, decision) in ranges {
        match merged.last_mut() {
            Some((at, last)) if *at == start => *last = decision,
            Some((_, last)) if *last == decision => {}
            _ => merged.push((start, decision)),
        }
    }
    merged
}

fn decision(profile: &Profile, fitting: &[&Rule]) -> Decision {
    let mut rules = Vec::new();
    for rule in fitting {
        if rule.conditions.is_empty() {
            return Decision { rules, otherwise: rule.action };
        }
        rules.push((rule.conditions.clone(), rule.action));
    }
    Decision { rules, otherwise: profile.default }
}

fn tree(ranges: &[(u32, Decision)]) -> Vec<Instruction> {
    if let [(_, decision)] = ranges {
        return leaf(decision);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (left, right) = (tree(low), tree(high));
    let mut code = match u8::try_from(left.len()) {
        Ok(_) => vec![jump(JUMP_GREATER_EQUAL, high[0].0, left.len(), 0)],
        Err(_) => {
            vec![jump(JUMP_GREATER_EQUAL, high[0].0, 0, 1), plain(JUMP, left.len() as u32)]
        }
    };
    code.extend(left);
    code.extend(right);
    code
}

fn leaf(decision: &Decision) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (conditions, action) in &decision.rules {
        // Built from the end, so that a failing condition knows how far it is
        // to the next rule.
        let mut rule = vec![answer(*action)];
        for condition in conditions.iter().rev() {
            let mut check = check(condition, rule.len());
            check.extend(rule);
            rule = check;
        }
        code.extend(rule);
    }
    code.push(answer(decision.otherwise));
    code
}

/// Instructions that fall through where the condition holds and jump over
/// `rest` more where it does not. Arguments are two words, compared one after
/// the other.
fn check(condition: &Condition, rest: usize) -> Vec<Instruction> {
    let low = plain(LOAD, ARGUMENTS + 8 * u32::from(condition.argument) + word_offsets().0);
    let high = plain(LOAD, ARGUMENTS + 8 * u32::from(condition.argument) + word_offsets().1);
    let (value_high, value_low) = halves(condition.value);
    match condition.comparison {
        Comparison::Equal => vec![
            high,
            jump(JUMP_EQUAL, value_high, 0, rest + 2),
            low,
            jump(JUMP_EQUAL, value_low, 0, rest),
        ],
        Comparison::NotEqual => vec![
            high,
            jump(JUMP_EQUAL, value_high, 0, 2),
            low,
            jump(JUMP_EQUAL, value_low, rest, 0),
        ],
        Comparison::MaskedEqual(mask) => {
            let (mask_high, mask_low) = halves(mask);
            vec![
                high,
                plain(AND, mask_high),
                jump(JUMP_EQUAL, value_high, 0, rest + 3),
                low,
                plain(AND, mask_low),
                jump(JUMP_EQUAL, value_low, 0, rest),
            ]
        }
        Comparison::Greater | Comparison::GreaterEqual => {
            let code = match condition.comparison {
                Comparison::Greater => JUMP_GREATER,
                _ => JUMP_GREATER_EQUAL,
            };
            vec![
                high,
                jump(JUMP_GREATER, value_high, 3, 0),
                jump(JUMP_EQUAL, value_high, 0, rest + 2),
                low,
                jump(code, value_low, 0, rest),
            ]
        }
        Comparison::Less | Comparison::LessEqual => {
            let code = match condition.comparison {
                Comparison::Less => JUMP_GREATER_EQUAL,
                _ => JUMP_GREATER,
            };
            vec![
                high,
                jump(JUMP_GREATER, value_high, rest + 3, 0),
                jump(JUMP_EQUAL, value_high, 0, 2),
                low,
                jump(code, value_low, rest, 0),
            ]
        }
    }
}

fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}

/// Where the low and the high word of an argument lie.
fn word_offsets() -> (u32, u32) {
    if cfg!(target_endian = "little") { (0, 4) } else { (4, 0) }
}
