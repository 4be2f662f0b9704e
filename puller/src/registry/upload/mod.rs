//! Sending a blob: a session, and its bytes in one request, or in as many as it takes (distribution-spec,
//! "Pushing Blobs").
//!
//! A healthy registry is sent POST and one PUT with the whole. After a failure the session is asked how far
//! it is (GET of its Location: 204 with `Range: 0-LAST`), and the closing PUT brings the rest. Where a broken
//! PUT left nothing, the next try sends PATCHes of [`CHUNK`] bytes, which stay. A registry that does not
//! know the session any more, or answers what makes no sense, is sent the blob anew.
//!
//! How servers differ: stratad keeps what a broken request brought, and says so. The distribution project's
//! server (2.8) signs its offset into the Location and refuses that Location, 404, as soon as a broken request
//! has brought a byte: there is nothing to go on with but a new session. It ignores Content-Range.

mod meter;
mod mount;
mod requests;
mod sending;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use strata_oci::Digest;

pub use mount::Mount;
pub use session::Session;

use super::{Registry, RegistryError};
use sending::Sending;

/// Bytes of one PATCH, unless the registry wants more: what a cut costs at most.
pub const CHUNK: u64 = 16 << 20;

/// A blob's bytes on their way out.
pub type Chunks = BoxStream<'static, std::io::Result<Bytes>>;

/// What is sent.
pub struct Upload<'a> {
    /// The blob's digest.
    pub digest: &'a Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its bytes from an offset; made anew for each try. Who makes them proves them: an error in the stream
    /// ends the upload, and the last bytes must not come before the whole is proved.
    pub body: &'a (dyn Fn(u64) -> Chunks + Send + Sync),
    /// Told how many of the blob's bytes have gone out, those that the registry kept of earlier tries
    /// included.
    pub progress: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Registry {
    /// Uploads a blob, in the session that is given or a new one, and goes on after failures that pass where
    /// the registry says. Tries count only if they bring the upload no further than it has ever been. Returns
    /// the bytes that were sent in all tries together.
    ///
    /// # Errors
    /// The registry cannot be reached, refuses the blob, or does not take it in after all tries; or the
    /// bytes are not to be had here ([`RegistryError::Local`]).
    pub async fn put_blob(
        &self,
        repository: &str,
        session: Option<Session>,
        upload: &Upload<'_>,
    ) -> Result<u64, RegistryError> {
        Sending::new(self, repository, upload).run(session).await
    }
}
