//! The WWW-Authenticate header (RFC 9110, 11.6.1): what a registry wants to see before it answers.

/// What the registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A name and a password with each request.
    Basic,
    /// A token from `realm` (distribution-spec's token authentication).
    Bearer {
        /// Where tokens are given.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What it must allow; the client's own need is asked for besides.
        scope: Option<String>,
    },
}

/// Reads one header value; of several challenges Bearer is preferred.
pub(super) fn parse(header: &str) -> Option<Challenge> {
    let mut basic = None;
    for (scheme, parameters) in challenges(header) {
        let get = |name: &str| {
            let found = parameters
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Challenge::Bearer {
                realm: get("realm")?,
                service: get("service"),
                scope: get("scope"),
            });
        }
        if scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        }
    }
    basic
}

type Parameters = Vec<(String, String)>;

/// Splits a header into challenges: a word without `=` begins one, `key=value` belongs to the last.
fn challenges(header: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let end = rest.find(['=', ' ', ',', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let spaced = after.trim_start();
        if let Some(value) = spaced.strip_prefix('=')
            && !word.is_empty()
        {
            let (value, after) = parameter(value.trim_start());
            if let Some((_, parameters)) = found.last_mut() {
                parameters.push((word.to_owned(), value));
            }
            rest = after;
        } else {
            if !word.is_empty() {
                found.push((word.to_owned(), Vec::new()));
            }
            rest = after;
        }
        rest = rest.trim_start_matches([' ', ',', '\t', '=']);
    }
    found
}

/// A token or a quoted string, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_usual_challenges() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            parse(hub),
            Some(Challenge::Bearer {
                realm: "https://auth.docker.io/token".to_owned(),
                service: Some("registry.docker.io".to_owned()),
                scope: Some("repository:a/b:pull,push".to_owned()),
            })
        );
        assert_eq!(
            parse(r#"Basic realm="x, Bearer y""#),
            Some(Challenge::Basic)
        );
        let both = r#"Basic realm="a", bearer realm = "http://b/t" , error=invalid"#;
        assert!(
            matches!(parse(both), Some(Challenge::Bearer { realm, .. }) if realm == "http://b/t")
        );
        assert_eq!(parse("Negotiate"), None);
        assert_eq!(parse("Bearer service=x"), None);
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(text in r#"[ -~]{0,60}|[Bearlm =",\\é]{0,40}"#) {
            let _ = parse(&text);
        }
    }
}
