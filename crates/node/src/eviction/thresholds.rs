//! The kubelet's signals and thresholds, as its flags write them.

use std::{collections::BTreeMap, time::Duration};

use api_object::{Quantity, time::parse_duration};

use super::Pressure;

/// Something that can run short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Memory without the working set.
    MemoryAvailable,
    /// Bytes of the kubelet directory's file system.
    NodeFsAvailable,
    /// Its inodes.
    NodeFsInodesFree,
    /// Bytes of the images' file system.
    ImageFsAvailable,
    /// Its inodes.
    ImageFsInodesFree,
    /// Processes and threads.
    PidAvailable,
}

/// A signal's name, what upstream's messages call it, and the condition it makes.
pub(super) struct Row {
    pub(super) signal: Signal,
    pub(super) name: &'static str,
    pub(super) resource: &'static str,
    pub(super) pressure: Pressure,
}

const fn disk(signal: Signal, name: &'static str, resource: &'static str) -> Row {
    let pressure = Pressure { memory: false, disk: true, pids: false };
    Row { signal, name, resource, pressure }
}

/// Every signal, in the order in which they are answered: memory first, since the
/// kernel would kill meanwhile.
pub(super) const SIGNALS: [Row; 6] = [
    Row {
        signal: Signal::MemoryAvailable,
        name: "memory.available",
        resource: "memory",
        pressure: Pressure { memory: true, disk: false, pids: false },
    },
    disk(Signal::NodeFsAvailable, "nodefs.available", "ephemeral-storage"),
    disk(Signal::NodeFsInodesFree, "nodefs.inodesFree", "inodes"),
    disk(Signal::ImageFsAvailable, "imagefs.available", "ephemeral-storage"),
    disk(Signal::ImageFsInodesFree, "imagefs.inodesFree", "inodes"),
    Row {
        signal: Signal::PidAvailable,
        name: "pid.available",
        resource: "pids",
        pressure: Pressure { memory: false, disk: false, pids: true },
    },
];

impl Signal {
    pub(super) fn row(self) -> &'static Row {
        SIGNALS.iter().find(|row| row.signal == self).expect("every signal is a row: a test")
    }

    fn parse(name: &str) -> Result<Self, String> {
        let row = SIGNALS.iter().find(|row| row.name == name);
        row.map(|row| row.signal).ok_or_else(|| {
            let names: Vec<&str> = SIGNALS.iter().map(|row| row.name).collect();
            format!("{name} is no eviction signal; those are {}", names.join(", "))
        })
    }
}

/// So much, or such a part of all there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Amount {
    Quantity(u64),
    /// Thousandths of a percent.
    Percent(u32),
}

impl Amount {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is neither an amount such as 100Mi nor a part such as 5%");
        if let Some(number) = text.strip_suffix('%') {
            let percent: f64 = number.parse().map_err(|_| wrong())?;
            return match (0.0..=100.0).contains(&percent) {
                true => Ok(Self::Percent((percent * 1000.0) as u32)),
                false => Err(wrong()),
            };
        }
        let quantity = Quantity::parse(text).map_err(|_| wrong())?;
        u64::try_from(quantity.units()).map(Self::Quantity).map_err(|_| wrong())
    }

    pub(super) fn of(self, capacity: u64) -> u64 {
        match self {
            Self::Quantity(amount) => amount,
            Self::Percent(thousandths) => {
                let part = u128::from(capacity) * u128::from(thousandths) / 100_000;
                u64::try_from(part).unwrap_or(capacity)
            }
        }
    }
}

/// Below this a signal asks for action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Threshold {
    pub(super) signal: Signal,
    pub(super) below: Amount,
    /// How long it has to hold; zero for a hard threshold.
    pub(super) grace: Duration,
    /// How much more has to be free again before it is over.
    pub(super) reclaim: Option<Amount>,
}

impl Threshold {
    pub(super) fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }
}

/// When and how the node evicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    pub(super) thresholds: Vec<Threshold>,
    /// A condition stays for so long after its last reason.
    pub(super) transition: Duration,
    /// Longest grace of a pod that a soft threshold ends.
    pub(super) pod_grace_max: Duration,
    /// Percent of the images' file system above which unused images go.
    pub(super) images_high: u64,
    /// And down to which.
    pub(super) images_low: u64,
    /// Images that are younger stay.
    pub(super) image_age_min: Duration,
}

