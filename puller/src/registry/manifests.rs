//! Manifests over the wire: HEAD, GET and PUT (distribution-spec, "Pulling manifests", "Pushing Manifests").

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response};
use strata_oci::manifest::MAX_MANIFEST;
use strata_oci::verify::VerifyError;
use strata_oci::{Digest, media};

use super::http::{Body, Call};
use super::routes::Want;
use super::{Registry, RegistryError, Scope};

/// What a HEAD tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    /// The digest, of registries that send one.
    pub digest: Option<Digest>,
}

/// A manifest as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// The exact bytes.
    pub bytes: Bytes,
    /// Their digest, computed here.
    pub digest: Digest,
    /// The Content-Type that they came with.
    pub media_type: Option<String>,
}

impl Registry {
    /// Asks for a manifest's digest by tag or digest; `None` when it is not there.
    pub async fn head_manifest(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<Option<ManifestHead>, RegistryError> {
        let mut steps = self.steps(repository, want(reference))?;
        loop {
            let step = steps.take();
            let asked = step.site(self).head_here(&step.repository, reference).await;
            match asked {
                Ok(None) if !steps.is_last() => steps.absent(&step),
                Ok(head) => return Ok(head),
                Err(error) => steps.failed(&step, error)?,
            }
        }
    }

    async fn head_here(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<Option<ManifestHead>, RegistryError> {
        let call = self.manifest_call(Method::HEAD, repository, reference);
        let response = self.send(&call, &Scope::pull(repository)).await?;
        match response.status().as_u16() {
            200 => Ok(Some(ManifestHead {
                digest: header_digest(&response),
            })),
            404 => Ok(None),
            _ => Err(self.http.status_error(&call, response).await),
        }
    }

    /// Fetches a manifest by tag or digest, proved against the digest in `reference` if it is one,
    /// else against the header if there is one.
    pub async fn get_manifest(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<RawManifest, RegistryError> {
        let mut steps = self.steps(repository, want(reference))?;
        loop {
            let step = steps.take();
            let asked = step.site(self).get_here(&step.repository, reference).await;
            match asked {
                Ok(raw) => {
                    steps.served(&step, None);
                    return Ok(raw);
                }
                Err(error) => steps.failed(&step, error)?,
            }
        }
    }

    async fn get_here(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<RawManifest, RegistryError> {
        let call = self.manifest_call(Method::GET, repository, reference);
        let mut failures = 0;
        let (header, media_type, bytes) = loop {
            let response = self.expect(&call, &Scope::pull(repository)).await?;
            let header = header_digest(&response);
            let media_type = response
                .headers()
                .get(CONTENT_TYPE)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned);
            match self.http.body(response, MAX_MANIFEST, &call.what).await {
                Ok(bytes) => break (header, media_type, Bytes::from(bytes)),
                Err(error @ RegistryError::Unreachable { .. }) => {
                    failures += 1;
                    match self.http.policy.wait(failures, None) {
                        Some(wait) => tokio::time::sleep(wait).await,
                        None => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        };
        let promised = reference.parse::<Digest>().ok().or(header);
        let digest = match promised {
            Some(digest) if digest.matches(&bytes) => digest,
            Some(expected) => {
                let actual = Digest::of(&bytes);
                return Err(RegistryError::Content {
                    what: call.what,
                    source: VerifyError::Digest { expected, actual },
                });
            }
            None => Digest::of(&bytes),
        };
        Ok(RawManifest {
            bytes,
            digest,
            media_type,
        })
    }

    /// Stores a manifest under a tag or its digest.
    pub async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<(), RegistryError> {
        let what = what(repository, reference);
        let content_type = HeaderValue::try_from(media_type);
        let content_type = content_type.map_err(|_| RegistryError::Protocol {
            what: what.clone(),
            why: format!("{media_type:?} cannot be a Content-Type"),
        })?;
        let scope = Scope::push(repository);
        if !self.is_plain_matter() {
            let url = self.url(repository, &format!("manifests/{reference}"));
            let mut call = Call::new(Method::PUT, url, what);
            call.headers.insert(CONTENT_TYPE, content_type);
            call.body = Body::Bytes(bytes);
            return self.expect(&call, &scope).await.map(drop);
        }
        let target = self.peer.reference(repository, reference);
        self.through_peer(&what, &scope, async |client| {
            let pushed = client.push_manifest_raw(&target, bytes.clone(), content_type.clone());
            pushed.await.map(drop)
        })
        .await
    }

    /// Removes a manifest by its digest, with all its tags, or a tag alone (distribution-spec, "Content
    /// Management"); `false` when the registry has none.
    ///
    /// # Errors
    /// The usual ones; [`RegistryError::Unsupported`] of registries that do not delete, or no tags.
    pub async fn delete_manifest(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<bool, RegistryError> {
        let url = self.url(repository, &format!("manifests/{reference}"));
        let call = Call::new(Method::DELETE, url, what(repository, reference));
        let response = self.send(&call, &Scope::delete(repository)).await?;
        let by_tag = reference.parse::<Digest>().is_err();
        match response.status().as_u16() {
            200..=299 => Ok(true),
            404 => Ok(false),
            // Registries of before the specification's 1.1 take a tag for a digest that is wrong.
            400 | 405 if by_tag => Err(RegistryError::Unsupported {
                what: call.what,
                why: "delete tags; delete the digest, which removes all tags that it has",
            }),
            405 => Err(RegistryError::Unsupported {
                what: call.what,
                why: "delete anything: allow it in its configuration",
            }),
            _ => Err(self.http.status_error(&call, response).await),
        }
    }

    fn manifest_call(&self, method: Method, repository: &str, reference: &str) -> Call<'static> {
        let url = self.url(repository, &format!("manifests/{reference}"));
        let mut call = Call::new(method, url, what(repository, reference));
        call.headers = accept();
        call
    }
}

fn what(repository: &str, reference: &str) -> String {
    let mark = if reference.contains(':') { '@' } else { ':' };
    format!("manifest {repository}{mark}{reference}")
}

fn want(reference: &str) -> Want {
    // A tag has no colon, a digest has one.
    Want::Manifest {
        by_tag: !reference.contains(':'),
    }
}

fn accept() -> HeaderMap {
    let types = media::ACCEPT_MANIFESTS.iter();
    types
        .map(|t| (ACCEPT, HeaderValue::from_static(t)))
        .collect()
}

fn header_digest(response: &Response) -> Option<Digest> {
    let header = response.headers().get("docker-content-digest")?;
    header.to_str().ok()?.parse().ok()
}
