//! Conditions of a request (RFC 9110, 13.1): If-Match and If-None-Match.
//!
//! The entity tag of content is its digest in quotes, always strong. Content that a client names by
//! another tag is content that this registry never had. What a condition is about:
//!
//! - `…/manifests/TAG`: the manifest that the tag points at;
//! - `…/manifests/DIGEST`: that manifest, there or not;
//! - `PUT …/manifests/DIGEST?tag=a&tag=b`: each of the tags; when it fails for one, none moves.
//!
//! So `If-None-Match: *` makes a tag only if there is none, and `If-Match: "sha256:…"` moves it only from there.

use strata_oci::Digest;

/// What must hold of the content that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    matching: Option<Tags>,
    not_matching: Option<Tags>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    These(Vec<Digest>),
}

/// A header that is no list of entity tags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the condition {0:?} is invalid: expected * or \"sha256:…\", in quotes")]
pub struct ParseConditionError(String);

impl Condition {
    /// Reads the lines of If-Match and of If-None-Match.
    ///
    /// # Errors
    /// When a tag's quotes are not closed, or something follows them.
    pub fn parse<'a>(
        if_match: impl IntoIterator<Item = &'a [u8]>,
        if_none_match: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, ParseConditionError> {
        Ok(Self {
            // If-Match compares strongly: a weak tag is never the same.
            matching: tags(if_match, false)?,
            not_matching: tags(if_none_match, true)?,
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.matching.is_none() && self.not_matching.is_none()
    }

    /// Whether something may be written where `current` is now.
    pub fn allows(&self, current: Option<&Digest>) -> bool {
        self.is_expected(current) && !self.is_known(current)
    }

    /// If-Match: whether `current` is what the client expects.
    pub fn is_expected(&self, current: Option<&Digest>) -> bool {
        self.matching.as_ref().is_none_or(|tags| tags.name(current))
    }

    /// If-None-Match: whether `current` is what the client knows.
    pub fn is_known(&self, current: Option<&Digest>) -> bool {
        let known = self.not_matching.as_ref();
        known.is_some_and(|tags| tags.name(current))
    }
}

impl Tags {
    fn name(&self, current: Option<&Digest>) -> bool {
        match (self, current) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::These(digests), Some(current)) => digests.contains(current),
        }
    }
}

/// `*`, or a list of entity tags; `None` when the header is not there.
fn tags<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    weak_counts: bool,
) -> Result<Option<Tags>, ParseConditionError> {
    let mut found: Option<Vec<Digest>> = None;
    let mut any = false;
    for line in lines {
        let line = String::from_utf8_lossy(line);
        let digests = found.get_or_insert_default();
        let mut rest = line.trim();
        while !rest.is_empty() {
            let (tag, after) = first_tag(rest).ok_or_else(|| {
                let shown = line.chars().take(80).collect();
                ParseConditionError(shown)
            })?;
            match tag {
                Tag::Any => any = true,
                Tag::Weak(_) if !weak_counts => {}
                // What is no digest is the tag of nothing that is here.
                Tag::Weak(text) | Tag::Strong(text) => digests.extend(text.parse().ok()),
            }
            rest = after;
        }
    }
    Ok(found.map(|digests| if any { Tags::Any } else { Tags::These(digests) }))
}

enum Tag<'a> {
    Any,
    Weak(&'a str),
    Strong(&'a str),
}

/// Splits a tag from the front of a list that is not empty. A tag may hold commas, so it is read to its closing
/// quote; one without quotes, which some clients send, ends at the comma.
fn first_tag(list: &str) -> Option<(Tag<'_>, &str)> {
    let (make, text): (fn(&str) -> Tag<'_>, &str) = match list.strip_prefix("W/") {
        Some(text) => (|text| Tag::Weak(text), text),
        None => (|text| Tag::Strong(text), list),
    };
    let (tag, after) = match text.strip_prefix('"') {
        Some(quoted) => {
            let (tag, after) = quoted.split_once('"')?;
            (make(tag), after.trim_start())
        }
        None => {
            let end = text.find(',').unwrap_or(text.len());
            let bare = text[..end].trim_end();
            if bare.contains(['"', ' ', '\t']) {
                return None;
            }
            let tag = if bare == "*" { Tag::Any } else { make(bare) };
            (tag, &text[end..])
        }
    };
    match after.strip_prefix(',') {
        Some(rest) => Some((tag, rest.trim_start())),
        None => after.is_empty().then_some((tag, "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matching(header: &str) -> Condition {
        Condition::parse([header.as_bytes()], []).expect(header)
    }

    fn not_matching(header: &str) -> Condition {
        Condition::parse([], [header.as_bytes()]).expect(header)
    }

    #[test]
    fn lists_stars_and_weak_tags() {
        let (digest, other) = (Digest::of(b"here"), Digest::of(b"other"));
        let here = Some(&digest);
        let both = format!("\"x,y\" , W/\"{other}\",, \"{digest}\"");
        assert!(matching(&both).allows(here));
        assert!(!matching(&both).allows(Some(&other)), "it is weak");
        assert!(!matching(&both).allows(None));
        assert!(!not_matching(&both).allows(here));
        assert!(!not_matching(&both).allows(Some(&other)), "weak is enough");
        assert!(not_matching(&both).allows(None));
        assert!(matching("*").allows(here) && !matching("*").allows(None));
        assert!(not_matching("*").allows(None) && !not_matching("*").allows(here));
        assert!(not_matching("\"x\", *").is_known(here));
        assert!(matching(&other.to_string()).allows(Some(&other)), "bare");
        assert!(!matching("").allows(here), "a list of nothing");
        assert!(Condition::default().allows(here) && Condition::default().allows(None));
    }

    #[test]
    fn several_lines_are_one_list() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let (first, second) = (format!("\"{one}\""), format!("\"{two}\""));
        let lines = [first.as_bytes(), second.as_bytes()];
        let condition = Condition::parse(lines, []).expect("valid");
        assert!(condition.allows(Some(&one)) && condition.allows(Some(&two)));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bad in ["\"open", "\"a\"b", "\"a\" \"b\"", "a b", "W/\"a", "x\""] {
            let parsed = Condition::parse([bad.as_bytes()], []);
            assert!(parsed.is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Condition::parse([line.as_slice()], [line.as_slice()]);
        }

        #[test]
        fn a_listed_digest_is_found(before in "(\"[a-z,]{0,9}\" ?, ?){0,4}", bytes in any::<[u8; 4]>()) {
            let digest = Digest::of(&bytes);
            let line = format!("{before}\"{digest}\"");
            prop_assert!(matching(&line).allows(Some(&digest)));
            prop_assert!(!not_matching(&line).allows(Some(&digest)));
        }
    }
}
