//! The line of a request in the log.
//!
//! What it says of the client's making is bounded and escaped. It never says what may be a secret: no header but
//! the user agent, nothing of the query, and of an upload's id only the beginning, because the whole
//! is the right to go on with it.

use std::time::Duration;

use http::header::USER_AGENT;
use tracing::Level;

use super::exchange::Exchange;
use super::labels::Noun;
use crate::http::forwarded::ClientAddress;
use crate::route::{self, Reference, Route};

/// The most of anything that a client wrote.
const LONGEST: usize = 200;

/// The target of these lines, for filters: `info,request=debug` logs each request and else what `info` does.
const TARGET: &str = "request";

macro_rules! line {
    ($level:expr, $exchange:ident, $took:ident) => {{
        let text = Text::of($exchange);
        tracing::event!(
            target: TARGET,
            $level,
            method = display(&text.method),
            route = display($exchange.noun.as_str()),
            repository = text.repository.as_ref().map(display),
            reference = text.reference.as_ref().map(display),
            path = text.path.as_deref(),
            status = $exchange.status(),
            code = $exchange.refused.as_ref().map(|refused| display(refused.code)),
            error = $exchange.refused.as_ref().and_then(|refused| refused.failure.as_deref()),
            aborted = (!$exchange.is_whole()).then_some(true),
            bytes_in = $exchange.received(),
            bytes_out = $exchange.sent(),
            seconds = $took.as_micros() as f64 / 1e6,
            remote = text.remote.as_ref().map(display),
            id = display($exchange.id.to_str().unwrap_or_default()),
            agent = text.agent.as_deref(),
            "request"
        );
    }};
}

/// Writes the line, if it is worth one.
pub(super) fn write(exchange: &Exchange, took: Duration) {
    match level(exchange) {
        Level::ERROR => line!(Level::ERROR, exchange, took),
        Level::INFO => line!(Level::INFO, exchange, took),
        _ if tracing::enabled!(target: TARGET, Level::DEBUG) => {
            line!(Level::DEBUG, exchange, took)
        }
        _ => {}
    }
}

/// Errors are ours. Information is what changes something, or was meant to, what was not allowed, and what
/// broke off. Everything else is the daily work: reads, and the steps of an upload before its last.
fn level(exchange: &Exchange) -> Level {
    let is_read = matches!(exchange.parts.method.as_str(), "GET" | "HEAD");
    match exchange.status() {
        500.. => Level::ERROR,
        _ if !exchange.is_whole() => Level::INFO,
        401 | 403 | 429 => Level::INFO,
        202 if exchange.noun == Noun::Upload => Level::DEBUG,
        _ if is_read => Level::DEBUG,
        _ => Level::INFO,
    }
}

/// The texts of a line.
pub(super) struct Text {
    pub(super) method: String,
    pub(super) repository: Option<String>,
    pub(super) reference: Option<String>,
    pub(super) path: Option<String>,
    pub(super) remote: Option<String>,
    pub(super) agent: Option<String>,
}

impl Text {
    pub(super) fn of(exchange: &Exchange) -> Self {
        let parts = &exchange.parts;
        let route = route::parse(&parts.method, parts.uri.path());
        let (repository, reference) = route.as_ref().map_or((None, None), names);
        let unknown = exchange.noun == Noun::Unknown;
        let agent = parts.headers.get(USER_AGENT);
        Self {
            method: parts.method.as_str().chars().take(16).collect(),
            repository,
            reference,
            path: unknown.then(|| bounded(without_id(parts.uri.path()).as_bytes())),
            remote: remote(exchange),
            agent: agent.map(|agent| bounded(agent.as_bytes())),
        }
    }
}

/// The other end: of the connection, or of the one to the trusted proxy that holds it.
fn remote(exchange: &Exchange) -> Option<String> {
    let peer = exchange.peer.as_ref()?.address();
    let client = exchange.parts.extensions.get::<ClientAddress>();
    let behind = client.filter(|client| client.0 != peer.ip().to_canonical());
    Some(behind.map_or_else(|| peer.to_string(), |client| client.0.to_string()))
}

/// The repository of a route, and what is named in it.
fn names(route: &Route) -> (Option<String>, Option<String>) {
    let (repository, reference) = match route {
        Route::Base | Route::Options(_) | Route::Catalog => return (None, None),
        Route::Tags(repository) | Route::StartUpload(repository) => (repository, None),
        Route::Referrers(repository, digest)
        | Route::GetBlob {
            repository, digest, ..
        }
        | Route::DeleteBlob(repository, digest) => (repository, Some(digest.to_string())),
        Route::UploadStatus(repository, id)
        | Route::AppendUpload(repository, id)
        | Route::FinishUpload(repository, id)
        | Route::CancelUpload(repository, id) => {
            (repository, Some(id.as_str().chars().take(8).collect()))
        }
        Route::GetManifest {
            repository,
            reference,
            ..
        }
        | Route::PutManifest(repository, reference)
        | Route::DeleteManifest(repository, reference) => {
            let reference = match reference {
                Reference::Tag(tag) => tag.to_string(),
                Reference::Digest(digest) => digest.to_string(),
            };
            (repository, Some(reference))
        }
    };
    (Some(repository.to_string()), reference)
}

/// A path up to the first characters of an upload's id.
fn without_id(path: &str) -> &str {
    const UPLOADS: &str = "/blobs/uploads/";
    let end = path.find(UPLOADS).map(|at| at + UPLOADS.len() + 8);
    end.and_then(|end| path.get(..end)).unwrap_or(path)
}

/// The beginning of what a client wrote, without what moves a terminal's cursor. Both formats of the log
/// quote it.
fn bounded(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let harmless = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut kept: String = text.chars().take(LONGEST).map(harmless).collect();
    if text.chars().nth(LONGEST).is_some() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_wrote_is_cut_and_moves_no_cursor() {
        assert_eq!(bounded("a\u{9b}2J\nb".as_bytes()), "a\u{fffd}2J\u{fffd}b");
        let long = bounded("é".repeat(5000).as_bytes());
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert_eq!(bounded(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn an_id_in_a_path_that_is_refused_is_cut() {
        let id = "0123456789abcdef0123456789abcdef";
        let cut = without_id("/v2/app/blobs/uploads/01234567");
        assert_eq!(without_id(&format!("/v2/app/blobs/uploads/{id}")), cut);
        assert_eq!(
            without_id("/v2/app/blobs/uploads/x"),
            "/v2/app/blobs/uploads/x"
        );
    }
}
