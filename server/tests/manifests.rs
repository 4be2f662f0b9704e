//! Manifests, tags, referrers and the catalog over HTTP.

mod common;

use common::{OCI_IMAGE, OCI_INDEX, Registry, image, index};
use strata_oci::{Algorithm, Digest, Digester};

const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";

#[test]
fn exact_bytes_by_tag_and_digest() {
    let registry = Registry::start();
    let config = registry.push("a", b"{}");
    // Odd spacing and unknown fields are part of the digest.
    let text = image(&config, r#" , "x-unknown": {"y":[ 1 ]} "#);
    let digest = Digest::of(text.as_bytes());
    let reply = registry.put_manifest("/v2/a/manifests/v1", OCI_IMAGE, &text);
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(
        reply.header("location"),
        format!("/v2/a/manifests/{digest}")
    );
    assert_eq!(reply.header("docker-content-digest"), digest.to_string());
    for reference in ["v1".to_owned(), digest.to_string()] {
        let path = format!("/v2/a/manifests/{reference}");
        // What the client would like makes no difference.
        for accept in [OCI_IMAGE, OCI_INDEX, DOCKER_IMAGE, "text/plain"] {
            let reply = registry.send("GET", &path, &[("Accept", accept)], b"");
            assert_eq!((reply.status, reply.text()), (200, text.clone()));
            assert_eq!(reply.header("content-type"), OCI_IMAGE);
            assert_eq!(reply.header("docker-content-digest"), digest.to_string());
        }
        let head = registry.send("HEAD", &path, &[], b"");
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-length"), text.len().to_string());
        assert_eq!(head.header("content-type"), OCI_IMAGE);
        let tag = [("If-None-Match", head.header("etag"))];
        assert_eq!(registry.send("GET", &path, &tag, b"").status, 304);
    }
}

#[test]
fn dockers_own_types_are_kept() {
    let registry = Registry::start();
    let config = registry.push("a", b"{}");
    let text = image(&config, "").replace(OCI_IMAGE, DOCKER_IMAGE);
    let with_parameter = format!("{DOCKER_IMAGE}; charset=utf-8");
    let reply = registry.put_manifest("/v2/a/manifests/v2", &with_parameter, &text);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let reply = registry.get("/v2/a/manifests/v2");
    assert_eq!(reply.header("content-type"), DOCKER_IMAGE);
    assert_eq!(reply.text(), text);
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    let text = index(&[Digest::of(text.as_bytes())], "").replace(OCI_INDEX, list);
    let reply = registry.put_manifest("/v2/a/manifests/list", list, &text);
    assert_eq!(reply.status, 201, "{}", reply.text());
}

#[test]
fn what_is_no_manifest_is_refused() {
    let registry = Registry::start();
    let config = registry.push("a", b"{}");
    let good = image(&config, "");
    let put =
        |media_type: &str, text: &str| registry.put_manifest("/v2/a/manifests/t", media_type, text);
    put(OCI_IMAGE, "").expect_refusal(400, "MANIFEST_INVALID");
    put(OCI_IMAGE, "{").expect_refusal(400, "MANIFEST_INVALID");
    put(OCI_INDEX, &good).expect_refusal(400, "MANIFEST_INVALID");
    put("text/plain", &good).expect_refusal(400, "MANIFEST_INVALID");
    let both = image(&config, r#","manifests":[]"#);
    put(OCI_IMAGE, &both).expect_refusal(400, "MANIFEST_INVALID");
    let schema1 = r#"{"schemaVersion":1,"name":"a","tag":"t","fsLayers":[]}"#;
    let schema1_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let reply = put(schema1_type, schema1);
    reply.expect_refusal(400, "UNSUPPORTED");
    assert!(reply.text().contains("schema 1"));
    let large = format!("{good}{}", " ".repeat(4 * 1024 * 1024));
    put(OCI_IMAGE, &large).expect_refusal(413, "SIZE_INVALID");
    registry
        .get("/v2/a/manifests/t")
        .expect_refusal(404, "MANIFEST_UNKNOWN");
    let nearly = format!("{good}{}", " ".repeat(4 * 1024 * 1024 - good.len()));
    assert_eq!(put(OCI_IMAGE, &nearly).status, 201);
}

#[test]
fn malformed_and_wrong_references() {
    let registry = Registry::start();
    let config = registry.push("a", b"{}");
    let text = image(&config, "");
    let put = |reference: &str| {
        registry.put_manifest(&format!("/v2/a/manifests/{reference}"), OCI_IMAGE, &text)
    };
    put("sha256:00").expect_refusal(400, "DIGEST_INVALID");
    put(".hidden").expect_refusal(400, "NAME_INVALID");
    put(&"t".repeat(129)).expect_refusal(400, "NAME_INVALID");
    put(&Digest::of(b"other").to_string()).expect_refusal(400, "DIGEST_INVALID");
    let get = |reference: &str| registry.get(&format!("/v2/a/manifests/{reference}"));
    get(".hidden").expect_refusal(404, "MANIFEST_UNKNOWN");
    get("absent").expect_refusal(404, "MANIFEST_UNKNOWN");
    get(&Digest::of(b"other").to_string()).expect_refusal(404, "MANIFEST_UNKNOWN");
    get("sha256:00").expect_refusal(400, "DIGEST_INVALID");
}

#[test]
fn a_manifest_that_names_missing_content_is_refused() {
    let registry = Registry::start();
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    let layer = format!(
        r#","layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{two}","size":3}}]"#
    );
    let text = image(&one, "").replace(r#","layers":[]"#, &layer);
    let put = || registry.put_manifest("/v2/a/manifests/t", OCI_IMAGE, &text);
    let reply = put();
    reply.expect_refusal(404, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(reply.json()["errors"].as_array().map(Vec::len), Some(2));
    assert!(reply.text().contains(&one.to_string()) && reply.text().contains(&two.to_string()));
    registry
        .get("/v2/a/tags/list")
        .expect_refusal(404, "NAME_UNKNOWN");
    registry.push("b", b"one");
    registry.push("a", b"two");
    assert_eq!(
        put().json()["errors"].as_array().map(Vec::len),
        Some(1),
        "b's is not a's"
    );
    registry.push("a", b"one");
    assert_eq!(put().status, 201);
    let child = index(&[Digest::of(b"absent")], "");
    let reply = registry.put_manifest("/v2/a/manifests/i", OCI_INDEX, &child);
    reply.expect_refusal(404, "MANIFEST_BLOB_UNKNOWN");
}

#[test]
fn layers_that_are_never_pushed_may_be_missing() {
    let registry = Registry::start();
    let config = registry.push("a", b"{}");
    let layer = format!(
        r#","layers":[{{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip","digest":"{}","size":3}}]"#,
        Digest::of(b"windows")
    );
    let text = image(&config, "").replace(r#","layers":[]"#, &layer);
    let reply = registry.put_manifest("/v2/a/manifests/t", OCI_IMAGE, &text);
    assert_eq!(reply.status, 201, "{}", reply.text());
}

#[test]
fn deletes() {
    let registry = Registry::start();
    let (digest, text) = registry.push_image("a", "one", b"{}");
    let put = registry.put_manifest("/v2/a/manifests/two", OCI_IMAGE, &text);
    assert_eq!(put.status, 201);
    let delete = |reference: &str| {
        registry.send("DELETE", &format!("/v2/a/manifests/{reference}"), &[], b"")
    };
    assert_eq!(delete("one").status, 202);
    delete("one").expect_refusal(404, "MANIFEST_UNKNOWN");
    assert_eq!(
        registry.get("/v2/a/manifests/two").status,
        200,
        "a tag goes alone"
    );
    assert_eq!(delete(&digest.to_string()).status, 202);
    delete(&digest.to_string()).expect_refusal(404, "MANIFEST_UNKNOWN");
    assert_eq!(
        registry.get("/v2/a/manifests/two").status,
        404,
        "its tags go with it"
    );
    assert_eq!(
        registry.get("/v2/a/tags/list").json()["tags"],
        serde_json::json!([])
    );
}

#[test]
fn tags_are_listed_in_pages() {
    let registry = Registry::start();
    registry
        .get("/v2/none/tags/list")
        .expect_refusal(404, "NAME_UNKNOWN");
    for tag in ["c", "a", "b", "B"] {
        registry.push_image("x/y", tag, b"{}");
    }
    let list = |query: &str| registry.get(&format!("/v2/x/y/tags/list{query}"));
    let tags = |query: &str| list(query).json()["tags"].clone();
    assert_eq!(list("").json()["name"], "x/y");
    assert_eq!(tags(""), serde_json::json!(["B", "a", "b", "c"]));
    assert_eq!(tags("?last=a"), serde_json::json!(["b", "c"]));
    let first = list("?n=3");
    assert_eq!(first.json()["tags"], serde_json::json!(["B", "a", "b"]));
    let next = "</v2/x/y/tags/list?n=3&last=b>; rel=\"next\"";
    assert_eq!(first.header("link"), next);
    let rest = list("?n=3&last=b");
    assert_eq!(rest.json()["tags"], serde_json::json!(["c"]));
    assert_eq!(rest.find("link"), None);
    assert_eq!(list("?n=4").find("link"), None, "the page is just full");
    let none = list("?n=0");
    assert_eq!(
        (none.json()["tags"].clone(), none.find("link")),
        (serde_json::json!([]), None)
    );
    for bad in ["?n=-1", "?n=x", "?n="] {
        assert_eq!(list(bad).status, 400, "{bad}");
    }
    assert_eq!(list("?n=99999999999999999999").status, 200);
}

#[test]
fn the_catalog_is_listed_in_pages() {
    let registry = Registry::start();
    for name in ["b", "a/x", "a"] {
        registry.push_image(name, "t", b"{}");
    }
    registry.push("without-manifest", b"{}");
    let list = |query: &str| registry.get(&format!("/v2/_catalog{query}"));
    let names = list("").json()["repositories"].clone();
    assert_eq!(names, serde_json::json!(["a", "a/x", "b"]));
    let first = list("?n=2");
    assert_eq!(
        first.header("link"),
        "</v2/_catalog?n=2&last=a/x>; rel=\"next\""
    );
    let rest = list("?n=2&last=a/x").json()["repositories"].clone();
    assert_eq!(rest, serde_json::json!(["b"]));
}

#[test]
fn referrers() {
    let registry = Registry::start();
    let config = registry.push("a", b"{}");
    let subject = Digest::of(b"not pushed");
    let refer =
        format!(r#","subject":{{"mediaType":"{OCI_IMAGE}","digest":"{subject}","size":1}}"#);
    let signature = image(
        &config,
        &format!(r#"{refer},"artifactType":"x/sig+json","annotations":{{"k":"v"}}"#),
    );
    let reply = registry.put_manifest("/v2/a/manifests/sig", OCI_IMAGE, &signature);
    assert_eq!(
        (reply.status, reply.header("oci-subject")),
        (201, &*subject.to_string())
    );
    let plain = image(&config, &refer);
    let list = index(&[], &refer);
    for (text, kind) in [(&plain, OCI_IMAGE), (&list, OCI_INDEX)] {
        let path = format!("/v2/a/manifests/{}", Digest::of(text.as_bytes()));
        assert_eq!(registry.put_manifest(&path, kind, text).status, 201);
    }
    let get = |query: &str| registry.get(&format!("/v2/a/referrers/{subject}{query}"));
    let all = get("");
    assert_eq!(all.header("content-type"), OCI_INDEX);
    assert_eq!(all.find("oci-filters-applied"), None);
    let all = all.json();
    let all = all["manifests"].as_array().expect("manifests");
    assert_eq!(all.len(), 3);
    let find = |text: &str| {
        let digest = Digest::of(text.as_bytes()).to_string();
        all.iter().find(|m| m["digest"] == digest).expect("listed")
    };
    assert_eq!(find(&signature)["artifactType"], "x/sig+json");
    assert_eq!(find(&signature)["annotations"]["k"], "v");
    assert_eq!(find(&signature)["size"], signature.len());
    let config_type = "application/vnd.oci.image.config.v1+json";
    assert_eq!(
        find(&plain)["artifactType"],
        config_type,
        "an image's config's"
    );
    assert!(
        find(&list).get("artifactType").is_none(),
        "an index has none"
    );
    for query in ["?artifactType=x/sig%2Bjson", "?artifactType=x/sig+json"] {
        let some = get(query);
        assert_eq!(some.header("oci-filters-applied"), "artifactType");
        assert_eq!(some.json()["manifests"].as_array().map(Vec::len), Some(1));
    }
    let empty = get("?artifactType=");
    assert_eq!(empty.header("oci-filters-applied"), "artifactType");
    let none = registry.get(&format!("/v2/nowhere/referrers/{subject}"));
    assert_eq!(
        (none.status, none.json()["manifests"].clone()),
        (200, serde_json::json!([]))
    );
    let bad = registry.get("/v2/a/referrers/sha256:00");
    bad.expect_refusal(400, "DIGEST_INVALID");
}

#[test]
fn tags_can_be_set_by_parameters() {
    let registry = Registry::start();
    let config = registry.push("a", b"{}");
    let text = image(&config, "");
    let mut digester = Digester::new(Algorithm::Sha512);
    digester.update(text.as_bytes());
    let digest = digester.finish();
    let path = format!("/v2/a/manifests/{digest}?tag=one&tag=two");
    let reply = registry.put_manifest(&path, OCI_IMAGE, &text);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let set = reply.headers.iter().filter(|(name, _)| name == "oci-tag");
    assert_eq!(
        set.map(|(_, tag)| tag.as_str()).collect::<Vec<_>>(),
        ["one", "two"]
    );
    let reply = registry.get("/v2/a/manifests/two");
    assert_eq!(reply.header("docker-content-digest"), digest.to_string());
    let bad = format!("/v2/a/manifests/{digest}?tag=.bad");
    registry
        .put_manifest(&bad, OCI_IMAGE, &text)
        .expect_refusal(400, "NAME_INVALID");
}
