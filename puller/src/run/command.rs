//! What a container runs and in which environment: the image's wishes and the person's, merged by
//! docker's rules (docs.docker.com, "ENTRYPOINT" and "docker container run").

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use strata_oci::config::ContainerConfig;

use super::options::OptionError;

/// Where programs are looked for when the image says nothing: docker's default.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program and its arguments. `entrypoint` given (even empty) replaces the image's Entrypoint and
/// its Cmd; `command` given replaces the image's Cmd. Empty when nobody says what to run.
pub fn arguments(
    image: &ContainerConfig,
    entrypoint: Option<&OsStr>,
    command: &[OsString],
) -> Vec<OsString> {
    let mut arguments = self::entrypoint(image, entrypoint);
    if !command.is_empty() {
        arguments.extend_from_slice(command);
    } else if entrypoint.is_none() {
        arguments.extend(image.cmd.iter().map(OsString::from));
    }
    arguments
}

/// The part of [`arguments`] that is the entrypoint's.
pub fn entrypoint(image: &ContainerConfig, given: Option<&OsStr>) -> Vec<OsString> {
    match given {
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.to_owned()],
        None => image.entrypoint.iter().map(OsString::from).collect(),
    }
}

/// The variables, `K=V` each, every name once: defaults, then the image's, then `given`. A given `K`
/// without a value takes it from `host`, and unsets K when there is none.
pub fn environment(
    defaults: Vec<OsString>,
    image: &[String],
    given: &[OsString],
    host: impl Fn(&OsStr) -> Option<OsString>,
) -> Vec<OsString> {
    let mut merged: Vec<OsString> = Vec::new();
    for variable in defaults.into_iter().chain(image.iter().map(OsString::from)) {
        set(&mut merged, variable);
    }
    for variable in given {
        if variable.as_bytes().contains(&b'=') {
            set(&mut merged, variable.clone());
        } else if let Some(value) = host(variable) {
            let pair = [variable.as_bytes(), b"=", value.as_bytes()].concat();
            set(&mut merged, OsString::from_vec(pair));
        } else {
            merged.retain(|v| name(v) != variable.as_bytes());
        }
    }
    merged
}

/// The variables of an environment file: a `K=V` or `K` a line, `#` starts a comment line. Values are
/// taken as they stand, quotes included.
///
/// # Errors
/// A line without a name, or with a name that has spaces in it.
pub fn environment_file(text: &[u8]) -> Result<Vec<OsString>, OptionError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let lines = text
        .split(|b| *b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start())
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .map(OsStr::from_bytes);
    lines
        .map(|line| {
            let name = name(line);
            if name.is_empty() {
                return Err(OptionError::new(format!(
                    "no variable name on line {line:?}"
                )));
            }
            if name.iter().any(|b| b.is_ascii_whitespace()) {
                let name = OsStr::from_bytes(name);
                return Err(OptionError::new(format!(
                    "variable {name:?} contains whitespaces"
                )));
            }
            Ok(line.to_owned())
        })
        .collect()
}

/// The value of a variable in a list of `K=V`.
pub fn value<'a>(environment: &'a [OsString], key: &str) -> Option<&'a OsStr> {
    environment
        .iter()
        .find(|v| name(v) == key.as_bytes())
        .and_then(|v| v.as_bytes().get(key.len() + 1..))
        .map(OsStr::from_bytes)
}

fn name(variable: &OsStr) -> &[u8] {
    let bytes = variable.as_bytes();
    let end = bytes.iter().position(|b| *b == b'=');
    &bytes[..end.unwrap_or(bytes.len())]
}

/// Sets a variable in place of an earlier one of the name. One without a name or with a NUL is no
/// variable and would break the list that execve(2) takes.
fn set(merged: &mut Vec<OsString>, variable: OsString) {
    let usable = !name(&variable).is_empty()
        && variable.as_bytes().contains(&b'=')
        && !variable.as_bytes().contains(&0);
    if !usable {
        return;
    }
    match merged.iter_mut().find(|v| name(v) == name(&variable)) {
        Some(earlier) => *earlier = variable,
        None => merged.push(variable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn image(entrypoint: &[&str], cmd: &[&str]) -> ContainerConfig {
        ContainerConfig {
            entrypoint: entrypoint.iter().map(|s| s.to_string()).collect(),
            cmd: cmd.iter().map(|s| s.to_string()).collect(),
            ..ContainerConfig::default()
        }
    }

    fn os(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_command_is_assembled_as_docker_does() {
        let both = image(&["/entry", "-x"], &["serve", "now"]);
        let entry = |e: Option<&str>, c: &[&str]| arguments(&both, e.map(OsStr::new), &os(c));
        assert_eq!(entry(None, &[]), os(&["/entry", "-x", "serve", "now"]));
        assert_eq!(entry(None, &["other"]), os(&["/entry", "-x", "other"]));
        assert_eq!(entry(Some("sh"), &[]), os(&["sh"]));
        assert_eq!(entry(Some("sh"), &["-c", "x"]), os(&["sh", "-c", "x"]));
        assert_eq!(entry(Some(""), &["ls"]), os(&["ls"]));
        assert!(entry(Some(""), &[]).is_empty());
        assert_eq!(arguments(&image(&[], &["sh"]), None, &[]), os(&["sh"]));
        assert!(arguments(&image(&[], &[]), None, &[]).is_empty());
    }

    #[test]
    fn later_variables_win_and_bare_names_come_from_the_host() {
        let host = |key: &OsStr| (key == "FROM_HOST").then(|| OsString::from("host"));
        let merged = environment(
            os(&[DEFAULT_PATH, "HOSTNAME=abc"]),
            &[
                "PATH=/bin".into(),
                "A=1".into(),
                "GONE=x".into(),
                "=bad".into(),
                "nonsense".into(),
            ],
            &os(&["A=2=3", "FROM_HOST", "GONE", "EMPTY="]),
            host,
        );
        assert_eq!(
            merged,
            os(&[
                "PATH=/bin",
                "HOSTNAME=abc",
                "A=2=3",
                "FROM_HOST=host",
                "EMPTY="
            ])
        );
        assert_eq!(value(&merged, "A"), Some(OsStr::new("2=3")));
        assert_eq!(value(&merged, "EMPTY"), Some(OsStr::new("")));
        assert_eq!(value(&merged, "HOST"), None);
    }

    #[test]
    fn environment_files_are_lines() {
        let text = b"# comment\n\nA=1\r\n  B=two words\nC\n#D=4\nE=\"q\"";
        assert_eq!(
            environment_file(text),
            Ok(os(&["A=1", "B=two words", "C", "E=\"q\""]))
        );
        assert_eq!(environment_file(b"\xef\xbb\xbfA=1"), Ok(os(&["A=1"])));
        for bad in ["=x", "A B=1", "export A=1", "A =1"] {
            assert!(environment_file(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_name_once_and_nothing_that_execve_refuses(
            image in proptest::collection::vec("[A-C=\\x00]{0,4}", 0..8),
            given in proptest::collection::vec("[A-C=\\x00]{0,4}", 0..8),
        ) {
            let given: Vec<OsString> = given.into_iter().map(OsString::from).collect();
            let merged = environment(os(&[DEFAULT_PATH]), &image, &given, |_| None);
            let mut names: Vec<&[u8]> = merged.iter().map(|v| name(v)).collect();
            prop_assert!(merged.iter().all(|v| v.as_bytes().contains(&b'=') && !v.as_bytes().contains(&0)));
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            prop_assert_eq!(names.len(), count);
        }
    }
}
