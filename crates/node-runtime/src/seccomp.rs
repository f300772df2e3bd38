//! A container's filter: the built-in profile, or one from a file in the form
//! of the OCI runtime specification and Docker
//! (<https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp>).

use linux::seccomp::{Action, Comparison, Condition, Profile, Rule, runtime_default};
use serde::Deserialize;

use crate::{
    error::{Error, Result},
    plan,
    spec::{Seccomp, Security},
};

const EPERM: u16 = 1;

/// The compiled filter; empty for none.
pub(crate) fn filter(security: &Security) -> Result<Vec<u8>> {
    let capabilities = plan::capabilities(security)?;
    let profile = match &security.seccomp {
        _ if security.privileged => return Ok(Vec::new()),
        Seccomp::Unconfined => return Ok(Vec::new()),
        Seccomp::RuntimeDefault => runtime_default(capabilities),
        Seccomp::Localhost(text) => parse(text, capabilities)
            .map_err(|why| Error::InvalidSpec(format!("seccomp profile: {why}")))?,
    };
    profile.compile().map_err(|why| Error::InvalidSpec(format!("seccomp profile: {why}")))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    syscalls: Vec<Syscalls>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscalls {
    #[serde(default)]
    names: Vec<String>,
    /// Docker's old form.
    name: Option<String>,
    action: String,
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Filter,
    #[serde(default)]
    excludes: Filter,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Docker's conditions on the container.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    caps: Vec<String>,
    arches: Vec<String>,
}

fn parse(text: &str, capabilities: u64) -> std::result::Result<Profile, String> {
    let file: File = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let default = action(&file.default_action, file.default_errno_ret)?;
    let mut rules = Vec::new();
    for mut entry in file.syscalls {
        if !entry.includes.all(capabilities) || entry.excludes.any(capabilities) {
            continue;
        }
        entry.names.extend(entry.name.take());
        let conditions =
            entry.args.unwrap_or_default().iter().map(condition).collect::<Result<_, _>>()?;
        let action = action(&entry.action, entry.errno_ret)?;
        rules.push(Rule { names: entry.names, action, conditions });
    }
    // Where unlisted calls are refused, unknown ones do not exist: programs
    // fall back on ENOSYS and give up on anything else.
    let newer = match default {
        Action::Errno(_) => Action::Errno(38),
        other => other,
    };
    Ok(Profile { default, newer, rules })
}

impl Filter {
    fn all(&self, capabilities: u64) -> bool {
        self.caps.iter().all(|name| holds(name, capabilities))
            && (self.arches.is_empty() || self.arches.iter().any(|arch| is_native(arch)))
    }

    fn any(&self, capabilities: u64) -> bool {
        self.caps.iter().any(|name| holds(name, capabilities))
            || self.arches.iter().any(|arch| is_native(arch))
    }
}

fn holds(name: &str, capabilities: u64) -> bool {
    linux::capability::bit(name).is_some_and(|bit| capabilities & bit != 0)
}

/// Go's names of architectures.
fn is_native(arch: &str) -> bool {
    match arch {
        "amd64" => cfg!(target_arch = "x86_64"),
        "386" => cfg!(target_arch = "x86"),
        "arm64" => cfg!(target_arch = "aarch64"),
        "arm" => cfg!(target_arch = "arm"),
        _ => false,
    }
}

fn action(name: &str, errno: Option<u16>) -> std::result::Result<Action, String> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(EPERM)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_TRACE" => Action::Trace(errno.unwrap_or(EPERM)),
        "SCMP_ACT_LOG" => Action::Log,
        other => return Err(format!("action {other:?} is not supported")),
    })
}

fn condition(argument: &Argument) -> std::result::Result<Condition, String> {
    let (comparison, value) = match argument.op.as_str() {
        "SCMP_CMP_EQ" => (Comparison::Equal, argument.value),
        "SCMP_CMP_NE" => (Comparison::NotEqual, argument.value),
        "SCMP_CMP_GT" => (Comparison::Greater, argument.value),
        "SCMP_CMP_GE" => (Comparison::GreaterEqual, argument.value),
        "SCMP_CMP_LT" => (Comparison::Less, argument.value),
        "SCMP_CMP_LE" => (Comparison::LessEqual, argument.value),
        // Its value is the mask, its second value what must come out.
        "SCMP_CMP_MASKED_EQ" => (Comparison::MaskedEqual(argument.value), argument.value_two),
        other => return Err(format!("comparison {other:?} is not supported")),
    };
    Ok(Condition { argument: argument.index, comparison, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"name": "clone", "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}
        ]}"#;

    #[test]
    fn files() {
        let profile = parse(PROFILE, 0).expect("a profile");
        assert_eq!(profile.default, Action::Errno(13));
        assert_eq!(profile.rules.len(), 2);
        assert_eq!(profile.rules[1].names, ["clone"]);
        assert_eq!(profile.rules[1].conditions[0].comparison, Comparison::MaskedEqual(0x7e02_0000));
        assert_eq!(parse(PROFILE, 1 << 21).expect("a profile").rules.len(), 3);
        assert!(parse("{", 0).is_err());
        assert!(parse(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, 0).is_err());
    }

    proptest::proptest! {
        #[test]
        fn outside_text_does_not_panic(at in 0..PROFILE.len(), byte: u8) {
            let mut bytes = PROFILE.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok(profile) = parse(&String::from_utf8_lossy(&bytes), 0) {
                let _ = profile.compile();
            }
        }
    }
}
