//! HEALTHCHECK: how somebody may find out whether a container's program still does its work (docs.docker.com, "Dockerfile
//! reference", HEALTHCHECK). It is written into the image; Strata checks nothing itself.

use serde_json::{Map, Value, json};

use super::instruction::{InstructionError, list, shortened};
use crate::store::duration;

/// Shorter times are refused by docker.
const SHORTEST: f64 = 0.001;

/// The `Healthcheck` of a configuration: `NONE`, or `[OPTIONS] CMD COMMAND`. Times are nanoseconds there.
pub(super) fn healthcheck(text: &str) -> Result<Value, InstructionError> {
    let mut check = Map::new();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option
            .split_once(char::is_whitespace)
            .unwrap_or((option, ""));
        let (key, value) = option.split_once('=').ok_or_else(|| bad(option))?;
        let (key, value) = match key {
            "interval" => ("Interval", time(value)?),
            "timeout" => ("Timeout", time(value)?),
            "start-period" => ("StartPeriod", time(value)?),
            "start-interval" => ("StartInterval", time(value)?),
            "retries" => {
                let times: u32 = value.parse().map_err(|_| bad(option))?;
                ("Retries", json!(times))
            }
            _ => return Err(bad(option)),
        };
        check.insert(key.to_owned(), value);
        rest = after.trim_start();
    }
    let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = rest.trim();
    let test = match word.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() && check.is_empty() => vec!["NONE".to_owned()],
        "CMD" => match list(command) {
            Some(words) if !words.is_empty() => [vec!["CMD".to_owned()], words].concat(),
            None if !command.is_empty() => vec!["CMD-SHELL".to_owned(), command.to_owned()],
            _ => return Err(InstructionError::Empty("HEALTHCHECK CMD")),
        },
        _ => return Err(bad(text)),
    };
    check.insert("Test".to_owned(), json!(test));
    Ok(Value::Object(check))
}

/// `1m30s`; nothing or `0` is the default.
fn time(text: &str) -> Result<Value, InstructionError> {
    let seconds = match text {
        "0" => Some(0.0),
        text => duration(text),
    };
    let seconds = seconds.filter(|seconds| *seconds == 0.0 || *seconds >= SHORTEST);
    // Centuries of nanoseconds, which is as far as the format goes.
    let seconds = seconds.filter(|seconds| *seconds < 9e9);
    seconds
        .map(|seconds| json!((seconds * 1e9).round() as i64))
        .ok_or_else(|| bad(text))
}

fn bad(text: &str) -> InstructionError {
    InstructionError::Health(shortened(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_written_as_docker_writes_them() {
        for (text, expected) in [
            ("NONE", json!({"Test": ["NONE"]})),
            ("none", json!({"Test": ["NONE"]})),
            (
                "CMD curl -f http://localhost/ || exit 1",
                json!({"Test": ["CMD-SHELL", "curl -f http://localhost/ || exit 1"]}),
            ),
            (
                r#"--interval=1m30s --timeout=3s  --start-period=500ms --retries=5 cmd ["true", "x y"]"#,
                json!({"Test": ["CMD", "true", "x y"], "Interval": 90_000_000_000i64,
                    "Timeout": 3_000_000_000i64, "StartPeriod": 500_000_000, "Retries": 5}),
            ),
            (
                "--interval=0 --start-interval=2s CMD true",
                json!({"Test": ["CMD-SHELL", "true"], "Interval": 0, "StartInterval": 2_000_000_000i64}),
            ),
        ] {
            assert_eq!(healthcheck(text).expect(text), expected);
        }
        for bad in [
            "",
            "CMD",
            "CMD []",
            "NONE x",
            "--interval=1s NONE",
            "true",
            "--interval CMD true",
            "--interval=1us CMD true",
            "--interval=-1s CMD true",
            "--retries=-1 CMD true",
            "--retries=many CMD true",
            "--every=1s CMD true",
            "--interval=9999999h CMD true",
        ] {
            assert!(healthcheck(bad).is_err(), "{bad}");
        }
    }
}
