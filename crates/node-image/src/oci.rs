//! The JSON documents of images (OCI image-spec v1.1; docker's are the same
//! but for media types).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, ImageError};

/// What an image says about the process to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `user`, `uid`, `user:group`, …; empty for root.
    #[serde(deserialize_with = "null_is_default")]
    pub user: String,
    /// `NAME=value`
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// The program, before `cmd`.
    #[serde(deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    /// Arguments, or the program where there is no entrypoint.
    #[serde(deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// Empty for `/`.
    #[serde(deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// `SIGTERM` where empty.
    #[serde(deserialize_with = "null_is_default")]
    pub stop_signal: String,
    /// Labels.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// Directories that are to be fresh and writable; the values say nothing.
    #[serde(deserialize_with = "null_is_default")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// `80/tcp`; the values say nothing.
    #[serde(deserialize_with = "null_is_default")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
}

/// The document that an image's ID is the digest of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<ImageConfig>,
    pub(crate) rootfs: RootFs,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default)]
    pub(crate) diff_ids: Vec<Digest>,
}

/// A pointer to content.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) variant: String,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
}

/// Images for several platforms, or several images.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ImageIndex {
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
}

/// Either of them: what a registry answers to a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(ImageIndex),
}

/// What registries are asked for, the most wanted first.
pub(crate) const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// No manifest, index or configuration is larger (containerd's limit is 8 MiB).
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

impl Document {
    /// Tells the two apart by what they hold: media types are often missing.
    pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<Self, ImageError> {
        #[derive(Deserialize)]
        struct Shape {
            #[serde(rename = "schemaVersion", default)]
            schema_version: u32,
            config: Option<serde::de::IgnoredAny>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let shape: Shape = parse_json(bytes, what)?;
        match (shape.config, shape.manifests) {
            (Some(_), None) => parse_json(bytes, what).map(Self::Manifest),
            (None, Some(_)) => parse_json(bytes, what).map(Self::Index),
            _ if shape.schema_version == 1 => Err(ImageError::Malformed {
                what: what.into(),
                text: "docker's schema 1 manifests are not supported".into(),
            }),
            _ => Err(ImageError::Malformed {
                what: what.into(),
                text: "it is neither an image manifest nor an index".into(),
            }),
        }
    }
}

pub(crate) fn parse_json<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
    what: &str,
) -> Result<T, ImageError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ImageError::Malformed { what: what.into(), text: error.to_string() })
}

/// This machine, in the words of image indexes.
pub(crate) fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl ImageIndex {
    /// The image for linux on `architecture`.
    pub(crate) fn for_platform(
        &self,
        architecture: &str,
        name: &str,
    ) -> Result<&Descriptor, ImageError> {
        let is_index = |descriptor: &Descriptor| {
            MANIFEST_TYPES[0] == descriptor.media_type || MANIFEST_TYPES[2] == descriptor.media_type
        };
        let fits = |descriptor: &&Descriptor| match &descriptor.platform {
            Some(platform) => platform.os == "linux" && platform.architecture == architecture,
            // An index inside an index, or the only image of a layout.
            None => is_index(descriptor) || self.manifests.len() == 1,
        };
        // Any variant will do, but the best known one comes first.
        let best = |descriptor: &&Descriptor| {
            let variant = descriptor.platform.as_ref().map_or("", |platform| &platform.variant);
            !matches!((architecture, variant), (_, "") | ("arm64", "v8") | ("arm", "v7"))
        };
        self.manifests.iter().filter(fits).min_by_key(best).ok_or_else(|| {
            let offered = self.manifests.iter().filter_map(|descriptor| {
                let platform = descriptor.platform.as_ref()?;
                Some(format!("{}/{}", platform.os, platform.architecture))
            });
            ImageError::NoPlatform {
                name: name.into(),
                wanted: format!("linux/{architecture}"),
                offered: offered.collect::<Vec<_>>().join(", "),
            }
        })
    }
}

/// `null` means unset in Go's JSON.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_platform_is_chosen_from_an_index() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let entry = |os: &str, arch: &str, variant: &str| {
            format!(
                r#"{{"digest":"{}","platform":{{"os":"{os}","architecture":"{arch}","variant":"{variant}"}}}}"#,
                digest(&format!("{os}{arch}{variant}"))
            )
        };
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{},{},{},{},{}]}}"#,
            entry("windows", "amd64", ""),
            entry("linux", "arm", "v6"),
            entry("linux", "arm", "v7"),
            entry("linux", "amd64", ""),
            entry("unknown", "unknown", "")
        );
        let Ok(Document::Index(index)) = Document::parse(text.as_bytes(), "x") else {
            panic!("not an index")
        };
        let chosen = |arch| index.for_platform(arch, "x").map(|chosen| chosen.digest);
        assert_eq!(chosen("amd64").expect("there"), digest("linuxamd64"));
        assert_eq!(chosen("arm").expect("there"), digest("linuxarmv7"));
        let error = chosen("riscv64").expect_err("not there").to_string();
        assert!(error.starts_with("no match for platform in manifest"), "{error}");
    }

    #[test]
    fn nulls_are_unset() {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Env":null,"Cmd":["sh"],"Entrypoint":null,"Labels":null}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            Digest::of(b"")
        );
        let config: ConfigFile = parse_json(text.as_bytes(), "x").expect("valid");
        assert_eq!(config.config.expect("there").cmd, ["sh"]);
    }

    proptest! {
        #[test]
        fn foreign_documents_never_panic(text in "[\\[\\]{}:,\"a-z0-9]{0,60}|\\PC{0,60}") {
            let _ = Document::parse(text.as_bytes(), "x");
            let _ = parse_json::<ConfigFile>(text.as_bytes(), "x");
        }
    }
}
