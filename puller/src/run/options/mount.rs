//! `--mount type=bind|volume|tmpfs,source=…,target=…`: what `-v` says, in named fields (a line of comma-separated
//! values, RFC 4180, so that a field in quotes may have commas).

use std::path::Path;

use super::size::size;
use super::volume::{is_volume_name, propagation_of};
use super::{OptionError, host_path, shown, target, tmpfs, truth};
use crate::run::config::{Mount, Propagation, Source};

/// What a value of `--mount` says. A relative source is relative to `here`; a volume without a name has an empty one.
///
/// # Errors
/// A field that is unknown, has no such value, or does not fit the type; no target; a bind mount without a source.
pub fn mount(text: &str, here: &Path) -> Result<Mount, OptionError> {
    let fields = fields(text)?;
    let pairs: Vec<(String, &str)> = fields
        .iter()
        .map(|field| {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            (key.trim().to_ascii_lowercase(), value)
        })
        .collect();
    let find = |names: &[&str]| {
        let found = pairs
            .iter()
            .rev()
            .find(|(key, _)| names.contains(&key.as_str()));
        found.map(|(_, value)| *value)
    };
    let path = find(&["target", "dst", "destination"]).unwrap_or_default();
    if path.is_empty() {
        return Err(OptionError::new(
            "field target is required: target=/PATH/IN/CONTAINER",
        ));
    }
    let source = find(&["source", "src"]).unwrap_or_default();
    let mut mount = Mount {
        target: target(path)?,
        source: start(find(&["type"]).unwrap_or("volume"), source, here)?,
        read_only: false,
        options: match find(&["type"]) {
            Some("tmpfs") => tmpfs::defaults(),
            _ => Vec::new(),
        },
    };
    for (key, value) in &pairs {
        apply(&mut mount, key, value)?;
    }
    Ok(mount)
}

fn start(kind: &str, source: &str, here: &Path) -> Result<Source, OptionError> {
    match kind {
        "bind" if source.is_empty() => Err(OptionError::new(
            "field source is required for a bind mount",
        )),
        "bind" => Ok(Source::Bind {
            path: host_path(source, here)?,
            recursive: true,
            propagation: Propagation::Private,
        }),
        "volume" if source.is_empty() || is_volume_name(source) => Ok(Source::Volume {
            name: source.to_owned(),
            anonymous: source.is_empty(),
            no_copy: false,
        }),
        "volume" => Err(OptionError::new(format!(
            "{} is no volume's name; for a path of the host say type=bind",
            shown(source)
        ))),
        "tmpfs" if source.is_empty() => Ok(Source::Tmpfs {
            size: None,
            mode: None,
        }),
        "tmpfs" => Err(OptionError::new("a tmpfs has no source")),
        kind => Err(OptionError::new(format!(
            "mount type {} is unknown: it is bind, volume or tmpfs",
            shown(kind)
        ))),
    }
}

fn apply(mount: &mut Mount, key: &str, value: &str) -> Result<(), OptionError> {
    let wrong = |why: String| OptionError::new(format!("invalid value for {key}: {why}"));
    match (key, &mut mount.source) {
        ("type" | "source" | "src" | "target" | "dst" | "destination" | "consistency", _) => {}
        ("readonly" | "ro", _) => mount.read_only = truth(value)?,
        ("bind-propagation", Source::Bind { propagation, .. }) => {
            *propagation = propagation_of(value).map_err(wrong)?;
        }
        ("bind-nonrecursive", Source::Bind { recursive, .. }) => *recursive = !truth(value)?,
        ("bind-recursive", Source::Bind { recursive, .. }) => match value {
            // Read-only holds for what is mounted below as well, unless that is asked not to be.
            "enabled" | "readonly" => *recursive = true,
            "disabled" => *recursive = false,
            _ => return Err(wrong("it is enabled, disabled or readonly".to_owned())),
        },
        ("volume-nocopy", Source::Volume { no_copy, .. }) => *no_copy = truth(value)?,
        ("volume-driver", Source::Volume { .. }) if matches!(value, "" | "local") => {}
        ("tmpfs-size", Source::Tmpfs { size: bytes, .. }) => *bytes = Some(size(value)?),
        ("tmpfs-mode", Source::Tmpfs { mode, .. }) => *mode = Some(tmpfs::mode(value)?),
        _ => {
            return Err(OptionError::new(format!(
                "unexpected key {} in {:?}",
                shown(key),
                mount.target
            )));
        }
    }
    Ok(())
}

/// The fields of one line of comma-separated values.
fn fields(text: &str) -> Result<Vec<String>, OptionError> {
    let mut fields = vec![String::new()];
    let mut characters = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = characters.next() {
        let Some(field) = fields.last_mut() else {
            break;
        };
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    match quoted {
        true => Err(OptionError::new(format!(
            "a quote is not closed in {}",
            shown(text)
        ))),
        false => Ok(fields),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Mount, OptionError> {
        mount(text, Path::new("/here"))
    }

    #[test]
    fn the_three_types_are_read() {
        let bound =
            read("type=bind,src=/a,dst=/b/,readonly,bind-propagation=rshared").expect("reads");
        assert_eq!((bound.target.as_str(), bound.read_only), ("/b", true));
        let expected = Source::Bind {
            path: "/a".into(),
            recursive: true,
            propagation: Propagation::Shared,
        };
        assert_eq!(bound.source, expected);
        let kept = read("source=data,target=/b,volume-nocopy=true").expect("reads");
        let expected = Source::Volume {
            name: "data".into(),
            anonymous: false,
            no_copy: true,
        };
        assert_eq!(kept.source, expected);
        let memory =
            read("type=tmpfs,destination=/b,tmpfs-size=1m,tmpfs-mode=0700").expect("reads");
        let expected = Source::Tmpfs {
            size: Some(1 << 20),
            mode: Some(0o700),
        };
        assert_eq!(memory.source, expected);
        assert!(memory.options.contains(&"noexec".to_owned()));
        assert!(
            !read("type=bind,src=/a,dst=/b,ro=false")
                .expect("reads")
                .read_only
        );
    }

    #[test]
    fn quotes_keep_commas() {
        let bound = read(r#"type=bind,"src=/a,""b""",dst=/c"#).expect("reads");
        assert!(matches!(bound.source, Source::Bind { path, .. } if path == Path::new("/a,\"b\"")));
        assert!(read(r#"type=bind,"src=/a,dst=/b"#).is_err());
    }

    #[test]
    fn fields_that_do_not_fit_are_refused() {
        for bad in [
            "",
            "type=bind,src=/a",
            "type=bind,dst=/b",
            "type=npipe,dst=/b",
            "type=volume,src=/a,dst=/b",
            "type=tmpfs,src=/a,dst=/b",
            "type=bind,src=/a,dst=b",
            "type=volume,dst=/b,tmpfs-size=1",
            "type=bind,src=/a,dst=/b,colour=red",
            "type=bind,src=/a,dst=/b,ro=maybe",
            "type=tmpfs,dst=/b,tmpfs-mode=9",
            "type=bind,src=/a,dst=/b,bind-propagation=wild",
            "type=volume,dst=/b,volume-driver=nfs",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
