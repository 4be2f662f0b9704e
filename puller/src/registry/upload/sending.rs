//! One blob's way into a registry: what is sent next, and what is made of the answer.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response};

use super::super::http::{Body, Call, Failure};
use super::super::{Purpose, Registry, RegistryError, Scope};
use super::meter::Meter;
use super::session::received;
use super::{CHUNK, Session, Upload};

/// A try that brings the upload less far beyond where it has ever been counts as one that brought nothing.
const WORTH_A_TRY: u64 = 4096;

/// A session and what it holds.
struct Place {
    session: Session,
    /// The next byte that the registry waits for; `None`: it has to be asked.
    offset: Option<u64>,
    /// The last byte that it may have, plus one.
    given: u64,
    /// Nothing was sent to it before.
    fresh: bool,
}

/// What one request led to.
enum Step {
    /// The blob is in the registry.
    Done,
    /// On with the session, or with a new one.
    On(Option<Place>),
    /// The same after a failure, not before the time that the registry asked for.
    Failed(Option<Place>, RegistryError, Option<Duration>),
}

/// The upload of one blob.
pub(super) struct Sending<'a> {
    registry: &'a Registry,
    repository: &'a str,
    upload: &'a Upload<'a>,
    scope: Scope,
    what: String,
    /// Bytes that were sent in all tries.
    sent: u64,
    /// Failures in a row that brought no progress.
    failures: u32,
    /// How far it has ever been.
    best: u64,
    /// Sessions that were begun.
    sessions: u32,
    /// Whether to send PATCHes; `None`: the registry does not take any.
    chunked: Option<bool>,
    /// How far it was when the Authorization was renewed.
    renewed: Option<u64>,
}

impl<'a> Sending<'a> {
    pub(super) fn new(registry: &'a Registry, repository: &'a str, upload: &'a Upload<'a>) -> Self {
        Self {
            registry,
            repository,
            upload,
            scope: Scope::push(repository),
            what: format!("upload of blob {}", upload.digest),
            sent: 0,
            failures: 0,
            best: 0,
            sessions: 0,
            chunked: Some(false),
            renewed: None,
        }
    }

    pub(super) async fn run(mut self, begun: Option<Session>) -> Result<u64, RegistryError> {
        let mut place = begun.map(Place::new);
        loop {
            let step = match place.take() {
                Some(place) => self.step(place).await?,
                None => self.begin().await?,
            };
            let (next, error, asked) = match step {
                Step::Done => return Ok(self.sent),
                Step::On(next) => {
                    place = next;
                    continue;
                }
                Step::Failed(next, error, asked) => (next, error, asked),
            };
            self.failures += 1;
            let policy = self.registry.http.policy;
            // Whoever takes bytes and loses them again makes progress each time, and never comes to an end.
            let again = next.is_some() || self.sessions < policy.tries;
            match policy.wait(self.failures, asked).filter(|_| again) {
                Some(wait) => {
                    tracing::debug!(%error, failures = self.failures, best = self.best, ?wait, "resuming the upload");
                    tokio::time::sleep(wait).await;
                }
                None => return Err(error),
            }
            place = next;
        }
    }

    async fn begin(&mut self) -> Result<Step, RegistryError> {
        self.sessions += 1;
        let begun = self
            .registry
            .begin_upload(self.repository, &self.what, &self.scope);
        match begun.await {
            Ok(session) => Ok(Step::On(Some(Place::new(session)))),
            Err(error) if error.is_passing() => Ok(Step::Failed(None, error, None)),
            Err(error) => Err(error),
        }
    }

    async fn step(&mut self, place: Place) -> Result<Step, RegistryError> {
        let Some(offset) = place.offset else {
            return self.ask(place).await;
        };
        let left = self.upload.size - offset;
        let chunk = CHUNK.max(place.session.min_chunk);
        if self.chunked == Some(true) && left > chunk {
            self.patch(place, offset, chunk).await
        } else {
            self.close(place, offset, left).await
        }
    }

