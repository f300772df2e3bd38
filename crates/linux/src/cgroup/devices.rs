//! Which device nodes a cgroup may use: text lines on v1, a BPF program on v2.

use std::{
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use crate::child::check;

/// Character or block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Both, with [`DeviceRule::EVERYTHING`].
    Any,
    /// Character devices.
    Character,
    /// Block devices.
    Block,
}

/// One kind of access that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Character or block.
    pub kind: DeviceKind,
    /// `None` for all.
    pub major: Option<u32>,
    /// `None` for all.
    pub minor: Option<u32>,
    /// Bits: 1 mknod, 2 read, 4 write (`BPF_DEVCG_ACC_*`).
    pub access: u8,
}

impl DeviceRule {
    /// mknod(2).
    pub const MKNOD: u8 = 1;
    /// Reading.
    pub const READ: u8 = 2;
    /// Writing.
    pub const WRITE: u8 = 4;

    /// No restriction, for privileged containers.
    pub const EVERYTHING: Self =
        Self { kind: DeviceKind::Any, major: None, minor: None, access: 7 };

    /// Full use of one character device.
    pub const fn character(major: u32, minor: u32) -> Self {
        Self {
            kind: DeviceKind::Character,
            major: Some(major),
            minor: Some(minor),
            access: Self::MKNOD | Self::READ | Self::WRITE,
        }
    }

    /// What every container gets: nodes of all devices may be made (opening
    /// them is what counts), and the harmless ones used.
    pub fn defaults() -> Vec<Self> {
        let mut rules: Vec<_> = [DeviceKind::Character, DeviceKind::Block]
            .map(|kind| Self { kind, major: None, minor: None, access: Self::MKNOD })
            .into();
        // null, zero, full, random, urandom, tty, console, ptmx.
        let nodes = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
        rules.extend(nodes.map(|(major, minor)| Self::character(major, minor)));
        // Unix98 terminals.
        rules.push(Self { minor: None, ..Self::character(136, 0) });
        rules
    }

    pub(super) fn is_everything(&self) -> bool {
        *self == Self::EVERYTHING
    }

    /// `c 1:3 rwm`.
    pub(super) fn v1_line(&self) -> String {
        let kind = match self.kind {
            DeviceKind::Any => 'a',
            DeviceKind::Character => 'c',
            DeviceKind::Block => 'b',
        };
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        let access: String = [(Self::READ, 'r'), (Self::WRITE, 'w'), (Self::MKNOD, 'm')]
            .iter()
            .filter(|(bit, _)| self.access & bit != 0)
            .map(|(_, c)| *c)
            .collect();
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}

/// One eBPF instruction: `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: dst | src << 4, offset, immediate }
}

const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER_32: u8 = 0xbc;
const MOVE_64: u8 = 0xb7;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// A program for BPF_PROG_TYPE_CGROUP_DEVICE: 1 allows, 0 refuses. The context
/// is three words: access << 16 | type, major, minor.
fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut code = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_REGISTER_32, 3, 2, 0, 0),
        instruction(AND_32, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT_32, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let mut checks = Vec::new();
        match rule.kind {
            DeviceKind::Any => {}
            DeviceKind::Block => checks.push(instruction(JUMP_NOT_EQUAL, 2, 0, 0, 1)),
            DeviceKind::Character => checks.push(instruction(JUMP_NOT_EQUAL, 2, 0, 0, 2)),
        }
        // Bits asked for beyond those allowed: this rule does not fit.
        checks.push(instruction(MOVE_REGISTER_32, 1, 3, 0, 0));
        checks.push(instruction(AND_32, 1, 0, 0, i32::from(!rule.access & 7)));
        checks.push(instruction(JUMP_NOT_EQUAL, 1, 0, 0, 0));
        if let Some(major) = rule.major {
            checks.push(instruction(JUMP_NOT_EQUAL, 4, 0, 0, major as i32));
        }
        if let Some(minor) = rule.minor {
            checks.push(instruction(JUMP_NOT_EQUAL, 5, 0, 0, minor as i32));
        }
        checks.push(instruction(MOVE_64, 0, 0, 0, 1));
        checks.push(instruction(EXIT, 0, 0, 0, 0));
        let len = checks.len();
        for (at, check) in checks.iter_mut().enumerate() {
            if check.code == JUMP_NOT_EQUAL {
                check.offset = (len - at - 1) as i16;
            }
        }
        code.extend(checks);
    }
    code.push(instruction(MOVE_64, 0, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

/// `union bpf_attr` for BPF_PROG_LOAD, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// `union bpf_attr` for BPF_PROG_ATTACH.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;

/// Loads the rules' program and attaches it to a v2 cgroup, in place of the one
/// that was attached before.
pub(super) fn attach(cgroup: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    let code = program(rules);
    let directory = fs::File::open(cgroup)?;
    let load = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: code.len() as u32,
        insns: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttr::default()
    };
    // SAFETY: the kernel reads one attribute structure of the size given and
    // the instructions and licence it points to, all alive across the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<LoadAttr>())
    };
    check(fd)?;
    // SAFETY: the kernel just made this descriptor for us.
    let program = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let attach = AttachAttr {
        target_fd: directory.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: 0,
    };
    // SAFETY: as above.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of::<AttachAttr>())
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(DeviceRule::character(1, 3).v1_line(), "c 1:3 rwm");
        assert_eq!(DeviceRule::defaults()[1].v1_line(), "b *:* m");
    }
}
