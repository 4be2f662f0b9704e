//! Linking a blob from another repository of the same registry (distribution-spec, "Mounting a blob from
//! another repository").

use bytes::Bytes;
use reqwest::Method;
use strata_oci::Digest;

use super::super::http::{Body, Call};
use super::super::{Registry, RegistryError, Scope};
use super::Session;

/// What came of asking for a mount.
#[derive(Debug)]
pub enum Mount {
    /// The repository has the blob now.
    Done,
    /// The registry has begun an upload instead; use it, or end it with [`Registry::cancel_upload`].
    Begun(Session),
    /// It neither links it nor has it begun anything.
    Refused,
}

impl Registry {
    /// Asks to link a blob of the repository `from` into `repository`. Whoever may not read `from` is no
    /// reason to fail: the blob can still be uploaded.
    ///
    /// # Errors
    /// The registry cannot be reached, or answers what a registry does not answer to this.
    pub async fn mount_blob(
        &self,
        repository: &str,
        digest: &Digest,
        from: &str,
    ) -> Result<Mount, RegistryError> {
        let what = format!("mount of blob {digest} from {from}");
        let scope = Scope {
            from: Some(from.to_owned()),
            ..Scope::push(repository)
        };
        let mut url = self.url(repository, "blobs/uploads/");
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from);
        let mut call = Call::new(Method::POST, url, what);
        call.body = Body::Bytes(Bytes::new());
        let response = match self.send(&call, &scope).await {
            Ok(response) => response,
            // A token service that gives nothing for the two repositories together.
            Err(RegistryError::Denied { .. }) => return Ok(Mount::Refused),
            Err(error) => return Err(error),
        };
        match response.status().as_u16() {
            201 => Ok(Mount::Done),
            202 => Ok(match Session::of(&response, &call) {
                Ok(session) => Mount::Begun(session),
                Err(_) => Mount::Refused,
            }),
            400 | 401 | 403 | 404 | 405 => Ok(Mount::Refused),
            _ => Err(self.http.status_error(&call, response).await),
        }
    }

    /// Asks one repository after the other. An upload that was begun on the way is kept, one of them.
    ///
    /// # Errors
    /// As [`Registry::mount_blob`].
    pub async fn mount_from_any(
        &self,
        repository: &str,
        digest: &Digest,
        siblings: &[String],
    ) -> Result<Mount, RegistryError> {
        let mut begun = None;
        for from in siblings {
            let spare = match self.mount_blob(repository, digest, from).await? {
                Mount::Refused => continue,
                Mount::Begun(session) => begun.replace(session),
                Mount::Done => {
                    if let Some(session) = begun {
                        self.cancel_upload(repository, session).await;
                    }
                    return Ok(Mount::Done);
                }
            };
            if let Some(session) = spare {
                self.cancel_upload(repository, session).await;
            }
        }
        Ok(begun.map_or(Mount::Refused, Mount::Begun))
    }
}
