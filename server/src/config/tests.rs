//! Where settings come from, and what is refused.

use std::fs;
use std::path::Path;

use super::*;

fn file(directory: &Path, text: &str) -> Inputs {
    let path = directory.join("stratad.toml");
    fs::write(&path, text).expect("write");
    Inputs {
        file: Some(path),
        ..Inputs::default()
    }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn problems(inputs: &Inputs) -> Vec<String> {
    let problems = inputs.load().map(|_| ()).expect_err("refused");
    problems.iter().map(ToString::to_string).collect()
}

fn source(loaded: &Loaded, name: &str) -> String {
    let at = KEYS.iter().position(|key| key.name == name);
    loaded.sources[at.expect(name)].to_string()
}

#[test]
fn flags_win_over_the_environment_that_over_the_file_and_that_over_the_defaults() {
    let dir = tempfile::tempdir().expect("tempdir");
    let text = "[limits]\nconnections = 1\nhead = \"10KiB\"\ndrain = \"1s\"\n[log]\nlevel = \"warn\"\n[http]\nlisten = \"127.0.0.1:1\"";
    let mut inputs = file(dir.path(), text);
    inputs.variables = variables(&[
        ("STRATAD_LIMITS_HEAD", "20KiB"),
        ("STRATAD_LOG_LEVEL", "error"),
        ("STRATAD_LISTEN", "127.0.0.1:2"),
        ("STRATAD_LIMITS_DRAIN", ""),
    ]);
    inputs.variables.retain(|(_, value)| !value.is_empty());
    inputs.flags = vec![("listen", "127.0.0.1:3,[::1]:4".to_owned())];
    let loaded = inputs.load().expect("load");
    let config = &loaded.config;
    assert_eq!(config.limits.connections, 1);
    assert_eq!(config.limits.head, 20 * 1024);
    assert_eq!(config.log.level, "error");
    let listen = ["127.0.0.1:3", "[::1]:4"].map(|a| a.parse().expect("address"));
    assert_eq!(config.http.listen, listen);
    assert_eq!(config.limits.body_rate, Limits::default().body_rate);
    let path = dir.path().join("stratad.toml");
    assert_eq!(
        source(&loaded, "limits.connections"),
        format!("{}:2", path.display())
    );
    assert_eq!(source(&loaded, "limits.head"), "STRATAD_LIMITS_HEAD");
    assert_eq!(source(&loaded, "http.listen"), "--listen");
    assert_eq!(source(&loaded, "gc.grace"), "default");
}

#[test]
fn the_environment_names_a_file_and_a_flag_another() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut inputs = file(dir.path(), "[storage]\nsparse = true\n");
    let other = dir.path().join("other.toml");
    inputs.variables = variables(&[(FILE_VARIABLE, &other.to_string_lossy())]);
    assert!(inputs.load().expect("load").config.storage.sparse);
    let named = inputs.file.take();
    let told = problems(&inputs);
    assert_eq!(
        told,
        [format!("{}: there is no such file", other.display())]
    );
    fs::rename(named.expect("file"), &other).expect("rename");
    let loaded = inputs.load().expect("load");
    assert!(loaded.config.storage.sparse);
    assert_eq!(loaded.file, Some(other));
}

#[test]
fn every_mistake_is_told_with_its_place_and_what_is_allowed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let text = r#"
[http]
listen = "localhost:5000"
public_url = "registry.example.com"
trusted_proxies = ["10.0.0.0/8", "10.0.0.0/33"]
[storage]
data = "data"
sparse = "yes"
[limits]
connections = 0
head = 65536
head_timeout = 60
body_timeout = "2h"
body_rate = 1.5
colour = "blue"
[log]
level = "info,loud"
format = "xml"
"#;
    let mut inputs = file(dir.path(), text);
    inputs.variables = variables(&[("STRATAD_SPARSE", "maybe"), ("STRATAD_GC_GRACE", "x")]);
    inputs.flags = vec![("admin-listen", "5001".to_owned())];
    let path = dir.path().join("stratad.toml").display().to_string();
    let told = problems(&inputs);
    for (place, words) in [
        ("3:10", "localhost:5000\" is not an address and port"),
        ("4:14", "is not a URL, such as https://"),
        ("5:19", "10.0.0.0/33\" is not an address or a network"),
        ("7:8", "storage.data: \"data\" is not an absolute path"),
        ("8:10", "without quotes"),
        ("10:15", "0 is not within 1 and 1000000"),
        ("11:8", "65536 is not an amount of bytes"),
        ("12:16", "60 is not a length of time"),
        ("13:16", "\"2h\" is not within 1s and 1h"),
        ("14:13", "a value of type float"),
        (
            "15:1",
            "unknown key \"colour\" in [limits], which has connections",
        ),
        ("17:9", "\"loud\" is not a level"),
        ("18:10", "\"xml\" is not \"human\" or \"json\""),
    ] {
        let begin = format!("{path}:{place}: ");
        let found = told.iter().find(|line| line.starts_with(&begin));
        assert!(
            found.is_some_and(|line| line.contains(words)),
            "{place} {words}\n{told:#?}"
        );
    }
    for begin in ["STRATAD_SPARSE: ", "STRATAD_GC_GRACE: ", "--admin-listen: "] {
        assert!(
            told.iter().any(|line| line.starts_with(begin)),
            "{begin}\n{told:#?}"
        );
    }
    assert_eq!(told.len(), 16, "{told:#?}");
}

