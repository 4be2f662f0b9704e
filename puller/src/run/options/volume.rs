//! `-v [SOURCE:]TARGET[:OPTIONS]`: a directory or file of the host, a named volume, or one without a name.

use std::path::Path;

use super::{OptionError, host_path, shown, target};
use crate::run::config::{Mount, Propagation, Source};

/// Whether a volume may have the name: two characters or more, as docker's.
pub fn is_volume_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (2..=255).contains(&name.len())
        && name
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_alphanumeric)
        && name.bytes().all(allowed)
}

/// What a value of `-v` says. `here` is the directory that a source beginning with a dot is relative to. A volume
/// without a name has an empty one.
///
/// # Errors
/// Another form, a name that no volume may have, an option that is unknown or does not fit.
pub fn volume(text: &str, here: &Path) -> Result<Mount, OptionError> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, path, options) = match parts.as_slice() {
        [path] => ("", *path, ""),
        // A mode in place of the target.
        [_, path] if !path.starts_with('/') => return Err(invalid(text)),
        [source, path] => (*source, *path, ""),
        [source, path, options] => (*source, *path, *options),
        _ => return Err(invalid(text)),
    };
    if parts.len() > 1 && source.is_empty() {
        return Err(invalid(text));
    }
    let target = target(path)?;
    let mut mount = Mount {
        target,
        source: source_of(source, here)?,
        read_only: false,
        options: Vec::new(),
    };
    let mut modes = 0;
    for word in options.split(',').filter(|w| !w.is_empty()) {
        modes += usize::from(matches!(word, "ro" | "rw"));
        apply(&mut mount, word)
            .map_err(|why| OptionError::new(format!("invalid mode {}: {why}", shown(options))))?;
    }
    if modes > 1 {
        return Err(OptionError::new(format!(
            "invalid mode: {}",
            shown(options)
        )));
    }
    Ok(mount)
}

fn invalid(text: &str) -> OptionError {
    OptionError::new(format!(
        "invalid volume specification: {}: it is [SOURCE:]TARGET[:OPTIONS]",
        shown(text)
    ))
}

fn source_of(source: &str, here: &Path) -> Result<Source, OptionError> {
    let is_path = source.starts_with('/') || matches!(source, "." | "..");
    if is_path || source.starts_with("./") || source.starts_with("../") {
        return Ok(Source::Bind {
            path: host_path(source, here)?,
            recursive: true,
            propagation: Propagation::Private,
        });
    }
    if !source.is_empty() && !is_volume_name(source) {
        return Err(OptionError::new(format!(
            "{} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed; \
             to mount a host directory, give an absolute path",
            shown(source)
        )));
    }
    Ok(Source::Volume {
        name: source.to_owned(),
        anonymous: source.is_empty(),
        no_copy: false,
    })
}

fn apply(mount: &mut Mount, word: &str) -> Result<(), String> {
    match (word, &mut mount.source) {
        ("ro", _) => mount.read_only = true,
        // What SELinux and a virtual machine's shared folders would want; there is neither.
        ("rw" | "z" | "Z" | "consistent" | "cached" | "delegated", _) => {}
        ("nosuid" | "nodev" | "noexec", _) => mount.options.push(word.to_owned()),
        ("nocopy", Source::Volume { no_copy, .. }) => *no_copy = true,
        ("rbind", Source::Bind { recursive, .. }) => *recursive = true,
        ("bind", Source::Bind { recursive, .. }) => *recursive = false,
        (word, Source::Bind { propagation, .. }) => *propagation = propagation_of(word)?,
        (word, _) => return Err(format!("{} does not fit a volume", shown(word))),
    }
    Ok(())
}

/// The word for a propagation, with or without the `r` that says that it holds for what is mounted below.
pub(super) fn propagation_of(word: &str) -> Result<Propagation, String> {
    match word {
        "private" | "rprivate" => Ok(Propagation::Private),
        "slave" | "rslave" => Ok(Propagation::Slave),
        "shared" | "rshared" => Ok(Propagation::Shared),
        _ => Err(format!("{} is unknown", shown(word))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Mount, OptionError> {
        volume(text, Path::new("/here"))
    }

    fn bind(path: &str) -> Source {
        Source::Bind {
            path: path.into(),
            recursive: true,
            propagation: Propagation::Private,
        }
    }

    #[test]
    fn a_source_is_a_path_or_a_name_or_nothing() {
        let of = |text: &str| read(text).expect("reads").source;
        assert_eq!(of("/srv/a:/b"), bind("/srv/a"));
        assert_eq!(of("./a:/b:ro"), bind("/here/./a"));
        assert_eq!(of(".:/b"), bind("/here/."));
        let named = |name: &str, anonymous| Source::Volume {
            name: name.to_owned(),
            anonymous,
            no_copy: false,
        };
        assert_eq!(of("data:/b"), named("data", false));
        assert_eq!(of("/b"), named("", true));
        assert_eq!(read("data:/b//c/").expect("reads").target, "/b/c");
    }

    #[test]
    fn options_are_words() {
        let mount = read("/a:/b:ro,noexec,rslave,bind").expect("reads");
        assert!(mount.read_only);
        assert_eq!(mount.options, ["noexec"]);
        let expected = Source::Bind {
            path: "/a".into(),
            recursive: false,
            propagation: Propagation::Slave,
        };
        assert_eq!(mount.source, expected);
        assert!(matches!(
            read("data:/b:nocopy").expect("reads").source,
            Source::Volume { no_copy: true, .. }
        ));
        assert!(!read("/a:/b:rw,Z,cached").expect("reads").read_only);
    }

    #[test]
    fn what_is_no_volume_is_refused() {
        for bad in [
            "",
            ":",
            "a",
            "a:",
            ":/b",
            "a:b",
            "/b:ro",
            "a/b:/c",
            "x:/c",
            "-a:/c",
            "/a:/",
            "/a:/b:ro:rw",
            "/a:/b:ro,rw",
            "/a:/b:wild",
            "data:/b:rshared",
            "/a:/b:nocopy",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        let said = read("a/b:/c").expect_err("refused").to_string();
        assert!(said.contains("absolute path"), "{said}");
    }
}
