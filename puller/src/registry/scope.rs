//! What a request needs to be allowed: the scope of its token (distribution's "Token Scope Documentation").

/// A need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    /// Empty: none in particular, as at a login.
    pub(super) repository: String,
    pub(super) push: bool,
    pub(super) delete: bool,
    /// A repository to read from as well, for a mount.
    pub(super) from: Option<String>,
}

impl Scope {
    /// To be known, and no more.
    pub(super) fn login() -> Self {
        Self::pull("")
    }

    pub(super) fn pull(repository: &str) -> Self {
        Self {
            repository: repository.to_owned(),
            push: false,
            delete: false,
            from: None,
        }
    }

    pub(super) fn push(repository: &str) -> Self {
        Self {
            push: true,
            ..Self::pull(repository)
        }
    }

    pub(super) fn delete(repository: &str) -> Self {
        Self {
            delete: true,
            ..Self::pull(repository)
        }
    }

    /// Whether what is allowed for this need is enough for the other.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.repository == other.repository
            && (self.push || !other.push)
            && (self.delete || !other.delete)
            && (other.from.is_none() || self.from == other.from)
    }

    /// The words of the need itself.
    pub(super) fn words(&self) -> Vec<String> {
        if self.repository.is_empty() {
            return Vec::new();
        }
        let actions = match (self.push, self.delete) {
            (true, _) => "pull,push",
            (false, true) => "pull,delete",
            (false, false) => "pull",
        };
        let own = format!("repository:{}:{actions}", self.repository);
        let from = self.from.as_ref().filter(|from| **from != self.repository);
        std::iter::once(own)
            .chain(from.map(|from| format!("repository:{from}:pull")))
            .collect()
    }

    /// The words of the need and those that the challenge asks for besides: a registry may know the
    /// repository by another name than its clients.
    pub(super) fn words_with(&self, asked: Option<&str>) -> Vec<String> {
        let mut words = self.words();
        if words.is_empty() {
            return words;
        }
        for word in asked.unwrap_or_default().split_ascii_whitespace().take(8) {
            let here = |own: &String| match (own.rsplit_once(':'), word.rsplit_once(':')) {
                (Some((name, actions)), Some((asked, wanted))) => {
                    name == asked
                        && wanted
                            .split(',')
                            .all(|w| actions.split(',').any(|a| a == w))
                }
                _ => own == word,
            };
            if !words.iter().any(here) {
                words.push(word.to_owned());
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_need_covers_a_smaller_one() {
        let (pull, push) = (Scope::pull("a"), Scope::push("a"));
        let mount = Scope {
            from: Some("b".to_owned()),
            ..Scope::push("a")
        };
        assert!(push.covers(&pull) && mount.covers(&push) && mount.covers(&mount));
        assert!(!push.covers(&Scope::delete("a")) && Scope::delete("a").covers(&pull));
        assert!(!pull.covers(&push) && !push.covers(&mount) && !push.covers(&Scope::pull("b")));
    }

    #[test]
    fn the_challenge_may_ask_for_more() {
        let words = |asked| Scope::pull("a").words_with(asked);
        assert_eq!(words(None), ["repository:a:pull"]);
        assert_eq!(words(Some("repository:a:pull")), ["repository:a:pull"]);
        assert_eq!(
            words(Some("repository:proxy/a:pull")),
            ["repository:a:pull", "repository:proxy/a:pull"]
        );
        assert_eq!(
            words(Some("repository:a:pull,push")),
            ["repository:a:pull", "repository:a:pull,push"]
        );
        let push = Scope::push("a").words_with(Some("repository:a:pull"));
        assert_eq!(push, ["repository:a:pull,push"]);
        assert!(
            Scope::login()
                .words_with(Some("registry:catalog:*"))
                .is_empty()
        );
    }
}
