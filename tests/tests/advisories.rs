//! Advisories against registries, one test for each that concerns what this one does. What needs accounts
//! or upstream registries is tested as far as it holds without them; `server/src/http/gate.rs` has the matrix of
//! all routes before the one gate.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strata_oci::digest::Digest;
use strata_oci::media;
use strata_tests::api::{Api, location};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::stratad::Stratad;

fn server() -> (Place, Stratad) {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    (place, server)
}

fn image(name: &str) -> Image {
    Image::new(&[Layer::of(&[Entry::file(name, name)])])
}

/// CVE-2023-2253 (GHSA-hqxw-f8mx-cpmw): `n` was the size of an allocation.
#[test]
fn a_huge_page_size_allocates_nothing() {
    let (_place, server) = server();
    let api = server.api();
    api.push(&image("a"), "app", "v1");
    api.get("/v2/app/tags/list").expect(200);
    let before = server.peak_memory();
    for n in [
        "2147483647",
        "9223372036854775807",
        "18446744073709551616",
        &"9".repeat(200),
    ] {
        let tags = api.get(&format!("/v2/app/tags/list?n={n}")).expect(200);
        assert_eq!(tags.json()["tags"], json!(["v1"]));
        let names = api.get(&format!("/v2/_catalog?n={n}")).expect(200);
        assert_eq!(names.json()["repositories"], json!(["app"]));
    }
    let grown = server.peak_memory() - before;
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes");
}

/// CVE-2021-41190 (GHSA-mc8v-mgrf-8f4m, GHSA-qq97-vm5h-rrhg): one document, two readings.
#[test]
fn a_manifest_has_one_reading() {
    let (_place, server) = server();
    let api = server.api();
    let image = image("a");
    api.push(&image, "app", "v1");
    let own: Value = serde_json::from_slice(&image.manifest).expect("JSON");
    let child = json!([{ "mediaType": image.media_type(), "digest": image.digest, "size": 9 }]);
    let with = |name: &str, value: &Value| {
        let mut document = own.clone();
        document[name] = value.clone();
        document.to_string()
    };
    let both = with("manifests", &child);
    let mut untyped: Value = serde_json::from_str(&both).expect("JSON");
    untyped.as_object_mut().expect("object").remove("mediaType");
    let twice = with("x", &json!(1)).replacen('{', "{\"layers\":[],", 1);
    for (kind, text) in [
        (media::OCI_INDEX, own.to_string()),
        (media::OCI_MANIFEST, both.clone()),
        (media::OCI_INDEX, both),
        (media::OCI_MANIFEST, untyped.to_string()),
        (media::OCI_INDEX, untyped.to_string()),
        (media::OCI_MANIFEST, twice),
        (media::OCI_MANIFEST, with("Layers", &json!([]))),
        (media::OCI_MANIFEST, with("Manifests", &child)),
        (
            media::OCI_MANIFEST,
            with("mediaType", &json!(media::OCI_INDEX)),
        ),
    ] {
        api.put_manifest("app", "two", kind, text.as_bytes())
            .expect_error(400, "MANIFEST_INVALID");
    }
    api.manifest("app", "two")
        .expect_error(404, "MANIFEST_UNKNOWN");
    // The type belongs to the digest: what a client asks for does not change it.
    let target = format!("/v2/app/manifests/{}", image.digest);
    for accept in [media::OCI_INDEX, media::DOCKER_MANIFEST, "text/html"] {
        let reply = api
            .0
            .send("GET", &target, &[("Accept", accept)], b"")
            .expect(200);
        assert_eq!(reply.header("content-type"), Some(image.media_type()));
    }
}

/// CVE-2025-24976: a key that came with the token was trusted. There are no tokens yet: what looks like one opens
/// nothing, changes nothing and is not kept.
#[test]
fn a_made_up_token_changes_no_answer_and_is_not_logged() {
    let (_place, server) = server();
    let api = server.api();
    api.push(&image("a"), "app", "v1");
    for value in [
        "Bearer eyJhbGciOiJub25lIn0.e30.secret",
        "Basic YWRtaW46c2VjcmV0",
        "secret",
    ] {
        for target in ["/v2/", "/v2/app/manifests/v1", "/v2/other/manifests/v1"] {
            let plain = api.get(target);
            let reply = api.0.send("GET", target, &[("Authorization", value)], b"");
            assert_eq!((reply.status, reply.body), (plain.status, plain.body));
        }
        let word = value.split(' ').next_back().expect("a word");
        assert!(!server.log().contains(word), "{}", server.log());
    }
}

