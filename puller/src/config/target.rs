//! A place that images come from, and how to reach it.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// `HOST[:PORT][/PATH]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) host: String,
    /// What stands before a repository's name there; empty or without slashes at its ends.
    pub(crate) path: String,
}

impl Location {
    /// Reads one.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bare = text.trim_end_matches('/');
        super::prefix::Prefix::parse(bare).map_err(|why| format!("location: {why}"))?;
        if bare.starts_with('*') {
            return Err(format!("location: {text:?} is not one host"));
        }
        let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
        Ok(Self {
            host: host.to_owned(),
            path: path.to_owned(),
        })
    }

    /// The repository there that `rest` is called, what a prefix left of a name.
    pub(super) fn repository(&self, rest: &str) -> String {
        let rest = rest.trim_start_matches('/');
        match (self.path.as_str(), rest) {
            ("", rest) => rest.to_owned(),
            (path, "") => path.to_owned(),
            (path, rest) => format!("{path}/{rest}"),
        }
    }
}

/// Files that TLS with a host needs beyond the machine's own certificates, all in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct TlsFiles {
    /// Authorities to trust besides.
    #[serde(default, deserialize_with = "one_or_more")]
    pub(crate) ca: Vec<PathBuf>,
    /// Our own certificate.
    pub(crate) cert: Option<PathBuf>,
    /// Its key.
    pub(crate) key: Option<PathBuf>,
}

fn one_or_more<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Files {
        One(PathBuf),
        More(Vec<PathBuf>),
    }
    Ok(match Files::deserialize(from)? {
        Files::One(path) => vec![path],
        Files::More(paths) => paths,
    })
}

impl TlsFiles {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.ca.is_empty() && self.cert.is_none()
    }

    /// A certificate needs its key and the other way round.
    pub(super) fn checked(self) -> Result<Self, String> {
        match (&self.cert, &self.key) {
            (Some(_), None) => Err("cert: its key is missing".to_owned()),
            (None, Some(_)) => Err("key: its cert is missing".to_owned()),
            _ => Ok(self),
        }
    }

    /// What the directories hold for a host: in `DIR/HOST[:PORT]/` authorities are `*.crt`, our certificate is
    /// `*.cert` and its key `*.key` of the same name (containers-certs.d(5), docker's "certs.d"). The first directory
    /// that has one for the host counts.
    ///
    /// # Errors
    /// A certificate without its key.
    pub(crate) fn of_host(dirs: &[PathBuf], host: &str) -> Result<Self, String> {
        // A host's name is one component of a path.
        if host.contains('/') || host.starts_with('.') {
            return Ok(Self::default());
        }
        let found = dirs
            .iter()
            .map(|dir| dir.join(host))
            .find(|dir| dir.is_dir());
        let Some(dir) = found else {
            return Ok(Self::default());
        };
        let entries =
            std::fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        names.sort();
        let has =
            |path: &&PathBuf, extension: &str| path.extension().is_some_and(|e| e == extension);
        let cert = names.iter().find(|path| has(path, "cert")).cloned();
        let key = cert.as_ref().map(|cert| cert.with_extension("key"));
        if let (Some(cert), Some(key)) = (&cert, &key)
            && !key.exists()
        {
            return Err(format!(
                "{}: its key {} is missing (authorities are called *.crt)",
                cert.display(),
                key.display()
            ));
        }
        let ca = names.iter().filter(|path| has(path, "crt")).cloned();
        Ok(Self {
            ca: ca.collect(),
            cert,
            key,
        })
    }

    /// With those of the host's directory, where these say nothing.
    pub(crate) fn or(mut self, other: Self) -> Self {
        if self.cert.is_none() {
            (self.cert, self.key) = (other.cert, other.key);
        }
        if self.ca.is_empty() {
            self.ca = other.ca;
        }
        self
    }
}

