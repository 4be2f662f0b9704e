//! One request and its response, until nothing more can come of them.
//!
//! It ends by being dropped, wherever that happens: at the connection after the last byte was written, with
//! a body that was not sent to its end, or with a handler whose client went away. So none is forgotten.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::body::{Incoming, Outgoing};
use super::labels::{self, CLIENT_GONE, Noun};
use super::metrics::Metrics;
use super::number::Counter;
use super::{line, request_id};
use crate::net::Peer;

/// Why a request was refused; an extension of the response.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The protocol's code.
    pub code: &'static str,
    /// What failed inside, if something did: for the log alone.
    pub failure: Option<String>,
}

/// A request under way.
#[derive(Debug)]
pub struct Exchange {
    metrics: Arc<Metrics>,
    pub(super) parts: Parts,
    pub(super) noun: Noun,
    pub(super) id: HeaderValue,
    pub(super) peer: Option<Arc<Peer>>,
    pub(super) begun: Instant,
    received: Option<Arc<Counter>>,
    answer: Option<Answer>,
    pub(super) refused: Option<Refused>,
    whole: bool,
}

/// How far the answer has come.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    /// Bytes of the body that were given to the connection.
    given: u64,
    /// Where the body begins in the bytes of the connection, to within a few.
    begins: u64,
}

impl Exchange {
    /// Begins with a request's head.
    pub fn begin(metrics: &Arc<Metrics>, parts: Parts, noun: Noun) -> Box<Self> {
        metrics.of(noun).in_flight.inc();
        Box::new(Self {
            metrics: Arc::clone(metrics),
            noun,
            id: request_id::of(&parts.headers),
            peer: parts.extensions.get().cloned(),
            begun: Instant::now(),
            received: None,
            answer: None,
            refused: None,
            whole: false,
            parts,
        })
    }

    /// The request's head.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Counts what the request's body brings.
    pub fn incoming(&mut self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let count = Arc::clone(self.received.insert(Arc::default()));
        Body::new(Incoming::new(body, count))
    }

    /// Goes on with the response, whose body takes the exchange along.
    pub fn answer(mut self: Box<Self>, response: Response) -> Response {
        let (mut head, body) = response.into_parts();
        self.refused = head.extensions.remove();
        head.headers
            .insert(request_id::X_REQUEST_ID, self.id.clone());
        let before = self.peer.as_ref().map_or(0, |peer| peer.sent());
        self.answer = Some(Answer {
            status: head.status,
            given: 0,
            begins: before + length(&head.headers),
        });
        Response::from_parts(head, Body::new(Outgoing::new(body, self)))
    }

    /// Whether a body may follow the head (RFC 9110, 6.4.1).
    pub(super) fn has_body(&self) -> bool {
        let status = self.answer.as_ref().map(|answer| answer.status);
        self.parts.method != Method::HEAD
            && !matches!(
                status,
                Some(StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            )
    }

    pub(super) fn give(&mut self, bytes: u64) {
        if let Some(answer) = &mut self.answer {
            answer.given += bytes;
        }
    }

    /// The connection has all of the response: the exchange ends when it has written it.
    pub(super) fn written(mut self: Box<Self>) {
        match self.peer.clone() {
            Some(peer) => peer.when_flushed(self),
            None => self.whole = true,
        }
    }

    /// The last byte is written.
    pub(crate) fn flushed(mut self: Box<Self>) {
        self.whole = true;
    }

    /// Whether the response was sent to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The status that was told, or would have been.
    pub(super) fn status(&self) -> u16 {
        let told = self.answer.as_ref().map(|answer| answer.status.as_u16());
        told.unwrap_or(CLIENT_GONE)
    }

    /// Bytes of the request's body that came.
    pub(super) fn received(&self) -> u64 {
        self.received.as_ref().map_or(0, |count| count.get())
    }

    /// Bytes of the response's body that were written.
    pub(super) fn sent(&self) -> u64 {
        match (&self.answer, &self.peer) {
            (Some(answer), Some(peer)) if !self.whole => {
                answer.given.min(peer.sent().saturating_sub(answer.begins))
            }
            (Some(answer), _) => answer.given,
            (None, _) => 0,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        let of_noun = self.metrics.of(self.noun);
        of_noun.in_flight.dec();
        of_noun.received.add(self.received());
        of_noun.sent.add(self.sent());
        of_noun.duration.observe(took);
        if !self.whole {
            of_noun.aborted.inc();
        }
        let method = labels::method(&self.parts.method);
        let status = labels::status(self.status());
        self.metrics.requests(self.noun, method, status).inc();
        line::write(self, took);
        #[cfg(feature = "otel")]
        super::otel::span(self, took);
    }
}

/// Bytes of a response's head. What the connection adds to it is a date, and a length at times.
fn length(headers: &HeaderMap) -> u64 {
    const STATUS_DATE_AND_END: usize = "HTTP/1.1 200 OK\r\n".len()
        + "date: Sat, 21 Nov 2026 07:00:00 GMT\r\n".len()
        + "\r\n".len();
    let lines = headers.iter();
    let lines = lines.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    (STATUS_DATE_AND_END + lines.sum::<usize>()) as u64
}
