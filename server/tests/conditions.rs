//! Conditional requests over HTTP (RFC 9110, 13): tags that move only from where they are known to be.

mod common;

use common::{OCI_IMAGE, Registry, Reply, image};
use strata_oci::Digest;

/// The text of one of many manifests with the same content.
fn text(config: &Digest, n: usize) -> String {
    image(config, &format!(r#","annotations":{{"n":"{n}"}}"#))
}

fn put(registry: &Registry, reference: &str, condition: (&str, &str), text: &str) -> Reply {
    let headers = [("Content-Type", OCI_IMAGE), condition];
    let path = format!("/v2/a/manifests/{reference}");
    registry.send("PUT", &path, &headers, text.as_bytes())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", Digest::of(text.as_bytes()))
}

#[test]
fn a_tag_moves_only_from_where_it_is_expected() {
    let registry = Registry::start();
    let config = registry.push("a", b"{}");
    let (one, two) = (text(&config, 1), text(&config, 2));
    let made = put(&registry, "t", ("If-None-Match", "*"), &one);
    assert_eq!((made.status, made.header("etag")), (201, &*quoted(&one)));
    let again = put(&registry, "t", ("If-None-Match", "*"), &two);
    again.expect_refusal(412, "DENIED");
    assert_eq!(again.header("etag"), quoted(&one), "where it is");
    let weak = format!("W/{}", quoted(&one));
    for wrong in [&quoted(&two), &weak, "\"other\"", ""] {
        let reply = put(&registry, "t", ("If-Match", wrong), &two);
        assert_eq!(reply.status, 412, "{wrong}");
    }
    put(&registry, "t", ("If-Match", "\"open"), &two).expect_refusal(400, "UNSUPPORTED");
    put(&registry, "absent", ("If-Match", "*"), &two).expect_refusal(412, "DENIED");
    let path = format!("/v2/a/manifests/{}", Digest::of(two.as_bytes()));
    assert_eq!(registry.get(&path).status, 404, "nothing was stored");
    let list = format!("\"x,y\", {} , \"z\"", quoted(&one));
    assert_eq!(put(&registry, "t", ("If-Match", &list), &two).status, 201);
    assert_eq!(registry.get("/v2/a/manifests/t").text(), two);
    let delete = |condition: &str| {
        let headers = [("If-Match", condition)];
        registry.send("DELETE", "/v2/a/manifests/t", &headers, b"")
    };
    delete(&quoted(&one)).expect_refusal(412, "DENIED");
    assert_eq!(registry.get("/v2/a/manifests/t").status, 200);
    assert_eq!(delete(&quoted(&two)).status, 202);
    delete(&quoted(&two)).expect_refusal(404, "MANIFEST_UNKNOWN");
}

#[test]
fn with_tag_parameters_all_tags_move_or_none() {
    let registry = Registry::start();
    let config = registry.push("a", b"{}");
    let (one, two) = (text(&config, 1), text(&config, 2));
    let made = put(&registry, "there", ("If-None-Match", "*"), &one);
    assert_eq!(made.status, 201);
    let tags = |names: &[&str]| {
        let tags: Vec<String> = names.iter().map(|name| format!("tag={name}")).collect();
        format!("{}?{}", Digest::of(two.as_bytes()), tags.join("&"))
    };
    let both = tags(&["new", "there"]);
    put(&registry, &both, ("If-None-Match", "*"), &two).expect_refusal(412, "DENIED");
    put(&registry, &both, ("If-Match", &quoted(&one)), &two).expect_refusal(412, "DENIED");
    assert_eq!(registry.get("/v2/a/manifests/new").status, 404);
    let new = tags(&["new", "newer"]);
    let made = put(&registry, &new, ("If-None-Match", "*"), &two);
    assert_eq!(made.status, 201);
    assert_eq!(registry.get("/v2/a/manifests/there").text(), one);
    // Without tags it is about the manifest itself.
    let there = Digest::of(two.as_bytes()).to_string();
    put(&registry, &there, ("If-None-Match", "*"), &two).expect_refusal(412, "DENIED");
    assert_eq!(put(&registry, &there, ("If-Match", "*"), &two).status, 201);
}

#[test]
fn of_many_who_make_a_tag_at_once_one_does() {
    let registry = Registry::start();
    let config = registry.push("a", b"{}");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let pushes: Vec<_> = (0..20)
            .map(|n| {
                let text = text(&config, n);
                let registry = &registry;
                scope.spawn(move || put(registry, "new", ("If-None-Match", "*"), &text).status)
            })
            .collect();
        let statuses = pushes.into_iter().map(|push| push.join().expect("push"));
        statuses.collect()
    });
    let count = |status| statuses.iter().filter(|s| **s == status).count();
    assert_eq!((count(201), count(412)), (1, 19), "{statuses:?}");
    let winner = statuses.iter().position(|s| *s == 201).expect("one");
    let there = registry.get("/v2/a/manifests/new").text();
    assert_eq!(there, text(&config, winner));
}

