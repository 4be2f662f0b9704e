//! `--log-driver` and `--log-opt`: what is kept of what a container prints.

use super::{OptionError, shown, size};
use crate::run::config::{Log, LogDriver};

/// More files than anybody keeps.
const MOST_FILES: u32 = 1000;

/// Reads a driver's name and `KEY=VALUE` words for it.
///
/// # Errors
/// Another driver, another key, or a value that is none.
pub fn log(driver: &str, words: &[String]) -> Result<Log, OptionError> {
    let mut log = Log::default();
    match driver {
        "" | "json-file" => {}
        // Bounded unless told otherwise, as docker's is.
        "local" => (log.max_size, log.max_files) = (Some(20 << 20), 5),
        "none" => log.driver = LogDriver::None,
        _ => {
            return Err(OptionError(format!(
                "logger: no log driver named {} is registered: there are json-file, local and none",
                shown(driver)
            )));
        }
    }
    let mut files = None;
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let invalid = |what: &str| OptionError(format!("--log-opt {}: {what}", shown(word)));
        match key {
            _ if log.driver == LogDriver::None => {
                return Err(invalid("the driver none takes no options"));
            }
            "max-size" if value == "-1" => log.max_size = None,
            "max-size" => {
                let bytes = size(value).map_err(|error| invalid(&error.to_string()))?;
                log.max_size = Some(bytes.max(1));
            }
            "max-file" => {
                let count = value.parse().ok().filter(|n| (1..=MOST_FILES).contains(n));
                files =
                    Some(count.ok_or_else(|| {
                        invalid(&format!("it is a number from 1 to {MOST_FILES}"))
                    })?);
            }
            // Of use where files are compressed or read elsewhere; here they say nothing.
            "mode" | "compress" => {}
            _ => {
                return Err(OptionError(format!(
                    "unknown log opt {} for json-file log driver: there are max-size and max-file",
                    shown(key)
                )));
            }
        }
    }
    if let Some(files) = files {
        if files > 1 && log.max_size.is_none() {
            return Err(OptionError(
                "max-file cannot be more than 1 when max-size is not set".to_owned(),
            ));
        }
        log.max_files = files;
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(driver: &str, words: &[&str]) -> Result<Log, OptionError> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        log(driver, &words)
    }

    #[test]
    fn bounds_are_read_and_nonsense_is_refused() {
        assert_eq!(read("json-file", &[]), Ok(Log::default()));
        let bounded = read("", &["max-size=10m", "max-file=3"]).expect("fine");
        assert_eq!((bounded.max_size, bounded.max_files), (Some(10 << 20), 3));
        let local = read("local", &["max-file=2"]).expect("fine");
        assert_eq!((local.max_size, local.max_files), (Some(20 << 20), 2));
        assert_eq!(read("none", &[]).map(|log| log.driver), Ok(LogDriver::None));
        for (driver, words) in [
            ("syslog", &[][..]),
            ("none", &["max-size=1m"]),
            ("json-file", &["max-size=x"]),
            ("json-file", &["max-file=2"]),
            ("json-file", &["max-size=1m", "max-file=0"]),
            ("json-file", &["tag=x"]),
        ] {
            assert!(read(driver, words).is_err(), "{driver} {words:?}");
        }
    }
}
