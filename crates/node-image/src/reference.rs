//! Image names, read and completed as docker and containerd do
//! (github.com/distribution/reference, `docs/REFERENCE` grammar).

use std::{fmt, str::FromStr};

use crate::{Digest, ImageError};

/// A complete image name: `docker.io/library/nginx:latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Host and, maybe, port: `docker.io`, `localhost:5000`.
    pub registry: String,
    /// `library/nginx`
    pub repository: String,
    /// `latest` if neither tag nor digest was given.
    pub tag: Option<String>,
    /// Wins over the tag.
    pub digest: Option<Digest>,
}

/// What is wrong with an image name; the text is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid reference format{}", .0.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
pub struct InvalidReference(Option<String>);

/// The registry of names without one.
const DEFAULT_REGISTRY: &str = "docker.io";
const NAME_LENGTH_MAX: usize = 255;

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = || InvalidReference(None);
        let because = |why: String| InvalidReference(Some(why));
        if text.len() == 64 && Digest::from_hex(text).is_some() {
            let why = format!("cannot specify 64-byte hexadecimal strings: {text}");
            return Err(because(why));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse().map_err(|_| invalid())?)),
            None => (text, None),
        };
        // A colon before a slash belongs to a port.
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid());
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if is_registry(first) => (first, rest),
            _ => (DEFAULT_REGISTRY, name),
        };
        // Docker's old name for itself.
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let repository = match registry == DEFAULT_REGISTRY && !path.contains('/') {
            true => format!("library/{path}"),
            false => path.to_owned(),
        };
        if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let why = format!("repository name ({repository}) must be lowercase");
            return Err(because(why));
        }
        if !is_domain(registry) || !repository.split('/').all(is_component) {
            return Err(invalid());
        }
        if registry.len() + 1 + repository.len() > NAME_LENGTH_MAX {
            let why = "repository name must not be more than 255 characters".to_owned();
            return Err(because(why));
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

impl Reference {
    /// Reads a name as a pod's `image` field has it.
    ///
    /// # Errors
    /// [`ImageError::InvalidName`].
    pub fn parse(name: &str) -> Result<Self, ImageError> {
        name.parse().map_err(|reason| ImageError::InvalidName { name: name.into(), reason })
    }

    /// `docker.io/library/nginx`
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What the registry is asked for: the digest, else the tag.
    pub(crate) fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".into(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether the part before the first slash names a registry, not a user.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_domain(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, port)) => {
                let is_v6 = host.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
                if host.is_empty() || !is_v6 {
                    return false;
                }
                return port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            }
            None => return false,
        },
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Runs of letters and digits, joined by one dot, one or two underscores, or
/// any number of hyphens.
fn is_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !is_word(*first) || !is_word(*last) {
        return false;
    }
    bytes.split(|byte| is_word(*byte)).all(|joint| {
        matches!(joint, b"" | b"." | b"_" | b"__") || joint.iter().all(|byte| *byte == b'-')
    })
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
        && tag.bytes().next().is_some_and(is_word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        let digest = Digest::of(b"");
        let by_digest = format!("nginx@{digest}");
        let both = format!("nginx:1@{digest}");
        for (name, complete) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27", "docker.io/library/nginx:1.27".into()),
            ("user/app", "docker.io/user/app:latest".into()),
            ("docker.io/nginx", "docker.io/library/nginx:latest".into()),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest".into()),
            ("localhost/app", "localhost/app:latest".into()),
            ("localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1".into()),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10".into()),
            ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest".into()),
            ("[::1]:5000/x", "[::1]:5000/x:latest".into()),
            ("a__b/c-d---e.f_g", "docker.io/a__b/c-d---e.f_g:latest".into()),
            ("skiff.local/toolbox", "skiff.local/toolbox:latest".into()),
            (&by_digest, format!("docker.io/library/nginx@{digest}")),
            (&both, format!("docker.io/library/nginx:1@{digest}")),
        ] {
            let reference = name.parse::<Reference>();
            assert_eq!(reference.map(|reference| reference.to_string()), Ok(complete), "{name}");
        }
    }

    #[test]
    fn bad_names_are_refused_in_upstreams_words() {
        for (name, text) in [
            ("", "invalid reference format"),
            (
                "UPPER",
                "invalid reference format: repository name (library/UPPER) must be lowercase",
            ),
            ("nginx:", "invalid reference format"),
            ("nginx:-x", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a/b/", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("nginx@sha256:12", "invalid reference format"),
            ("https://x.y/z", "invalid reference format"),
            ("bad name", "invalid reference format"),
            ("x.y:port/z", "invalid reference format"),
        ] {
            let error = name.parse::<Reference>().expect_err(name);
            assert_eq!(error.to_string(), text, "{name}");
        }
        let hex = Digest::of(b"").hex();
        assert!(hex.parse::<Reference>().is_err());
    }

    proptest! {
        #[test]
        fn what_parses_reads_back_the_same(text in "[a-zA-Z0-9:/@._\\[\\]-]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
            }
        }

        #[test]
        fn foreign_text_never_panics(text in "\\PC{0,80}") {
            let _ = text.parse::<Reference>();
        }
    }
}
