//! System call filters: a profile of rules, the default profile, and the
//! compiler to BPF.

mod bpf;
mod numbers;
mod profile;

pub use numbers::Arch;
pub use profile::runtime_default;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Allow,
    /// It fails with this error number.
    Errno(u16),
    /// The process dies of SIGSYS.
    KillProcess,
    /// The thread dies of SIGSYS.
    KillThread,
    /// The process gets SIGSYS.
    Trap,
    /// A tracer is told.
    Trace(u16),
    /// It is made and logged.
    Log,
}

/// How an argument is compared with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `& mask ==`
    MaskedEqual(u64),
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// 0..=5.
    pub argument: u8,
    /// How to compare.
    pub comparison: Comparison,
    /// With what.
    pub value: u64,
}

/// What happens to calls of these names where all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Kernel names; unknown ones are passed over, since profiles are written
    /// for many architectures.
    pub names: Vec<String>,
    /// What happens.
    pub action: Action,
    /// All must hold; the first rule that fits decides.
    pub conditions: Vec<Condition>,
}

/// A filter's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// For calls without a rule.
    pub default: Action,
    /// For numbers beyond every name known here. `ENOSYS` lets programs fall
    /// back where another error would end them.
    pub newer: Action,
    /// In order of precedence.
    pub rules: Vec<Rule>,
}

impl Profile {
    /// The filter for this machine's architecture and the 32-bit one beside it.
    /// An empty default is the profile's own business.
    ///
    /// # Errors
    /// When it is longer than the kernel takes.
    pub fn compile(&self) -> Result<Vec<u8>, String> {
        Ok(bpf::compile(self, native())?
            .iter()
            .flat_map(|instruction| {
                let mut bytes = [0; 8];
                bytes[..2].copy_from_slice(&instruction.code.to_ne_bytes());
                bytes[2] = instruction.jump_true;
                bytes[3] = instruction.jump_false;
                bytes[4..].copy_from_slice(&instruction.k.to_ne_bytes());
                bytes
            })
            .collect())
    }
}

fn native() -> &'static [Arch] {
    if cfg!(target_arch = "x86_64") {
        &[Arch::X86_64, Arch::X86]
    } else if cfg!(target_arch = "aarch64") {
        &[Arch::Aarch64, Arch::Arm]
    } else if cfg!(target_arch = "arm") {
        &[Arch::Arm]
    } else {
        &[Arch::X86]
    }
}

#[cfg(test)]
mod tests;