/// A place for one repository.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Target {
    /// `HOST[:PORT]`: whose credentials are shown, and what messages say.
    pub(crate) host: String,
    /// What the repository is called there.
    pub(crate) repository: String,
    /// The scheme, where it is said; else what suits the host.
    pub(crate) scheme: Option<&'static str>,
    /// Where the protocol begins: `/v2`.
    pub(crate) api: String,
    /// True: any certificate will do, and without TLS if need be. False: HTTPS also on this machine.
    pub(crate) insecure: Option<bool>,
    /// Any certificate will do, but TLS has to be.
    pub(crate) skip_verify: bool,
    pub(crate) tls: TlsFiles,
    /// The registry that the place stands for, if it wants to be told (containerd's `ns`).
    pub(crate) ns: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) realms: Option<Vec<String>>,
    pub(crate) connections: Option<NonZeroUsize>,
    pub(crate) when: When,
}

/// What a place is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Everything.
    Always,
    /// Everything of images that are named by tag.
    NamedByTag,
    /// Everything of images that are named by digest.
    NamedByDigest,
    /// Tags, as far as the first says; whatever is known by digest, as far as the second.
    Kinds(bool, bool),
}

impl Target {
    /// The repository at a host, reached as such hosts are.
    pub(crate) fn new(host: &str, repository: String) -> Self {
        Self {
            host: host.to_owned(),
            repository,
            scheme: None,
            api: "/v2".to_owned(),
            insecure: None,
            skip_verify: false,
            tls: TlsFiles::default(),
            ns: None,
            headers: Vec::new(),
            realms: None,
            connections: None,
            when: When::Always,
        }
    }

    /// Whether it is asked for a manifest by tag, or for something by digest, of an image that is named by a tag or not.
    pub(crate) fn serves(&self, by_tag: bool, image_by_tag: bool) -> bool {
        match self.when {
            When::Always => true,
            When::NamedByTag => image_by_tag,
            When::NamedByDigest => !image_by_tag,
            When::Kinds(tags, digests) => {
                if by_tag {
                    tags
                } else {
                    digests
                }
            }
        }
    }
}

/// Where certificates for hosts are looked for.
pub(super) fn certs_dirs(config_home: Option<&Path>) -> Vec<PathBuf> {
    let own = config_home.map(|dir| dir.join("containers/certs.d"));
    let machine = ["/etc/containers/certs.d", "/etc/docker/certs.d"];
    own.into_iter().chain(machine.map(PathBuf::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_rewritten() {
        let at = |text: &str, rest: &str| Location::parse(text).expect("a place").repository(rest);
        assert_eq!(at("a.test", "/library/x"), "library/x");
        assert_eq!(at("a.test/hub", "/library/x"), "hub/library/x");
        assert_eq!(at("a.test/hub/x", ""), "hub/x");
        assert!(Location::parse("*.a.test").is_err());
    }

    #[test]
    fn certificates_are_found_by_their_names() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (first, second) = (dir.path().join("1"), dir.path().join("2"));
        let host = second.join("a.test:5000");
        std::fs::create_dir_all(&host).expect("make a directory");
        std::fs::create_dir_all(&first).expect("make a directory");
        for name in ["ca.crt", "me.cert", "me.key", "readme"] {
            std::fs::write(host.join(name), "").expect("write");
        }
        let dirs = [first.clone(), second.clone()];
        let found = TlsFiles::of_host(&dirs, "a.test:5000").expect("complete");
        assert_eq!(found.ca, [host.join("ca.crt")]);
        assert_eq!(found.cert, Some(host.join("me.cert")));
        assert_eq!(found.key, Some(host.join("me.key")));
        assert!(
            TlsFiles::of_host(&dirs, "b.test")
                .expect("nothing")
                .is_empty()
        );
        assert!(
            TlsFiles::of_host(&dirs, "../2")
                .expect("nothing")
                .is_empty()
        );
        std::fs::remove_file(host.join("me.key")).expect("remove");
        let error = TlsFiles::of_host(&dirs, "a.test:5000").expect_err("no key");
        assert!(error.contains("me.key"), "{error}");
        // The first directory that has one for the host counts alone.
        std::fs::create_dir_all(first.join("a.test:5000")).expect("make a directory");
        assert!(
            TlsFiles::of_host(&dirs, "a.test:5000")
                .expect("nothing")
                .is_empty()
        );
    }
}
