//! One file of credentials: read, and changed without losing what others have written into it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustix::fs::FlockOperation;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::key::{canonical, for_helper};
use super::{Credentials, CredentialsError, Secret};

/// Some clients leave the padding away.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// No file of credentials is longer.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// What a file says.
#[derive(Default, Deserialize)]
pub(super) struct AuthFile {
    #[serde(default)]
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(rename = "credHelpers", default)]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(rename = "credsStore", default)]
    store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Zeroizing<String>,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: Zeroizing<String>,
    #[serde(default)]
    identitytoken: Zeroizing<String>,
    #[serde(default)]
    registrytoken: Zeroizing<String>,
}

impl AuthFile {
    /// Reads a file; `None`: there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, CredentialsError> {
        match content(path)? {
            None => Ok(None),
            Some(bytes) if bytes.trim_ascii().is_empty() => Ok(Some(Self::default())),
            Some(bytes) => Self::parse(&bytes).map(Some).map_err(|why| form(path, why)),
        }
    }

    /// The error says where, and nothing of what is written there.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        // A list would be taken for the fields in their order.
        if bytes.trim_ascii().first() != Some(&b'{') {
            return Err("it is not a JSON object".to_owned());
        }
        serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            match error.classify() {
                serde_json::error::Category::Data => {
                    format!("line {line}, column {column} has another form than it should")
                }
                _ => format!("it is not JSON (line {line}, column {column})"),
            }
        })
    }

    /// The helper for a key, by name, and the key as it is written.
    pub(super) fn helper(&self, key: &str) -> Option<(&str, &str)> {
        let helpers = self.helpers.as_ref()?;
        let mut found = helpers
            .iter()
            .filter(|(written, _)| canonical(written) == key);
        found
            .next()
            .map(|(written, name)| (written.as_str(), name.as_str()))
    }

    /// The keys that have helpers of their own, and their names.
    pub(super) fn helpers(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.helpers.iter().flatten();
        all.map(|(key, name)| (key.as_str(), name.as_str()))
    }

    /// The helper for whatever has none of its own.
    pub(super) fn store(&self) -> Option<&str> {
        self.store.as_deref().filter(|name| !name.is_empty())
    }

    /// Whether it has an entry for the key, be it empty.
    pub(super) fn knows(&self, key: &str) -> bool {
        let auths = self.auths.iter().flatten();
        auths
            .into_iter()
            .any(|(written, _)| canonical(written) == key)
    }

    /// Whether any secret is in the file itself.
    pub(super) fn has_secrets(&self) -> bool {
        let mut entries = self
            .auths
            .iter()
            .flatten()
            .filter_map(|(_, entry)| entry.as_ref());
        entries.any(|entry| {
            [
                &entry.auth,
                &entry.password,
                &entry.identitytoken,
                &entry.registrytoken,
            ]
            .iter()
            .any(|text| !text.is_empty())
        })
    }

    /// The credentials in the entry for the key. Of several ways to write the key the exact one counts first.
    pub(super) fn entry(&self, key: &str) -> Result<Option<Credentials>, String> {
        let Some(auths) = &self.auths else {
            return Ok(None);
        };
        let exact = auths.get(key).into_iter();
        let same = auths
            .iter()
            .filter(|(written, _)| canonical(written) == key);
        for entry in exact.chain(same.map(|(_, entry)| entry)).flatten() {
            let read = entry.credentials();
            let found = read.map_err(|why| format!("the entry for {key}: {why}"))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

impl Entry {
    fn credentials(&self) -> Result<Option<Credentials>, &'static str> {
        let secret = |text: &str| Secret::new(text.to_owned());
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::Identity(secret(&self.identitytoken))));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credentials::Access(secret(&self.registrytoken))));
        }
        if self.auth.trim().is_empty() {
            let given = !self.username.is_empty() && !self.password.is_empty();
            let found = given.then(|| Credentials::new(&self.username, self.password.as_str()));
            return Ok(found);
        }
        let pair = "its auth is not NAME:PASSWORD in base64";
        let decoded = BASE64.decode(self.auth.trim()).map(Zeroizing::new);
        let decoded = decoded.map_err(|_| pair)?;
        let text = std::str::from_utf8(&decoded).map_err(|_| pair)?;
        let (user, password) = text.trim_end_matches('\0').split_once(':').ok_or(pair)?;
        Ok(Some(Credentials::new(user, password)))
    }
}