/// What `--eviction-hard` is where nobody says. k3s' part of disks: a tenth of a disk
/// of 256 GB is no reason to stop taking pods. Upstream's threshold of memory, and like
/// upstream none of pids.
pub const HARD: &str = "memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%,imagefs.available<5%,imagefs.inodesFree<5%";

impl Default for Eviction {
    fn default() -> Self {
        Self::read(|_| Vec::new()).expect("the defaults are well written: a test")
    }
}

impl Eviction {
    /// The flags that it is read from, named as the kubelet's.
    pub const FLAGS: [&str; 9] = [
        "eviction-hard",
        "eviction-soft",
        "eviction-soft-grace-period",
        "eviction-minimum-reclaim",
        "eviction-pressure-transition-period",
        "eviction-max-pod-grace-period",
        "image-gc-high-threshold",
        "image-gc-low-threshold",
        "minimum-image-ttl-duration",
    ];

    /// From the values of each flag; none for one that is not given.
    ///
    /// # Errors
    /// Which flag is wrong, and why.
    pub fn read(values: impl Fn(&str) -> Vec<String>) -> Result<Self, String> {
        let of = |flag: &'static str| (flag, values(flag));
        let (hard, soft) = (of("eviction-hard"), of("eviction-soft"));
        let hard = match hard.1.as_slice() {
            [] => ("eviction-hard", HARD.split(',').map(str::to_owned).collect()),
            // The way to have none.
            [only] if only.is_empty() => ("eviction-hard", Vec::new()),
            _ => hard,
        };
        let pairs = |(flag, list): &(&'static str, Vec<String>), by: char| {
            let pair = |text: &String| {
                let (name, value) = text
                    .split_once(by)
                    .ok_or_else(|| format!("--{flag}: {text:?} is not SIGNAL{by}VALUE"))?;
                let signal = Signal::parse(name).map_err(|why| format!("--{flag}: {why}"))?;
                Ok((signal, value.to_owned()))
            };
            list.iter().map(pair).collect::<Result<Vec<_>, String>>()
        };
        let told = |flag: &'static str| move |why: String| format!("--{flag}: {why}");
        let mut graces = BTreeMap::new();
        let flag = "eviction-soft-grace-period";
        for (signal, text) in pairs(&of(flag), '=')? {
            graces.insert(signal, duration(&text).map_err(told(flag))?);
        }
        let mut reclaims = BTreeMap::new();
        let flag = "eviction-minimum-reclaim";
        for (signal, text) in pairs(&of(flag), '=')? {
            reclaims.insert(signal, Amount::parse(&text).map_err(told(flag))?);
        }
        let mut thresholds = Vec::new();
        for (list, is_soft) in [(&hard, false), (&soft, true)] {
            for (signal, text) in pairs(list, '<')? {
                let below = Amount::parse(&text).map_err(told(list.0))?;
                let grace = match (is_soft, graces.get(&signal)) {
                    (false, _) => Duration::ZERO,
                    (true, Some(grace)) if !grace.is_zero() => *grace,
                    (true, _) => {
                        let name = signal.row().name;
                        return Err(format!(
                            "--eviction-soft: {name} needs its time in --eviction-soft-grace-period"
                        ));
                    }
                };
                let reclaim = reclaims.get(&signal).copied();
                thresholds.push(Threshold { signal, below, grace, reclaim });
            }
        }
        let one = |flag: &'static str, default: &str| -> String {
            let first = of(flag).1.into_iter().next().filter(|text| !text.is_empty());
            first.unwrap_or_else(|| default.to_owned())
        };
        let time = |flag, default| duration(&one(flag, default)).map_err(told(flag));
        let percent = |flag: &'static str, default: &str| {
            let text = one(flag, default);
            let number = text.parse::<u64>().ok().filter(|percent| *percent <= 100);
            number.ok_or_else(|| format!("--{flag}: {text:?} is no percentage"))
        };
        let flag = "eviction-max-pod-grace-period";
        let seconds = one(flag, "0");
        let seconds: u64 = seconds
            .parse()
            .map_err(|_| format!("--{flag}: {seconds:?} is no number of seconds"))?;
        let eviction = Self {
            thresholds,
            transition: time("eviction-pressure-transition-period", "5m0s")?,
            pod_grace_max: Duration::from_secs(seconds),
            images_high: percent("image-gc-high-threshold", "85")?,
            images_low: percent("image-gc-low-threshold", "80")?,
            image_age_min: time("minimum-image-ttl-duration", "2m0s")?,
        };
        if eviction.images_low >= eviction.images_high && eviction.images_high < 100 {
            return Err("--image-gc-low-threshold: has to be less than the high one".into());
        }
        Ok(eviction)
    }

    /// What the hard threshold of a signal keeps free of `capacity`.
    pub(crate) fn kept_free(&self, signal: Signal, capacity: u64) -> u64 {
        let of = self.thresholds.iter().filter(|t| t.is_hard() && t.signal == signal);
        of.map(|threshold| threshold.below.of(capacity)).max().unwrap_or(0)
    }

    /// As `/configz` tells them: signal and amount of the hard or the soft ones.
    pub(crate) fn told(&self, hard: bool) -> BTreeMap<&'static str, String> {
        let of = self.thresholds.iter().filter(|threshold| threshold.is_hard() == hard);
        of.map(|threshold| {
            let amount = match threshold.below {
                Amount::Quantity(amount) => bytes(amount),
                Amount::Percent(thousandths) => format!("{}%", f64::from(thousandths) / 1000.0),
            };
            (threshold.signal.row().name, amount)
        })
        .collect()
    }
}