    /// Asks the registry how far the session is.
    async fn ask(&mut self, mut place: Place) -> Result<Step, RegistryError> {
        let status = self
            .registry
            .upload_status(&mut place.session, &self.what, &self.scope);
        match status.await {
            Ok(Some(offset)) if offset <= place.given => {
                if place.given - offset > CHUNK {
                    self.in_chunks();
                }
                self.advance(offset);
                place.offset = Some(offset);
                Ok(Step::On(Some(place)))
            }
            Ok(Some(offset)) => {
                let why = format!("it has {offset} bytes of {} that were sent", place.given);
                let error = self.invalid(why);
                self.anew(place, error).await
            }
            Ok(None) => {
                let error = self.invalid("it does not know the upload any more".to_owned());
                self.anew(place, error).await
            }
            Err(error) if error.is_passing() => Ok(Step::Failed(Some(place), error, None)),
            Err(error) => Err(error),
        }
    }

    /// [`Sending::lost`] where the failure that led to the question has been counted already.
    async fn anew(&mut self, place: Place, error: RegistryError) -> Result<Step, RegistryError> {
        match self.lost(place, error).await? {
            Step::Failed(None, error, _) if self.sessions >= self.registry.http.policy.tries => {
                Err(error)
            }
            Step::Failed(..) => Ok(Step::On(None)),
            step => Ok(step),
        }
    }

    /// The session is of no use any more: another one has to be begun.
    async fn lost(&mut self, place: Place, error: RegistryError) -> Result<Step, RegistryError> {
        if place.given == self.upload.size && !place.fresh {
            // The answer may be all that was lost.
            let there = self
                .registry
                .has_blob(self.repository, self.upload.digest, Purpose::Push);
            if matches!(there.await, Ok(true)) {
                return Ok(Step::Done);
            }
        }
        if place.given > CHUNK {
            self.in_chunks();
        }
        Ok(Step::Failed(None, error, None))
    }

    /// Sends PATCHes from now on, if the registry takes them.
    fn in_chunks(&mut self) {
        self.chunked = self.chunked.map(|_| true);
    }

    fn advance(&mut self, offset: u64) {
        if offset >= self.best.saturating_add(WORTH_A_TRY) || offset == self.upload.size {
            self.failures = 0;
        }
        self.best = self.best.max(offset);
    }

    fn invalid(&self, why: String) -> RegistryError {
        RegistryError::Protocol {
            what: self.what.clone(),
            why,
        }
    }

    /// PUT with all that is left.
    async fn close(
        &mut self,
        mut place: Place,
        offset: u64,
        left: u64,
    ) -> Result<Step, RegistryError> {
        let url = place.session.closing(self.upload.digest);
        let call = Call::new(Method::PUT, url, &*self.what);
        let whole = place.fresh;
        let response = match self.send(&call, &mut place, offset, left).await? {
            Ok(response) => response,
            Err((error, asked)) => return Ok(Step::Failed(Some(place), error, asked)),
        };
        match response.status().as_u16() {
            201 | 204 => Ok(Step::Done),
            200..=299 => {
                let why = format!("{} to the end of the upload", response.status().as_u16());
                let error = self.invalid(why);
                self.lost(place, error).await
            }
            // Parts that do not fit together are no proof that the whole is wrong.
            400 if !whole => {
                let error = self.registry.http.status_error(&call, response).await;
                self.lost(place, error).await
            }
            _ => self.refused(&call, response, place, offset).await,
        }
    }

    /// PATCH with the next chunk.
    async fn patch(
        &mut self,
        mut place: Place,
        offset: u64,
        length: u64,
    ) -> Result<Step, RegistryError> {
        let call = Call::new(Method::PATCH, place.session.url.clone(), &*self.what);
        let response = match self.send(&call, &mut place, offset, length).await? {
            Ok(response) => response,
            Err((error, asked)) => return Ok(Step::Failed(Some(place), error, asked)),
        };
        let end = offset + length;
        match response.status().as_u16() {
            200..=299 => {
                place.session.follow(&response, &call);
                let now = received(response.headers()).unwrap_or(end);
                if now > offset && now <= end {
                    self.advance(now);
                    place.offset = Some(now);
                    return Ok(Step::On(Some(place)));
                }
                let why = format!("it has {now} bytes after a chunk from {offset} to {end}");
                let error = self.invalid(why);
                self.lost(place, error).await
            }
            400 | 405 | 411 | 415 | 501 => {
                self.chunked = None;
                let error = self.registry.http.status_error(&call, response).await;
                Ok(Step::Failed(None, error, None))
            }
            _ => self.refused(&call, response, place, offset).await,
        }
    }

