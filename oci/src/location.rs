//! Where an image is: `oci:DIR[:TAG]`, `docker-archive:FILE[:REF]`, or a name in a registry, with or
//! without `docker://` (containers-transports(5)).

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
    /// A file that `docker save` wrote, and which of its images.
    DockerArchive {
        /// The file.
        file: PathBuf,
        /// The image's reference; none when there is only one.
        reference: Option<String>,
    },
    /// A name for a registry or the local store, not yet parsed.
    Name(String),
}

/// A location that names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseLocationError {
    /// `oci:` or `docker-archive:` without a path.
    #[error("{0:?} has no path: expected oci:DIR[:TAG] or docker-archive:FILE[:REF]")]
    NoPath(String),
    /// A transport of other tools that is not supported.
    #[error(
        "the transport of {0:?} is not supported: use oci:, docker-archive: or a registry's name"
    )]
    Transport(String),
}

impl std::str::FromStr for Location {
    type Err = ParseLocationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(name) = text.strip_prefix("docker://") {
            return Ok(Self::Name(name.to_owned()));
        }
        let (transport, rest) = match text.split_once(':') {
            Some((transport @ ("oci" | "docker-archive"), rest)) => (transport, rest),
            Some(("dir" | "oci-archive" | "containers-storage" | "docker-daemon", rest))
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
            return Err(ParseLocationError::NoPath(text.to_owned()));
        }
        Ok(match transport {
            "oci" => Self::Layout {
                dir: path.into(),
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
            text in "(oci:|docker-archive:|docker://)?[a-z/.:@]{0,12}"
        ) {
            match text.parse::<Location>() {
                Ok(Location::Layout { dir, .. }) => prop_assert!(!dir.as_os_str().is_empty()),
                Ok(Location::DockerArchive { file, .. }) => {
                    prop_assert!(!file.as_os_str().is_empty());
                }
                Ok(Location::Name(name)) => prop_assert!(text.ends_with(&name)),
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
            Ok(Location::Name("debian".into()))
        );
        assert!(parse("oci:").is_err());
        assert!(parse("docker-archive::x").is_err());
        assert!(parse("oci-archive:/x.tar").is_err());
    }
}