/// `100Mi`.
pub(super) fn bytes(amount: u64) -> String {
    Quantity::from_bytes(amount).to_string()
}

/// `1m30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let nanos = parse_duration(text).and_then(|nanos| u64::try_from(nanos).ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| format!("{text:?} is no time such as 1m30s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &[(&str, &str)]) -> Result<Eviction, String> {
        Eviction::read(|flag| {
            let given = flags.iter().find(|(name, _)| *name == flag);
            given.map(|(_, v)| v.split(',').map(str::to_owned).collect()).unwrap_or_default()
        })
    }

    #[test]
    fn the_defaults_are_well_written_and_every_signal_is_a_row() {
        let eviction = Eviction::default();
        assert_eq!(eviction.kept_free(Signal::MemoryAvailable, 0), 100 << 20);
        assert_eq!(eviction.kept_free(Signal::NodeFsAvailable, 1000), 50);
        assert_eq!(eviction.transition, Duration::from_secs(300));
        for row in &SIGNALS {
            assert_eq!(
                (row.signal.row().name, Signal::parse(row.name)),
                (row.name, Ok(row.signal))
            );
        }
    }

    #[test]
    fn flags_are_read_or_refused() {
        let eviction = read(&[
            ("eviction-hard", "memory.available<1.5Gi,pid.available<10%"),
            ("eviction-soft", "memory.available<2Gi"),
            ("eviction-soft-grace-period", "memory.available=1m30s"),
            ("eviction-minimum-reclaim", "memory.available=500Mi"),
            ("eviction-max-pod-grace-period", "7"),
        ])
        .expect("well written");
        assert_eq!(eviction.told(true)["pid.available"], "10%");
        assert_eq!(eviction.told(false)["memory.available"], "2Gi");
        let soft = eviction.thresholds.last().expect("the soft one");
        assert_eq!((soft.grace.as_secs(), soft.is_hard()), (90, false));
        assert_eq!(soft.reclaim, Some(Amount::Quantity(500 << 20)));
        assert_eq!(eviction.pod_grace_max.as_secs(), 7);
        assert_eq!(read(&[("eviction-hard", "")]).expect("none").told(true).len(), 0);
        for (flags, why) in [
            (&[("eviction-hard", "memory.available")][..], "not SIGNAL<VALUE"),
            (&[("eviction-hard", "memory<1Gi")], "no eviction signal"),
            (&[("eviction-hard", "memory.available<lots")], "neither an amount"),
            (&[("eviction-hard", "nodefs.available<101%")], "neither an amount"),
            (&[("eviction-soft", "memory.available<1Gi")], "--eviction-soft-grace-period"),
            (&[("image-gc-high-threshold", "x")], "no percentage"),
            (&[("image-gc-low-threshold", "90")], "less than the high one"),
            (&[("eviction-pressure-transition-period", "soon")], "no time"),
        ] {
            let told = read(flags).expect_err(why);
            assert!(told.contains(why), "{told}");
        }
    }
}
