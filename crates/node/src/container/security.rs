//! Who a container runs as and what it may do: the pod's security context
//! with the container's laid over it.

use api_types::core::{Container, Pod, SeccompProfile};
use node_runtime::spec::{Seccomp, Security, User};

use super::ConfigError;

/// The user that the image's own files are asked about: the pod's where it
/// names one, else the image's.
pub(crate) fn user_text(pod: &Pod, container: &Container, image_user: &str) -> String {
    match run_as_user(pod, container) {
        Some(uid) => uid.to_string(),
        None => image_user.to_owned(),
    }
}

fn run_as_user(pod: &Pod, container: &Container) -> Option<i64> {
    container.security_context.run_as_user.or(pod.spec.security_context.run_as_user)
}

/// Refuses root where `runAsNonRoot` asks for it, in upstream's words.
pub(crate) fn verify_non_root(
    pod: &Pod,
    container: &Container,
    image_user: &str,
) -> Result<(), ConfigError> {
    let own = container.security_context.run_as_non_root;
    if own.or(pod.spec.security_context.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let meta = &pod.metadata;
    let which = format!(
        "(pod: \"{}_{}({})\", container: {})",
        meta.name, meta.namespace, meta.uid, container.name
    );
    if let Some(uid) = run_as_user(pod, container) {
        return match uid {
            0 => Err(ConfigError(format!("container's runAsUser breaks non-root policy {which}"))),
            _ => Ok(()),
        };
    }
    let name = image_user.split(':').next().unwrap_or("");
    match name.parse::<u32>() {
        Ok(uid) if uid != 0 => Ok(()),
        Err(_) if !name.is_empty() => Err(ConfigError(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {which}"
        ))),
        _ => Err(ConfigError(format!(
            "container has runAsNonRoot and image will run as root {which}"
        ))),
    }
}

