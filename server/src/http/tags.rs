//! Tags: `GET /v2/NAME/tags/list`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::LINK;
use http::request::Parts;
use serde::Serialize;
use strata_oci::Repository;

use super::error::Refusal;
use super::headers::value;
use super::query;
use crate::app::App;
use crate::meta::Page;
use crate::pull;

#[derive(Serialize)]
struct Tags<'a> {
    name: &'a str,
    tags: Vec<String>,
}

pub(super) async fn list(
    app: &App,
    repository: &Repository,
    parts: &Parts,
) -> Result<Response, Refusal> {
    let page = query::page(parts)?;
    let listed = pull::tags(app, repository, &page).await?;
    let more = listed.more;
    let tags = Tags {
        name: repository.as_str(),
        tags: listed.entries,
    };
    let path = format!("/v2/{repository}/tags/list");
    let link = next(&path, &page, more, tags.tags.last());
    Ok((link, Json(tags)).into_response())
}

/// The Link header to the page after this one (RFC 8288), if there is one.
pub(super) fn next(
    path: &str,
    page: &Page,
    more: bool,
    last: Option<&String>,
) -> Option<[(http::HeaderName, http::HeaderValue); 1]> {
    let last = last.filter(|_| more)?;
    let limit = page.limit;
    // Names and tags need no percent-encoding in a query.
    let link = format!("<{path}?n={limit}&last={last}>; rel=\"next\"");
    Some([(LINK, value(&link))])
}
