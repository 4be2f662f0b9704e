//! What a registry must not be able to do to the puller: other bytes than it promised, manifests that make
//! no sense, moments of illness, redirects. Nothing of a refused pull is visible or stays.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use strata_oci::digest::Digest;
use strata_oci::media;
use strata_tests::command::Ran;
use strata_tests::entry::Entry;
use strata_tests::fake::{Fake, reply, reply_of_length};
use strata_tests::image::{Image, Layer};
use strata_tests::scene::Scene;

/// Pulls an image that must be refused.
#[track_caller]
fn refused(s: &Scene, reference: &str) -> Ran {
    let ran = s.strata.run(&["pull", reference]).refused();
    s.assert_nothing_there();
    ran
}

fn layer() -> Layer {
    Layer::of(&[
        Entry::dir("etc/"),
        Entry::file("etc/file", "content ".repeat(30_000)),
    ])
}

#[test]
fn a_registry_that_sends_other_bytes_is_refused() {
    let s = Scene::new();
    let image = Image::new(&[layer()]);
    let long = [image.layers[0].blob.as_slice(), b"more"].concat();
    let short = image.layers[0].blob[..1000].to_vec();
    let other = vec![b'x'; image.layers[0].blob.len()];
    for (what, bytes) in [("long", long), ("short", short), ("other", other)] {
        let wanted = image.layers[0].digest.to_string();
        let fake = Fake::of_image(image.clone(), move |asked| {
            asked
                .target
                .ends_with(&wanted)
                .then(|| reply(200, &[], &bytes))
        });
        let ran = s
            .strata
            .run(&["pull", &format!("{}/app:v1", fake.address())]);
        assert!(
            !ran.status.success() && !ran.stderr.contains("panicked"),
            "{what}: {}",
            ran.story()
        );
        assert!(
            ran.stderr.contains(image.layers[0].digest.short()),
            "{what}: {}",
            ran.stderr
        );
        s.assert_nothing_there();
    }
}

#[test]
fn a_registry_that_sends_another_manifest_for_a_digest_is_refused() {
    let s = Scene::new();
    let (asked_for, sent) = (Image::new(&[layer()]), Image::new(&[]));
    let fake = Fake::of_image(sent, |_| None);
    let reference = format!("{}/app@{}", fake.address(), asked_for.digest);
    let ran = s.strata.run(&["pull", &reference]);
    assert!(!ran.status.success(), "{}", ran.story());
    s.assert_nothing_there();
}

#[test]
fn manifests_that_make_no_sense_are_refused() {
    let s = Scene::new();
    let kind = media::OCI_MANIFEST;
    let descriptor = |size: i64| json!({ "mediaType": media::OCI_LAYER_GZIP, "digest": Digest::of(b"x"), "size": size });
    let config = json!({ "mediaType": media::OCI_CONFIG, "digest": Digest::of(b"x"), "size": 1 });
    let image = |config: &serde_json::Value, layers: serde_json::Value| {
        json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers })
            .to_string()
            .into_bytes()
    };
    let mut large = config.clone();
    large["size"] = json!(1u64 << 62);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("a page", b"<html></html>".to_vec()),
        ("negative size", image(&config, json!([descriptor(-1)]))),
        (
            "bad digest",
            image(
                &json!({ "mediaType": "x", "digest": "sha256:../../x", "size": 1 }),
                json!([]),
            ),
        ),
        ("a huge configuration", image(&large, json!([]))),
        (
            "ten thousand layers",
            image(&config, json!(vec![descriptor(1); 10_000])),
        ),
        (
            "too long",
            [image(&config, json!([])), vec![b' '; 6 << 20]].concat(),
        ),
        (
            "deep",
            [b"[".repeat(200_000), b"]".repeat(200_000)].concat(),
        ),
        (
            "schema 1",
            br#"{"schemaVersion":1,"name":"a","fsLayers":[]}"#.to_vec(),
        ),
    ];
    for (what, bytes) in cases {
        let fake = Fake::start(move |asked| match asked.target.as_str() {
            "/v2/" => reply(200, &[], b"{}"),
            target if target.contains("/manifests/") => {
                let body: &[u8] = if asked.method == "HEAD" { b"" } else { &bytes };
                reply_of_length(200, &[("Content-Type", kind)], bytes.len(), body)
            }
            _ => reply(404, &[], b""),
        });
        let ran = s
            .strata
            .run(&["pull", &format!("{}/app:v1", fake.address())]);
        assert!(
            !ran.status.success() && !ran.stderr.contains("panicked"),
            "{what}: {}",
            ran.story()
        );
        assert!(!ran.stderr.trim().is_empty(), "{what}: no reason");
        s.assert_nothing_there();
    }
}