#[test]
fn urls_are_of_a_host_and_without_passwords() {
    let set = |url: &str| {
        let flags = vec![("public-url", url.to_owned())];
        Inputs {
            flags,
            ..Inputs::default()
        }
        .load()
        .map(|loaded| loaded.config.http.public_url)
    };
    let good = "https://registry.example.com:8443";
    assert_eq!(set(&format!("{good}/")), Ok(Some(good.to_owned())));
    assert_eq!(
        set("http://[::1]:80"),
        Ok(Some("http://[::1]:80".to_owned()))
    );
    for bad in [
        "https://a/b",
        "https://a?b",
        "ftp://a",
        "https://",
        "https://a:99999",
        "/a",
        "https://a/#b",
        "https://a\nb",
    ] {
        assert!(set(bad).is_err(), "{bad}");
    }
    let told = set("https://user:secret@a").expect_err("refused");
    assert!(!told[0].to_string().contains("secret"), "{told:?}");
}

#[test]
fn one_address_is_not_for_both_listeners() {
    let mut inputs = Inputs {
        flags: vec![("admin-listen", "127.0.0.1:5000".to_owned())],
        ..Inputs::default()
    };
    assert!(problems(&inputs)[0].contains("http.listen, too"));
    inputs.flags.push(("listen", "127.0.0.1:0".to_owned()));
    assert!(inputs.load().is_ok());
}

#[test]
fn variables_that_nobody_knows_are_warned_of_but_not_those_of_an_orchestrator() {
    let inputs = Inputs {
        variables: variables(&[
            ("STRATAD_HTTP_LISTEN", "127.0.0.1:1"),
            ("STRATAD_FOO", "1"),
            ("STRATAD_SERVICE_HOST", "10.0.0.1"),
            ("STRATAD_PORT_5000_TCP", "tcp://10.0.0.1:5000"),
        ]),
        ..Inputs::default()
    };
    let warnings = inputs.load().expect("load").warnings;
    let told: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("STRATAD_HTTP_LISTEN: ") && told[0].contains("did you mean"),
        "{told:?}"
    );
    assert!(told[1].starts_with("STRATAD_FOO: "), "{told:?}");
}

#[test]
fn files_that_are_no_text_are_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let inputs = file(dir.path(), "");
    let path = inputs.file.clone().expect("file");
    fs::write(&path, b"[http]\n\xff").expect("write");
    assert!(problems(&inputs)[0].ends_with("line 2 is not UTF-8"));
    fs::write(&path, vec![b'\n'; 1024 * 1024 + 1]).expect("write");
    assert!(problems(&inputs)[0].contains("longer than 1 MiB"));
    fs::remove_file(&path).expect("remove");
    fs::create_dir(&path).expect("mkdir");
    assert!(problems(&inputs)[0].contains("cannot read it"));
}

#[test]
fn a_reload_changes_what_can_change_and_tells_the_rest() {
    let dir = tempfile::tempdir().expect("tempdir");
    let running = file(dir.path(), "").load().expect("load").config;
    let text = "[http]\nlisten = \"127.0.0.1:1\"\n[storage]\nsparse = true\n[gc]\ngrace = \"2h\"\n";
    let (config, changes) = file(dir.path(), text).load().expect("load").after(&running);
    assert_eq!(config.http.listen, running.http.listen);
    assert!(config.storage.sparse);
    assert_eq!(config.gc.grace, Duration::from_secs(7200));
    let told: Vec<_> = changes
        .iter()
        .map(|c| (c.key.name, c.key.reloads))
        .collect();
    assert_eq!(
        told,
        [
            ("http.listen", false),
            ("storage.sparse", true),
            ("gc.grace", true)
        ]
    );
    // Each key that takes a restart stays, whatever it is.
    let mut other = Config::new("/elsewhere");
    other.http.listen = vec!["[::1]:1".parse().expect("address")];
    other.admin.listen = Some("[::1]:2".parse().expect("address"));
    other.limits.connections = 1;
    other.log.format = LogFormat::Json;
    other.telemetry.otlp_endpoint = Some("http://a".to_owned());
    let (config, _) = file(dir.path(), "").load().expect("load").after(&other);
    for key in KEYS.iter().filter(|key| !key.reloads) {
        assert_eq!(key.show(&config), key.show(&other), "{}", key.name);
    }
}
