//! `--ulimit NAME=SOFT[:HARD]`: limits of a process (setrlimit(2)), by docker's names.

use super::{OptionError, shown};

/// The names, which are those of setrlimit(2) in lower case without RLIMIT_.
pub const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Name, soft and hard limit; unlimited (-1) is [`u64::MAX`].
///
/// # Errors
/// Another form, an unknown name, a soft limit above the hard one.
pub fn ulimit(text: &str) -> Result<(String, u64, u64), OptionError> {
    let invalid = || OptionError::new(format!("invalid ulimit argument: {}", shown(text)));
    let (name, limits) = text.split_once('=').ok_or_else(invalid)?;
    if !ULIMITS.contains(&name) {
        return Err(OptionError::new(format!(
            "invalid ulimit type: {}",
            shown(name)
        )));
    }
    let limit = |text: &str| match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        text => text.parse::<u64>().map_err(|_| invalid()),
    };
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (limit(soft)?, limit(hard)?),
        None => (limit(limits)?, limit(limits)?),
    };
    if soft > hard {
        return Err(OptionError::new(format!(
            "ulimit soft limit must be less than or equal to hard limit: {limits}"
        )));
    }
    Ok((name.to_owned(), soft, hard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_limit_is_both() {
        assert_eq!(ulimit("nofile=64"), Ok(("nofile".into(), 64, 64)));
        assert_eq!(ulimit("nproc=5:9"), Ok(("nproc".into(), 5, 9)));
        assert_eq!(ulimit("core=0:-1"), Ok(("core".into(), 0, u64::MAX)));
        for bad in [
            "",
            "nofile",
            "nofile=",
            "nofile=x",
            "nofile=9:5",
            "nofile=-1:5",
            "as=5",
            "nofile=1:2:3",
        ] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }
}