/// CVE-2026-35172: a membership that a cache remembered brought a deleted blob back.
#[test]
fn a_deleted_blob_stays_deleted_although_another_repository_has_it() {
    let (_place, mut server) = server();
    let api = server.api();
    let digest = api.push_blob("mine", b"private bytes");
    api.push_blob("theirs", b"private bytes");
    api.blob("mine", &digest).expect(200);
    let target = format!("/v2/mine/blobs/{digest}");
    api.0.send("DELETE", &target, &[], b"").expect(202);
    let gone = |api: &Api| {
        assert!(!api.has_blob("mine", &digest));
        for headers in [
            vec![],
            vec![("Range", "bytes=0-1")],
            vec![("If-None-Match", "*")],
        ] {
            api.0
                .send("GET", &target, &headers, b"")
                .expect_error(404, "BLOB_UNKNOWN");
        }
        let mount = format!("/v2/new/blobs/uploads/?mount={digest}&from=mine");
        api.0.send("POST", &mount, &[], b"").expect(202);
        assert!(api.has_blob("theirs", &digest));
    };
    gone(&api);
    api.blob("theirs", &digest).expect(200);
    gone(&api);
    server.start_again();
    gone(&server.api());
}

/// CVE-2026-31801 (zot before 2.1.15, and its issue 4266): tags that came as parameters were not checked one by one.
#[test]
fn each_tag_parameter_is_checked_and_one_that_fails_stops_all() {
    let (_place, server) = server();
    let api = server.api();
    let (old, new) = (image("old"), image("new"));
    api.push(&old, "app", "latest");
    api.push(&new, "staging", "v1");
    for blob in new.blobs() {
        api.push_blob("app", blob);
    }
    let kind = ("Content-Type", new.media_type());
    let put = |tags: &str, condition: (&str, &str)| {
        let target = format!("/v2/app/manifests/{}?{tags}", new.digest);
        api.0
            .send("PUT", &target, &[kind, condition], &new.manifest)
    };
    for tags in [
        "tag=latest",
        "tag=one&tag=latest",
        "tag=latest&tag=one",
        "tag=one&tag=-bad",
    ] {
        let refused = put(tags, ("If-None-Match", "*"));
        assert!(
            [400, 412].contains(&refused.status),
            "{tags}: {}",
            refused.status
        );
    }
    assert_eq!(api.manifest("app", "latest").expect(200).body, old.manifest);
    api.manifest("app", "one")
        .expect_error(404, "MANIFEST_UNKNOWN");
    let digest = new.digest.to_string();
    api.manifest("app", &digest)
        .expect_error(404, "MANIFEST_UNKNOWN");
    put("tag=one&tag=two", ("If-None-Match", "*")).expect(201);
}

/// CVE-2026-27771 (Gitea before 1.26.2) and Harbor's CVE-2022-31667, CVE-2022-31669 and GHSA-hw28-333w-qxp3: content
/// was found by its id alone.
#[test]
fn nothing_is_found_through_another_repository() {
    let (_place, server) = server();
    let api = server.api();
    let image = image("a");
    api.push(&image, "mine", "v1");
    let note = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [],
        "subject": { "mediaType": image.media_type(), "digest": image.digest, "size": 9 } });
    let note = note.to_string();
    api.put_manifest("mine", "note", media::OCI_INDEX, note.as_bytes())
        .expect(201);
    let layer = &image.layers[0].digest;
    let upload = api.append(&api.start("mine"), b"x");
    for other in ["theirs", "mine/below", "min"] {
        let at = |rest: &str| format!("/v2/{other}/{rest}");
        let id = upload.rsplit('/').next().expect("an id");
        for method in ["GET", "HEAD", "DELETE"] {
            for target in [
                at(&format!("blobs/{layer}")),
                at(&format!("manifests/{}", image.digest)),
                at("manifests/v1"),
                at(&format!("blobs/uploads/{id}")),
            ] {
                let status = api.0.send(method, &target, &[], b"").status;
                assert_eq!(status, 404, "{method} {target}");
            }
        }
        api.get(&at("tags/list")).expect_error(404, "NAME_UNKNOWN");
        let list = api
            .get(&at(&format!("referrers/{}", image.digest)))
            .expect(200);
        assert_eq!(list.json()["manifests"], json!([]));
        api.put_manifest(other, "v1", image.media_type(), &image.manifest)
            .expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    }
    api.manifest("mine", "v1").expect(200);
    assert!(api.has_blob("mine", layer));
}

