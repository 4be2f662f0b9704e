//! Changes to how containers of an image start, in the words of a Dockerfile (docs.docker.com, "docker container commit",
//! `--change`).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use strata_oci::config::ContainerConfig;

use super::health::healthcheck;
use super::words::{one, words};

/// What runs a command that is no list of words, if the image names nothing else.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// A change that was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstructionError {
    /// Another word than those that can be changed.
    #[error(
        "{0:?} cannot be changed: use CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, STOPSIGNAL, HEALTHCHECK or ONBUILD"
    )]
    Unknown(String),
    /// Nothing after the word.
    #[error("{0} needs a value")]
    Empty(&'static str),
    /// A quote that does not end.
    #[error("a quote ({0}) does not end")]
    Quote(char),
    /// A variable that cannot be read.
    #[error("${{{0}…}} is no variable: use ${{NAME}}, ${{NAME:-WORD}} or ${{NAME:+WORD}}")]
    Variable(String),
    /// No `KEY=VALUE`.
    #[error("{0} {1:?}: use KEY=VALUE")]
    Pair(&'static str, String),
    /// No port.
    #[error("EXPOSE {0:?}: use PORT[-PORT][/tcp|udp|sctp]")]
    Port(String),
    /// Too many words.
    #[error("{0} takes one value")]
    Several(&'static str),
    /// No signal.
    #[error("STOPSIGNAL {0:?}: use a name as SIGTERM, or a number")]
    Signal(String),
    /// No health check.
    #[error(
        "HEALTHCHECK {0:?}: use NONE, or [--interval=TIME] [--timeout=TIME] [--start-period=TIME] [--start-interval=TIME] \
         [--retries=N] CMD COMMAND"
    )]
    Health(String),
    /// An instruction that no trigger can be.
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    Trigger(String),
}

/// Applies instructions, one a line, in their order.
///
/// # Errors
/// The first that is not understood; `config` may have changed by those before.
pub fn apply(text: &str, config: &mut ContainerConfig) -> Result<(), InstructionError> {
    for line in text.lines().map(str::trim) {
        if !line.is_empty() && !line.starts_with('#') {
            apply_one(line, config)?;
        }
    }
    Ok(())
}

fn apply_one(line: &str, config: &mut ContainerConfig) -> Result<(), InstructionError> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let environment = config.env.clone();
    let lookup = |name: &str| {
        let found = environment.iter().find_map(|variable| {
            let (key, value) = variable.split_once('=')?;
            (key == name).then_some(value)
        });
        found.map(str::to_owned)
    };
    let need = |name| match rest {
        "" => Err(InstructionError::Empty(name)),
        _ => Ok(()),
    };
    let single = |name| -> Result<String, InstructionError> {
        need(name)?;
        match <[String; 1]>::try_from(words(rest, &lookup)?) {
            Ok([word]) => Ok(word),
            Err(_) => Err(InstructionError::Several(name)),
        }
    };
    match word.to_ascii_uppercase().as_str() {
        "CMD" => {
            need("CMD")?;
            config.cmd = command(rest, &config.shell);
        }
        "ENTRYPOINT" => {
            need("ENTRYPOINT")?;
            config.entrypoint = command(rest, &config.shell);
            // Arguments of another program mean nothing to this one.
            config.cmd.clear();
        }
        "ENV" => {
            for (key, value) in pairs("ENV", rest, &lookup)? {
                let same = |variable: &String| {
                    variable
                        .split_once('=')
                        .is_some_and(|(other, _)| other == key)
                };
                let variable = format!("{key}={value}");
                match config.env.iter().position(same) {
                    Some(at) => config.env[at] = variable,
                    None => config.env.push(variable),
                }
            }
        }
        "LABEL" => config.labels.extend(pairs("LABEL", rest, &lookup)?),
        "EXPOSE" => {
            need("EXPOSE")?;
            for word in words(rest, &lookup)? {
                add(&mut config.exposed_ports, ports(&word)?);
            }
        }
        "VOLUME" => {
            need("VOLUME")?;
            let paths = match list(rest) {
                Some(paths) => paths,
                None => words(rest, &lookup)?,
            };
            if paths.iter().any(|path| path.trim().is_empty()) {
                return Err(InstructionError::Empty("VOLUME"));
            }
            add(&mut config.volumes, paths);
        }
        "USER" => config.user = single("USER")?,
        "WORKDIR" => {
            need("WORKDIR")?;
            let path = one(rest, &lookup)?;
            config.working_dir = directory(&config.working_dir, &path);
        }
        "STOPSIGNAL" => config.stop_signal = signal(single("STOPSIGNAL")?)?,
        "HEALTHCHECK" => {
            need("HEALTHCHECK")?;
            config.healthcheck = Some(healthcheck(rest)?);
        }
        "ONBUILD" => {
            need("ONBUILD")?;
            let trigger = rest.split_whitespace().next().unwrap_or_default();
            let trigger = trigger.to_ascii_uppercase();
            if matches!(trigger.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
                return Err(InstructionError::Trigger(trigger));
            }
            config.on_build.push(rest.to_owned());
        }
        _ => return Err(InstructionError::Unknown(word.chars().take(80).collect())),
    }
    Ok(())
}

