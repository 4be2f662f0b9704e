//! What a client may believe: for each thing the states that can be true, one unless a request was broken off.

use std::collections::BTreeMap;

use strata_oci::digest::Digest;

/// A blob, manifest or tag in a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    repository: String,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Blob(Digest),
    Manifest(Digest),
    Tag(String),
}

impl Key {
    pub(super) fn blob(repository: &str, digest: Digest) -> Self {
        Self {
            repository: repository.to_owned(),
            what: What::Blob(digest),
        }
    }

    pub(super) fn manifest(repository: &str, digest: Digest) -> Self {
        Self {
            repository: repository.to_owned(),
            what: What::Manifest(digest),
        }
    }

    pub(super) fn tag(repository: &str, tag: String) -> Self {
        Self {
            repository: repository.to_owned(),
            what: What::Tag(tag),
        }
    }

    pub(super) fn is_blob(&self) -> bool {
        matches!(self.what, What::Blob(_))
    }

    /// Where a server has it.
    pub(super) fn target(&self) -> String {
        let repository = &self.repository;
        match &self.what {
            What::Blob(digest) => format!("/v2/{repository}/blobs/{digest}"),
            What::Manifest(digest) => format!("/v2/{repository}/manifests/{digest}"),
            What::Tag(tag) => format!("/v2/{repository}/manifests/{tag}"),
        }
    }
}

/// Absent, or there with this content.
type State = Option<Digest>;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    states: BTreeMap<Key, Vec<State>>,
}

impl Ledger {
    /// A request is sent that leads to these states.
    pub(super) fn begin(&mut self, changes: &[(Key, State)]) {
        for (key, state) in changes {
            let states = self.states.entry(key.clone()).or_insert_with(|| vec![None]);
            states.push(state.clone());
        }
    }

    /// The request was acknowledged.
    pub(super) fn settle(&mut self, changes: &[(Key, State)]) {
        for (key, state) in changes {
            self.states.insert(key.clone(), vec![state.clone()]);
        }
    }

    /// The server says `found`; a sentence when that cannot be.
    pub(super) fn observe(&mut self, key: &Key, found: State) -> Option<String> {
        let states = self.states.insert(key.clone(), vec![found.clone()])?;
        if states.contains(&found) {
            return None;
        }
        let say = |state: &State| state.as_ref().map_or("absent".into(), Digest::to_string);
        let expected: Vec<String> = states.iter().map(say).collect();
        let (key, expected) = (key.target(), expected.join(" or "));
        Some(format!("{key}: {}, should be {expected}", say(&found)))
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.states.keys().cloned().collect()
    }

    /// Whether it is certainly there.
    pub(super) fn has(&self, key: &Key) -> bool {
        matches!(self.states.get(key).map(Vec::as_slice), Some([Some(_)]))
    }

    fn there(&self, repository: &str) -> impl Iterator<Item = (&What, &Digest)> {
        self.states
            .iter()
            .filter_map(move |(key, states)| match states.as_slice() {
                [Some(digest)] if key.repository == repository => Some((&key.what, digest)),
                _ => None,
            })
    }

    /// The manifests of a repository.
    pub(super) fn manifests(&self, repository: &str) -> Vec<Digest> {
        let manifests = self
            .there(repository)
            .filter_map(|(what, digest)| match what {
                What::Manifest(_) => Some(digest.clone()),
                _ => None,
            });
        manifests.collect()
    }

    /// The tags of a repository, those of one manifest if it is given.
    pub(super) fn tags(&self, repository: &str, of: Option<&Digest>) -> Vec<String> {
        let tags = self
            .there(repository)
            .filter_map(|(what, digest)| match what {
                What::Tag(tag) if of.is_none_or(|of| of == digest) => Some(tag.clone()),
                _ => None,
            });
        tags.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_broken_off_may_be_either_and_what_was_acknowledged_only_one() {
        let mut ledger = Ledger::default();
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let key = Key::tag("app", "v1".into());
        let to = |digest: &Digest| [(key.clone(), Some(digest.clone()))];
        ledger.begin(&to(&one));
        assert_eq!(ledger.observe(&key, None), None);
        ledger.begin(&to(&one));
        ledger.settle(&to(&one));
        assert_eq!(ledger.tags("app", Some(&one)), ["v1"]);
        ledger.begin(&to(&two));
        assert!(!ledger.has(&key));
        assert_eq!(ledger.observe(&key, Some(two.clone())), None);
        let wrong = ledger.observe(&key, Some(one)).expect("it was the other");
        assert!(wrong.contains("/v2/app/manifests/v1") && wrong.contains(&two.to_string()));
    }
}
