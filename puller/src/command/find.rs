//! An image of the store by the name that was typed, and what was probably meant when there is none.

use anyhow::{Error, Result, anyhow};
use strata::store::containers::Kind;
use strata::store::{Image, Store};

use super::images::familiar;

/// How many letters a name may be off.
const TYPOS: usize = 2;

/// The image, or a refusal that names what is called nearly the same.
pub(super) fn local_image(store: &Store, name: &str) -> Result<Image> {
    if let Some(image) = store.image(name)? {
        return Ok(image);
    }
    Err(no_such_image(store, name)?)
}

/// That there is no such image, and what is called nearly the same.
pub(super) fn no_such_image(store: &Store, name: &str) -> Result<Error> {
    let otherwise = "`strata images` lists what is here, `strata pull` fetches more";
    let hint = meant(near_images(store, name)?).unwrap_or_else(|| otherwise.to_owned());
    Ok(anyhow!("no such image: {name}; {hint}"))
}

/// Why an image could not be fetched that is not here, with what was probably meant.
pub(super) fn not_fetched(store: &Store, name: &str, error: Error) -> Error {
    // Without an answer of the store the error is as true.
    let near = near_images(store, name).unwrap_or_default();
    match meant(near) {
        Some(hint) => error.context(format!("image {name} is not here ({hint})")),
        None => error,
    }
}

/// Images that are called nearly the same, by the names that people know.
pub(super) fn near_images(store: &Store, name: &str) -> Result<Vec<String>> {
    let images = store.images()?;
    let names = images.iter().flat_map(|image| familiar(&image.references));
    Ok(names.filter(|other| is_near(name, other)).collect())
}

/// Containers that are called nearly the same.
pub(super) fn near_containers(store: &Store, name: &str) -> Result<Vec<String>> {
    let containers = store.containers()?.into_iter();
    let near = containers.filter(|c| c.kind == Kind::Container && is_near(name, &c.name));
    Ok(near.map(|container| container.name).collect())
}

/// `did you mean this or that?`, if there is anything that could be meant.
pub(super) fn meant(mut near: Vec<String>) -> Option<String> {
    near.sort();
    near.dedup();
    near.truncate(3);
    (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")))
}

/// Whether two names differ by a few letters, by the tag, or by the registry in front.
fn is_near(typed: &str, other: &str) -> bool {
    let bare = |name: &str| {
        let last = name.rsplit('/').next().unwrap_or(name).to_owned();
        last.split([':', '@']).next().unwrap_or_default().to_owned()
    };
    let (typed_bare, other_bare) = (bare(typed), bare(other));
    let off = distance(typed, other).min(distance(&typed_bare, &other_bare));
    off <= TYPOS.min(typed_bare.chars().count() / 3)
}

/// How many letters have to be put in, taken out, changed, or swapped with their neighbour (Levenshtein, and Damerau's
/// swaps of what is not changed again).
fn distance(one: &str, other: &str) -> usize {
    let letters = |text: &str| -> Vec<char> { text.chars().take(300).collect() };
    let (one, other) = (letters(one), letters(other));
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let change = row[j] + usize::from(a != b);
            let mut least = change.min(next[j] + 1).min(row[j + 1] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
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
            "edbain",
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
        assert_eq!((distance("alpah", "alpha"), distance("ab", "ba")), (1, 1));
        assert!(is_near("alpah", "alpha"), "one slip, whatever it is");
    }
}
