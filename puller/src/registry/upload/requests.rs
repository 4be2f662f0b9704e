//! The requests of an upload, PATCH and PUT, and what is made of their answers.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response};

use super::super::RegistryError;
use super::super::http::{Body, Call, Failure};
use super::meter::Meter;
use super::sending::{Place, Sending, Step};
use super::session::received;

impl Sending<'_> {
    /// PUT with all that is left.
    pub(super) async fn close(
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
    pub(super) async fn patch(
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
                    if now == end {
                        return Ok(Step::On(Some(place)));
                    }
                    let error = self.invalid(format!("it took {now} bytes of {end}"));
                    return Ok(Step::Failed(Some(place), error, None));
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
