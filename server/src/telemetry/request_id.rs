//! A request's name in the log, which the client is told too (`X-Request-Id`).

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries it, in both directions.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest that is taken from a client or the proxy in front of it.
const LONGEST: usize = 64;

/// The id that came with the request, so that it is the same in the logs of all who pass it on; or a new one.
/// One is taken only if it can do no harm where it is shown: letters, digits, `-`, `_` and `.`.
pub(super) fn of(headers: &HeaderMap) -> HeaderValue {
    match headers.get(X_REQUEST_ID) {
        Some(given) if is_harmless(given.as_bytes()) => given.clone(),
        _ => made(),
    }
}

fn is_harmless(id: &[u8]) -> bool {
    let harmless = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=LONGEST).contains(&id.len()) && id.iter().all(harmless)
}

/// 64 random bits in hexadecimal.
fn made() -> HeaderValue {
    let random: u64 = rand::random();
    let digit = |at: usize| b"0123456789abcdef"[(random >> (at * 4)) as usize & 15];
    let text: [u8; 16] = std::array::from_fn(digit);
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(id: &[u8]) -> HeaderValue {
        let value = HeaderValue::from_bytes(id).expect("a header value");
        of(&HeaderMap::from_iter([(X_REQUEST_ID, value)]))
    }

    #[test]
    fn a_harmless_id_is_taken_and_any_other_replaced() {
        let uuid = b"7f3c1a7e-2c1b-4b52-8a43-0c9a6e0a9f10";
        assert_eq!(with(uuid).as_bytes(), uuid);
        let long = [b'a'; LONGEST + 1];
        for bad in [&b""[..], b"a b", b"\"", b"a\tb", "é".as_bytes(), &long] {
            let id = with(bad);
            assert_ne!(id.as_bytes(), bad);
            assert!(id.len() == 16 && is_harmless(id.as_bytes()), "{id:?}");
        }
        assert_ne!(of(&HeaderMap::new()), of(&HeaderMap::new()));
    }
}
