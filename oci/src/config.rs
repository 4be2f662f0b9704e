//! Image configurations: how a container of the image starts, and the diffIDs of its layers
//! (image-spec, config.md). Builders write `null` where the specification wants a list; both are read.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::platform::Platform;

/// No configuration that a person made is larger; one that is would fill memory.
pub const MAX_CONFIG: u64 = 8 * 1024 * 1024;

/// The parsed view of an image configuration. The raw bytes are the truth: their digest is the image id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The machine's architecture, `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// The operating system, `linux`.
    #[serde(default)]
    pub os: String,
    /// The architecture's variant, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// When it was built, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who built it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// How containers start.
    #[serde(default, deserialize_with = "or_default")]
    pub config: ContainerConfig,
    /// The layers.
    pub rootfs: RootFs,
    /// The steps that built it.
    #[serde(default, deserialize_with = "or_default")]
    pub history: Vec<History>,
}

impl ImageConfig {
    /// Which machine the image is for.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
            os_version: None,
        }
    }
}

/// The layers of an image by the digests of their uncompressed tars, the lowest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// One diffID a layer.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<Digest>,
}

/// What a container of the image runs by default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// `user[:group]`, names or numbers.
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    /// Variables, `KEY=value`.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// What is run in front of the command.
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// The command, or the entrypoint's arguments.
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    /// Where it starts.
    #[serde(deserialize_with = "or_default")]
    pub working_dir: String,
    /// Free text by key.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks it to stop, `SIGTERM`.
    #[serde(deserialize_with = "or_default")]
    pub stop_signal: String,
    /// Ports, `80/tcp`; for information.
    #[serde(deserialize_with = "or_default")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// Paths that hold data.
    #[serde(deserialize_with = "or_default")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// How to find out whether the program still does its work: docker's, in no specification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<serde_json::Value>,
    /// Instructions for whoever builds on the image: docker's.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// What runs commands that are no list of words, `/bin/sh -c` when empty: docker's.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

/// One step of an image's build.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// For a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_of_real_builders_are_read() {
        let text = r#"{"architecture":"amd64","os":"linux","created":null,
            "config":{"Env":null,"Cmd":["sh"],"Entrypoint":null,"Volumes":null,"Labels":null,"User":""},
            "rootfs":{"type":"layers","diff_ids":null},"history":null,"container_config":{}}"#;
        let config: ImageConfig = serde_json::from_str(text).expect("parses");
        assert_eq!(config.config.cmd, ["sh"]);
        assert!(config.rootfs.diff_ids.is_empty());
        assert_eq!(config.platform().to_string(), "linux/amd64");
        assert!(
            serde_json::from_str::<ImageConfig>(r#"{"os":"linux"}"#).is_err(),
            "rootfs is required"
        );
        let bare = r#"{"config":null,"rootfs":{"type":"layers","diff_ids":[]}}"#;
        assert!(serde_json::from_str::<ImageConfig>(bare).is_ok());
    }
}
