//! What every answer has in common: methods, HEAD as GET, what is referred to, caches, warnings.

mod common;

use common::{OCI_IMAGE, OCI_INDEX, Registry, image, index};
use strata_oci::Digest;

/// A registry with something at each path that can be read, and those paths.
fn filled() -> (Registry, Vec<String>) {
    let registry = Registry::start();
    let (digest, _) = registry.push_image("a/b", "t", b"{}");
    let blob = registry.push("a/b", b"blob");
    let paths = vec![
        "/v2/".to_owned(),
        "/v2/_catalog".to_owned(),
        "/v2/a/b/tags/list".to_owned(),
        format!("/v2/a/b/referrers/{digest}"),
        format!("/v2/a/b/manifests/{digest}"),
        "/v2/a/b/manifests/t".to_owned(),
        format!("/v2/a/b/blobs/{blob}"),
        registry.begin("a/b"),
    ];
    (registry, paths)
}

#[test]
fn head_answers_as_get_does_without_a_body() {
    let (registry, paths) = filled();
    for path in paths {
        let get = registry.get(&path);
        let head = registry.send("HEAD", &path, &[], b"");
        assert!(get.status < 300, "{path}: {}", get.status);
        let own = |reply: &common::Reply| {
            let mut headers = reply.headers.clone();
            headers.retain(|(name, _)| !matches!(name.as_str(), "date" | "x-request-id"));
            headers.sort();
            headers
        };
        assert_eq!((head.status, own(&head)), (get.status, own(&get)), "{path}");
        assert!(head.body.is_empty());
        let version = head.header("docker-distribution-api-version");
        assert_eq!(version, "registry/2.0", "{path}");
    }
}

#[test]
fn methods_that_a_path_does_not_have_are_named() {
    let (registry, mut paths) = filled();
    paths.push("/v2/a/b/blobs/uploads/".to_owned());
    for path in paths {
        let options = registry.send("OPTIONS", &path, &[], b"");
        assert_eq!(
            (options.status, &options.body[..]),
            (204, &b""[..]),
            "{path}"
        );
        let allow = options.header("allow").to_owned();
        for method in ["PUT", "POST", "PATCH", "DELETE", "TRACE", "BREW"] {
            if allow.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let reply = registry.send(method, &path, &[], b"");
            assert_eq!(reply.status, 405, "{method} {path}");
            assert_eq!(reply.header("allow"), allow, "{method} {path}");
            reply.expect_refusal(405, "UNSUPPORTED");
        }
        for method in allow.split(", ") {
            let known = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"];
            assert!(known.contains(&method), "{allow}");
        }
    }
    registry
        .send("OPTIONS", "/nothing", &[], b"")
        .expect_refusal(404, "UNSUPPORTED");
}

#[test]
fn digests_are_cached_for_long_and_nothing_else() {
    let (registry, paths) = filled();
    for path in paths {
        let cache = registry.get(&path).header("cache-control").to_owned();
        if path.contains("blobs/sha256:") || path.contains("manifests/sha256:") {
            assert!(cache.contains("immutable"), "{path}: {cache}");
        } else {
            assert!(cache.contains("no-cache"), "{path}: {cache}");
        }
    }
    let absent = registry.get(&format!("/v2/a/b/blobs/{}", Digest::of(b"absent")));
    assert_eq!(absent.header("cache-control"), "no-store");
}

/// The references of a registry that has answered a push and a list: Locations, and a Link.
fn references(registry: &Registry, headers: &[(&str, &str)]) -> Vec<String> {
    let config = registry.push("a", b"{}");
    let text = image(&config, "");
    let mut connection = registry.connect();
    let mut send = |method: &str, path: &str, body: &[u8], name: &str| {
        let reply = connection.send(method, path, headers, body);
        assert!(reply.status < 300, "{path}: {}", reply.text());
        reply.header(name).to_owned()
    };
    let upload = send("POST", "/v2/a/blobs/uploads/", b"", "location");
    let path = &upload[upload.find("/v2/").expect("a path")..];
    vec![
        upload.clone(),
        send("PATCH", path, b"x", "location"),
        send("PUT", "/v2/a/manifests/one", text.as_bytes(), "location"),
        send("PUT", "/v2/a/manifests/two", text.as_bytes(), "location"),
        send("GET", "/v2/a/tags/list?n=1", b"", "link"),
    ]
}

#[test]
fn references_are_relative_whatever_a_client_claims() {
    let registry = Registry::start();
    let claims = [
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Prefix", "/evil"),
        ("Forwarded", "for=6.6.6.6;proto=https;host=evil.example"),
        ("Host", "evil.example"),
    ];
    for reference in references(&registry, &claims) {
        let path = reference.trim_start_matches('<');
        assert!(path.starts_with("/v2/a/"), "{reference}");
    }
}

#[test]
fn a_trusted_proxy_may_have_a_prefix() {
    let registry = Registry::set(|config| {
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().expect("network")];
    });
    for reference in references(&registry, &[("X-Forwarded-Prefix", "/images/")]) {
        let path = reference.trim_start_matches('<');
        assert!(path.starts_with("/images/v2/a/"), "{reference}");
    }
    for reference in references(&registry, &[("X-Forwarded-Prefix", "//evil.example")]) {
        let path = reference.trim_start_matches('<');
        assert!(path.starts_with("/v2/a/"), "{reference}");
    }
}

