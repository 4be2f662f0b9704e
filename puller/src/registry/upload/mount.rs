//! Linking a blob from another repository of the same registry (distribution-spec, "Mounting a blob from
//! another repository"), also where only the registry knows which one has it ("automatic content discovery"
//! there).

use std::sync::atomic::Ordering;

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
        self.mount(repository, digest, Some(from)).await
    }

    async fn mount(
        &self,
        repository: &str,
        digest: &Digest,
        from: Option<&str>,
    ) -> Result<Mount, RegistryError> {
        let what = format!("mount of blob {digest} from {}", from.unwrap_or("anywhere"));
        let scope = Scope {
            from: from.map(str::to_owned),
            ..Scope::push(repository)
        };
        let mut url = self.url(repository, "blobs/uploads/");
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .extend_pairs(from.map(|from| ("from", from)));
        let mut call = Call::new(Method::POST, url, what);
        call.body = Body::Bytes(Bytes::new());
        let response = match self.send(&call, &scope).await {
            Ok(response) => response,
            // A token service that gives nothing for the two repositories together.
            Err(RegistryError::Denied { .. }) if from.is_some() => return Ok(Mount::Refused),
            Err(error) => return Err(error),
        };
        match response.status().as_u16() {
            201 => Ok(Mount::Done),
            202 => Ok(match Session::of(&response, &call) {
                Ok(session) => Mount::Begun(session),
                Err(_) => Mount::Refused,
            }),
            400 | 401 | 403 | 404 | 405 => Ok(Mount::Refused),
            // A question that it need not understand; the upload decides.
            _ if from.is_none() => Ok(Mount::Refused),
            _ => Err(self.http.status_error(&call, response).await),
        }
    }

    /// Asks one repository after the other. An upload that was begun on the way is kept, one of them.
    ///
    /// Without any the registry is asked whether it finds the blob itself. The upload has to be begun anyway, and
    /// one that does not look begins it, so this costs nothing; one that minds the question is not asked again.
    ///
    /// # Errors
    /// As [`Registry::mount_blob`].
    pub async fn mount_from_any(
        &self,
        repository: &str,
        digest: &Digest,
        siblings: &[String],
    ) -> Result<Mount, RegistryError> {
        if siblings.is_empty() {
            if !self.finds_blobs.load(Ordering::Relaxed) {
                return Ok(Mount::Refused);
            }
            let answer = self.mount(repository, digest, None).await?;
            if matches!(answer, Mount::Refused) {
                self.finds_blobs.store(false, Ordering::Relaxed);
            }
            return Ok(answer);
        }
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