/// Whether others than its owner may read the file.
pub(super) fn is_open(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

/// Writes the entry for a key; what else is in the file stays.
pub(super) fn put(
    path: &Path,
    key: &str,
    credentials: &Credentials,
) -> Result<(), CredentialsError> {
    let pair = Zeroizing::new(format!(
        "{}:{}",
        credentials.user(),
        credentials.secret().expose()
    ));
    let entry = match credentials {
        Credentials::Password { .. } => json!({ "auth": BASE64.encode(pair.as_bytes()) }),
        Credentials::Identity(token) => {
            // docker wants a name beside it.
            json!({ "auth": BASE64.encode("00000000-0000-0000-0000-000000000000:"), "identitytoken": token.expose() })
        }
        Credentials::Access(token) => json!({ "registrytoken": token.expose() }),
    };
    change(path, |root| {
        let key = canonical(key);
        take(root, &|written| canonical(written) == key);
        auths(root).insert(written(path, &key), entry.clone());
        true
    })
    .map(drop)
}

/// Writes an entry without secrets: docker shows by it what its helper keeps.
pub(super) fn put_empty(path: &Path, key: &str) -> Result<(), CredentialsError> {
    change(path, |root| {
        let key = canonical(key);
        take(root, &|written| canonical(written) == key);
        auths(root).insert(written(path, &key), json!({}));
        true
    })
    .map(drop)
}

/// Removes the entries that `which` chooses by their keys; `false`: there was none.
pub(super) fn remove(path: &Path, which: &dyn Fn(&str) -> bool) -> Result<bool, CredentialsError> {
    change(path, |root| take(root, which))
}

/// A key as the file's other readers know it: docker looks for Docker Hub under its old address.
fn written(path: &Path, key: &str) -> String {
    let is_dockers = path.file_name().is_some_and(|name| name == "config.json");
    if is_dockers { for_helper(key) } else { key }.to_owned()
}

fn take(root: &mut Map<String, Value>, which: &dyn Fn(&str) -> bool) -> bool {
    let Some(Value::Object(auths)) = root.get_mut("auths") else {
        return false;
    };
    let before = auths.len();
    auths.retain(|written, _| !which(written));
    auths.len() != before
}

fn auths(root: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let auths = root.entry("auths").or_insert_with(|| json!({}));
    if !auths.is_object() {
        *auths = json!({});
    }
    match auths {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// Changes a file as one step: whoever reads it sees the old content or the new one, and only its owner can.
/// Two processes change it one after the other. `change` says whether there is something to write.
fn change(
    path: &Path,
    change: impl FnOnce(&mut Map<String, Value>) -> bool,
) -> Result<bool, CredentialsError> {
    let written = |source| CredentialsError::Write {
        path: path.to_owned(),
        source,
    };
    // A link is followed: the file behind it is the one that was meant.
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let parent = real.parent().filter(|dir| !dir.as_os_str().is_empty());
    let parent = parent.map_or_else(|| PathBuf::from("."), Path::to_owned);
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(&parent).map_err(written)?;
    let directory = File::open(&parent).map_err(written)?;
    rustix::fs::flock(&directory, FlockOperation::LockExclusive)
        .map_err(|error| written(error.into()))?;
    let mut root = match content(path)? {
        Some(bytes) if !bytes.trim_ascii().is_empty() => {
            AuthFile::parse(&bytes).map_err(|why| form(path, why))?;
            match serde_json::from_slice(&bytes) {
                Ok(Value::Object(map)) => map,
                _ => return Err(form(path, "it is not a JSON object".to_owned())),
            }
        }
        _ => Map::new(),
    };
    if !change(&mut root) {
        return Ok(false);
    }
    let mut bytes = serde_json::to_vec_pretty(&Value::Object(root))
        .map(Zeroizing::new)
        .map_err(|error| written(io::Error::other(error)))?;
    bytes.push(b'\n');
    // Made with mode 0600 (tempfile's documented default).
    let mut fresh = tempfile::NamedTempFile::new_in(&parent).map_err(written)?;
    fresh.write_all(&bytes).map_err(written)?;
    fresh.as_file().sync_all().map_err(written)?;
    fresh.persist(&real).map_err(|error| written(error.error))?;
    directory.sync_all().map_err(written)?;
    Ok(true)
}

fn content(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialsError> {
    let read = |source| CredentialsError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read(error)),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(read)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(form(path, format!("it has more than {MAX_FILE} bytes")));
    }
    Ok(Some(bytes))
}

fn form(path: &Path, why: String) -> CredentialsError {
    CredentialsError::Form {
        path: path.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(json: &str, key: &str) -> Result<Option<Credentials>, String> {
        AuthFile::parse(json.as_bytes())?.entry(key)
    }

    #[test]
    fn entries_of_all_forms() {
        let json = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"dTpwOnE="},
            "registry.test:5000":{"auth":"YTpi","email":"x"},
            "registry.test:5000/team":{"auth":"YTpj"},
            "plain.test":{"username":"u","password":"p"},
            "identity.test":{"auth":"eDo=","identitytoken":"refresh"},
            "access.test":{"registrytoken":"bearer"},
            "unpadded.test":{"auth":"dTpwcQ"},
            "empty.test":{}, "null.test":null},
            "credHelpers":{"https://helped.test":"pass"},"credsStore":"x"}"#;
        let found = |key| entry(json, key).expect("well formed");
        assert_eq!(found("docker.io"), Some(Credentials::new("u", "p:q")));
        assert_eq!(
            found("registry.test:5000"),
            Some(Credentials::new("a", "b"))
        );
        assert_eq!(
            found("registry.test:5000/team"),
            Some(Credentials::new("a", "c"))
        );
        assert_eq!(found("plain.test"), Some(Credentials::new("u", "p")));
        assert_eq!(found("unpadded.test"), Some(Credentials::new("u", "pq")));
        let secret = |text: &str| Secret::new(text.to_owned());
        assert_eq!(
            found("identity.test"),
            Some(Credentials::Identity(secret("refresh")))
        );
        assert_eq!(
            found("access.test"),
            Some(Credentials::Access(secret("bearer")))
        );
        for nothing in ["registry.test", "empty.test", "null.test", "other"] {
            assert_eq!(found(nothing), None, "{nothing}");
        }
        let file = AuthFile::parse(json.as_bytes()).expect("well formed");
        assert_eq!(
            file.helper("helped.test"),
            Some(("https://helped.test", "pass"))
        );
        assert_eq!(file.store(), Some("x"));
        assert!(file.knows("empty.test") && !file.knows("other"));
        assert!(file.has_secrets());
    }

    #[test]
    fn what_is_malformed_is_named_without_its_content() {
        let bad = entry(r#"{"auths":{"a.test":{"auth":"SECRET!"}}}"#, "a.test");
        let error = bad.expect_err("not base64");
        assert!(
            error.contains("a.test") && !error.contains("SECRET"),
            "{error}"
        );
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("auth.json");
        for text in [
            "{\"auths\": SECRET",
            "{\"auths\":{\"a\":{\"auth\":\"x\",\"password\":[\"SECRET\"]}}}",
            "[]",
        ] {
            std::fs::write(&path, text).expect("write");
            let error = match AuthFile::read(&path) {
                Err(error) => error.to_string(),
                Ok(_) => panic!("{text} is accepted"),
            };
            assert!(
                error.contains("auth.json") && !error.contains("SECRET"),
                "{error}"
            );
            assert!(
                put(&path, "x", &Credentials::new("a", "b")).is_err(),
                "{text}"
            );
            assert_eq!(std::fs::read_to_string(&path).expect("there"), text);
        }
    }

    #[test]
    fn a_change_keeps_the_rest_and_shuts_the_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("new/config.json");
        put(&path, "a.test", &Credentials::new("me", "pw")).expect("stored");
        let mode =
            |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().expect("a directory")), 0o700);
        let text = r#"{"detachKeys":"ctrl-e,e","auths":{"https://b.test/v1/":{"auth":"YTpi"}}}"#;
        std::fs::write(&path, text).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(is_open(&path));
        let token = Credentials::Identity(Secret::new("t".to_owned()));
        put(&path, "b.test", &token).expect("stored");
        assert!(!is_open(&path));
        let json: Value =
            serde_json::from_slice(&std::fs::read(&path).expect("there")).expect("JSON");
        assert_eq!(json["detachKeys"], "ctrl-e,e");
        assert_eq!(json["auths"].as_object().expect("entries").len(), 1);
        let read = AuthFile::read(&path).expect("well formed").expect("there");
        assert_eq!(read.entry("b.test").expect("well formed"), Some(token));
        assert!(remove(&path, &|key| key == "b.test").expect("removed"));
        assert!(!remove(&path, &|key| key == "b.test").expect("nothing left"));
    }

    #[test]
    fn docker_finds_docker_hub_under_its_own_key() {
        let dir = tempfile::tempdir().expect("tempdir");
        let stored = |name: &str| {
            let path = dir.path().join(name);
            put(&path, "docker.io", &Credentials::new("me", "pw")).expect("stored");
            std::fs::read_to_string(&path).expect("there")
        };
        assert!(stored("config.json").contains("\"https://index.docker.io/v1/\""));
        assert!(stored("auth.json").contains("\"docker.io\""));
    }

    #[test]
    fn a_link_to_the_file_stays_a_link() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (real, link) = (
            dir.path().join("real/auth.json"),
            dir.path().join("link.json"),
        );
        put(&real, "a.test", &Credentials::new("me", "pw")).expect("stored");
        std::os::unix::fs::symlink(&real, &link).expect("link");
        put(&link, "b.test", &Credentials::new("me", "pw")).expect("stored");
        assert!(link.symlink_metadata().expect("there").is_symlink());
        let read = AuthFile::read(&real).expect("well formed").expect("there");
        assert!(read.knows("a.test") && read.knows("b.test"));
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_panic(text in "\\PC{0,60}|\\{\"auths\":\\{\"[a-z./:]{0,12}\":\\{\"auth\":\"[a-zA-Z0-9+/=]{0,12}\"\\}\\}\\}") {
            let _ = entry(&text, "a");
        }

        #[test]
        fn what_is_stored_is_found_again(user in "[a-zA-Z0-9._-]{1,10}", password in "\\PC{1,20}", key in "[a-z]{1,5}\\.test(:[1-9]{1,3})?(/[a-z]{1,4}){0,2}") {
            prop_assume!(!password.ends_with('\0'));
            prop_assume!(canonical(&key) == key);
            let dir = tempfile::tempdir().expect("tempdir");
            let path = dir.path().join("auth.json");
            let credentials = Credentials::new(user, password);
            put(&path, &key, &credentials).expect("stored");
            let read = AuthFile::read(&path).expect("well formed").expect("there");
            prop_assert_eq!(read.entry(&key).expect("well formed"), Some(credentials));
        }
    }
}
