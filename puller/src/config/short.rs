//! Short names: which images a name without a registry may mean (containers-registries.conf(5), "short-name
//! resolution").

use super::file::ShortNameMode;
use super::{Config, ConfigError};

/// What a short name is when nobody says otherwise.
const DEFAULT: &str = "docker.io";

impl Config {
    /// The full names that a name may mean, in the order to try them. One that begins with a registry means itself.
    ///
    /// # Errors
    /// There are several and none may be chosen, or there is none.
    pub fn full_names(&self, text: &str) -> Result<Vec<String>, ConfigError> {
        if !is_short(text) {
            return Ok(vec![text.to_owned()]);
        }
        let (name, selector) = split(text);
        let alias = self
            .own
            .aliases
            .get(name)
            .or_else(|| self.containers.aliases.get(name));
        // An empty alias takes one of another file back.
        if let Some(full) = alias.filter(|full| !full.is_empty()) {
            return Ok(vec![format!("{full}{selector}")]);
        }
        let refused = |why: String| ConfigError::Short {
            name: text.chars().take(255).collect(),
            why,
        };
        let search = self.own.search.as_ref().or(self.containers.search.as_ref());
        let Some(search) = search else {
            return Ok(vec![format!("{DEFAULT}/{text}")]);
        };
        let names: Vec<String> = search
            .iter()
            .map(|registry| format!("{registry}/{text}"))
            .collect();
        let mode = self
            .own
            .mode
            .or(self.containers.mode)
            .unwrap_or(ShortNameMode::Enforcing);
        match names.len() {
            0 => Err(refused(
                "unqualified-search-registries names no registry to look in: write the registry before the name".to_owned(),
            )),
            1 => Ok(names),
            _ if mode == ShortNameMode::Enforcing => Err(refused(format!(
                "it could be {}: write the one that is meant, or make it an alias",
                names.join(" or ")
            ))),
            _ => Ok(names),
        }
    }
}

/// Whether a name's first component is no registry, by docker's rule.
pub(crate) fn is_short(text: &str) -> bool {
    match text.split_once('/') {
        Some((first, _)) => first != "localhost" && !first.contains(['.', ':']),
        None => true,
    }
}

/// The repository, and the tag and digest with the signs before them.
fn split(text: &str) -> (&str, &str) {
    let name = text.split('@').next().unwrap_or(text);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let end = name[last..]
        .find(':')
        .map_or(name.len(), |colon| last + colon);
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::file::Rules;
    use super::*;
    use proptest::prelude::*;

    fn names(rules: &str, text: &str) -> Result<Vec<String>, String> {
        let containers = Rules::parse(rules, Path::new("x"), false).expect("well formed");
        let config = Config {
            containers,
            ..Config::default()
        };
        config.full_names(text).map_err(|error| error.to_string())
    }

    #[test]
    fn short_names_are_docker_hubs_unless_something_else_is_said() {
        let only = |rules: &str, text: &str| names(rules, text).expect("one")[0].clone();
        assert_eq!(only("", "debian:12"), "docker.io/debian:12");
        assert_eq!(only("", "quay.io/a/b"), "quay.io/a/b");
        assert_eq!(only("", "localhost/a"), "localhost/a");
        let alias = "unqualified-search-registries = []\n[aliases]\n\"fedora\" = \"r.test/fedora\"\n\"a/b\" = \"r.test/x\"";
        assert_eq!(only(alias, "fedora"), "r.test/fedora");
        assert_eq!(only(alias, "fedora:40"), "r.test/fedora:40");
        assert_eq!(
            only(alias, "fedora:40@sha256:00"),
            "r.test/fedora:40@sha256:00"
        );
        assert_eq!(only(alias, "a/b:c"), "r.test/x:c");
        assert!(
            names(alias, "debian")
                .expect_err("no registry")
                .contains("no registry")
        );
        assert_eq!(
            only("unqualified-search-registries = [\"q.test\"]", "a/b"),
            "q.test/a/b"
        );
    }

    #[test]
    fn what_could_be_several_is_not_guessed_unless_it_may_be() {
        let two = "unqualified-search-registries = [\"a.test\", \"b.test\"]\n";
        let error = names(two, "x").expect_err("two");
        assert!(
            error.contains("a.test/x") && error.contains("b.test/x"),
            "{error}"
        );
        let permissive = format!("{two}short-name-mode = \"permissive\"");
        assert_eq!(
            names(&permissive, "x").expect("two"),
            ["a.test/x", "b.test/x"]
        );
    }

    proptest! {
        #[test]
        fn a_name_is_split_without_loss(text in "\\PC{0,30}|[a-z:/@.]{0,20}") {
            let (name, selector) = split(&text);
            prop_assert_eq!(format!("{name}{selector}"), text);
        }
    }
}
