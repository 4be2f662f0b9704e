//! The parameters of a request: `?digest=…&n=…`.
//!
//! A plus sign stands for itself and not for a space: media types have one, and nothing here has a space.

use http::request::Parts;
use percent_encoding::percent_decode_str;

use super::error::BadRequest;
use crate::meta::Page;

/// A page of a list when the client names no size, and the most that it can name.
const PAGE: usize = 10_000;

/// The values of a parameter of this request, decoded.
pub(super) fn all<'a>(parts: &'a Parts, name: &'a str) -> impl Iterator<Item = String> + 'a {
    values(parts.uri.query().unwrap_or(""), name)
}

/// The values of a parameter, decoded; what is not UTF-8 is none.
pub fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = (key == name).then(|| percent_decode_str(value))?;
        value.decode_utf8().ok().map(Into::into)
    })
}

/// The first value of a parameter.
pub(super) fn first(parts: &Parts, name: &str) -> Option<String> {
    all(parts, name).next()
}

/// Which page of a list is asked for: `n` entries after `last`.
pub(super) fn page(parts: &Parts) -> Result<Page, BadRequest> {
    let limit = match first(parts, "n") {
        None => PAGE,
        Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            // More digits than a number has are more than the most.
            text.parse().unwrap_or(PAGE).min(PAGE)
        }
        Some(text) => {
            let shown = text.chars().take(40).collect();
            return Err(BadRequest::PageSize(shown));
        }
    };
    let after = first(parts, "last").filter(|last| !last.is_empty());
    Ok(Page { after, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(query: &str) -> Parts {
        let request = http::Request::get(format!("/v2/?{query}")).body(());
        request.expect("valid").into_parts().0
    }

    #[test]
    fn values_are_decoded_and_a_plus_stays() {
        let parts = parts("a=x%3Ay&b=c+d&a=z&e");
        assert_eq!(all(&parts, "a").collect::<Vec<_>>(), ["x:y", "z"]);
        assert_eq!(first(&parts, "b").as_deref(), Some("c+d"));
        assert_eq!(first(&parts, "e").as_deref(), Some(""));
        assert_eq!(first(&parts, "f"), None);
    }

    #[test]
    fn page_sizes_are_bounded() {
        let limit = |query| page(&parts(query)).map(|page| page.limit).ok();
        assert_eq!(limit(""), Some(PAGE));
        assert_eq!(limit("n=0"), Some(0));
        assert_eq!(limit("n=99999999999999999999999"), Some(PAGE));
        for bad in ["n=", "n=-1", "n=x", "n=+1"] {
            assert_eq!(limit(bad), None, "{bad}");
        }
    }
}
