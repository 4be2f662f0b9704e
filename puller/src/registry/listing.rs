//! Lists: the tags of a repository and the referrers of a manifest, page by page (distribution-spec,
//! "Listing Tags", "Listing Referrers", "Unavailable Referrers API").
//!
//! A `Link` header says where the next page is. Only its path and query are taken: a link to another host
//! drew credentials there elsewhere (oras-go, GHSA-h7vf-4x9w-h99v).

use reqwest::header::{HeaderValue, LINK};
use reqwest::{Method, Response, Url};
use serde::Deserialize;
use strata_oci::manifest::MAX_MANIFEST;
use strata_oci::media::{self, ManifestKind};
use strata_oci::{Descriptor, Digest, Manifest, Tag};

use super::http::Call;
use super::{Registry, RegistryError, Scope};

/// A page of tags: registries that know no pages send all at once.
const MAX_PAGE: usize = 64 * 1024 * 1024;
/// More entries are no list that anyone reads.
const MAX_ENTRIES: usize = 1_000_000;
/// Entries that are asked for at a time.
const PAGE: &str = "1000";

/// The referrers of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Referrers {
    /// Signatures, SBOMs and whatever else names the manifest as its subject.
    pub manifests: Vec<Descriptor>,
    /// The registry has no referrers API: the list came from the fallback tag.
    pub from_tag: bool,
}

#[derive(Deserialize)]
struct TagPage {
    tags: Option<Vec<String>>,
}

/// The tag under which clients keep referrers for registries without the API
/// (distribution-spec, "Referrers Tag Schema").
pub fn referrers_tag(digest: &Digest) -> String {
    let encoded: String = digest.hex().chars().take(64).collect();
    format!("{}-{encoded}", digest.algorithm().name())
}

impl Registry {
    /// All tags of a repository, in the registry's order. What is no tag by the grammar is left out.
    ///
    /// # Errors
    /// Besides the usual ones: a list that does not end.
    pub async fn tags(&self, repository: &str) -> Result<Vec<String>, RegistryError> {
        let last = self.last_step(repository)?;
        last.site(self).tags_here(&last.repository).await
    }

    async fn tags_here(&self, repository: &str) -> Result<Vec<String>, RegistryError> {
        let what = format!("tags of {repository}");
        let mut url = self.url(repository, "tags/list");
        url.query_pairs_mut().append_pair("n", PAGE);
        let mut all: Vec<String> = Vec::new();
        let mut next = Some(url);
        while let Some(url) = next {
            let call = Call::new(Method::GET, url, &*what);
            let response = self.expect(&call, &Scope::pull(repository)).await?;
            next = self.next_page(&response, &call)?;
            let page = self.http.body(response, MAX_PAGE, &what).await?;
            let page: TagPage =
                serde_json::from_slice(&page).map_err(|error| protocol(&what, error))?;
            let tags = page.tags.unwrap_or_default();
            if tags.is_empty() && next.is_some() {
                return Err(protocol(&what, "an empty page names a next one"));
            }
            all.extend(tags.into_iter().filter(|tag| tag.parse::<Tag>().is_ok()));
            bounded(all.len(), &what)?;
        }
        Ok(all)
    }

    /// The manifests that name `subject` as theirs, of one artifact type or of all.
    ///
    /// # Errors
    /// The usual ones. That there are none is an empty list.
    pub async fn referrers(
        &self,
        repository: &str,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Referrers, RegistryError> {
        let what = format!("referrers of {repository}@{subject}");
        let mut url = self.url(repository, &format!("referrers/{subject}"));
        if let Some(wanted) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", wanted);
        }
        let mut manifests: Vec<Descriptor> = Vec::new();
        let mut next = Some(url);
        let mut from_tag = false;
        while let Some(url) = next {
            let mut call = Call::new(Method::GET, url, &*what);
            let accept = HeaderValue::from_static(media::OCI_INDEX);
            call.headers.insert(reqwest::header::ACCEPT, accept);
            let response = self.send(&call, &Scope::pull(repository)).await?;
            // Registries without the API answer 404, or what they answer to any unknown path.
            if matches!(response.status().as_u16(), 400 | 404 | 405 | 501) && manifests.is_empty() {
                manifests = self.tagged_referrers(repository, subject).await?;
                from_tag = true;
                break;
            }
            if !response.status().is_success() {
                return Err(self.http.status_error(&call, response).await);
            }
            next = self.next_page(&response, &call)?;
            let page = self.http.body(response, MAX_MANIFEST, &what).await?;
            let page = Manifest::parse(&page, Some(media::OCI_INDEX))
                .map_err(|error| protocol(&what, error))?;
            if page.manifests.is_empty() && next.is_some() {
                return Err(protocol(&what, "an empty page names a next one"));
            }
            manifests.extend(page.manifests);
            bounded(manifests.len(), &what)?;
        }
        // The filter is the registry's to apply or to ignore.
        if let Some(wanted) = artifact_type {
            manifests.retain(|entry| entry.artifact_type.as_deref() == Some(wanted));
        }
        Ok(Referrers {
            manifests,
            from_tag,
        })
    }