fn add(fields: &mut BTreeMap<String, Value>, names: Vec<String>) {
    fields.extend(names.into_iter().map(|name| (name, json!({}))));
}

/// A JSON list of texts; `None` for anything else.
pub(super) fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// A list of words is run as it is, everything else by the shell.
fn command(text: &str, shell: &[String]) -> Vec<String> {
    list(text).unwrap_or_else(|| {
        let shell = match shell {
            [] => SHELL.map(str::to_owned).to_vec(),
            shell => shell.to_vec(),
        };
        [shell, vec![text.to_owned()]].concat()
    })
}

/// `KEY=VALUE…`, or the old form `KEY VALUE` with all the rest as its value.
fn pairs(
    name: &'static str,
    text: &str,
    lookup: super::words::Lookup,
) -> Result<Vec<(String, String)>, InstructionError> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if first.is_empty() {
        return Err(InstructionError::Empty(name));
    }
    // A blank in a quoted key is no end of it.
    if !first.contains('=') && !first.starts_with(['"', '\'']) {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| InstructionError::Pair(name, shortened(text)))?;
        return Ok(vec![(key.to_owned(), one(value.trim(), lookup)?)]);
    }
    let words = words(text, lookup)?.into_iter();
    words
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(InstructionError::Pair(name, shortened(&word))),
        })
        .collect()
}

/// `80`, `53/udp`, `8000-8010`, each as `PORT/PROTOCOL`.
fn ports(text: &str) -> Result<Vec<String>, InstructionError> {
    let bad = || InstructionError::Port(shortened(text));
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(bad());
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first..=last)
            .map(|port| format!("{port}/{protocol}"))
            .collect()),
        _ => Err(bad()),
    }
}