/// Lays the pod's groups over what the image says of its user.
pub(crate) fn user(
    pod: &Pod,
    container: &Container,
    from_image: User,
) -> Result<User, ConfigError> {
    let context = &pod.spec.security_context;
    let id = |id: i64| {
        u32::try_from(id).map_err(|_| ConfigError(format!("{id} is not a valid user or group ID")))
    };
    let mut user = from_image;
    if let Some(gid) = container.security_context.run_as_group.or(context.run_as_group) {
        user.gid = id(gid)?;
    }
    if context.supplemental_groups_policy.as_deref() == Some("Strict") {
        user.groups.clear();
    }
    for gid in context.supplemental_groups.iter().chain(&context.fs_group) {
        let gid = id(*gid)?;
        if !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Ok(user)
}

/// The profile of `RuntimeDefault`, under the name that containerd loads it by:
/// this node has no compiler for one of its own.
const DEFAULT_APP_ARMOR: &str = "cri-containerd.apparmor.d";

/// Refuses a profile that the kernel has not loaded; `loaded` is its list, a name
/// and a mode a line.
pub(crate) fn verify_app_armor(security: &Security, loaded: &str) -> Result<(), ConfigError> {
    let Some(profile) = &security.app_armor else { return Ok(()) };
    let is_it = |line: &str| line.rsplit_once(" (").is_some_and(|(name, _)| name == profile);
    match loaded.lines().any(is_it) {
        true => Ok(()),
        false => Err(ConfigError(format!("apparmor profile not found {profile}"))),
    }
}

/// What the container may do. `profile` reads a Localhost seccomp profile.
pub(crate) fn security<E>(
    pod: &Pod,
    container: &Container,
    profile: impl Fn(&str) -> Result<String, E>,
) -> Result<Security, E> {
    let own = &container.security_context;
    let strip = |names: &[String]| {
        let bare = |name: &String| {
            let upper = name.to_uppercase();
            upper.strip_prefix("CAP_").map_or(upper.clone(), str::to_owned)
        };
        names.iter().map(bare).collect::<Vec<_>>()
    };
    let (add, drop) = match &own.capabilities {
        Some(capabilities) => (strip(&capabilities.add), strip(&capabilities.drop)),
        None => (Vec::new(), Vec::new()),
    };
    let wanted =
        own.seccomp_profile.as_ref().or(pod.spec.security_context.seccomp_profile.as_ref());
    let seccomp = match wanted {
        // A pod that says nothing gets the default profile.
        None => Seccomp::RuntimeDefault,
        Some(SeccompProfile { r#type, localhost_profile }) => match r#type.as_str() {
            "Unconfined" => Seccomp::Unconfined,
            "Localhost" => Seccomp::Localhost(profile(localhost_profile.as_deref().unwrap_or(""))?),
            _ => Seccomp::RuntimeDefault,
        },
    };
    let app_armor = own
        .app_armor_profile
        .as_ref()
        .or(pod.spec.security_context.app_armor_profile.as_ref())
        .and_then(|profile| match profile.r#type.as_str() {
            "Localhost" => profile.localhost_profile.clone(),
            "RuntimeDefault" => Some(DEFAULT_APP_ARMOR.to_owned()),
            _ => None,
        })
        .filter(|_| own.privileged != Some(true));
    Ok(Security {
        app_armor,
        privileged: own.privileged == Some(true),
        capabilities_add: add,
        capabilities_drop: drop,
        no_new_privs: own.allow_privilege_escalation == Some(false),
        seccomp,
        read_only_root: own.read_only_root_filesystem == Some(true),
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
    })
}

const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// `SIGTERM`, `SIGRTMIN+3`: a signal as the API names it.
pub(crate) fn signal_name(number: i32) -> String {
    match number {
        RTMIN => "SIGRTMIN".into(),
        RTMAX => "SIGRTMAX".into(),
        n if (RTMIN..RTMIN + 16).contains(&n) => format!("SIGRTMIN+{}", n - RTMIN),
        n if n > RTMIN => format!("SIGRTMAX-{}", RTMAX - n),
        n => match SIGNALS.iter().find(|(_, number)| *number == n) {
            Some((name, _)) => format!("SIG{name}"),
            None => n.to_string(),
        },
    }
}

/// The number of a signal as images and pods write it: `SIGTERM`, `TERM`,
/// `15`, `SIGRTMIN+3`.
pub(crate) fn signal_number(text: &str) -> Option<i32> {
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = if let Ok(number) = name.parse() {
        number
    } else if let Some(rest) = name.strip_prefix("RTMIN") {
        RTMIN + if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse::<i32>().ok()? }
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        RTMAX - if rest.is_empty() { 0 } else { rest.strip_prefix('-')?.parse::<i32>().ok()? }
    } else {
        SIGNALS.iter().find(|(n, _)| *n == name)?.1
    };
    (1..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(pod_context: Value, own: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": pod_context,
                "containers": [{"name": "c", "securityContext": own}]},
        }))
        .expect("a pod")
    }

    #[test]
    fn non_root_is_verified() {
        let which = "(pod: \"p_n(u)\", container: c)";
        for (pod_context, own, image, expected) in [
            (json!({}), json!({}), "", None),
            (json!({"runAsNonRoot": true}), json!({}), "1000", None),
            (json!({"runAsNonRoot": true}), json!({"runAsNonRoot": false}), "", None),
            (json!({"runAsNonRoot": true, "runAsUser": 5}), json!({}), "root", None),
            (
                json!({"runAsNonRoot": true}),
                json!({}),
                "",
                Some("container has runAsNonRoot and image will run as root"),
            ),
            (
                json!({}),
                json!({"runAsNonRoot": true, "runAsUser": 0}),
                "1",
                Some("container's runAsUser breaks non-root policy"),
            ),
            (
                json!({"runAsNonRoot": true}),
                json!({}),
                "app:app",
                Some(
                    "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root",
                ),
            ),
        ] {
            let pod = pod(pod_context, own);
            let result = verify_non_root(&pod, &pod.spec.containers[0], image);
            let expected = expected.map_or(Ok(()), |e| Err(ConfigError(format!("{e} {which}"))));
            assert_eq!(result, expected);
        }
    }

    #[test]
    fn app_armor_profiles_must_be_loaded() {
        let check = |pod_context: Value, own: Value, loaded: &str| {
            let pod = pod(pod_context, own);
            let none = |_: &str| Ok::<_, ConfigError>(String::new());
            let security = security(&pod, &pod.spec.containers[0], none).expect("fine");
            verify_app_armor(&security, loaded).map(|()| security.app_armor)
        };
        let local = json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "a b"}});
        let default = json!({"appArmorProfile": {"type": "RuntimeDefault"}});
        assert_eq!(check(json!({}), json!({}), ""), Ok(None));
        assert_eq!(
            check(local.clone(), json!({}), "x (enforce)\na b (enforce)\n"),
            Ok(Some("a b".into()))
        );
        assert_eq!(
            check(local, json!({}), "a (enforce)"),
            Err(ConfigError("apparmor profile not found a b".into()))
        );
        assert!(check(default.clone(), json!({}), "").is_err());
        assert_eq!(
            check(default, json!({"appArmorProfile": {"type": "Unconfined"}}), ""),
            Ok(None)
        );
    }

    #[test]
    fn groups_are_laid_over() {
        let pod = pod(json!({"supplementalGroups": [7], "fsGroup": 9, "runAsGroup": 3}), json!({}));
        let image = User { uid: 1, gid: 1, groups: vec![2, 7] };
        let user = user(&pod, &pod.spec.containers[0], image).expect("fine");
        assert_eq!(user, User { uid: 1, gid: 3, groups: vec![2, 7, 9] });
    }

    #[test]
    fn a_strict_policy_leaves_the_images_groups_out() {
        let context = json!({"supplementalGroups": [7], "fsGroup": 9, "runAsGroup": 3,
            "supplementalGroupsPolicy": "Strict"});
        let pod = pod(context, json!({}));
        let image = User { uid: 1, gid: 1, groups: vec![2, 7] };
        let user = user(&pod, &pod.spec.containers[0], image).expect("fine");
        assert_eq!(user, User { uid: 1, gid: 3, groups: vec![7, 9] });
    }

    #[test]
    fn signals() {
        for (text, number) in [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("SIGNOPE", None),
            ("0", None),
            ("99", None),
            ("RTMIN-", None),
        ] {
            assert_eq!(signal_number(text), number, "{text}");
        }
        for number in 1..=64 {
            let name = signal_name(number);
            assert_eq!(signal_number(&name), Some(number), "{name}");
        }
    }
}
