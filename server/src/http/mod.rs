//! The protocol over HTTP: one file for each of its nouns, and `error`, the only place that knows
//! which status says what.

mod blobs;
mod body;
mod catalog;
mod error;
pub mod forwarded;
#[cfg(test)]
mod gate;
mod headers;
mod health;
mod manifests;
pub mod query;
pub mod range;
mod referrers;
mod tags;
mod uploads;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::app::App;
use crate::auth::{Access, Grant, Principal};
use crate::config;
use crate::net::Peer;
use crate::route::{self, Route, RouteError};
use crate::telemetry::{Exchange, Noun};
use error::{BadRequest, Refusal};
use forwarded::ClientAddress;

/// Bytes of a path with its parameters: what every server should take (RFC 9110, 4.1), and several
/// times what the protocol needs.
const MAX_TARGET: usize = 8192;

pub(crate) use health::Question;

/// Says that this is a registry, and of which protocol; some clients look for it.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// The service of a registry. The protocol's paths are not those of a path router (names hold slashes), so
/// all of them come to one handler.
pub fn router(app: Arc<App>) -> Router {
    Router::new().fallback(handle).with_state(app)
}

async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let Origin { client, base } = origin(&app.config.now().http, &parts);
    if let Some(client) = client {
        parts.extensions.insert(client);
    }
    let route = route::parse(&parts.method, parts.uri.path());
    let question = Question::of(&parts.method, parts.uri.path());
    let noun = question.map_or_else(|| Noun::of(&route), |_| Noun::Health);
    let mut exchange = Exchange::begin(&app.metrics, parts, noun);
    if let Some(question) = question {
        let response = question.answer(&app, false).await;
        return exchange.answer(response);
    }
    let body = exchange.incoming(body);
    let outcome = answer(&app, route, exchange.parts(), body).await;
    let mut response = outcome.unwrap_or_else(IntoResponse::into_response);
    let headers = response.headers_mut();
    let version = HeaderValue::from_static("registry/2.0");
    headers.insert(API_VERSION, version);
    headers.entry(CACHE_CONTROL).or_insert(headers::ASK_AGAIN);
    if let Some(base) = base {
        headers::refer(headers, &base);
    }
    exchange.answer(response)
}

/// Where a request comes from, and what stands in front of the paths that its answer refers to.
struct Origin {
    client: Option<ClientAddress>,
    base: Option<String>,
}

fn origin(config: &config::Http, parts: &Parts) -> Origin {
    let peer = parts.extensions.get::<Arc<Peer>>();
    let peer = peer.map(|peer| peer.address().ip());
    let (headers, trusted) = (&parts.headers, &config.trusted_proxies);
    let prefix = || forwarded::prefix(peer?, headers, trusted).map(str::to_owned);
    Origin {
        client: peer.map(|peer| forwarded::client(peer, headers, trusted)),
        base: config.public_url.clone().or_else(prefix),
    }
}

async fn answer(
    app: &Arc<App>,
    route: Result<Route, RouteError>,
    parts: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let target = parts.uri.path_and_query().map_or(0, |t| t.as_str().len());
    if target > MAX_TARGET {
        return Err(BadRequest::TargetTooLong(target).into());
    }
    let route = route?;
    let access = Access::of(&route);
    let grant = app.gate.admit(Principal::Anonymous, &access);
    let grant = grant.ok_or_else(Refusal::denied)?;
    serve(app, &grant, route, parts, body).await
}

/// Serves what the gate has granted.
async fn serve(
    app: &Arc<App>,
    grant: &Grant,
    route: Route,
    parts: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let body = || body::incoming(body, &app.config.now().limits);
    match route {
        Route::Base => Ok(([(CONTENT_TYPE, "application/json")], "{}").into_response()),
        Route::Options(allow) => Ok((StatusCode::NO_CONTENT, [(ALLOW, allow)]).into_response()),
        Route::Catalog => catalog::list(app, parts).await,
        Route::Tags(repository) => tags::list(app, &repository, parts).await,
        Route::Referrers(repository, subject) => {
            referrers::list(app, &repository, &subject, parts).await
        }
        Route::GetBlob {
            repository,
            digest,
            head,
        } => blobs::get(app, &repository, &digest, head, parts).await,
        Route::DeleteBlob(repository, digest) => blobs::delete(app, &repository, &digest).await,
        Route::StartUpload(repository) => {
            uploads::start(app, grant, repository, parts, body()).await
        }
        Route::UploadStatus(repository, id) => uploads::status(app, grant, &repository, &id).await,
        Route::AppendUpload(repository, id) => {
            uploads::append(app, grant, &repository, &id, parts, body()).await
        }
        Route::FinishUpload(repository, id) => {
            uploads::finish(app, grant, &repository, &id, parts, body()).await
        }
        Route::CancelUpload(repository, id) => uploads::cancel(app, grant, &repository, &id).await,
        Route::GetManifest {
            repository,
            reference,
            head,
        } => manifests::get(app, &repository, &reference, head, parts).await,
        Route::PutManifest(repository, reference) => {
            manifests::put(app, repository, reference, parts, body()).await
        }
        Route::DeleteManifest(repository, reference) => {
            manifests::delete(app, &repository, &reference, parts).await
        }
    }
}
