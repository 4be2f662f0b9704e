//! What people write behind options, read into what a [`Config`](super::config::Config) has: docker's grammar and
//! docker's words (docs.docker.com, "docker container run"). Nothing here looks at the machine; paths are those
//! that were written.

use std::path::{Path, PathBuf};

mod device;
mod hosts;
mod kernel;
mod log;
mod mount;
mod security;
mod size;
mod tmpfs;
mod ulimit;
mod volume;

pub use device::device;
pub use hosts::{address, host_name, no_published_ports};
pub use kernel::{is_host, own_namespace, sysctl};
pub use log::log;
pub use mount::mount;
pub(in crate::run) use security::CAPABILITIES;
pub use security::{SecurityOption, capability, effective_capabilities, security_option};
pub use size::size;
pub use tmpfs::tmpfs;
pub use ulimit::{ULIMITS, ulimit};
pub use volume::{is_volume_name, volume};

/// What is wrong with an option's value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionError(String);

impl OptionError {
    /// Says so.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// A value in a message: as it was written, but not for ever.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(200).collect::<String>())
}

/// A path of the container that something is to be mounted at: absolute, not the root itself, without `.`, `..`,
/// doubled slashes and zero bytes in what is given back.
fn target(text: &str) -> Result<String, OptionError> {
    if !text.starts_with('/') {
        return Err(OptionError(format!(
            "invalid mount path: {} mount path must be absolute",
            shown(text)
        )));
    }
    if text.contains('\0') {
        return Err(OptionError("a path has a zero byte in it".to_owned()));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(OptionError(format!(
            "invalid specification: destination can't be '/': {}",
            shown(text)
        )));
    }
    Ok(format!("/{}", parts.join("/")))
}

/// A path of the host as an absolute one; `here` is the working directory.
fn host_path(text: &str, here: &Path) -> Result<PathBuf, OptionError> {
    if text.contains('\0') {
        return Err(OptionError("a path has a zero byte in it".to_owned()));
    }
    Ok(here.join(text))
}

/// `true`, `1`, nothing, and their opposites.
fn truth(value: &str) -> Result<bool, OptionError> {
    match value.to_ascii_lowercase().as_str() {
        "" | "1" | "t" | "true" => Ok(true),
        "0" | "f" | "false" => Ok(false),
        _ => Err(OptionError(format!(
            "{} is neither true nor false",
            shown(value)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn targets_are_absolute_and_plain() {
        assert_eq!(target("/a//b/./c/../d/"), Ok("/a/b/d".to_owned()));
        assert_eq!(target("/../../etc"), Ok("/etc".to_owned()));
        for bad in ["", "a", "./a", "/", "//", "/a/..", "/a\0b"] {
            assert!(target(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_or_refused(text in "\\PC{0,40}", words in "[a-z/:=,.0-9\"-]{0,40}") {
            let here = Path::new("/here");
            for text in [&text, &words] {
                let _ = (device(text), host_name(text), capability(text), security_option(text), size(text), ulimit(text));
                for read in [volume(text, here), mount(text, here), tmpfs(text)].into_iter().flatten() {
                    prop_assert!(read.target.starts_with('/') && read.target.len() > 1);
                    prop_assert!(!read.target.split('/').any(|part| part == ".."));
                }
            }
        }
    }
}
