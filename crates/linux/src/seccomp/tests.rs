//! Filters run in a small interpreter, so their decisions are tested without
//! installing them.

use proptest::prelude::*;

use super::{bpf::*, *};

const X86_64: u32 = 0xc000_003e;
const AARCH64: u32 = 0xc000_00b7;

/// Runs a filter as the kernel would: `net/core/filter.c`, as far as used.
fn interpret(program: &[Instruction], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let load = |offset: u32| match offset {
        0 => number,
        4 => arch,
        offset => {
            let argument = arguments[((offset - 16) / 8) as usize];
            if offset % 8 == 0 { argument as u32 } else { (argument >> 32) as u32 }
        }
    };
    let (mut at, mut a) = (0, 0);
    loop {
        let i = program[at];
        at += 1;
        let take = |holds: bool| usize::from(if holds { i.jump_true } else { i.jump_false });
        match i.code {
            LOAD => a = load(i.k),
            AND => a &= i.k,
            JUMP => at += i.k as usize,
            JUMP_EQUAL => at += take(a == i.k),
            JUMP_GREATER => at += take(a > i.k),
            JUMP_GREATER_EQUAL => at += take(a >= i.k),
            RETURN => return i.k,
            code => panic!("instruction {code:#x}"),
        }
    }
}

fn number(name: &str, arch: Arch) -> u32 {
    let row = numbers::NUMBERS.iter().find(|(n, _)| *n == name).expect("a name");
    u32::try_from(row.1[arch as usize]).expect("a number")
}

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

#[test]
fn numbers_are_those_of_libc() {
    #[cfg(target_arch = "x86_64")]
    let arch = Arch::X86_64;
    #[cfg(target_arch = "aarch64")]
    let arch = Arch::Aarch64;
    #[cfg(target_arch = "arm")]
    let arch = Arch::Arm;
    for (name, value) in [
        ("read", libc::SYS_read),
        ("clone3", libc::SYS_clone3),
        ("openat2", libc::SYS_openat2),
        ("seccomp", libc::SYS_seccomp),
        ("mount", libc::SYS_mount),
    ] {
        assert_eq!(i64::from(number(name, arch)), value, "{name}");
    }
}

#[test]
fn the_default_profile_decides() {
    let none = runtime_default(0);
    let admin = runtime_default(crate::capability::bit("SYS_ADMIN").expect("a name"));
    let arches = [Arch::X86_64, Arch::Aarch64];
    let none = bpf::compile(&none, &arches).expect("short enough");
    let admin = bpf::compile(&admin, &arches).expect("short enough");
    let check = |program: &[Instruction], name: &str, argument: u64, expect: u32| {
        for (arch, audit) in [(Arch::X86_64, X86_64), (Arch::Aarch64, AARCH64)] {
            let arguments = [argument, 0, 0, 0, 0, 0];
            let got = interpret(program, audit, number(name, arch), arguments);
            assert_eq!(got, expect, "{name}({argument:#x}) on {arch:?}: {got:#x}");
        }
    };
    for name in ["read", "openat", "execve", "futex", "setns", "mount"] {
        let expect = if ["setns", "mount"].contains(&name) { EPERM } else { ALLOW };
        check(&none, name, 0, expect);
        check(&admin, name, 0, ALLOW);
    }
    check(&none, "clone", 0x0120_0011, ALLOW);
    check(&none, "clone", 0x1000_0000, EPERM);
    check(&admin, "clone", 0x1000_0000, ALLOW);
    check(&none, "clone3", 0, ENOSYS);
    check(&none, "socket", 2, ALLOW);
    check(&none, "socket", 40, EPERM);
    check(&none, "socket", 40 | 1 << 32, EPERM);
    check(&none, "personality", 0xffff_ffff, ALLOW);
    check(&none, "personality", 1, EPERM);
    for (arch, audit) in [(Arch::X86_64, X86_64), (Arch::Aarch64, AARCH64)] {
        assert_eq!(interpret(&none, audit, 900, [0; 6]), ENOSYS, "newer than known");
        let _ = arch;
    }
    assert_eq!(interpret(&none, X86_64, 0x4000_0000, [0; 6]), ENOSYS, "x32");
    assert_eq!(interpret(&none, 0x1234, 0, [0; 6]), 0x8000_0000, "another architecture");
}

fn comparison() -> impl Strategy<Value = Comparison> {
    prop_oneof![
        Just(Comparison::Equal),
        Just(Comparison::NotEqual),
        Just(Comparison::Greater),
        Just(Comparison::GreaterEqual),
        Just(Comparison::Less),
        Just(Comparison::LessEqual),
        any::<u64>().prop_map(Comparison::MaskedEqual),
    ]
}

/// Values close to each other in one or both halves.
fn word() -> impl Strategy<Value = u64> {
    let half = prop_oneof![Just(0u64), Just(1), Just(7), Just(0xffff_ffff)];
    (half.clone(), half).prop_map(|(high, low)| high << 32 | low)
}

fn holds(condition: &Condition, arguments: [u64; 6]) -> bool {
    let (argument, value) = (arguments[usize::from(condition.argument)], condition.value);
    match condition.comparison {
        Comparison::Equal => argument == value,
        Comparison::NotEqual => argument != value,
        Comparison::Greater => argument > value,
        Comparison::GreaterEqual => argument >= value,
        Comparison::Less => argument < value,
        Comparison::LessEqual => argument <= value,
        Comparison::MaskedEqual(mask) => argument & mask == value,
    }
}

proptest! {
    #[test]
    fn conditions_mean_what_they_say(
        conditions in prop::collection::vec((0u8..6, comparison(), word()), 1..6),
        arguments: [u64; 6],
        words in prop::array::uniform6(word()),
        use_words: bool,
    ) {
        let arguments = if use_words { words } else { arguments };
        let conditions: Vec<Condition> = conditions
            .into_iter()
            .map(|(argument, comparison, value)| Condition { argument, comparison, value })
            .collect();
        let expect = conditions.iter().all(|c| holds(c, arguments));
        let rule = Rule { names: vec!["read".into()], action: Action::Allow, conditions };
        let profile =
            Profile { default: Action::Errno(1), newer: Action::Errno(38), rules: vec![rule] };
        let program = bpf::compile(&profile, &[Arch::X86_64]).expect("short enough");
        let got = interpret(&program, X86_64, 0, arguments);
        prop_assert_eq!(got, if expect { ALLOW } else { EPERM });
    }
}
