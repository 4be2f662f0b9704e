//! Requests and their answers: redirects that are judged one by one, timeouts, and another try
//! after failures that pass.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, Method, Response, StatusCode, Url};
use tokio::sync::{OnceCell, Semaphore};

use super::endpoint::Reach;
use super::error::chain;
use super::redirect::{self, Zone};
use super::retry::{RetryPolicy, is_transient, retry_after};
use super::{RegistryError, Timeouts};
#[cfg(test)]
use {super::Transport, crate::config::target::Target};

const MAX_REDIRECTS: usize = 5;
/// More at once are an attack on a registry.
const MAX_CONNECTIONS: usize = 256;
/// Chunks of a body that may be of any size; more have to be worth their while.
const MAX_CRUMBS: usize = 4096;
/// No error document that is worth showing is longer.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// One request, before credentials.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body<'a>,
    /// The body is for the address itself and for nobody that it leads to.
    pub(super) secret: bool,
    /// For messages: `manifest latest of library/debian`.
    pub(super) what: String,
}

/// What a request carries.
pub(super) enum Body<'a> {
    None,
    Bytes(Bytes),
    /// Made anew for each try; not repeated by [`Http`], because the upload has to begin again.
    Stream(&'a (dyn Fn() -> reqwest::Body + Send + Sync)),
}

impl<'a> Call<'a> {
    pub(super) fn new(method: Method, url: Url, what: impl Into<String>) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Body::None,
            secret: false,
            what: what.into(),
        }
    }
}

/// Why one try failed.
pub(super) enum Failure {
    /// Another try may do better, after this wait if the server named one.
    Passing(RegistryError, Option<Duration>),
    Final(RegistryError),
}

/// The HTTP side of one registry.
pub(super) struct Http {
    pub(super) reach: Reach,
    /// The same without TLS, for a registry that may be so.
    plain_base: Option<Url>,
    /// It has turned out to be so.
    plain: AtomicBool,
    pub(super) policy: RetryPolicy,
    pub(super) timeouts: Timeouts,
    /// A permit for each blob that may be fetched at once.
    pub(super) downloads: Arc<Semaphore>,
    pub(super) zone: OnceCell<Zone>,
    /// By what they are good for.
    pub(super) clients: Mutex<HashMap<String, Client>>,
}

impl Http {
    pub(super) fn new(
        reach: Reach,
        policy: RetryPolicy,
        timeouts: Timeouts,
        connections: usize,
    ) -> Self {
        let plain_base = reach.fallback.then(|| without_tls(&reach.base)).flatten();
        Self {
            reach,
            plain_base,
            plain: AtomicBool::new(false),
            policy,
            timeouts,
            downloads: Arc::new(Semaphore::new(connections.clamp(1, MAX_CONNECTIONS))),
            zone: OnceCell::new(),
            clients: Mutex::default(),
        }
    }

    pub(super) fn base(&self) -> &Url {
        &self.reach.base
    }

    /// Whether any HTTP client can reach the registry as this one does.
    pub(super) fn is_plain_matter(&self) -> bool {
        self.reach.is_plain_matter()
    }

