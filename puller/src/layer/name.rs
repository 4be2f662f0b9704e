//! Names of entries: where they are in the layer, and which of them are whiteouts
//! (image-spec, layer.md, "Representing Changes").
//!
//! A name is relative to the layer's root, with or without a slash in front. `.` and `..` are taken
//! away as text; a `..` that would leave the root is refused.

use std::ops::Range;

use super::error::Refusal;

/// What a cleaned name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// An entry at this path; empty for the root.
    Plain(Vec<u8>),
    /// This path is removed from the layers below.
    Whiteout(Vec<u8>),
    /// Everything in this directory is removed from the layers below.
    Opaque(Vec<u8>),
    /// Metadata that aufs kept in its own layers.
    Ignored,
}

const MARK: &[u8] = b".wh.";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Takes `.`, `..` and doubled slashes out.
pub(super) fn clean(name: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or(Refusal::Escapes)?;
            }
            _ => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

/// Finds out what the name of an entry means.
pub(super) fn classify(name: &[u8]) -> Result<Name, Refusal> {
    let path = clean(name)?;
    let (parent, last) = split(&path);
    if parts(&path).any(|part| part.starts_with(AUFS) && part != OPAQUE) {
        return Ok(Name::Ignored);
    }
    if parts(parent).any(|part| part.starts_with(MARK)) {
        return Err(Refusal::Whiteout);
    }
    if last == OPAQUE {
        return Ok(Name::Opaque(parent.to_vec()));
    }
    match last.strip_prefix(MARK) {
        None => Ok(Name::Plain(path)),
        Some(b"" | b"." | b"..") => Err(Refusal::Whiteout),
        Some(target) => Ok(Name::Whiteout(join(parent, target))),
    }
}

/// Parent and last part. The root has neither.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// The parts of a cleaned path.
pub(super) fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty())
}

pub(super) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        return name.to_vec();
    }
    [parent, b"/", name].concat()
}

/// The path's parents, the root first, the path itself last.
pub(super) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let prefixes = slashes.map(|(at, _)| &path[..at]);
    let whole = Some(path).filter(|path| !path.is_empty());
    std::iter::once(&path[..0]).chain(prefixes).chain(whole)
}

/// Whether `path` is `directory` or in it.
pub(super) fn is_within(path: &[u8], directory: &[u8]) -> bool {
    match path.strip_prefix(directory) {
        Some(rest) => rest.is_empty() || directory.is_empty() || rest[0] == b'/',
        None => false,
    }
}

/// What is below a path, where paths are in order of their bytes: `0` comes after `/`.
pub(super) fn below(path: &[u8]) -> Range<Vec<u8>> {
    [path, b"/"].concat()..[path, b"0"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cleaned(name: &str) -> Result<String, Refusal> {
        clean(name.as_bytes()).map(|path| String::from_utf8_lossy(&path).into_owned())
    }

    #[test]
    fn names_are_relative_to_the_root() {
        for (name, path) in [
            ("./", ""),
            ("/", ""),
            ("a/./b//c/", "a/b/c"),
            ("/etc/passwd", "etc/passwd"),
            ("a/../b", "b"),
            ("a/b/../../c", "c"),
        ] {
            assert_eq!(cleaned(name), Ok(path.into()), "{name}");
        }
        for name in ["..", "../x", "/../x", "a/../../x", "a/b/../../../x"] {
            assert_eq!(cleaned(name), Err(Refusal::Escapes), "{name}");
        }
    }

    #[test]
    fn whiteouts_are_recognised() {
        let name = |name: &str| classify(name.as_bytes());
        assert_eq!(name("a/.wh.b"), Ok(Name::Whiteout(b"a/b".to_vec())));
        assert_eq!(name(".wh.b"), Ok(Name::Whiteout(b"b".to_vec())));
        assert_eq!(name("a/.wh..wh..opq"), Ok(Name::Opaque(b"a".to_vec())));
        assert_eq!(name(".wh..wh..opq"), Ok(Name::Opaque(Vec::new())));
        assert_eq!(name(".wh..wh.plnk/12.34"), Ok(Name::Ignored));
        assert_eq!(name(".wh..wh.aufs"), Ok(Name::Ignored));
        assert_eq!(name("a.wh.b"), Ok(Name::Plain(b"a.wh.b".to_vec())));
        assert_eq!(name("a/.wh..b"), Ok(Name::Whiteout(b"a/.b".to_vec())));
        for bad in [
            ".wh.",
            "a/.wh.",
            ".wh..",
            ".wh...",
            "a/.wh.b/c",
            "a/.wh..wh..opq/c",
        ] {
            assert_eq!(name(bad), Err(Refusal::Whiteout), "{bad}");
        }
    }

    #[test]
    fn ancestors_start_at_the_root() {
        let all: Vec<_> = ancestors(b"a/b/c").collect();
        assert_eq!(all, [&b""[..], b"a", b"a/b", b"a/b/c"]);
        assert_eq!(ancestors(b"").count(), 1);
        assert!(is_within(b"a/b", b"a") && is_within(b"a", b"a") && is_within(b"a", b""));
        assert!(!is_within(b"ab", b"a"));
        for (path, is) in [
            ("a/b", true),
            ("a/b/c", true),
            ("a", false),
            ("a!", false),
            ("a0", false),
        ] {
            assert_eq!(
                below(b"a").contains(&path.as_bytes().to_vec()),
                is,
                "{path}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_cleaned_name_stays_inside(name in "[a/.]{0,40}") {
            if let Ok(path) = clean(name.as_bytes()) {
                prop_assert!(!path.starts_with(b"/"));
                prop_assert!(parts(&path).all(|part| part != b".." && part != b"."));
                prop_assert_eq!(clean(&path), Ok(path.clone()));
            }
        }
    }
}
