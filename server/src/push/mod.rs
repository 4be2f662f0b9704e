//! What a push means: uploads become blobs, blobs are mounted, manifests name them.
//!
//! The order is always the same: bytes staged, hashed and synced; digest compared; made content under
//! it, durably; then one transaction. A crash between two steps leaves bytes that nobody names, never a
//! name without bytes.

mod manifest;
mod upload;

pub use manifest::{delete_manifest, put_manifest};
pub use upload::{append, cancel, finish, put_blob, start, status};

use strata_oci::{Digest, Repository};

use crate::app::App;
use crate::auth::{Access, Action, Grant};
use crate::error::Error;

/// Of so many repositories that hold a blob, one must be readable for it to be mounted without `from`.
const HOLDERS_ASKED: usize = 50;

/// Shows a blob in another repository, if this principal may read it in `from`, or, without `from`, in
/// any repository. `false` says neither that it exists nor that it does not.
pub async fn mount(
    app: &App,
    grant: &Grant,
    to: &Repository,
    from: Option<Repository>,
    digest: &Digest,
) -> Result<bool, Error> {
    let sources = match from {
        Some(from) => vec![from],
        None => app.meta.holders(digest, HOLDERS_ASKED).await?,
    };
    for source in sources {
        let access = Access::Repository(&source, Action::Pull);
        if app.gate.allows(grant.principal(), &access)
            && app.meta.mount(&source, to, digest).await?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes a blob away from a repository; its bytes stay as long as another one shows them.
pub async fn delete_blob(app: &App, repository: &Repository, digest: &Digest) -> Result<(), Error> {
    if app.meta.unlink_blob(repository, digest).await? {
        Ok(())
    } else {
        Err(Error::BlobUnknown(digest.clone()))
    }
}