    /// Whether an address is the registry's own, and not one that it named.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        let plain = self.plain_base.as_ref();
        redirect::same_origin(&self.reach.base, url)
            || plain.is_some_and(|base| redirect::same_origin(base, url))
    }

    #[cfg(test)]
    pub(super) fn plain_for_tests(base: &str) -> Self {
        let base = Url::parse(base).expect("an address");
        let mut target = Target::new(&authority(&base), String::new());
        target.scheme = Some(if base.scheme() == "http" {
            "http"
        } else {
            "https"
        });
        let reach = Reach::new(&target, Transport::Default, &[]).expect("a host");
        Self::new(reach, RetryPolicy::default(), Timeouts::default(), 8)
    }

    /// `host[:port]`, for messages.
    pub(super) fn host(&self) -> String {
        authority(&self.reach.base)
    }

    /// Sends until there is an answer that another try would not change: any status but the
    /// transient ones. `authorization` goes to the registry's own origin only.
    pub(super) async fn send(
        &self,
        call: &Call<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut failures = 0;
        loop {
            match self.once(call, authorization).await {
                Ok(response) => return Ok(response),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error, asked)) => {
                    failures += 1;
                    let wait = self.policy.wait(failures, asked);
                    let repeatable = !matches!(call.body, Body::Stream(_));
                    let Some(wait) = wait.filter(|_| repeatable) else {
                        return Err(error);
                    };
                    tracing::debug!(%error, failures, ?wait, "trying again");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// One try, redirects included.
    pub(super) async fn once(
        &self,
        call: &Call<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Failure> {
        let mut url = call.url.clone();
        self.judge(call, &url).await.map_err(Failure::Final)?;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.hop(call, &url, authorization).await?;
            let status = response.status();
            if is_transient(status) {
                let asked = retry_after(response.headers());
                let error = self.status_error(call, response).await;
                return Err(Failure::Passing(error, asked));
            }
            if !follows(&call.method, status) {
                return Ok(response);
            }
            url = location(&response, call).map_err(Failure::Final)?;
            self.judge(call, &url).await.map_err(Failure::Final)?;
            if call.secret && !redirect::same_origin(&call.url, &url) {
                return Err(Failure::Final(refused(
                    call,
                    &url,
                    "it is not meant to see credentials",
                )));
            }
        }
        Err(Failure::Final(RegistryError::Protocol {
            what: call.what.clone(),
            why: format!("more than {MAX_REDIRECTS} redirects"),
        }))
    }

    /// One request and its answer. A registry that may be without TLS is asked so when it has turned out to have none.
    async fn hop(
        &self,
        call: &Call<'_>,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Failure> {
        let is_base = redirect::same_origin(&self.reach.base, url);
        let without = self
            .plain_base
            .as_ref()
            .filter(|_| is_base)
            .and_then(|_| without_tls(url));
        let Some(plain) = without else {
            return self.exchange(call, url, url, authorization).await;
        };
        if self.plain.load(Ordering::Relaxed) {
            return self.exchange(call, url, &plain, authorization).await;
        }
        let failure = match self.exchange(call, url, url, authorization).await {
            Err(failure) => failure,
            answer => return answer,
        };
        match self.exchange(call, url, &plain, authorization).await {
            Ok(response) => {
                self.plain.store(true, Ordering::Relaxed);
                Ok(response)
            }
            Err(_) => Err(failure),
        }
    }

    /// Asks `at` what is meant for `url`.
    async fn exchange(
        &self,
        call: &Call<'_>,
        url: &Url,
        at: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Failure> {
        let client = self.client(at).await.map_err(Failure::Final)?;
        let mut headers = call.headers.clone();
        if !redirect::same_origin(&call.url, url) {
            headers.remove(AUTHORIZATION);
        }
        let own = self.is_own(url);
        if own {
            for (name, value) in &self.reach.headers {
                headers.append(name, value.clone());
            }
        }
        let mut request = client
            .request(call.method.clone(), at.clone())
            .headers(headers);
        if let Some(value) = authorization.filter(|_| own) {
            request = request.header(AUTHORIZATION, value);
        }
        let sent = match &call.body {
            Body::None => self.timely(request.send()).await,
            Body::Bytes(bytes) => self.timely(request.body(bytes.clone()).send()).await,
            // The answer comes after the whole body: whoever makes the stream watches it.
            Body::Stream(make) => Some(request.body(make()).send().await),
        };
        let host = authority(url);
        match sent {
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) => {
                let reason = chain(&error.without_url());
                // A certificate does not become valid by asking again, a refused network neither.
                let lasting = reason.contains("certificate") || reason.contains("not public");
                let error = RegistryError::Unreachable { host, reason };
                Err(if lasting {
                    Failure::Final(error)
                } else {
                    Failure::Passing(error, None)
                })
            }
            None => {
                let reason = format!("no answer within {:?}", self.timeouts.idle);
                let error = RegistryError::Unreachable { host, reason };
                Err(Failure::Passing(error, None))
            }
        }
    }

    async fn timely<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.timeouts.idle, request).await.ok()
    }

    async fn judge(&self, call: &Call<'_>, url: &Url) -> Result<(), RegistryError> {
        if self.is_own(url) {
            return Ok(());
        }
        match redirect::refusal(&self.reach.base, self.zone().await, url) {
            None => Ok(()),
            Some(why) => Err(refused(call, url, why)),
        }
    }

    /// What an answer that is not the wanted one means, with the registry's own words.
    pub(super) async fn status_error(&self, call: &Call<'_>, response: Response) -> RegistryError {
        let status = response.status();
        let host = authority(response.url());
        let what = call.what.clone();
        let body = self.body(response, MAX_ERROR_BODY, &what).await;
        let message = body.map(|bytes| words(&bytes)).unwrap_or_default();
        match status.as_u16() {
            401 | 403 => RegistryError::Denied {
                host,
                what,
                message,
            },
            404 => RegistryError::NotFound { what, message },
            status => RegistryError::Status {
                what,
                status,
                message,
            },
        }
    }

    /// A whole body of at most `max` bytes.
    pub(super) async fn body(
        &self,
        mut response: Response,
        max: usize,
        what: &str,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        let mut chunks = 0;
        let host = authority(response.url());
        let unreachable = |reason| RegistryError::Unreachable {
            host: host.clone(),
            reason,
        };
        loop {
            let chunk = match self.timely(response.chunk()).await {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => return Err(unreachable(chain(&error.without_url()))),
                None => {
                    let idle = self.timeouts.idle;
                    return Err(unreachable(format!("no data for {idle:?}")));
                }
            };
            let Some(chunk) = chunk else {
                return Ok(bytes);
            };
            let invalid = |why| RegistryError::Protocol {
                what: what.to_owned(),
                why,
            };
            if bytes.len() + chunk.len() > max {
                return Err(invalid(format!("more than {max} bytes")));
            }
            // Each costs as much as a large one.
            chunks += 1;
            if chunks > MAX_CRUMBS + bytes.len() / 64 {
                return Err(invalid("it comes in crumbs".to_owned()));
            }
            bytes.extend_from_slice(&chunk);
        }
    }
}

