//! Where credentials are looked for and stored: which files, in which order, and their helpers.

use std::fmt;
use std::path::{Path, PathBuf};

use super::file::{self, AuthFile};
use super::helper::Helper;
use super::key::{candidates, canonical, for_helper};
use super::{Credentials, CredentialsError, Key};

/// The files that are read, the first that knows an answer decides; and the one that is written when none
/// knows the registry yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialStore {
    files: Vec<PathBuf>,
    fresh: Option<PathBuf>,
}

/// Where credentials are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file, not encrypted.
    File(PathBuf),
    /// By a credential helper: the name of its program.
    Helper(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Helper(program) => write!(f, "the credential helper {program}"),
        }
    }
}

/// Credentials that were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What to show to the registry.
    pub credentials: Credentials,
    /// Where it comes from.
    pub place: Place,
    /// What its owner should change about that.
    pub warning: Option<String>,
}

impl CredentialStore {
    /// One file and no other.
    pub fn of_file(path: PathBuf) -> Self {
        Self {
            fresh: Some(path.clone()),
            files: vec![path],
        }
    }

    /// The files of this machine's user: `REGISTRY_AUTH_FILE` alone when it is set; else containers'
    /// `auth.json` of the session, containers' of the user, docker's `config.json`.
    pub fn of_user() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self::from_environment(uid, |name| std::env::var_os(name).map(PathBuf::from))
    }

    fn from_environment(uid: u32, var: impl Fn(&str) -> Option<PathBuf>) -> Self {
        if let Some(path) = var("REGISTRY_AUTH_FILE").filter(|p| !p.as_os_str().is_empty()) {
            return Self::of_file(path);
        }
        let dir = |name: &str| var(name).filter(|path| path.is_absolute());
        let in_home = |path: &str| dir("HOME").map(|home| home.join(path));
        let session = dir("XDG_RUNTIME_DIR")
            .unwrap_or_else(|| PathBuf::from(format!("/run/containers/{uid}")));
        // Without a session podman keeps its file one directory higher.
        let session = match dir("XDG_RUNTIME_DIR") {
            Some(_) => session.join("containers/auth.json"),
            None => session.join("auth.json"),
        };
        let user = dir("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
        let user = user.map(|config| config.join("containers/auth.json"));
        let docker = dir("DOCKER_CONFIG").or_else(|| in_home(".docker"));
        let docker = docker.map(|config| config.join("config.json"));
        let files: Vec<PathBuf> = [Some(session), user.clone(), docker.clone()]
            .into_iter()
            .flatten()
            .collect();
        let own = dir("DOCKER_CONFIG").and(docker);
        Self {
            fresh: own.or(user),
            files,
        }
    }

    /// What there is for a repository of a registry: of each file the most precise entry; at the host itself its
    /// helper, the general helper, then the entry. May run a helper and wait for it.
    pub fn find(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Found>, CredentialsError> {
        let candidates = candidates(registry, repository);
        for path in &self.files {
            let Some(content) = AuthFile::read(path)? else {
                continue;
            };
            if let Some(found) = find_in(path, &content, &candidates)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// What there is for exactly this key.
    pub fn find_key(&self, key: &Key) -> Result<Option<Found>, CredentialsError> {
        let only = [key.as_str().to_owned()];
        for path in &self.files {
            if let Some(content) = AuthFile::read(path)?
                && let Some(found) = find_in(path, &content, &only)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Stores credentials: where the first file that has a helper for the key or knows it says; else in the
    /// first file that is there; else in the user's.
    pub fn store(&self, key: &Key, credentials: &Credentials) -> Result<Place, CredentialsError> {
        let text = key.as_str();
        let mut existing = None;
        for path in &self.files {
            let Some(content) = AuthFile::read(path)? else {
                continue;
            };
            if let Some((helper, server)) = helper_for(path, &content, text)? {
                helper.store(&server, credentials)?;
                file::put_empty(path, text)?;
                return Ok(Place::Helper(helper.program().to_owned()));
            }
            if content.knows(text) {
                file::put(path, text, credentials)?;
                return Ok(Place::File(path.clone()));
            }
            existing = existing.or(Some(path));
        }
        let path = existing.or(self.fresh.as_ref());
        let path = path.ok_or(CredentialsError::NoPlace)?;
        file::put(path, text, credentials)?;
        Ok(Place::File(path.clone()))
    }

    /// Forgets what is stored for a key, wherever it is; gives the places that had it.
    pub fn erase(&self, key: &Key) -> Result<Vec<Place>, CredentialsError> {
        let text = key.as_str();
        let mut places = Vec::new();
        for path in &self.files {
            let Some(content) = AuthFile::read(path)? else {
                continue;
            };
            let helper = helper_for(path, &content, text)?;
            if let Some((helper, server)) = &helper
                && helper.get(server)?.is_some()
                && helper.erase(server)?
            {
                places.push(Place::Helper(helper.program().to_owned()));
            }
            let removed = file::remove(path, &|written| canonical(written) == text)?;
            if removed && helper.is_none() {
                places.push(Place::File(path.clone()));
            }
        }
        Ok(places)
    }

    /// Forgets everything that these files hold and their helpers keep.
    pub fn erase_all(&self) -> Result<Vec<Place>, CredentialsError> {
        let mut places = Vec::new();
        for path in &self.files {
            let Some(content) = AuthFile::read(path)? else {
                continue;
            };
            for (server, name) in content.helpers() {
                let helper = Helper::new(name, path)?;
                if helper.get(server)?.is_some() && helper.erase(server)? {
                    places.push(Place::Helper(helper.program().to_owned()));
                }
            }
            if let Some(name) = content.store() {
                let helper = Helper::new(name, path)?;
                for server in helper.list()? {
                    if helper.erase(&server)? {
                        places.push(Place::Helper(helper.program().to_owned()));
                    }
                }
            }
            if file::remove(path, &|_| true)? {
                places.push(Place::File(path.clone()));
            }
        }
        places.dedup();
        Ok(places)
    }
}

fn find_in(
    path: &Path,
    content: &AuthFile,
    candidates: &[String],
) -> Result<Option<Found>, CredentialsError> {
    for key in candidates {
        if let Some((helper, server)) = helper_for(path, content, key)?
            && let Some(credentials) = helper.get(&server)?
        {
            return Ok(Some(Found {
                credentials,
                place: Place::Helper(helper.program().to_owned()),
                warning: None,
            }));
        }
        let entry = content.entry(key).map_err(|why| CredentialsError::Form {
            path: path.to_owned(),
            why,
        })?;
        if let Some(credentials) = entry {
            let path = path.to_owned();
            let warning = (content.has_secrets() && file::is_open(&path)).then(|| {
                let shown = path.display();
                format!("{shown} holds passwords and others may read it: chmod 600 {shown}")
            });
            return Ok(Some(Found {
                credentials,
                place: Place::File(path),
                warning,
            }));
        }
    }
    Ok(None)
}

/// The helper that keeps what is for a key, and the server's name that it knows. The general one keeps whole
/// registries only.
fn helper_for(
    path: &Path,
    content: &AuthFile,
    key: &str,
) -> Result<Option<(Helper, String)>, CredentialsError> {
    if let Some((written, name)) = content.helper(key) {
        return Ok(Some((Helper::new(name, path)?, written.to_owned())));
    }
    match content.store() {
        Some(name) if !key.contains('/') => {
            Ok(Some((Helper::new(name, path)?, for_helper(key).to_owned())))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_of(vars: &[(&str, &str)]) -> CredentialStore {
        CredentialStore::from_environment(7, |name| {
            let found = vars.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| PathBuf::from(value))
        })
    }

    #[test]
    fn the_files_are_those_of_the_other_clients() {
        let paths = |store: &CredentialStore| -> Vec<String> {
            let files = store.files.iter();
            files.map(|p| p.display().to_string()).collect()
        };
        let usual = store_of(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")]);
        assert_eq!(
            paths(&usual),
            [
                "/r/containers/auth.json",
                "/h/.config/containers/auth.json",
                "/h/.docker/config.json"
            ]
        );
        assert_eq!(
            usual.fresh.as_deref(),
            Some(Path::new("/h/.config/containers/auth.json"))
        );
        let bare = store_of(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")]);
        assert_eq!(paths(&bare)[0], "/run/containers/7/auth.json");
        assert_eq!(paths(&bare)[1], "/c/containers/auth.json");
        let docker = store_of(&[("HOME", "/h"), ("DOCKER_CONFIG", "/d")]);
        assert_eq!(docker.fresh.as_deref(), Some(Path::new("/d/config.json")));
        let only = store_of(&[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "a.json")]);
        assert_eq!(paths(&only), ["a.json"]);
    }

    #[test]
    fn a_login_goes_where_the_registry_is_known_and_comes_back() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (a, b) = (dir.path().join("a.json"), dir.path().join("b.json"));
        let store = CredentialStore {
            files: vec![a.clone(), b.clone()],
            fresh: Some(a.clone()),
        };
        let key = |text| Key::parse(text).expect("a key");
        let me = Credentials::new("me", "pw");
        std::fs::write(&b, r#"{"auths":{"https://r.test/v1/":{"auth":"YTpi"}}}"#).expect("write");
        let place = store.store(&key("r.test"), &me).expect("stored");
        assert_eq!(place, Place::File(b.clone()));
        let place = store.store(&key("r.test/team"), &Credentials::new("team", "x"));
        assert_eq!(place.expect("stored"), Place::File(b.clone()));
        let found = |repository| {
            let found = store.find("r.test", repository).expect("readable");
            found.map(|f| f.credentials.user().to_owned())
        };
        assert_eq!(found("team/app").as_deref(), Some("team"));
        assert_eq!(found("other/app").as_deref(), Some("me"));
        assert_eq!(found("teams").as_deref(), Some("me"));
        assert!(!a.exists());
        assert_eq!(
            store.erase(&key("r.test")).expect("erased"),
            [Place::File(b.clone())]
        );
        assert_eq!(found("other/app"), None);
        assert_eq!(found("team/app").as_deref(), Some("team"));
        assert_eq!(store.erase_all().expect("erased"), [Place::File(b)]);
        assert_eq!(found("team/app"), None);
    }

    #[test]
    fn the_first_file_that_knows_decides_and_an_open_one_is_warned_of() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("tempdir");
        let (a, b) = (dir.path().join("a.json"), dir.path().join("b.json"));
        let store = CredentialStore {
            files: vec![a.clone(), b.clone()],
            fresh: None,
        };
        std::fs::write(&a, r#"{"auths":{"r.test":{"auth":"YTpi"}}}"#).expect("write");
        std::fs::write(&b, r#"{"auths":{"r.test/team":{"auth":"Yzpk"}}}"#).expect("write");
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&a, open).expect("chmod");
        let found = store
            .find("r.test", "team/app")
            .expect("readable")
            .expect("there");
        assert_eq!(found.credentials.user(), "a");
        assert!(found.warning.expect("open").contains("chmod 600"));
        std::fs::set_permissions(&a, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        let found = store.find("r.test", "x").expect("readable").expect("there");
        assert_eq!(found.warning, None);
    }
}
