//! What starts the server elsewhere names only what the server knows, and says what it means.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use stratad::config::{FILE_VARIABLE, KEYS};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).expect(name)
}

fn stratad(arguments: &[String], variables: &[(String, String)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stratad"));
    command
        .args(arguments)
        .env_clear()
        .envs(variables.iter().cloned());
    command.output().expect("run")
}

/// Runs what would serve as a check of the same flags and variables.
fn check(arguments: &[String], variables: &[(String, String)]) {
    assert_eq!(arguments[0], "serve");
    let mut all = vec!["config".to_owned(), "check".to_owned()];
    all.extend_from_slice(&arguments[1..]);
    let output = stratad(&all, variables);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.is_empty(),
        "{arguments:?}: {said}"
    );
}

/// The words that begin with `STRATAD_`, each with what follows.
fn variables(text: &str) -> Vec<(String, String)> {
    let starts = text.match_indices("STRATAD_").map(|(at, _)| &text[at..]);
    starts
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_uppercase() && c != '_');
            let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
            let value = rest.trim_start_matches([':', '=', ' ', '"']);
            let end = value.find(['"', '\n', ' ', '\\']);
            (
                name.to_owned(),
                value[..end.unwrap_or(value.len())].to_owned(),
            )
        })
        .collect()
}

/// The array of strings behind a word.
fn array(text: &str, word: &str) -> Vec<String> {
    let (_, rest) = text.split_once(word).expect(word);
    let line = rest.lines().next().expect(word).trim();
    serde_json::from_str(line).expect(line)
}

fn assert_is_health(words: &[String]) {
    assert_eq!(words[0], "stratad");
    let mut arguments = words[1..].to_vec();
    assert_eq!(arguments[0], "health");
    arguments.push("--help".to_owned());
    assert!(stratad(&arguments, &[]).status.success(), "{words:?}");
}

#[test]
fn no_variable_is_named_that_the_server_does_not_know() {
    let files = [
        "Dockerfile",
        "compose.yaml",
        "packaging/stratad.service",
        "packaging/stratad.toml",
    ];
    let documents = ["README.md", "docs/configuration.md", "ARCHITECTURE.md"];
    for file in files.iter().chain(&documents) {
        for (name, _) in variables(&read(file)) {
            let known = KEYS.iter().any(|key| key.variable == name);
            assert!(
                known || name == FILE_VARIABLE || name == "STRATAD_",
                "{file} names {name}"
            );
        }
    }
}

#[test]
fn the_image_starts_what_can_start_and_asks_for_its_health() {
    let dockerfile = read("Dockerfile");
    let variables = variables(&dockerfile);
    assert_eq!(variables.len(), 3, "{variables:?}");
    assert_eq!(array(&dockerfile, "\nENTRYPOINT "), ["stratad"]);
    check(&array(&dockerfile, "\nCMD "), &variables);
    assert_is_health(&array(&dockerfile, "    CMD "));
    let user = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("USER "));
    let id = user.and_then(|user| user.split(':').next()?.parse::<u32>().ok());
    assert!(id.is_some_and(|id| id > 0), "{user:?}");
}

#[test]
fn compose_starts_what_can_start_and_asks_for_its_health() {
    let compose = read("compose.yaml");
    let variables = variables(&compose);
    assert_eq!(variables.len(), 4, "{variables:?}");
    check(&["serve".to_owned()], &variables);
    let test = array(&compose, "test: ");
    assert_eq!(test[0], "CMD");
    assert_is_health(&test[1..]);
    // The server's data is what the volume keeps, and its port is the one that is published.
    let value = |name: &str| {
        variables
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    };
    let data = value("STRATAD_DATA").expect("data");
    assert!(compose.contains(&format!("- registry:{data}\n")), "{data}");
    let port = value("STRATAD_LISTEN").and_then(|listen| listen.rsplit(':').next());
    assert!(
        compose.contains(&format!(":{}\"\n", port.expect("port"))),
        "{port:?}"
    );
}

#[test]
fn the_unit_starts_what_can_start() {
    let unit = read("packaging/stratad.service");
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let start = start
        .expect("ExecStart")
        .replace("${STATE_DIRECTORY}", "/var/lib/stratad");
    let mut words = start.split(' ').map(str::to_owned);
    assert_eq!(words.next().as_deref(), Some("/usr/local/bin/stratad"));
    check(&words.collect::<Vec<_>>(), &[]);
}
