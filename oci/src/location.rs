//! Where an image is: `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:REF]`,
//! `docker://NAME` in a registry, `store:NAME` in the local store, or a bare name, which each command takes
//! for what it is about (containers-transports(5)).

use std::path::PathBuf;

/// A parsed location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// An OCI image layout directory and the name of an image in it.
    Layout {
        /// The directory.
        dir: PathBuf,
        /// The image's name; none when there is only one.
        name: Option<String>,
    },
    /// An OCI image layout in one tar file and the name of an image in it.
    OciArchive {
        /// The file.
        file: PathBuf,
        /// The image's name; none when there is only one.
        name: Option<String>,
    },
    /// A file that `docker save` wrote, and which of its images.
    DockerArchive {
        /// The file.
        file: PathBuf,
        /// The image's reference; none when there is only one.
        reference: Option<String>,
    },
    /// A name in a registry, not yet parsed.
    Registry(String),
    /// A name in the local store, not yet parsed.
    Store(String),
    /// A name for a registry or the local store, not yet parsed.
    Name(String),
}

/// A location that names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseLocationError {
    /// A transport without a path or a name.
    #[error(
        "{0:?} has no path: expected oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REF], docker://NAME or store:NAME"
    )]
    NoPath(String),
    /// A transport of other tools that is not supported.
    #[error(
        "the transport of {0:?} is not supported: use oci:, oci-archive:, docker-archive:, store: or docker://"
    )]
    Transport(String),
}

impl std::str::FromStr for Location {
    type Err = ParseLocationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let nothing = || ParseLocationError::NoPath(text.chars().take(300).collect());
        let (transport, rest) = match text.split_once(':') {
            Some(("docker", rest)) if rest.starts_with("//") => ("docker", &rest[2..]),
            Some((known @ ("oci" | "oci-archive" | "docker-archive" | "store"), rest)) => {
                (known, rest)
            }
            Some(("dir" | "containers-storage" | "docker-daemon", rest))
                if rest.starts_with(['/', '.']) =>
            {
                return Err(ParseLocationError::Transport(text.to_owned()));
            }
            _ => return Ok(Self::Name(text.to_owned())),
        };
        let (path, name) = match rest.split_once(':') {
            Some((path, name)) => (path, Some(name.to_owned()).filter(|n| !n.is_empty())),
            None => (rest, None),
        };
        if path.is_empty() {
            return Err(nothing());
        }
        Ok(match transport {
            "docker" => Self::Registry(rest.to_owned()),
            "store" => Self::Store(rest.to_owned()),
            "oci" => Self::Layout {
                dir: path.into(),
                name,
            },
            "oci-archive" => Self::OciArchive {
                file: path.into(),
                name,
            },
            _ => Self::DockerArchive {
                file: path.into(),
                reference: name,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_is_a_location_with_a_path_or_a_name_or_is_refused(
            text in "(oci:|oci-archive:|docker-archive:|docker://|store:)?[a-z/.:@]{0,12}"
        ) {
            match text.parse::<Location>() {
                Ok(Location::Layout { dir, .. }) => prop_assert!(!dir.as_os_str().is_empty()),
                Ok(Location::DockerArchive { file, .. } | Location::OciArchive { file, .. }) => {
                    prop_assert!(!file.as_os_str().is_empty());
                }
                Ok(Location::Registry(name) | Location::Store(name) | Location::Name(name)) => prop_assert!(text.ends_with(&name)),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn transports_and_names() {
        let parse = |text: &str| text.parse::<Location>();
        assert_eq!(
            parse("oci:/a/b:v1"),
            Ok(Location::Layout {
                dir: "/a/b".into(),
                name: Some("v1".into())
            })
        );
        assert_eq!(
            parse("docker-archive:x.tar:localhost:5000/app:v1"),
            Ok(Location::DockerArchive {
                file: "x.tar".into(),
                reference: Some("localhost:5000/app:v1".into())
            })
        );
        for name in ["debian", "localhost:5000/app:v1", "oci", "a@sha256:00"] {
            assert_eq!(parse(name), Ok(Location::Name(name.into())));
        }
        assert_eq!(
            parse("docker://debian"),
            Ok(Location::Registry("debian".into()))
        );
        assert_eq!(
            parse("store:localhost:5000/app:v1"),
            Ok(Location::Store("localhost:5000/app:v1".into()))
        );
        assert_eq!(
            parse("oci-archive:/x.tar:v1"),
            Ok(Location::OciArchive {
                file: "/x.tar".into(),
                name: Some("v1".into())
            })
        );
        for bad in [
            "oci:",
            "docker-archive::x",
            "oci-archive:",
            "store:",
            "docker://",
            "dir:/x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
