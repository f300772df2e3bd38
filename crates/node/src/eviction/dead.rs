//! Which containers that have ended are kept, for whoever asks for their logs.
//! (<https://kubernetes.io/docs/concepts/architecture/garbage-collection/#container-image-garbage-collection>)

use std::time::Duration;

use super::duration;

/// The kubelet's flags of garbage collection of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadContainers {
    /// Earlier runs of a container that are kept beside its last one; all where `None`.
    pub per_container: Option<usize>,
    /// Containers of ended pods that are kept on the node; all where `None`, until disk
    /// is short.
    pub total: Option<usize>,
    /// Younger ones stay, unless disk is short.
    pub age_min: Duration,
}

impl Default for DeadContainers {
    fn default() -> Self {
        Self { per_container: Some(1), total: None, age_min: Duration::ZERO }
    }
}

impl DeadContainers {
    /// Reads the flags, whose values `of` gives by name; an empty one is the default.
    ///
    /// # Errors
    /// What is wrong, with the flag's name.
    pub fn read(of: impl Fn(&str) -> String) -> Result<Self, String> {
        let count = |flag: &str, default| {
            let text = of(flag);
            match (text.as_str(), text.parse::<i64>()) {
                ("", _) => Ok(default),
                (_, Ok(number)) => Ok(usize::try_from(number).ok()),
                (_, Err(_)) => Err(format!("--{flag}: {text:?} is no number")),
            }
        };
        let default = Self::default();
        let flag = "minimum-container-ttl-duration";
        let age_min = match of(flag).as_str() {
            "" => default.age_min,
            text => duration(text).map_err(|error| format!("--{flag}: {error}"))?,
        };
        Ok(Self {
            per_container: count("maximum-dead-containers-per-container", default.per_container)?,
            total: count("maximum-dead-containers", default.total)?,
            age_min,
        })
    }
}

/// A pod that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) uid: String,
    /// How many containers of it are still known.
    pub(super) dead: usize,
    /// When the last of them ended, seconds since 1970.
    pub(super) at: i64,
}

/// Whose containers are forgotten, so that no more than `total` are left; none of those
/// that ended after `before`.
pub(super) fn surplus(mut ended: Vec<Ended>, total: usize, before: i64) -> Vec<String> {
    let mut left: usize = ended.iter().map(|pod| pod.dead).sum();
    ended.sort_by(|a, b| (a.at, &a.uid).cmp(&(b.at, &b.uid)));
    let mut chosen = Vec::new();
    for pod in ended {
        if left <= total || pod.at > before {
            break;
        }
        left -= pod.dead;
        chosen.push(pod.uid);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_or_refused() {
        let read = |flag: &'static str, value: &'static str| {
            DeadContainers::read(|name| if name == flag { value.into() } else { String::new() })
        };
        assert_eq!(read("", ""), Ok(DeadContainers::default()));
        let per = |n| Ok(DeadContainers { per_container: n, ..DeadContainers::default() });
        assert_eq!(read("maximum-dead-containers-per-container", "0"), per(Some(0)));
        assert_eq!(read("maximum-dead-containers-per-container", "-1"), per(None));
        assert_eq!(read("maximum-dead-containers", "7").map(|dead| dead.total), Ok(Some(7)));
        for (flag, value, why) in [
            ("maximum-dead-containers", "few", "is no number"),
            ("minimum-container-ttl-duration", "long", "is no time"),
        ] {
            let told = read(flag, value).expect_err(why);
            assert!(told.contains(why) && told.contains(flag), "{told}");
        }
    }

    #[test]
    fn the_oldest_are_forgotten_and_no_more_than_needed() {
        let ended = |uid: &str, dead, at| Ended { uid: uid.into(), dead, at };
        let all = || vec![ended("new", 2, 30), ended("old", 1, 10), ended("mid", 2, 20)];
        assert_eq!(surplus(all(), 5, 100), Vec::<String>::new());
        assert_eq!(surplus(all(), 4, 100), ["old"]);
        assert_eq!(surplus(all(), 2, 100), ["old", "mid"]);
        assert_eq!(surplus(all(), 0, 20), ["old", "mid"], "the youngest is too young");
    }
}