fn without_tls(url: &Url) -> Option<Url> {
    let mut plain = url.clone();
    plain.set_scheme("http").ok().map(|()| plain)
}

fn refused(call: &Call<'_>, url: &Url, why: &'static str) -> RegistryError {
    RegistryError::Redirect {
        what: call.what.clone(),
        target: format!("{}://{}", url.scheme(), authority(url)),
        why,
    }
}

/// `host[:port]` of an address.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// 301, 302 and 303 may change a request that writes into one that reads: those are not followed.
fn follows(method: &Method, status: StatusCode) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match status.as_u16() {
        307 | 308 => true,
        301..=303 => reads,
        _ => false,
    }
}

/// The Location of a response, resolved against the address that was asked.
pub(super) fn location(response: &Response, call: &Call<'_>) -> Result<Url, RegistryError> {
    let invalid = |why: &str| RegistryError::Protocol {
        what: call.what.clone(),
        why: why.to_owned(),
    };
    let header = response.headers().get(LOCATION);
    let text = header
        .ok_or_else(|| invalid("no Location"))?
        .to_str()
        .map_err(|_| invalid("a Location that is not text"))?;
    let joined = response.url().join(text);
    joined.map_err(|_| invalid("a Location that is not an address"))
}

/// The messages of the protocol's error document, or the beginning of a plain text; in one line,
/// without what a terminal would obey.
pub(crate) fn words(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<strata_oci::error::Envelope>(body) {
        Ok(envelope) => {
            let each = envelope.errors.into_iter().map(|entry| {
                if entry.message.is_empty() {
                    entry.code
                } else {
                    entry.message
                }
            });
            each.collect::<Vec<_>>().join("; ")
        }
        Err(_) if body.trim_ascii_start().starts_with(b"<") => String::new(),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let spaced = text
        .split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty());
    let line: Vec<&str> = spaced.collect();
    line.join(" ").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_one_harmless_line() {
        let json =
            br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m way"},{"code":"UNKNOWN"}]}"#;
        assert_eq!(words(json), "no [31m way; UNKNOWN");
        assert_eq!(words(b"<html>x</html>"), "");
        assert_eq!(words(b"plain\r\ntext"), "plain text");
        assert_eq!(words(&[b'a'; 5000]).len(), 300);
    }

    #[test]
    fn only_reads_follow_every_redirect() {
        assert!(follows(&Method::GET, StatusCode::FOUND));
        assert!(follows(&Method::PUT, StatusCode::TEMPORARY_REDIRECT));
        assert!(!follows(&Method::POST, StatusCode::FOUND));
        assert!(!follows(&Method::GET, StatusCode::NOT_MODIFIED));
    }
}