    /// The list that clients keep under the fallback tag; empty when there is none.
    async fn tagged_referrers(
        &self,
        repository: &str,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let tag = referrers_tag(subject);
        let raw = match self.get_manifest(repository, &tag).await {
            Ok(raw) => raw,
            Err(RegistryError::NotFound { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        // Something else may be called so.
        let index = Manifest::parse(&raw.bytes, None).ok();
        let index = index.filter(|manifest| manifest.kind == ManifestKind::Index);
        Ok(index.map(|index| index.manifests).unwrap_or_default())
    }

    /// Where the next page is, on this registry whatever host the link names.
    fn next_page(
        &self,
        response: &Response,
        call: &Call<'_>,
    ) -> Result<Option<Url>, RegistryError> {
        let links = response.headers().get_all(LINK).iter();
        let mut targets = links.filter_map(|link| next_link(link.to_str().ok()?));
        let Some(target) = targets.next() else {
            return Ok(None);
        };
        let named = call.url.join(&target);
        let named = named.map_err(|_| protocol(&call.what, "a Link that is not an address"))?;
        let mut url = self.http.base().clone();
        url.set_path(named.path());
        url.set_query(named.query());
        if url == call.url {
            return Err(protocol(&call.what, "a page names itself as the next one"));
        }
        Ok(Some(url))
    }
}

/// The target of a Link whose relation is `next` (RFC 8288).
fn next_link(header: &str) -> Option<String> {
    header.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let relation = parameter.trim().strip_prefix("rel=");
            relation.is_some_and(|r| r.trim_matches('"').eq_ignore_ascii_case("next"))
        });
        is_next.then(|| target.to_owned())
    })
}

fn bounded(count: usize, what: &str) -> Result<(), RegistryError> {
    if count > MAX_ENTRIES {
        let why = format!("the list has more than {MAX_ENTRIES} entries");
        return Err(protocol(what, why));
    }
    Ok(())
}

fn protocol(what: &str, why: impl ToString) -> RegistryError {
    RegistryError::Protocol {
        what: what.to_owned(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::registry::RegistryOptions;
    use crate::testing::{Reply, Server};

    fn registry(server: &Server) -> Registry {
        Registry::new(&server.host(), &RegistryOptions::default()).expect("a registry")
    }

    #[test]
    fn next_links_are_found() {
        let link = r#"</a?n=2>; rel="prev", </v2/x/tags/list?last=b&n=2>; rel="next""#;
        assert_eq!(
            next_link(link).as_deref(),
            Some("/v2/x/tags/list?last=b&n=2")
        );
        assert_eq!(next_link("</a>; rel=next").as_deref(), Some("/a"));
        assert_eq!(next_link("</a>; rel=last"), None);
        assert_eq!(next_link("nonsense"), None);
    }

    #[tokio::test]
    async fn tags_come_page_by_page_and_never_from_another_host() {
        let elsewhere = Server::start(|_, _| Reply::new(200, r#"{"tags":["stolen"]}"#));
        let other = elsewhere.host();
        let server = Server::start(move |request, _| match request.path.contains("last=") {
            false => Reply::new(200, r#"{"tags":["a","b","-bad"]}"#).with(
                "Link",
                format!("<http://{other}/v2/app/tags/list?last=b>; rel=\"next\""),
            ),
            true => Reply::new(200, r#"{"tags":["c"]}"#),
        });
        let tags = registry(&server).tags("app").await.expect("tags");
        assert_eq!(tags, ["a", "b", "c"]);
        assert!(elsewhere.seen().is_empty());
        assert!(server.seen()[1].path.ends_with("?last=b"));
    }

    #[tokio::test]
    async fn a_list_that_leads_to_itself_is_refused() {
        let server = Server::start(|request, _| {
            Reply::new(200, r#"{"tags":["a"]}"#)
                .with("Link", format!("<{}>; rel=next", request.path))
        });
        let error = registry(&server).tags("app").await.expect_err("endless");
        assert!(error.to_string().contains("itself"), "{error}");
        let server = Server::start(|_, before| {
            Reply::new(200, r#"{"tags":null}"#).with("Link", format!("</v2/x?{before}>; rel=next"))
        });
        assert!(registry(&server).tags("app").await.is_err());
    }

    #[tokio::test]
    async fn referrers_come_from_the_fallback_tag_where_there_is_no_api() {
        let subject = Digest::of(b"subject");
        let mut entry = Descriptor::new(media::OCI_MANIFEST, Digest::of(b"sbom"), 4);
        entry.artifact_type = Some("application/x.sbom".to_owned());
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [entry],
        });
        let index = Arc::new(index.to_string());
        let tag = format!("/v2/app/manifests/{}", referrers_tag(&subject));
        let server = Server::start(move |request, _| match request.path == tag {
            true => Reply::new(200, index.as_bytes()).with("Content-Type", media::OCI_INDEX),
            false => Reply::new(404, ""),
        });
        let registry = registry(&server);
        let found = registry.referrers("app", &subject, None).await;
        let found = found.expect("referrers");
        assert!(found.from_tag);
        assert_eq!(found.manifests, [entry]);
        let none = registry.referrers("app", &subject, Some("other")).await;
        assert!(none.expect("referrers").manifests.is_empty());
        let nothing = registry.referrers("app", &Digest::of(b"x"), None).await;
        assert!(nothing.expect("referrers").manifests.is_empty());
    }
}
