//! Platforms: which of an index's manifests fits a machine (image-spec, image-index.md).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system, an architecture and its variant, in Go's words (`GOOS`, `GOARCH`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, `windows`, …
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v8`, `v7`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The version that a Windows image needs.
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
}

/// A text that is not `os/architecture[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "platform {0:?} is invalid: expected os/architecture or os/architecture/variant, such as linux/arm64"
)]
pub struct ParsePlatformError(String);

impl Platform {
    /// The machine that this program runs on.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self {
            os: std::env::consts::OS.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
            os_version: None,
        }
    }

    /// How well an image for `offered` runs where `self` is wanted: higher is better, `None` not at all.
    ///
    /// A missing variant means the architecture's default (arm64 is v8, arm is v7); an arm machine
    /// runs the images of lower variants too.
    pub fn suits(&self, offered: &Platform) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let (want, have) = (self.level(), offered.level());
        match (want, have) {
            (Some(want), Some(have)) if have <= want => Some(have + 1),
            (Some(_), Some(_)) => None,
            _ if self.variant == offered.variant => Some(1),
            _ if offered.variant.is_none() => Some(0),
            _ => None,
        }
    }

    /// The number in a variant `vN`, with the architecture's default where none is given.
    fn level(&self) -> Option<u32> {
        let text = match (self.architecture.as_str(), self.variant.as_deref()) {
            (_, Some(variant)) => variant,
            ("arm64", None) => "v8",
            ("arm", None) => "v7",
            ("amd64", None) => "v1",
            _ => return None,
        };
        text.strip_prefix('v')?.parse().ok()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = ParsePlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ParsePlatformError(text.chars().take(80).collect());
        let parts: Vec<&str> = text.split('/').collect();
        let plain = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(plain) {
            return Err(invalid());
        }
        let architecture = match parts[1] {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(Self {
            os: parts[0].to_ascii_lowercase(),
            architecture: architecture.to_owned(),
            variant: parts.get(2).map(|v| (*v).to_owned()),
            os_version: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().expect("valid")
    }

    #[test]
    fn variants_default_and_rank() {
        let machine = platform("linux/arm/v7");
        assert!(
            machine.suits(&platform("linux/arm/v7")) > machine.suits(&platform("linux/arm/v6"))
        );
        assert_eq!(machine.suits(&platform("linux/arm/v8")), None);
        assert!(
            platform("linux/arm64")
                .suits(&platform("linux/arm64/v8"))
                .is_some()
        );
        assert!(
            platform("linux/arm64/v8")
                .suits(&platform("linux/arm64"))
                .is_some()
        );
        assert_eq!(
            platform("linux/amd64").suits(&platform("linux/arm64")),
            None
        );
        assert_eq!(
            platform("linux/amd64").suits(&platform("linux/amd64/v3")),
            None
        );
        assert!(
            platform("linux/riscv64")
                .suits(&platform("linux/riscv64"))
                .is_some()
        );
        assert_eq!(
            platform("windows/amd64").suits(&platform("linux/amd64")),
            None
        );
    }

    #[test]
    fn parse_and_print() {
        assert_eq!(platform("linux/x86_64").to_string(), "linux/amd64");
        assert_eq!(platform("linux/arm64/v8").to_string(), "linux/arm64/v8");
        for bad in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
