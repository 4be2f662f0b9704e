//! An image of the store by the name that was typed, and what was probably meant when there is none.

use anyhow::{Result, anyhow};
use strata::store::{Image, Store};

use super::images::familiar;

/// How many letters a name may be off.
const TYPOS: usize = 2;

/// The image, or a refusal that names what is called nearly the same.
pub(super) fn local_image(store: &Store, name: &str) -> Result<Image> {
    if let Some(image) = store.image(name)? {
        return Ok(image);
    }
    let images = store.images()?;
    let names = images.iter().flat_map(|image| familiar(&image.references));
    let mut near: Vec<String> = names.filter(|other| is_near(name, other)).collect();
    near.sort();
    near.truncate(3);
    let hint = match near.is_empty() {
        true => "`strata images` lists what is here, `strata pull` fetches more".to_owned(),
        false => format!("did you mean {}?", near.join(" or ")),
    };
    Err(anyhow!("no such image: {name}; {hint}"))
}

/// Whether two names differ by a few letters, by the tag, or by the registry in front.
pub(super) fn is_near(typed: &str, other: &str) -> bool {
    let bare = |name: &str| {
        let last = name.rsplit('/').next().unwrap_or(name).to_owned();
        last.split([':', '@']).next().unwrap_or_default().to_owned()
    };
    let (typed_bare, other_bare) = (bare(typed), bare(other));
    let off = distance(typed, other).min(distance(&typed_bare, &other_bare));
    off <= TYPOS.min(typed_bare.chars().count() / 3)
}

/// How many letters have to be put in, taken out or changed (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(300).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().take(300).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_were_mistyped_are_near() {
        for typed in [
            "debain",
            "debian:13",
            "debia:12",
            "other.example/debian:12",
            "debian",
        ] {
            assert!(is_near(typed, "debian:12"), "{typed}");
        }
        for typed in ["ubuntu", "d", "deb", "alpine:12"] {
            assert!(!is_near(typed, "debian:12"), "{typed}");
        }
        assert_eq!(
            (
                distance("abc", "abc"),
                distance("abc", "ac"),
                distance("", "ab")
            ),
            (0, 1, 2)
        );
    }
}
