//! Bodies that count what passes through them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::exchange::Exchange;
use super::number::Counter;

/// A request's body.
pub(super) struct Incoming {
    inner: Body,
    count: Arc<Counter>,
}

impl Incoming {
    pub(super) fn new(inner: Body, count: Arc<Counter>) -> Self {
        Self { inner, count }
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        self.count.add(size(frame.as_ref()));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response's body, with the exchange that ends with it.
pub(super) struct Outgoing {
    inner: Body,
    exchange: Option<Box<Exchange>>,
    ended: bool,
}

impl Outgoing {
    pub(super) fn new(inner: Body, exchange: Box<Exchange>) -> Self {
        Self {
            inner,
            exchange: Some(exchange),
            ended: false,
        }
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(exchange) = &mut self.exchange {
            exchange.give(size(frame.as_ref()));
        }
        self.ended = frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let Some(exchange) = self.exchange.take() else {
            return;
        };
        // The connection lets go of a body when it has taken all of it, or when it breaks.
        if self.ended || self.inner.is_end_stream() || !exchange.has_body() {
            exchange.written();
        }
    }
}

fn size<E>(frame: Option<&Result<Frame<Bytes>, E>>) -> u64 {
    let data = frame.and_then(|frame| frame.as_ref().ok()?.data_ref());
    data.map_or(0, |bytes| bytes.len() as u64)
}
