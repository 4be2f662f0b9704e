//! The distribution protocol by hand: what a client sends to push, in single steps.

use serde_json::{Value, json};
use strata_oci::digest::Digest;
use strata_oci::media;

use crate::http::{Http, Reply};
use crate::image::Image;

/// A registry spoken to directly.
#[derive(Debug, Clone, Copy)]
pub struct Api(pub Http);

impl Api {
    /// Starts an upload; the Location for its next request.
    #[track_caller]
    pub fn start(&self, repository: &str) -> String {
        let target = format!("/v2/{repository}/blobs/uploads/");
        let reply = self.0.send("POST", &target, &[], b"").expect(202);
        location(&reply)
    }

    /// Appends to an upload; the Location for its next request.
    #[track_caller]
    pub fn append(&self, location: &str, bytes: &[u8]) -> String {
        let kind = [("Content-Type", "application/octet-stream")];
        let reply = self.0.send("PATCH", location, &kind, bytes).expect(202);
        self::location(&reply)
    }

    /// Ends an upload with its last bytes.
    #[track_caller]
    pub fn finish(&self, location: &str, digest: &str, bytes: &[u8]) -> Reply {
        let separator = if location.contains('?') { '&' } else { '?' };
        let target = format!("{location}{separator}digest={digest}");
        let kind = [("Content-Type", "application/octet-stream")];
        self.0.send("PUT", &target, &kind, bytes)
    }

    /// Uploads a blob whole.
    #[track_caller]
    pub fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let location = self.start(repository);
        self.finish(&location, &digest.to_string(), bytes)
            .expect(201);
        digest
    }

    /// Sends a manifest.
    #[track_caller]
    pub fn put_manifest(
        &self,
        repository: &str,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Reply {
        let target = format!("/v2/{repository}/manifests/{name}");
        self.0
            .send("PUT", &target, &[("Content-Type", media_type)], bytes)
    }

    /// Fetches a manifest, any kind.
    #[track_caller]
    pub fn manifest(&self, repository: &str, name: &str) -> Reply {
        let accept = strata_oci::media::ACCEPT_MANIFESTS.join(", ");
        let target = format!("/v2/{repository}/manifests/{name}");
        self.0.send("GET", &target, &[("Accept", &accept)], b"")
    }

    /// Whether a repository has a blob.
    #[track_caller]
    pub fn has_blob(&self, repository: &str, digest: &Digest) -> bool {
        let target = format!("/v2/{repository}/blobs/{digest}");
        match self.0.send("HEAD", &target, &[], b"").status {
            200 => true,
            404 => false,
            other => panic!("HEAD {target}: {other}"),
        }
    }

    /// Fetches a blob.
    #[track_caller]
    pub fn blob(&self, repository: &str, digest: &Digest) -> Reply {
        let target = format!("/v2/{repository}/blobs/{digest}");
        self.0.send("GET", &target, &[], b"")
    }

    /// Pushes a manifest under its digest.
    #[track_caller]
    pub fn push_manifest(&self, repository: &str, kind: &str, text: &str) -> (Digest, Reply) {
        let digest = Digest::of(text.as_bytes());
        let reply = self.put_manifest(repository, &digest.to_string(), kind, text.as_bytes());
        (digest, reply.expect(201))
    }

    /// A manifest of the empty config, which is pushed, and no layers, with more fields.
    #[track_caller]
    pub fn artifact(&self, repository: &str, more: Value) -> String {
        let config = self.push_blob(repository, b"{}");
        let mut document = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "config": { "mediaType": media::OCI_EMPTY, "digest": config, "size": 2 }, "layers": [],
        });
        for (name, value) in more.as_object().expect("fields") {
            document[name] = value.clone();
        }
        document.to_string()
    }

    /// GET of a path, with no headers of one's own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Reply {
        self.0.send("GET", target, &[], b"")
    }

    /// Pushes an image with all its blobs; returns `HOST:PORT/repository:tag`.
    #[track_caller]
    pub fn push(&self, image: &Image, repository: &str, tag: &str) -> String {
        for blob in image.blobs() {
            self.push_blob(repository, blob);
        }
        self.put_manifest(repository, tag, image.media_type(), &image.manifest)
            .expect(201);
        self.reference(repository, tag)
    }

    /// The reference that clients name an image by.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.0.address())
    }
}

/// The Location header: relative by the design's invariant 9, absolute elsewhere.
#[track_caller]
pub fn location(reply: &Reply) -> String {
    let location = reply.header("location").expect("a Location header");
    match location.strip_prefix("http://") {
        Some(rest) => rest[rest.find('/').expect("a path")..].to_owned(),
        None => location.to_owned(),
    }
}
