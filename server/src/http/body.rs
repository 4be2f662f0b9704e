//! Bodies: what a client sends, with a limit to its patience, and what it is sent.

use std::io;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use strata_oci::manifest::{MAX_MANIFEST, ManifestError};
use tokio::time::{Instant, timeout};

use crate::blob::{BlobContent, ByteStream};
use crate::config::Limits;
use crate::error::Error;
use crate::net::Regions;

/// A request's body. A client that brings nothing for long, or a trickle, is given up.
pub(super) fn incoming(body: Body, limits: &Limits) -> ByteStream {
    if body.is_end_stream() {
        return Box::pin(stream::empty());
    }
    let (patience, rate) = (limits.body_timeout, limits.body_rate);
    let begun = Instant::now();
    let slow = || io::Error::new(io::ErrorKind::TimedOut, "the client sends too slowly");
    let state = Some((body.into_data_stream(), 0u64));
    Box::pin(stream::unfold(state, move |state| async move {
        let (mut body, seen) = state?;
        let bytes = match timeout(patience, body.next()).await {
            Err(_) => return Some((Err(slow()), None)),
            Ok(None) => return None,
            Ok(Some(Err(error))) => return Some((Err(io::Error::other(error)), None)),
            Ok(Some(Ok(bytes))) => bytes,
        };
        let seen = seen + bytes.len() as u64;
        let lasted = begun.elapsed();
        if lasted > patience && seen < lasted.as_secs().saturating_mul(rate) {
            return Some((Err(slow()), None));
        }
        Some((Ok(bytes), Some((body, seen))))
    }))
}

/// All of a manifest's body; one whose promised length is too large is refused unread.
pub(super) async fn manifest(
    mut body: ByteStream,
    promised: Option<usize>,
) -> Result<Bytes, Error> {
    if let Some(length) = promised.filter(|length| *length > MAX_MANIFEST) {
        return Err(ManifestError::TooLarge(length).into());
    }
    let mut bytes = BytesMut::new();
    while let Some(more) = body.next().await {
        bytes.extend_from_slice(&more.map_err(Error::Interrupted)?);
        if bytes.len() > MAX_MANIFEST {
            return Err(ManifestError::TooLarge(bytes.len()).into());
        }
    }
    Ok(bytes.freeze())
}

/// A blob as bytes to be sent: from memory, or by the kernel.
pub(super) fn outgoing(content: BlobContent, regions: &Regions) -> io::Result<Bytes> {
    match content {
        BlobContent::Memory(bytes) => Ok(bytes),
        BlobContent::File { file, .. } => regions.map(file),
    }
}