#[test]
fn an_index_without_this_machine_says_what_there_is() {
    let s = Scene::new();
    let image = Image::new(&[]);
    s.server.api().push(&image, "app", "child");
    let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [{
        "mediaType": image.media_type(), "digest": image.digest, "size": image.manifest.len(),
        "platform": { "os": "plan9", "architecture": "mips" },
    }] });
    let bytes = index.to_string().into_bytes();
    s.server
        .api()
        .put_manifest("app", "index", media::OCI_INDEX, &bytes)
        .expect(201);
    refused(&s, &s.server.reference("app", "index")).says("plan9/mips");
}

#[test]
fn a_registry_that_is_ill_for_a_moment_is_asked_again() {
    let s = Scene::new();
    let image = Image::new(&[layer()]);
    let failures = AtomicU32::new(0);
    let fake = Fake::of_image(image.clone(), move |asked| {
        let ill = asked.target.contains("/blobs/") && failures.fetch_add(1, Ordering::Relaxed) < 2;
        ill.then(|| reply(503, &[("Retry-After", "0")], b""))
    });
    let pulled = s.strata.pull(&format!("{}/app:v1", fake.address()));
    assert_eq!(pulled.fetched(), 1);
    let dead = Fake::of_image(image, |asked| {
        asked
            .target
            .contains("/blobs/")
            .then(|| reply(500, &[], b"out of order"))
    });
    let fresh = s.fresh_store();
    let ran = fresh.run(&["pull", &format!("{}/app:v1", dead.address())]);
    assert!(
        !ran.status.success() && ran.stderr.contains("500"),
        "{}",
        ran.story()
    );
}

#[test]
fn a_server_that_ignores_ranges_does_not_spoil_a_resumed_pull() {
    let s = Scene::new();
    let image = Image::new(&[layer()]);
    let blob = image.layers[0].blob.clone();
    let wanted = image.layers[0].digest.to_string();
    let asked_before = AtomicU32::new(0);
    // First half of the bytes, then always all of them with 200, whatever range is asked for.
    let fake = Fake::of_image(image.clone(), move |asked| {
        let first =
            asked.target.ends_with(&wanted) && asked_before.fetch_add(1, Ordering::Relaxed) == 0;
        first.then(|| reply_of_length(200, &[], blob.len(), &blob[..blob.len() / 2]))
    });
    let pulled = s.strata.pull(&format!("{}/app:v1", fake.address()));
    assert_eq!(pulled.digest, image.digest.to_string());
    let file = s.strata.layer(&image.layers[0].diff_id).join("fs/etc/file");
    assert_eq!(fs::metadata(file).expect("there").len(), 240_000);
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let s = Scene::new();
    let image = Image::new(&[layer()]);
    let storage = Fake::of_image(image.clone(), |_| None);
    let target = format!(
        "http://{}/blobs/{}",
        storage.address(),
        image.layers[0].digest
    );
    let wanted = image.layers[0].digest.to_string();
    let fake = Fake::of_image(image, move |asked| {
        let known = asked
            .headers
            .iter()
            .any(|(name, _)| name == "authorization");
        if !known {
            return Some(reply(
                401,
                &[("WWW-Authenticate", "Basic realm=\"x\"")],
                b"",
            ));
        }
        asked
            .target
            .ends_with(&wanted)
            .then(|| reply(307, &[("Location", &target)], b""))
    });
    let home = s.place.dir("home");
    fs::create_dir_all(home.join(".docker")).expect("make");
    let auth = json!({ "auths": { fake.address().to_string(): { "auth": "dXNlcjpwYXNz" } } });
    fs::write(home.join(".docker/config.json"), auth.to_string()).expect("write");
    let mut command = s
        .strata
        .command(&["pull", &format!("{}/app:v1", fake.address())]);
    strata_tests::command::run(command.env("HOME", &home)).ok();
    assert!(!storage.asked().is_empty());
    for asked in storage.asked() {
        assert!(
            asked
                .headers
                .iter()
                .all(|(name, _)| name != "authorization"),
            "{asked:?}"
        );
    }
}

#[test]
fn nothing_listens_and_the_message_says_so() {
    let s = Scene::new();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bind");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let ran = s.strata.run(&["pull", &format!("{address}/app:v1")]);
    assert!(!ran.status.success(), "{}", ran.story());
    ran.says(&address.to_string());
}