#[test]
fn compare_and_swap_loses_no_update() {
    let (threads, each) = (8, 6);
    let registry = Registry::start();
    let config = registry.push("a", b"{}");
    let first = image(&config, r#","annotations":{"list":""}"#);
    let made = put(&registry, "list", ("If-None-Match", "*"), &first);
    assert_eq!(made.status, 201);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (registry, config) = (&registry, &config);
            scope.spawn(move || {
                for n in 0..each {
                    loop {
                        let now = registry.get("/v2/a/manifests/list");
                        let list = &now.json()["annotations"]["list"];
                        let list = list.as_str().expect("text");
                        let longer = format!(r#","annotations":{{"list":"{list} {thread}.{n}"}}"#);
                        let text = image(config, &longer);
                        let condition = ("If-Match", now.header("etag"));
                        match put(registry, "list", condition, &text).status {
                            201 => break,
                            412 => {}
                            other => panic!("{other}"),
                        }
                    }
                }
            });
        }
    });
    let list = registry.get("/v2/a/manifests/list").json();
    let list = list["annotations"]["list"].as_str().expect("text");
    let mut entries: Vec<&str> = list.split_whitespace().collect();
    entries.sort_unstable();
    entries.dedup();
    assert_eq!(entries.len(), threads * each, "{list}");
}

#[test]
fn reads_have_conditions_too() {
    let registry = Registry::start();
    let (digest, _) = registry.push_image("a", "t", b"{}");
    let blob = registry.push("a", b"{}");
    for (path, digest) in [
        ("/v2/a/manifests/t".to_owned(), &digest),
        (format!("/v2/a/manifests/{digest}"), &digest),
        (format!("/v2/a/blobs/{blob}"), &blob),
    ] {
        for method in ["GET", "HEAD"] {
            let status = |name: &str, value: &str| {
                let reply = registry.send(method, &path, &[(name, value)], b"");
                assert!(reply.find("cache-control").is_some(), "{reply:?}");
                reply.status
            };
            let (mine, other) = (format!("\"{digest}\""), quoted("other"));
            let weak = format!("{other}, W/{mine}");
            assert_eq!(status("If-None-Match", &weak), 304, "{method} {path}");
            assert_eq!(status("If-None-Match", "*"), 304, "{method} {path}");
            assert_eq!(status("If-None-Match", &other), 200, "{method} {path}");
            assert_eq!(status("If-None-Match", "\"open"), 200, "{method} {path}");
            assert_eq!(status("If-Match", &mine), 200, "{method} {path}");
            assert_eq!(status("If-Match", &weak), 412, "{method} {path}");
        }
    }
    // What is not there is not found, whatever is expected of it.
    let nowhere = format!("/v2/a/blobs/{}", Digest::of(b"nowhere"));
    for (name, value) in [("If-Match", "*"), ("If-None-Match", "*")] {
        let reply = registry.send("GET", &nowhere, &[(name, value)], b"");
        reply.expect_refusal(404, "BLOB_UNKNOWN");
    }
}