    /// What PATCH and PUT have in common of answers that are not success.
    async fn refused(
        &mut self,
        call: &Call<'_>,
        response: Response,
        mut place: Place,
        offset: u64,
    ) -> Result<Step, RegistryError> {
        let http = &self.registry.http;
        let own = http.is_own(response.url());
        match response.status().as_u16() {
            401 if own && self.renewed != Some(self.best) => {
                let used = self.registry.auth.known(&self.scope).await;
                let renewing = self
                    .registry
                    .authorize(&response, &self.scope, used.as_ref());
                if renewing.await?.is_none() {
                    return Err(http.status_error(call, response).await);
                }
                self.renewed = Some(self.best);
                // Nothing was taken in.
                place.offset = Some(offset);
                Ok(Step::On(Some(place)))
            }
            416 => {
                let told = received(response.headers());
                place.session.follow(&response, call);
                let error = http.status_error(call, response).await;
                match told {
                    Some(told) if told != offset && told <= place.given => {
                        self.advance(told);
                        place.offset = Some(told);
                        Ok(Step::Failed(Some(place), error, None))
                    }
                    _ => self.lost(place, error).await,
                }
            }
            // Another request of ours still writes there.
            409 => {
                let error = http.status_error(call, response).await;
                Ok(Step::Failed(Some(place), error, None))
            }
            // An address of another host that has run out is refused like this.
            401 | 403 if !own => {
                let error = http.status_error(call, response).await;
                self.lost(place, error).await
            }
            404 | 410 => {
                let error = http.status_error(call, response).await;
                self.lost(place, error).await
            }
            _ => Err(http.status_error(call, response).await),
        }
    }

    /// Sends `length` bytes from `offset`. The inner error is one that passes.
    async fn send(
        &mut self,
        call: &Call<'_>,
        place: &mut Place,
        offset: u64,
        length: u64,
    ) -> Result<Result<Response, (RegistryError, Option<Duration>)>, RegistryError> {
        let http = &self.registry.http;
        let meter = Meter::new(offset, self.upload.progress.clone());
        let body = || {
            let chunks = (self.upload.body)(offset);
            reqwest::Body::wrap_stream(meter.clone().count(chunks, length))
        };
        let mut call = Call::new(call.method.clone(), call.url.clone(), &*self.what);
        call.body = match length {
            0 => Body::Bytes(Bytes::new()),
            _ => Body::Stream(&body),
        };
        let octets = HeaderValue::from_static("application/octet-stream");
        call.headers.insert(CONTENT_TYPE, octets);
        call.headers.insert(CONTENT_LENGTH, length.into());
        if length > 0
            && (!place.fresh || call.method == Method::PATCH)
            && let Ok(range) = format!("{offset}-{}", offset + length - 1).parse()
        {
            call.headers.insert(CONTENT_RANGE, range);
        }
        (place.fresh, place.offset) = (false, None);
        let used = self.registry.auth.known(&self.scope).await;
        let outcome = tokio::select! {
            outcome = http.once(&call, used.as_ref()) => outcome,
            limit = meter.stalled(length, http.timeouts) => {
                let reason = format!("the upload has not moved for {limit:?}");
                let host = http.host();
                Err(Failure::Passing(RegistryError::Unreachable { host, reason }, None))
            }
        };
        self.sent += meter.sent();
        place.given = place.given.max(offset + meter.sent());
        // The bytes are not to be had, or are wrong: they would be the next time, too.
        if let Some(source) = meter.broken() {
            let what = self.what.clone();
            return Err(RegistryError::Local { what, source });
        }
        match outcome {
            Ok(response) => Ok(Ok(response)),
            Err(Failure::Passing(error, asked)) => Ok(Err((error, asked))),
            Err(Failure::Final(error)) => Err(error),
        }
    }
}

impl Place {
    fn new(session: Session) -> Self {
        Self {
            session,
            offset: Some(0),
            given: 0,
            fresh: true,
        }
    }
}