/// A path from the directory that counts so far, without `.` and `..`.
fn directory(now: &str, path: &str) -> String {
    let whole = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{now}/{path}"),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A signal's name or number (signal(7)); whether there is one of that name shows when it is sent.
fn signal(text: String) -> Result<String, InstructionError> {
    let number = text
        .parse()
        .is_ok_and(|number: u8| (1..=64).contains(&number));
    let is_name = |name: &str| {
        name.len() > 1
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-'))
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
    };
    match number || is_name(&text) {
        true => Ok(text),
        false => Err(InstructionError::Signal(shortened(&text))),
    }
}

pub(super) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> ContainerConfig {
        ContainerConfig {
            env: vec!["PATH=/bin".to_owned(), "A=1".to_owned()],
            entrypoint: vec!["/entry".to_owned()],
            cmd: vec!["old".to_owned()],
            working_dir: "/srv/app".to_owned(),
            ..ContainerConfig::default()
        }
    }

    fn changed(text: &str) -> ContainerConfig {
        let mut config = base();
        apply(text, &mut config).expect(text);
        config
    }

    #[test]
    fn commands_are_lists_or_the_shells() {
        assert_eq!(
            changed("CMD node app.js").cmd,
            ["/bin/sh", "-c", "node app.js"]
        );
        assert_eq!(changed(r#"cmd ["a", "b c"]"#).cmd, ["a", "b c"]);
        assert_eq!(
            changed(r#"CMD ["a", 1]"#).cmd,
            ["/bin/sh", "-c", r#"["a", 1]"#]
        );
        assert_eq!(changed("CMD []").cmd, [""; 0]);
        assert_eq!(
            changed(r#"CMD echo "$A""#).cmd[2],
            r#"echo "$A""#,
            "the shell replaces it"
        );
        let both = changed("ENTRYPOINT [\"/new\"]\nCMD [\"x\"]");
        assert_eq!(
            (both.entrypoint, both.cmd),
            (vec!["/new".to_owned()], vec!["x".to_owned()])
        );
        let alone = changed("ENTRYPOINT run it");
        assert_eq!(alone.entrypoint, ["/bin/sh", "-c", "run it"]);
        assert!(alone.cmd.is_empty());
        assert_eq!(changed("CMD x").entrypoint, ["/entry"]);
        let mut bash = base();
        bash.shell = ["/bin/bash", "-o", "pipefail", "-c"]
            .map(str::to_owned)
            .to_vec();
        apply("CMD a | b\nENTRYPOINT x", &mut bash).expect("applies");
        assert_eq!(bash.entrypoint, ["/bin/bash", "-o", "pipefail", "-c", "x"]);
    }

    #[test]
    fn checks_and_triggers_are_kept_for_others() {
        let config = changed("HEALTHCHECK CMD true\nONBUILD run  make  it\nonbuild ADD . /src");
        assert_eq!(
            config.healthcheck,
            Some(json!({"Test": ["CMD-SHELL", "true"]}))
        );
        assert_eq!(config.on_build, ["run  make  it", "ADD . /src"]);
    }

    #[test]
    fn variables_and_labels_are_pairs() {
        assert_eq!(
            changed("ENV A=2 B=\"x y\" PATH=$PATH:/x").env,
            ["PATH=/bin:/x", "A=2", "B=x y"]
        );
        assert_eq!(changed("ENV OLD form of it").env[2], "OLD=form of it");
        assert_eq!(changed("ENV B=1\nENV C=$B$A").env[3], "C=11");
        let labels = changed(r#"LABEL one=1 "two words"='a b'"#).labels;
        assert_eq!(labels["one"], "1");
        assert_eq!(labels["two words"], "a b");
    }

    #[test]
    fn ports_volumes_and_the_rest() {
        let config = changed("EXPOSE 80 53/UDP 8000-8002\nVOLUME /a /b\nVOLUME [\"/c d\"]");
        let ports: Vec<&String> = config.exposed_ports.keys().collect();
        assert_eq!(
            ports,
            ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]
        );
        let volumes: Vec<&String> = config.volumes.keys().collect();
        assert_eq!(volumes, ["/a", "/b", "/c d"]);
        assert_eq!(changed("USER web:web").user, "web:web");
        assert_eq!(changed("WORKDIR sub/../x").working_dir, "/srv/app/x");
        assert_eq!(changed("WORKDIR /with blank").working_dir, "/with blank");
        assert_eq!(changed("WORKDIR ../../..").working_dir, "/");
        assert_eq!(changed("STOPSIGNAL SIGRTMIN+3").stop_signal, "SIGRTMIN+3");
        assert_eq!(changed("STOPSIGNAL 9").stop_signal, "9");
        assert_eq!(changed("\n# nothing\n").cmd, ["old"]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "RUN make",
            "FROM x",
            "SHELL [\"sh\"]",
            "HEALTHCHECK",
            "HEALTHCHECK true",
            "ONBUILD",
            "ONBUILD FROM x",
            "ONBUILD onbuild RUN x",
            "CMD",
            "ENV",
            "ENV A",
            "ENV =x",
            "ENV a=1 b",
            "LABEL x",
            "EXPOSE",
            "EXPOSE 0",
            "EXPOSE 70000",
            "EXPOSE 80/icmp",
            "EXPOSE 9-8",
            "VOLUME",
            "VOLUME [\"\"]",
            "USER",
            "USER a b",
            "WORKDIR",
            "STOPSIGNAL",
            "STOPSIGNAL 0",
            "STOPSIGNAL x y",
            "STOPSIGNAL -9",
            "ENV A='x",
        ] {
            let mut config = base();
            assert!(apply(bad, &mut config).is_err(), "{bad}");
        }
    }
}