#[test]
fn with_a_public_url_references_are_absolute() {
    let registry = Registry::set(|config| {
        config.http.public_url = Some("https://registry.example:8443".to_owned());
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().expect("network")];
    });
    for reference in references(&registry, &[("X-Forwarded-Prefix", "/images")]) {
        let url = reference.trim_start_matches('<');
        assert!(
            url.starts_with("https://registry.example:8443/v2/a/"),
            "{reference}"
        );
    }
    let link = references(&registry, &[]).pop().expect("a link");
    let next = "<https://registry.example:8443/v2/a/tags/list?n=1&last=one>; rel=\"next\"";
    assert_eq!(link, next);
    // A chunk out of order is told where to go on, in the same way.
    let upload = registry.send("POST", "/v2/a/blobs/uploads/", &[], b"");
    let path = upload
        .header("location")
        .split("8443")
        .nth(1)
        .expect("path");
    let wrong = registry.send("PATCH", path, &[("Content-Range", "5-6")], b"xx");
    assert_eq!(
        (wrong.status, wrong.header("location")),
        (416, upload.header("location"))
    );
}

#[test]
fn warnings_are_few_and_of_the_protocols_form() {
    let registry = Registry::set(|config| config.storage.sparse = true);
    let missing = Digest::of(b"missing");
    let text = image(&missing, "");
    let reply = registry.put_manifest("/v2/a/manifests/t", OCI_IMAGE, &text);
    assert_eq!(reply.status, 201);
    let warning = reply.header("warning");
    assert!(
        warning.starts_with("299 - \"") && warning.ends_with('"'),
        "{warning}"
    );
    registry.push("a", b"missing");
    let reply = registry.put_manifest("/v2/a/manifests/t", OCI_IMAGE, &text);
    assert_eq!(reply.find("warning"), None, "all is there now");
    let get = |accept: &[(&str, &str)]| {
        let reply = registry.send("GET", "/v2/a/manifests/t", accept, b"");
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, OCI_IMAGE)
        );
        assert_eq!(reply.text(), text, "never converted");
        reply.find("warning").map(str::to_owned)
    };
    assert_eq!(get(&[]), None);
    for fine in [
        "*/*",
        "application/*",
        "text/plain, application/vnd.oci.image.manifest.v1+json;q=0.5",
    ] {
        assert_eq!(get(&[("Accept", fine)]), None, "{fine}");
    }
    assert_eq!(get(&[("Accept", OCI_INDEX), ("Accept", OCI_IMAGE)]), None);
    let warning = get(&[("Accept", OCI_INDEX)]).expect("a warning");
    assert!(
        warning.starts_with("299 - \"the Accept header"),
        "{warning}"
    );
}

#[test]
fn headers_that_could_be_read_in_two_ways_are_refused() {
    let registry = Registry::start();
    let config = registry.push("a", b"{}");
    let text = image(&config, "").replace(&format!(r#""mediaType":"{OCI_IMAGE}","#), "");
    let two = [("Content-Type", OCI_IMAGE), ("Content-Type", OCI_INDEX)];
    let reply = registry.send("PUT", "/v2/a/manifests/t", &two, text.as_bytes());
    assert_eq!(reply.status, 400);
    let upload = registry.begin("a");
    let two = [("Content-Range", "0-1"), ("Content-Range", "5-6")];
    assert_eq!(registry.send("PATCH", &upload, &two, b"xx").status, 400);
    assert_eq!(registry.range(&upload), "0-0");
}

#[test]
fn very_many_tags_at_once_are_refused() {
    let registry = Registry::start();
    let (digest, text) = registry.push_image("a", "t", b"{}");
    let put = |count: usize| {
        let tags: Vec<String> = (0..count).map(|n| format!("tag=v{n}")).collect();
        let path = format!("/v2/a/manifests/{digest}?tag=v0&{}", tags.join("&"));
        registry.put_manifest(&path, OCI_IMAGE, &text)
    };
    put(101).expect_refusal(414, "UNSUPPORTED");
    assert_eq!(registry.get("/v2/a/manifests/v1").status, 404);
    let reply = put(100);
    assert_eq!(reply.status, 201);
    let told = reply.headers.iter().filter(|(name, _)| name == "oci-tag");
    assert_eq!(told.count(), 100, "each once");
}

#[test]
fn a_page_of_referrers_stays_as_small_as_a_manifest() {
    let registry = Registry::start();
    let config = registry.push("a", b"{}");
    let subject = Digest::of(b"subject");
    for n in 0..5 {
        let note = "x".repeat(1_500_000);
        let extra = format!(
            r#","annotations":{{"note":"{note}","n":"{n}"}},"artifactType":"x/y","subject":{{"mediaType":"{OCI_IMAGE}","digest":"{subject}","size":1}}"#
        );
        let text = image(&config, &extra);
        let path = format!("/v2/a/manifests/{}", Digest::of(text.as_bytes()));
        assert_eq!(registry.put_manifest(&path, OCI_IMAGE, &text).status, 201);
    }
    for query in ["", "?artifactType=x%2Fy"] {
        let mut path = format!("/v2/a/referrers/{subject}{query}");
        let mut found = std::collections::BTreeSet::new();
        loop {
            let page = registry.get(&path);
            assert!(page.body.len() <= 4 * 1024 * 1024, "{}", page.body.len());
            let filtered = page.find("oci-filters-applied").is_some();
            assert_eq!(filtered, !query.is_empty(), "on each page");
            for entry in page.json()["manifests"].as_array().expect("manifests") {
                assert!(found.insert(entry["digest"].to_string()), "twice");
            }
            let Some(link) = page.find("link") else { break };
            let end = link.find('>').expect("a reference");
            path = link[1..end].to_owned();
        }
        assert_eq!(found.len(), 5);
    }
}

#[test]
fn an_index_lists_what_is_there() {
    let registry = Registry::start();
    let (child, _) = registry.push_image("a", "t", b"{}");
    let reply = registry.put_manifest("/v2/a/manifests/i", OCI_INDEX, &index(&[child], ""));
    assert_eq!((reply.status, reply.find("warning")), (201, None));
}
