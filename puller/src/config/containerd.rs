//! containerd's way to say where a registry's images come from: `DIR/HOST/hosts.toml`
//! (containerd, docs/hosts.md).

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Table;

use super::ConfigError;
use super::target::{Target, TlsFiles, When};

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Client {
    One(String),
    /// Certificates with their keys in the same file, or pairs.
    More(Vec<OneOrMore>),
}

/// What is said of one host; at the top of the file of the registry itself.
#[derive(Default, Deserialize)]
struct Host {
    server: Option<String>,
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore>,
    client: Option<Client>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    header: Option<toml::map::Map<String, toml::Value>>,
    /// In the order of the file.
    host: Option<Table>,
}

/// What a file says: the places to ask before the registry, and the registry's own.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hosts {
    pub(super) mirrors: Vec<Target>,
    pub(super) server: Option<Target>,
}

/// The file for a registry in the first directory that has one for it or for all.
pub(super) fn find(dirs: &[PathBuf], registry: &str) -> Option<PathBuf> {
    if registry.contains('/') || registry.starts_with('.') {
        return None;
    }
    // Some file systems take no colon: containerd knows this form too.
    let underscored = registry
        .rsplit_once(':')
        .map(|(host, port)| format!("{host}_{port}_"));
    let names = [
        Some(registry.to_owned()),
        underscored,
        Some("_default".to_owned()),
    ];
    let files = dirs.iter().flat_map(|dir| {
        names
            .iter()
            .flatten()
            .map(move |name| dir.join(name).join("hosts.toml"))
    });
    files.into_iter().find(|file| file.is_file())
}

/// Reads a file's text about `registry`; the targets' repositories are for the caller to fill in.
pub(super) fn parse(text: &str, file: &Path, registry: &str) -> Result<Hosts, ConfigError> {
    let wrong = |why: String| ConfigError::form(file, why);
    let root: Host = toml::from_str(text).map_err(|error| wrong(error.message().to_owned()))?;
    let dir = file.parent().unwrap_or(Path::new("/"));
    let mut mirrors = Vec::new();
    for (address, value) in root.host.iter().flatten() {
        let host: Host = value.clone().try_into().map_err(|error: toml::de::Error| {
            wrong(format!("host {address:?}: {}", error.message()))
        })?;
        let target = target(address, &host, dir, registry);
        mirrors.push(target.map_err(|why| wrong(format!("host {address:?}: {why}")))?);
    }
    let server = root.server.as_deref().filter(|text| !text.is_empty());
    let server = server.map(|address| {
        let mut own = target(address, &root, dir, registry)?;
        // The registry is the last that is asked, whatever it is said to be able to do.
        own.when = When::Always;
        Ok(own)
    });
    let server = server
        .transpose()
        .map_err(|why: String| wrong(format!("server: {why}")))?;
    Ok(Hosts { mirrors, server })
}

fn target(address: &str, host: &Host, dir: &Path, registry: &str) -> Result<Target, String> {
    let full = if address.contains("://") {
        address.to_owned()
    } else {
        format!("https://{address}")
    };
    let url = reqwest::Url::parse(&full).map_err(|error| error.to_string())?;
    let scheme = match url.scheme() {
        "http" => "http",
        "https" => "https",
        other => return Err(format!("{other} is neither http nor https")),
    };
    let authority = crate::registry::http::authority(&url);
    if authority.is_empty() || !url.username().is_empty() || url.password().is_some() {
        return Err("it is not an address with a host alone".to_owned());
    }
    let path = url.path().trim_end_matches('/');
    let api = match path {
        path if host.override_path || path.ends_with("/v2") => path.to_owned(),
        path => format!("{path}/v2"),
    };
    let capable = |wanted: &str| match &host.capabilities {
        Some(list) => list.iter().any(|word| word.eq_ignore_ascii_case(wanted)),
        None => true,
    };
    if let Some(unknown) = host.capabilities.iter().flatten().find(|word| {
        !["pull", "resolve", "push", "referrers"].contains(&word.to_ascii_lowercase().as_str())
    }) {
        return Err(format!("{unknown:?} is not a capability"));
    }
    let mut made = Target::new(&authority, String::new());
    made.scheme = Some(scheme);
    made.api = api;
    made.skip_verify = host.skip_verify;
    made.tls = tls(host, dir)?;
    made.headers = headers(host)?;
    made.ns = (authority != registry && !is_hub(&authority, registry)).then(|| registry.to_owned());
    made.when = When::Kinds(capable("resolve"), capable("pull"));
    Ok(made)
}

/// Docker Hub is served by a host of another name, which needs not be told.
fn is_hub(host: &str, registry: &str) -> bool {
    registry == "docker.io" && host == "registry-1.docker.io"
}

