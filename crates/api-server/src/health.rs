//! `/livez`, `/readyz` and `/healthz`: named checks that others add.

use std::sync::{PoisonError, RwLock};

use crate::respond::{Reply, text};

/// Looks whether something is well; the text says what is not.
pub type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Whether a check is about being alive, or only about being ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Failing means that a restart would help.
    Live,
    /// Failing means that requests should go elsewhere for now.
    Ready,
}

/// All checks of a server. A live check is a ready check too.
#[derive(Default)]
pub struct Health {
    checks: RwLock<Vec<(String, Probe, Check)>>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Health")
    }
}

impl Health {
    /// Adds a check, or replaces the one of that name.
    pub fn add(
        &self,
        name: &str,
        probe: Probe,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        let mut checks = self.checks.write().unwrap_or_else(PoisonError::into_inner);
        checks.retain(|(known, ..)| known != name);
        checks.push((name.to_owned(), probe, Box::new(check)));
    }

    /// Whether every check of a probe passes; the names of those that do not.
    ///
    /// # Errors
    /// The failing checks and what they say.
    pub fn check(&self, probe: Probe) -> Result<(), Vec<(String, String)>> {
        let failed: Vec<_> = self
            .run(probe, &[])
            .into_iter()
            .filter_map(|(name, result)| result.err().map(|why| (name, why)))
            .collect();
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    fn run(&self, probe: Probe, exclude: &[&str]) -> Vec<(String, Result<(), String>)> {
        let checks = self.checks.read().unwrap_or_else(PoisonError::into_inner);
        checks
            .iter()
            .filter(|(name, of, _)| {
                (probe == Probe::Ready || *of == Probe::Live) && !exclude.contains(&name.as_str())
            })
            .map(|(name, _, check)| (name.clone(), check()))
            .collect()
    }

    /// Answers `/readyz`, `/readyz?verbose&exclude=a` or `/readyz/a`; `None`
    /// where the path is none of them.
    pub(crate) fn answer(&self, path: &str, query: &[(String, String)]) -> Option<Reply> {
        let (endpoint, only) = path.trim_matches('/').split_once('/').unwrap_or((path, ""));
        let endpoint = endpoint.trim_matches('/');
        let probe = match endpoint {
            "livez" => Probe::Live,
            "readyz" | "healthz" => Probe::Ready,
            _ => return None,
        };
        let exclude: Vec<&str> = query
            .iter()
            .filter(|(key, _)| key == "exclude")
            .map(|(_, value)| value.as_str())
            .collect();
        let mut results = self.run(probe, &exclude);
        results.insert(0, ("ping".to_owned(), Ok(())));
        if !only.is_empty() {
            let (_, result) = results.into_iter().find(|(name, _)| name == only)?;
            return Some(match result {
                Ok(()) => text(200, "ok"),
                Err(why) => text(500, format!("internal server error: {why}\n")),
            });
        }
        let failed = results.iter().any(|(_, result)| result.is_err());
        let verbose = query.iter().any(|(key, _)| key == "verbose");
        if !failed && !verbose {
            return Some(text(200, "ok"));
        }
        let mut out = String::new();
        for (name, result) in &results {
            match result {
                Ok(()) => out.push_str(&format!("[+]{name} ok\n")),
                Err(why) => out.push_str(&format!("[-]{name} failed: {why}\n")),
            }
        }
        Some(match failed {
            true => text(500, format!("{out}{endpoint} check failed\n")),
            false => text(200, format!("{out}{endpoint} check passed\n")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Body;

    fn answer(health: &Health, path: &str, query: &str) -> (u16, String) {
        let reply = health.answer(path, &crate::path::parse_query(query)).expect(path);
        let Body::Full(bytes) = reply.body() else { panic!("text is whole") };
        (reply.status().as_u16(), String::from_utf8_lossy(bytes).into_owned())
    }

    #[test]
    fn checks_are_named_when_they_fail_or_when_asked() {
        let health = Health::default();
        health.add("store", Probe::Live, || Ok(()));
        health.add("bootstrap", Probe::Ready, || Err("not yet".into()));
        assert_eq!(answer(&health, "/livez", ""), (200, "ok".into()));
        assert_eq!(
            answer(&health, "/readyz", ""),
            (
                500,
                "[+]ping ok\n[+]store ok\n[-]bootstrap failed: not yet\nreadyz check failed\n"
                    .into()
            )
        );
        assert_eq!(answer(&health, "/readyz", "exclude=bootstrap"), (200, "ok".into()));
        assert_eq!(
            answer(&health, "/livez", "verbose"),
            (200, "[+]ping ok\n[+]store ok\nlivez check passed\n".into())
        );
        assert_eq!(answer(&health, "/livez/store", "").0, 200);
        assert!(health.answer("/livez/nothing", &[]).is_none());
        assert!(health.answer("/version", &[]).is_none());
    }
}
