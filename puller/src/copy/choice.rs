//! Which images of an index are copied.

use strata_oci::media::{self, ManifestKind};
use strata_oci::{Descriptor, Digest, Manifest, Platform};

use super::CopyError;
use crate::fetch::PullError;

/// The annotation of an attestation that says which image of the same index it is about (the convention of
/// BuildKit, docs/attestations/attestation-storage.md there).
const ABOUT: &str = "vnd.docker.reference.digest";

/// Which images of an index. What is no index is copied as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Platforms {
    /// All, and the index: every digest stays what it is.
    #[default]
    All,
    /// The one that suits best, alone: the target's name stands for it.
    One(Platform),
    /// For each of these the one that suits best, and the index as it is: it keeps its digest, and the
    /// images that it lists for others are not there. Not every registry accepts that.
    Some(Vec<Platform>),
}

/// The choice while an index is walked.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    /// None: everything.
    wanted: Option<&'a [Platform]>,
    found: Vec<bool>,
    offered: Vec<Platform>,
    /// Whether there was anything to choose from.
    asked: bool,
}

impl<'a> Choice<'a> {
    pub(super) fn new(platforms: &'a Platforms) -> Self {
        let wanted = match platforms {
            Platforms::Some(wanted) => Some(&wanted[..]),
            Platforms::All | Platforms::One(_) => None,
        };
        Self {
            wanted,
            found: vec![false; wanted.map_or(0, <[_]>::len)],
            offered: Vec::new(),
            asked: false,
        }
    }

    /// The children of an index that belong to the copy.
    pub(super) fn children<'m>(&mut self, index: &'m Manifest) -> Vec<&'m Descriptor> {
        let Some(wanted) = self.wanted else {
            return index.manifests.iter().collect();
        };
        self.asked |= index.kind == ManifestKind::Index;
        let mut chosen: Vec<&Digest> = Vec::new();
        for (number, platform) in wanted.iter().enumerate() {
            if let Some(child) = index.select(platform) {
                self.found[number] = true;
                chosen.push(&child.digest);
            }
        }
        let is_chosen = |child: &&Descriptor| {
            if chosen.contains(&&child.digest) {
                return true;
            }
            match &child.platform {
                // An index in an index may hold what is wanted.
                None => {
                    media::manifest_kind(&media::essence(&child.media_type))
                        == Some(ManifestKind::Index)
                }
                Some(_) => about(child).is_some_and(|image| chosen.contains(&&image)),
            }
        };
        let platforms = index.manifests.iter().filter_map(|m| m.platform.clone());
        let real = platforms.filter(|platform| platform.os != "unknown");
        // Enough for a message.
        self.offered.extend(real.take(64));
        self.offered.truncate(256);
        index.manifests.iter().filter(is_chosen).collect()
    }

    /// Refuses when a wanted platform was nowhere. Where there was no index nothing was to be chosen.
    pub(super) fn check(self) -> Result<(), CopyError> {
        let missing = self.found.iter().position(|found| !found);
        let missing = missing.and_then(|number| self.wanted?.get(number));
        match missing {
            Some(wanted) if self.asked => Err(CopyError::Image(PullError::Platform {
                wanted: wanted.clone(),
                offered: self.offered,
            })),
            _ => Ok(()),
        }
    }
}

/// The image that an attestation is about.
fn about(child: &Descriptor) -> Option<Digest> {
    child.annotations.as_ref()?.get(ABOUT)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(platform: Option<&str>, media_type: &str, about: Option<&Digest>) -> Descriptor {
        let name = format!("{platform:?} {media_type} {about:?}");
        let mut child = Descriptor::new(media_type, Digest::of(name.as_bytes()), 1);
        child.platform = platform.map(|text| text.parse().expect("a platform"));
        child.annotations = about.map(|about| [(ABOUT.to_owned(), about.to_string())].into());
        child
    }

    fn index(children: &[Descriptor]) -> Manifest {
        let document = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children});
        Manifest::parse(document.to_string().as_bytes(), None).expect("valid")
    }

    fn platforms(texts: &[&str]) -> Platforms {
        Platforms::Some(texts.iter().map(|t| t.parse().expect("valid")).collect())
    }

    #[test]
    fn the_wanted_images_come_with_what_is_about_them() {
        let image = |platform| child(Some(platform), media::OCI_MANIFEST, None);
        let (amd, old, new, arm64) = (
            image("linux/amd64"),
            image("linux/arm/v6"),
            image("linux/arm/v7"),
            image("linux/arm64"),
        );
        let unknown = |about| child(Some("unknown/unknown"), media::OCI_MANIFEST, Some(about));
        let (of_amd, of_arm64) = (unknown(&amd.digest), unknown(&arm64.digest));
        let nested = child(None, media::OCI_INDEX, None);
        let all = [
            amd.clone(),
            old,
            new.clone(),
            arm64,
            of_amd.clone(),
            of_arm64,
            nested.clone(),
        ];
        let index = index(&all);
        let wanted = platforms(&["linux/amd64", "linux/arm"]);
        let mut choice = Choice::new(&wanted);
        assert_eq!(choice.children(&index), [&amd, &new, &of_amd, &nested]);
        assert!(choice.check().is_ok());
        let mut choice = Choice::new(&Platforms::All);
        assert_eq!(choice.children(&index).len(), all.len());
        let wanted = platforms(&["linux/amd64", "linux/s390x"]);
        let mut choice = Choice::new(&wanted);
        choice.children(&index);
        let error = choice.check().expect_err("missing").to_string();
        assert!(
            error.contains("s390x") && error.contains("arm64"),
            "{error}"
        );
        assert!(!error.contains("unknown"), "{error}");
        // Without an index there is nothing to choose from.
        assert!(Choice::new(&wanted).check().is_ok());
    }
}
