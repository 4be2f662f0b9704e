//! Sending a blob: one session, one PUT with the whole body (distribution-spec, "Pushing a blob
//! monolithically", POST then PUT).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response};
use strata_oci::Digest;

use super::http::{Body, Call, location};
use super::{Registry, RegistryError, Scope};

/// A blob's bytes on their way out.
pub type Chunks = BoxStream<'static, std::io::Result<Bytes>>;

/// Why a body ended before its time.
type Broken = Arc<Mutex<Option<std::io::Error>>>;

/// What is sent. The body is made anew for each try.
pub struct Upload<'a> {
    /// The blob's digest.
    pub digest: &'a Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its bytes from the first.
    pub body: &'a (dyn Fn() -> Chunks + Send + Sync),
    /// Told the bytes that have gone out in this try.
    pub progress: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Registry {
    /// Uploads a blob, from the beginning again after failures that pass.
    pub async fn put_blob(
        &self,
        repository: &str,
        upload: &Upload<'_>,
    ) -> Result<(), RegistryError> {
        let scope = Scope::push(repository);
        let mut failures = 0;
        let mut renewed = false;
        loop {
            let broken = Broken::default();
            let error = match self
                .put_once(repository, upload, &scope, &mut renewed, &broken)
                .await
            {
                Ok(true) => return Ok(()),
                Ok(false) => continue,
                Err(error) => error,
            };
            // The bytes are not to be had, or are wrong: they would be the next time, too.
            if let Some(source) = broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
                let what = format!("upload of blob {}", upload.digest);
                return Err(RegistryError::Local { what, source });
            }
            let passing = match &error {
                RegistryError::Unreachable { .. } => true,
                // 404: the session was lost, for instance to a restart.
                RegistryError::NotFound { .. } => true,
                RegistryError::Status { status, .. } => matches!(status, 408 | 416 | 429 | 500..),
                _ => false,
            };
            failures += 1;
            match self.http.policy.wait(failures, None).filter(|_| passing) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            }
        }
    }

    /// One session. `false`: the Authorization ran out and has been renewed.
    async fn put_once(
        &self,
        repository: &str,
        upload: &Upload<'_>,
        scope: &Scope,
        renewed: &mut bool,
        broken: &Broken,
    ) -> Result<bool, RegistryError> {
        let what = format!("upload of blob {}", upload.digest);
        let begin = Call::new(Method::POST, self.url(repository, "blobs/uploads/"), &*what);
        let session = self.expect(&begin, scope).await?;
        let mut url = location(&session, &begin)?;
        url.query_pairs_mut()
            .append_pair("digest", &upload.digest.to_string());
        let sent = Arc::new(AtomicU64::new(0));
        let body = || {
            sent.store(0, Ordering::Relaxed);
            let (sent, progress) = (sent.clone(), upload.progress.clone());
            let broken = broken.clone();
            let counted = (upload.body)().inspect(move |chunk| match chunk {
                Ok(bytes) => {
                    let count = bytes.len() as u64;
                    progress(sent.fetch_add(count, Ordering::Relaxed) + count);
                }
                Err(error) => {
                    let copy = std::io::Error::new(error.kind(), error.to_string());
                    *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
                }
            });
            reqwest::Body::wrap_stream(counted)
        };
        let mut put = Call::new(Method::PUT, url, what);
        let octets = HeaderValue::from_static("application/octet-stream");
        put.headers.insert(CONTENT_TYPE, octets);
        put.headers.insert(CONTENT_LENGTH, upload.size.into());
        put.body = if upload.size == 0 {
            Body::Bytes(Bytes::new())
        } else {
            Body::Stream(&body)
        };
        let used = self.auth.known(scope).await;
        let answer = tokio::select! {
            answer = self.http.send(&put, used.as_ref()) => answer?,
            stalled = self.watch(&sent, upload.size) => return Err(stalled),
        };
        self.committed(&put, answer, scope, used.as_ref(), renewed)
            .await
    }

    async fn committed(
        &self,
        put: &Call<'_>,
        answer: Response,
        scope: &Scope,
        used: Option<&HeaderValue>,
        renewed: &mut bool,
    ) -> Result<bool, RegistryError> {
        match answer.status().as_u16() {
            201 | 204 => Ok(true),
            401 if !*renewed => {
                *renewed = true;
                self.authorize(&answer, scope, used).await?;
                Ok(false)
            }
            _ => Err(self.http.status_error(put, answer).await),
        }
    }

    /// Ends when the upload has not moved for too long.
    async fn watch(&self, sent: &AtomicU64, size: u64) -> RegistryError {
        let timeouts = self.http.timeouts;
        let (mut last, mut since) = (0, Instant::now());
        loop {
            tokio::time::sleep(Duration::from_secs(1).min(timeouts.idle / 4)).await;
            let now = sent.load(Ordering::Relaxed);
            if now != last {
                (last, since) = (now, Instant::now());
            }
            let limit = if now >= size {
                timeouts.commit
            } else {
                timeouts.idle
            };
            if since.elapsed() > limit {
                return RegistryError::Unreachable {
                    host: self.http.host(),
                    reason: format!("the upload has not moved for {limit:?}"),
                };
            }
        }
    }
}
