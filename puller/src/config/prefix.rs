//! Which names a rule is for (containers-registries.conf(5), "prefix").

/// The beginning of names: `HOST[:PORT][/NAMESPACE…[/REPOSITORY]]`, or `*.DOMAIN[/…]` for all hosts below a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix(String);

impl Prefix {
    /// Reads one.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bare = text.trim_end_matches('/');
        let named = bare.strip_prefix("*.").unwrap_or(bare);
        let (host, path) = named.split_once('/').unwrap_or((named, ""));
        let host_like = |b: u8| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b);
        let path_like = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
        let whole = !bare.contains("//") && !host.ends_with(':');
        if host.is_empty() || !whole || !host.bytes().all(host_like) || !path.bytes().all(path_like)
        {
            return Err(format!(
                "{text:?} is not HOST[:PORT] with an optional path, without scheme, tag or digest"
            ));
        }
        Ok(Self(bare.to_owned()))
    }

    /// Whether it is for several hosts.
    pub(super) fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// How precise it is: of several that match, the longest counts.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// As it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// How much of `HOST/REPOSITORY` it matches; whole components only.
    pub(super) fn matched(&self, name: &str) -> Option<usize> {
        let end = match self.0.strip_prefix('*') {
            None => name.starts_with(&self.0).then_some(self.0.len())?,
            Some(below) => {
                let (domain, path) = below.split_once('/').unwrap_or((below, ""));
                let host = name.split('/').next().unwrap_or_default();
                if host.len() <= domain.len() || !host.ends_with(domain) {
                    return None;
                }
                match path {
                    "" => host.len(),
                    path => {
                        let rest = name.get(host.len() + 1..)?;
                        rest.starts_with(path)
                            .then_some(host.len() + 1 + path.len())?
                    }
                }
            }
        };
        matches!(name.as_bytes().get(end), None | Some(b'/')).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matched<'a>(prefix: &str, name: &'a str) -> Option<&'a str> {
        let end = Prefix::parse(prefix).expect("a prefix").matched(name)?;
        Some(&name[end..])
    }

    #[test]
    fn whole_components_match() {
        assert_eq!(
            matched("docker.io", "docker.io/library/x"),
            Some("/library/x")
        );
        assert_eq!(
            matched("docker.io/library", "docker.io/library/x"),
            Some("/x")
        );
        assert_eq!(
            matched("docker.io/library/x", "docker.io/library/x"),
            Some("")
        );
        assert_eq!(matched("docker.io/lib", "docker.io/library/x"), None);
        assert_eq!(matched("docker.io", "docker.io.evil.test/x"), None);
        assert_eq!(matched("a.test", "a.test:5000/x"), None);
        assert_eq!(matched("a.test:5000", "a.test:5000/x"), Some("/x"));
    }

    #[test]
    fn wildcards_match_hosts_below_a_domain() {
        assert_eq!(matched("*.a.test", "x.a.test/app"), Some("/app"));
        assert_eq!(matched("*.a.test", "y.x.a.test/app"), Some("/app"));
        assert_eq!(matched("*.a.test", "a.test/app"), None);
        assert_eq!(matched("*.a.test", "xa.test/app"), None);
        assert_eq!(matched("*.a.test", "b.test/x.a.test"), None);
        assert_eq!(matched("*.a.test/team", "x.a.test/team/app"), Some("/app"));
        assert_eq!(matched("*.a.test/team", "x.a.test/teams/app"), None);
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for bad in [
            "",
            "/",
            "https://a.test",
            "a.test/x:tag",
            "a.test/x@sha256:00",
            "a b",
            "*.",
        ] {
            assert!(Prefix::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_match_is_a_beginning_of_whole_components(prefix in "(\\*\\.)?[a-z.]{1,6}(/[a-z]{1,3}){0,2}", name in "[a-z.]{1,8}(/[a-z]{1,3}){0,3}") {
            if let Ok(prefix) = Prefix::parse(&prefix)
                && let Some(end) = prefix.matched(&name)
            {
                prop_assert!(name.is_char_boundary(end));
                prop_assert!(end == name.len() || name[end..].starts_with('/'));
            }
        }
    }
}
