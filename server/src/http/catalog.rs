//! The names of all repositories: `GET /v2/_catalog`, which is Docker's and not in the specification.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use serde::Serialize;

use super::error::Refusal;
use super::{query, tags};
use crate::app::App;
use crate::pull;

#[derive(Serialize)]
struct Catalog {
    repositories: Vec<String>,
}

pub(super) async fn list(app: &App, parts: &Parts) -> Result<Response, Refusal> {
    let page = query::page(parts)?;
    let listed = pull::repositories(app, &page).await?;
    let link = tags::next("/v2/_catalog", &page, listed.more, listed.entries.last());
    let catalog = Catalog {
        repositories: listed.entries,
    };
    Ok((link, Json(catalog)).into_response())
}
