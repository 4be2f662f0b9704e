//! `--tmpfs TARGET[:OPTIONS]`: a file system in memory, with mount(8)'s words (tmpfs(5)).

use super::{OptionError, shown, size::size, target};
use crate::run::config::{Mount, Source};

/// What docker gives every one.
pub(super) fn defaults() -> Vec<String> {
    ["nosuid", "nodev", "noexec"].map(str::to_owned).to_vec()
}

/// What a value of `--tmpfs` says.
///
/// # Errors
/// A relative path, an option that is unknown or has no such value.
pub fn tmpfs(text: &str) -> Result<Mount, OptionError> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut bytes, mut bits) = (None, None);
    let mut read_only = false;
    let mut words = defaults();
    for word in options.split(',').filter(|w| !w.is_empty()) {
        match word.split_once('=').unwrap_or((word, "")) {
            ("ro", "") => read_only = true,
            ("rw" | "async" | "dirsync" | "sync" | "relatime" | "noatime", "") => {}
            ("nosuid" | "nodev" | "noexec", "") => {}
            ("suid" | "dev" | "exec", "") => words.retain(|w| w.strip_prefix("no") != Some(word)),
            ("size", value) => bytes = Some(size(value)?),
            ("mode", value) => bits = Some(mode(value)?),
            ("uid" | "gid", value) if value.parse::<u32>().is_ok() => words.push(word.to_owned()),
            ("nr_inodes", value) => words.push(format!("nr_inodes={}", size(value)?)),
            _ => {
                return Err(OptionError::new(format!(
                    "invalid tmpfs option {}",
                    shown(word)
                )));
            }
        }
    }
    Ok(Mount {
        target: target(path)?,
        source: Source::Tmpfs {
            size: bytes,
            mode: bits,
        },
        read_only,
        options: words,
    })
}

/// A mode in octal.
pub(super) fn mode(text: &str) -> Result<u32, OptionError> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o7777);
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    mode.filter(|_| digits)
        .ok_or_else(|| OptionError::new(format!("{} is no mode in octal", shown(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_over_dockers_defaults() {
        let plain = tmpfs("/run").expect("reads");
        assert_eq!(plain.options, ["nosuid", "nodev", "noexec"]);
        let mount = tmpfs("/run:rw,exec,size=64m,mode=755,uid=7,nr_inodes=2k,ro").expect("reads");
        let expected = Source::Tmpfs {
            size: Some(64 << 20),
            mode: Some(0o755),
        };
        assert_eq!((mount.source, mount.read_only), (expected, true));
        assert_eq!(
            mount.options,
            ["nosuid", "nodev", "uid=7", "nr_inodes=2048"]
        );
        for bad in [
            "run",
            "/",
            "/run:wild",
            "/run:size=x",
            "/run:mode=8",
            "/run:mode=",
            "/run:uid=me",
            "/run:mode=+7",
        ] {
            assert!(tmpfs(bad).is_err(), "{bad}");
        }
    }
}
