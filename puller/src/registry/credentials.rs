//! Names and passwords that other clients have stored: docker's `config.json` and containers'
//! `auth.json`, which share one form: `{"auths":{"HOST[/PATH]":{"auth":"base64 of user:password"}}}`
//! (containers-auth.json(5)).

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password or access token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?}, …)", self.user)
    }
}

#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
}

/// What the first file that knows the registry has stored for it; a file that cannot be read or
/// understood counts as one that does not.
pub fn stored(registry: &str) -> Option<Credentials> {
    let (path, credentials) = files()
        .into_iter()
        .find_map(|path| from_file(&path, registry).map(|found| (path, found)))?;
    tracing::debug!(registry, file = %path.display(), "using stored credentials");
    Some(credentials)
}

/// Where clients store them, the most specific first.
fn files() -> Vec<PathBuf> {
    let var = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let home = var("HOME");
    let in_home = |path: &str| home.as_ref().map(|h| h.join(path));
    let docker = var("DOCKER_CONFIG").or_else(|| in_home(".docker"));
    [
        var("REGISTRY_AUTH_FILE"),
        var("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json")),
        var("XDG_CONFIG_HOME")
            .or_else(|| in_home(".config"))
            .map(|d| d.join("containers/auth.json")),
        docker.map(|d| d.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn from_file(path: &Path, registry: &str) -> Option<Credentials> {
    let file: AuthFile = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    choose(&file, registry)
}

fn choose(file: &AuthFile, registry: &str) -> Option<Credentials> {
    let wanted = canonical(registry);
    let (_, entry) = file
        .auths
        .iter()
        .find(|(key, _)| canonical(key) == wanted)?;
    let decoded = STANDARD.decode(entry.auth.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.trim_end_matches('\0').split_once(':')?;
    Some(Credentials {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

/// A key without scheme and path; Docker Hub has several names, and one of old that has a path.
fn canonical(key: &str) -> &str {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    match bare.trim_end_matches('/') {
        "index.docker.io" | "index.docker.io/v1" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(json: &str, registry: &str) -> Option<Credentials> {
        choose(&serde_json::from_str(json).expect("valid"), registry)
    }

    #[test]
    fn entries_of_both_clients() {
        let json = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"dTpwOnE="},
            "registry.test:5000":{"auth":"YTpi","email":"x"},
            "helper.test":{}},"credsStore":"x"}"#;
        let hub = chosen(json, "docker.io").expect("there");
        assert_eq!((hub.user.as_str(), hub.password.as_str()), ("u", "p:q"));
        assert!(chosen(json, "registry.test:5000").is_some());
        assert_eq!(chosen(json, "registry.test"), None);
        assert_eq!(chosen(json, "helper.test"), None);
        assert!(!format!("{hub:?}").contains("p:q"));
    }
}