/// CVE-2026-32589 (Quay): whoever knew the id of an upload could go on with it.
#[test]
fn an_upload_is_of_no_use_in_another_repository() {
    let (_place, server) = server();
    let api = server.api();
    let upload = api.append(&api.start("mine"), b"begun ");
    let stolen = upload.replacen("/v2/mine/", "/v2/theirs/", 1);
    let digest = Digest::of(b"begun and ended").to_string();
    for method in ["GET", "PATCH", "DELETE"] {
        let body: &[u8] = if method == "PATCH" { b"and " } else { b"" };
        api.0
            .send(method, &stolen, &[], body)
            .expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    api.finish(&stolen, &digest, b"and ended")
        .expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    api.finish(&upload, &digest, b"and ended").expect(201);
    assert!(!api.has_blob("theirs", &digest.parse().expect("digest")));
}

/// CVE-2026-2376 (Quay): a URL that a client had written was fetched by the server.
#[test]
fn urls_in_a_manifest_are_never_followed() {
    let (_place, server) = server();
    let api = server.api();
    let bait = TcpListener::bind("127.0.0.1:0").expect("bind");
    bait.set_nonblocking(true).expect("nonblocking");
    let url = format!("http://{}/layer", bait.local_addr().expect("address"));
    let config = api.push_blob("app", b"{}");
    let foreign = Digest::of(b"foreign");
    let text = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": { "mediaType": media::OCI_EMPTY, "digest": config, "size": 2, "urls": [url] },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "digest": foreign, "size": 7, "urls": [url] }],
    });
    let text = text.to_string();
    api.put_manifest("app", "v1", media::OCI_MANIFEST, text.as_bytes())
        .expect(201);
    api.manifest("app", "v1").expect(200);
    api.blob("app", &foreign).expect_error(404, "BLOB_UNKNOWN");
    let mount = format!("/v2/app/blobs/uploads/?mount={foreign}&from={url}");
    api.0
        .send("POST", &mount, &[], b"")
        .expect_error(400, "NAME_INVALID");
    let called = bait.accept().map(|(_, from)| from);
    assert!(called.is_err(), "{called:?}");
}

/// CVE-2026-4404 (Harbor): the first administrator's password was known. There is no administrator; a server that
/// was told nothing is reached from its own machine alone.
#[test]
fn a_server_that_was_told_nothing_listens_on_this_machine_alone() {
    assert!(stratad::config::DEFAULT_LISTEN.ip().is_loopback());
    let defaults = stratad::Config::new("/nowhere");
    assert!(
        defaults
            .http
            .listen
            .iter()
            .all(|address| address.ip().is_loopback())
    );
    assert_eq!(defaults.admin.listen, None);
    assert!(defaults.http.trusted_proxies.is_empty());
}

/// distribution-spec pull request 275: whether a mount works must not tell what others have. What cannot be
/// mounted looks the same whether or not it exists.
#[test]
fn mounts_that_fail_look_alike() {
    let (_place, server) = server();
    let api = server.api();
    let there = api.push_blob("secret", b"bytes");
    let nowhere = Digest::of(b"nowhere");
    let answer = |query: String| {
        let target = format!("/v2/app/blobs/uploads/?{query}");
        let mut reply = api.0.send("POST", &target, &[], b"");
        let id = location(&reply)
            .rsplit('/')
            .next()
            .expect("an id")
            .to_owned();
        reply
            .headers
            .retain(|(name, _)| !matches!(name.as_str(), "date" | "x-request-id"));
        for (_, value) in &mut reply.headers {
            *value = value.replace(&id, "ID");
        }
        (reply.status, reply.headers, reply.body)
    };
    let plain = answer("x".to_owned());
    assert_eq!(plain.0, 202);
    for query in [
        format!("mount={there}&from=app"),
        format!("mount={there}&from=no/such"),
        format!("mount={nowhere}&from=secret"),
        format!("mount={nowhere}"),
    ] {
        assert_eq!(answer(query.clone()), plain, "{query}");
    }
}

/// Angos' changelog: answers of 5xx told what had failed inside.
#[test]
fn a_failure_inside_tells_nothing_of_the_inside() {
    let (_place, server) = server();
    let api = server.api();
    let image = image("a");
    api.push(&image, "app", "v1");
    let upload = api.start("app");
    let staging = server.data().join("uploads");
    std::fs::remove_dir_all(&staging).expect("remove");
    std::fs::write(&staging, b"in the way").expect("write");
    let kind = [("Content-Type", "application/octet-stream")];
    let single = format!("/v2/app/blobs/uploads/?digest={}", Digest::of(b"bytes"));
    for (method, target) in [("PATCH", upload.as_str()), ("POST", &single)] {
        let reply = api.0.send(method, target, &kind, b"bytes").expect(500);
        let told = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!(reply.error_code(), "UNKNOWN");
        for inside in ["uploads", "data", "os error", "directory", "sqlite", ".rs"] {
            assert!(!told.contains(inside), "{told}");
        }
    }
    // The log says it, once the answer has ended.
    let name = staging.display().to_string();
    let limit = Instant::now() + Duration::from_secs(30);
    while !server.log().contains(&name) {
        assert!(Instant::now() < limit, "{}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    // What needs no staging goes on.
    api.manifest("app", "v1").expect(200);
}
