//! Image names: short for people, in full for the index.

use oci_distribution::Reference;
use strata_oci::digest::Digest;
use strata_oci::name::{Repository, Tag};

use super::StoreError;

/// A name of an image: a repository with a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Registry and repository in full, `docker.io/library/debian`.
    pub repository: String,
    /// What it names there.
    pub target: Target,
}

/// What is named in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Whatever the tag stands for at the time.
    Tag(String),
    /// One manifest or index for ever. A tag given beside it says nothing more.
    Digest(Digest),
}

impl Name {
    /// Reads a name by docker's rules: `debian` is `docker.io/library/debian:latest`, and the first
    /// component is a registry when it has a dot or a colon or is `localhost`.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        if let Some(name) = plain(text) {
            return Ok(name);
        }
        let refused = |reason: String| StoreError::Reference {
            text: text.chars().take(300).collect(),
            reason,
        };
        let reference: Reference = text
            .parse()
            .map_err(|error: oci_distribution::ParseError| refused(error.to_string()))?;
        Self::of(&reference).map_err(|error| refused(error.to_string()))
    }

    /// The name that a parsed reference gives.
    ///
    /// # Errors
    /// A digest of an algorithm that is not supported.
    pub fn of(reference: &Reference) -> Result<Self, strata_oci::digest::ParseDigestError> {
        let repository = format!("{}/{}", reference.registry(), reference.repository());
        let target = match reference.digest() {
            Some(digest) => Target::Digest(digest.parse()?),
            None => Target::Tag(reference.tag().unwrap_or("latest").to_owned()),
        };
        Ok(Self { repository, target })
    }

    /// The form that the index keeps: `docker.io/library/debian:latest`.
    pub fn full(&self) -> String {
        self.written(&self.repository)
    }

    /// The form that people know: `debian:latest`.
    pub fn familiar(&self) -> String {
        self.written(self.familiar_repository())
    }

    /// The repository as people know it: `debian`, `someone/app`, `localhost:5000/app`.
    pub fn familiar_repository(&self) -> &str {
        familiar_repository(&self.repository)
    }

    fn written(&self, repository: &str) -> String {
        match &self.target {
            Target::Tag(tag) => format!("{repository}:{tag}"),
            Target::Digest(digest) => format!("{repository}@{digest}"),
        }
    }
}

/// Reads the names that people write. The library's parser compiles a regular expression first, which
/// takes longer than all else that a command does to find an image; it decides on the rest.
fn plain(text: &str) -> Option<Name> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse().ok()?)),
        None => (text, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag.parse::<Tag>().ok()?)),
        _ => (rest, None),
    };
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if first == "localhost" || first.contains(['.', ':']) => (first, path),
        _ => ("docker.io", name),
    };
    let path: Repository = path.parse().ok()?;
    let registry = match registry {
        "index.docker.io" => "docker.io",
        other if is_registry(other) => other,
        _ => return None,
    };
    let library = registry == "docker.io" && !path.as_str().contains('/');
    Some(Name {
        repository: format!("{registry}/{}{path}", if library { "library/" } else { "" }),
        target: match (digest, tag) {
            (Some(digest), _) => Target::Digest(digest),
            (None, Some(tag)) => Target::Tag(tag.to_string()),
            (None, None) => Target::Tag("latest".to_owned()),
        },
    })
}

/// A host name, with a port if need be.
fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "1"));
    let is_label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(is_label) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// `docker.io/library/debian` without what everyone leaves out.
pub(super) fn familiar_repository(repository: &str) -> &str {
    match repository.strip_prefix("docker.io/") {
        Some(rest) => rest.strip_prefix("library/").unwrap_or(rest),
        None => repository,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn both(text: &str) -> (String, String) {
        let name = Name::parse(text).expect(text);
        (name.full(), name.familiar())
    }

    #[test]
    fn short_names_are_docker_hubs_and_become_short_again() {
        let digest = Digest::of(b"x");
        for (text, full, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            (
                "library/debian:12",
                "docker.io/library/debian:12",
                "debian:12",
            ),
            ("some/app", "docker.io/some/app:latest", "some/app:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
            (
                "localhost/app",
                "localhost/app:latest",
                "localhost/app:latest",
            ),
            (
                "localhost:5000/app:v1",
                "localhost:5000/app:v1",
                "localhost:5000/app:v1",
            ),
            (
                "ghcr.io/a/b/c",
                "ghcr.io/a/b/c:latest",
                "ghcr.io/a/b/c:latest",
            ),
        ] {
            assert_eq!(both(text), (full.to_owned(), familiar.to_owned()), "{text}");
        }
        let text = format!("debian:12@{digest}");
        let full = format!("docker.io/library/debian@{digest}");
        assert_eq!(both(&text), (full, format!("debian@{digest}")));
    }

    #[test]
    fn common_names_need_no_regular_expression() {
        let digest = Digest::of(b"x");
        let by_digest = format!("ghcr.io/a/b@{digest}");
        for text in [
            "debian",
            "debian:12",
            "localhost:5000/app:v1",
            "127.0.0.1:80/a/b",
            &by_digest,
        ] {
            assert!(plain(text).is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let sha384 = format!("debian@sha384:{}", "a".repeat(96));
        for bad in [
            "",
            "Debian",
            "a b",
            "a:",
            "a@sha256:00",
            "../a",
            &sha384,
            "-a",
        ] {
            let error = Name::parse(bad).expect_err(bad);
            assert!(matches!(error, StoreError::Reference { .. }), "{error}");
        }
    }

    proptest! {
        #[test]
        fn the_full_and_the_familiar_form_mean_the_same(text in "([a-z0-9]{1,5}[.:/-]){0,3}[a-z0-9]{1,6}(:[a-zA-Z0-9._-]{1,5})?") {
            if let Ok(name) = Name::parse(&text) {
                prop_assert_eq!(&Name::parse(&name.full()).expect("full"), &name);
                prop_assert_eq!(&Name::parse(&name.familiar()).expect("familiar"), &name);
            }
        }

        #[test]
        fn what_is_read_plainly_is_read_as_the_library_reads_it(
            text in "(index\\.docker\\.io/|docker\\.io/|localhost/|[a-zA-Z0-9.:-]{1,6}/)?[a-z0-9]{1,3}([a-z0-9._/-]{0,6}[a-z0-9])?(:[a-zA-Z0-9._-]{1,5})?(@sha256:[0-9a-f]{63,64})?",
        ) {
            if let Some(name) = plain(&text) {
                let reference: Reference = text.parse().expect("the library takes it too");
                prop_assert_eq!(name, Name::of(&reference).expect("of a known algorithm"));
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}") {
            let _ = Name::parse(&text);
        }
    }
}