fn tls(host: &Host, dir: &Path) -> Result<TlsFiles, String> {
    // A relative path is one beside the file.
    let path = |text: &String| dir.join(text);
    let ca = match &host.ca {
        None => Vec::new(),
        Some(OneOrMore::One(one)) => vec![path(one)],
        Some(OneOrMore::More(more)) => more.iter().map(path).collect(),
    };
    let pair = |cert: &String, key: &String| (Some(path(cert)), Some(path(key)));
    let (cert, key) = match &host.client {
        None => (None, None),
        Some(Client::One(both)) => pair(both, both),
        Some(Client::More(all)) => match all.first() {
            None => (None, None),
            Some(OneOrMore::One(both)) => pair(both, both),
            Some(OneOrMore::More(parts)) => match parts.as_slice() {
                [both] => pair(both, both),
                [cert, key] if !key.is_empty() => pair(cert, key),
                [both, _] => pair(both, both),
                _ => {
                    return Err(
                        "client: expected a file, or pairs of certificate and key".to_owned()
                    );
                }
            },
        },
    };
    Ok(TlsFiles { ca, cert, key })
}

fn headers(host: &Host) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for (name, value) in host.header.iter().flatten() {
        let values = match value {
            toml::Value::Array(all) => all.clone(),
            one => vec![one.clone()],
        };
        for value in values {
            let text = value
                .as_str()
                .ok_or_else(|| format!("header {name:?} is not text"))?;
            found.push((name.clone(), text.to_owned()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_for(registry: &str, text: &str) -> Result<Hosts, String> {
        parse(text, Path::new("/c/docker.io/hosts.toml"), registry).map_err(|e| e.to_string())
    }

    #[test]
    fn hosts_in_the_order_of_the_file() {
        let hosts = parse_for(
            "docker.io",
            r#"
            server = "https://registry-1.docker.io"
            [host."https://z.test"]
            capabilities = ["pull"]
            ca = ["ca1.pem", "/ca2.pem"]
            client = [["me.cert", "me.key"]]
            [host."https://z.test".header]
            x-team = ["a", "b"]
            [host."http://a.test:5000/proxy"]
            capabilities = ["pull", "resolve"]
            skip_verify = true
            [host."https://b.test/api/registry"]
            override_path = true
            client = "both.pem"
            "#,
        )
        .expect("well formed");
        let names: Vec<&str> = hosts.mirrors.iter().map(|t| t.host.as_str()).collect();
        assert_eq!(names, ["z.test", "a.test:5000", "b.test"]);
        let [z, a, b] = &hosts.mirrors[..] else {
            panic!("three hosts");
        };
        assert_eq!(z.when, When::Kinds(false, true));
        assert_eq!(
            z.tls.ca,
            [
                PathBuf::from("/c/docker.io/ca1.pem"),
                PathBuf::from("/ca2.pem")
            ]
        );
        assert_eq!(z.tls.key, Some(PathBuf::from("/c/docker.io/me.key")));
        assert_eq!(z.headers.len(), 2);
        assert_eq!(z.ns.as_deref(), Some("docker.io"));
        assert_eq!((a.api.as_str(), a.scheme), ("/proxy/v2", Some("http")));
        assert!(a.skip_verify && a.serves(true, true));
        assert_eq!(b.api, "/api/registry");
        assert_eq!(b.tls.cert, b.tls.key);
        let server = hosts.server.expect("a server");
        assert_eq!(
            (server.host.as_str(), &server.ns),
            ("registry-1.docker.io", &None)
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, why) in [
            ("[host.\"ftp://a.test\"]", "neither http nor https"),
            (
                "[host.\"https://a.test\"]\ncapabilities = [\"fly\"]",
                "\"fly\"",
            ),
            ("[host.\"https://u:p@a.test\"]", "host alone"),
            ("server = 1", "hosts.toml"),
            ("[host.\"https://a.test\"]\nskip_verify = \"yes\"", "a.test"),
        ] {
            let error = parse_for("a.test", text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_file_of_the_registry_goes_before_that_of_all() {
        let dir = tempfile::tempdir().expect("tempdir");
        let make = |name: &str| {
            std::fs::create_dir_all(dir.path().join(name)).expect("make a directory");
            let file = dir.path().join(name).join("hosts.toml");
            std::fs::write(&file, "").expect("write");
            file
        };
        let dirs = [dir.path().to_owned()];
        assert_eq!(find(&dirs, "a.test:5000"), None);
        let all = make("_default");
        assert_eq!(find(&dirs, "a.test:5000"), Some(all.clone()));
        let other = make("a.test_5000_");
        assert_eq!(find(&dirs, "a.test:5000"), Some(other));
        let own = make("a.test:5000");
        assert_eq!(find(&dirs, "a.test:5000"), Some(own));
        assert_eq!(find(&dirs, "b.test"), Some(all));
        assert_eq!(find(&dirs, "../x"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,60}|\\[host.\"[a-z:/.@]{0,16}\"\\]\n(ca|client|capabilities|header) = (\"x\"|\\[\"x\"\\]|\\[\\[\"x\", \"y\"\\]\\]|1)") {
            let _ = parse_for("a.test", &text);
        }
    }
}
