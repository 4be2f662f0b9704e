//! What refers to a manifest: `GET /v2/NAME/referrers/DIGEST`, an image index made for the answer.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, LINK};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::RawValue;
use strata_oci::{Digest, Repository, media};

use super::error::Refusal;
use super::headers::{OCI_FILTERS, value};
use super::query;
use crate::app::App;
use crate::meta::{Page, Referrer};
use crate::pull;

/// Many clients read the first page alone (go-containerregistry, pull request 2446), so it is large; an
/// answer should stay below the 4 MiB that clients read of a manifest.
const PAGE: usize = 2000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Box<RawValue>>,
}

impl From<Referrer> for Entry {
    fn from(referrer: Referrer) -> Self {
        let annotations = referrer.annotations;
        Self {
            media_type: referrer.media_type,
            digest: referrer.digest,
            size: referrer.size,
            artifact_type: referrer.artifact_type,
            annotations: annotations.and_then(|json| RawValue::from_string(json).ok()),
        }
    }
}

pub(super) async fn list(
    app: &App,
    repository: &Repository,
    subject: &Digest,
    parts: &Parts,
) -> Result<Response, Refusal> {
    let asked = query::first(parts, "artifactType");
    let filter = asked.as_deref().filter(|kind| !kind.is_empty());
    let after = query::first(parts, "last").filter(|last| !last.is_empty());
    let page = Page { after, limit: PAGE };
    let listed = pull::referrers(app, repository, subject, filter, &page).await?;
    let index_type = HeaderValue::from_static(media::OCI_INDEX);
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, index_type)]);
    if asked.is_some() {
        headers.insert(OCI_FILTERS, HeaderValue::from_static("artifactType"));
    }
    if let (true, Some(last)) = (listed.more, listed.entries.last()) {
        let (path, last) = (
            format!("/v2/{repository}/referrers/{subject}"),
            &last.digest,
        );
        let kind = asked.as_deref().map(|kind| {
            let kind = utf8_percent_encode(kind, NON_ALPHANUMERIC);
            format!("artifactType={kind}&")
        });
        let kind = kind.unwrap_or_default();
        let link = format!("<{path}?{kind}last={last}>; rel=\"next\"");
        headers.insert(LINK, value(&link));
    }
    let index = Index {
        schema_version: 2,
        media_type: media::OCI_INDEX,
        manifests: listed.entries.into_iter().map(Entry::from).collect(),
    };
    let mut response = Json(index).into_response();
    response.headers_mut().extend(headers);
    Ok(response)
}
