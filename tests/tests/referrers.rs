//! What refers to an image: signatures, SBOMs and the like, also where old clients keep them (distribution-spec, "Listing Referrers").

use serde_json::{Value, json};
use strata_oci::digest::{Algorithm, Digest, Digester};
use strata_oci::media;
use strata_tests::api::Api;
use strata_tests::http::Reply;
use strata_tests::place::Place;
use strata_tests::stratad::Stratad;

const ABSENT: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn server() -> (Place, Stratad) {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    (place, server)
}

fn sha512(bytes: &[u8]) -> Digest {
    let mut digester = Digester::new(Algorithm::Sha512);
    digester.update(bytes);
    digester.finish()
}

fn subject(digest: &Digest) -> Value {
    json!({ "mediaType": media::OCI_MANIFEST, "digest": digest, "size": 7 })
}

fn referrers(api: &Api, subject: &Digest, query: &str) -> Reply {
    let target = format!("/v2/app/referrers/{subject}{query}");
    let reply = api.get(&target).expect(200);
    assert_eq!(reply.header("content-type"), Some(media::OCI_INDEX));
    reply
}

fn digests(list: &Reply) -> Vec<String> {
    let manifests = list.json()["manifests"].clone();
    let manifests = manifests.as_array().expect("manifests").iter();
    manifests
        .map(|m| m["digest"].as_str().expect("digest").to_owned())
        .collect()
}

/// Row 7 (GitLab's registry refuses a subject that is missing).
#[test]
fn a_subject_may_be_missing_and_is_told_to_be_understood() {
    let (_place, server) = server();
    let api = server.api();
    let missing: Digest = ABSENT.parse().expect("digest");
    let text = api.artifact("app", json!({ "subject": subject(&missing) }));
    let (image, reply) = api.push_manifest("app", media::OCI_MANIFEST, &text);
    assert_eq!(reply.header("oci-subject"), Some(ABSENT));
    let list = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [],
        "subject": subject(&missing) });
    let (index, reply) = api.push_manifest("app", media::OCI_INDEX, &list.to_string());
    assert_eq!(reply.header("oci-subject"), Some(ABSENT));
    let mut wanted = [image.to_string(), index.to_string()];
    wanted.sort();
    assert_eq!(digests(&referrers(&api, &missing, "")), wanted);
}

/// Row 8 (distribution-spec issue 359; Quay pull request 6385).
#[test]
fn referrers_are_filtered_and_an_absent_subject_has_none() {
    let (_place, server) = server();
    let api = server.api();
    let absent: Digest = ABSENT.parse().expect("digest");
    assert!(digests(&referrers(&api, &absent, "")).is_empty());
    api.get("/v2/app/referrers/sha256:x")
        .expect_error(400, "DIGEST_INVALID");
    let of = |more: Value| {
        let mut fields = json!({ "subject": subject(&absent) });
        for (name, value) in more.as_object().expect("fields") {
            fields[name] = value.clone();
        }
        api.push_manifest("app", media::OCI_MANIFEST, &api.artifact("app", fields))
            .0
    };
    let note = of(json!({ "artifactType": "text/x-note", "annotations": { "a": "b" } }));
    let config = api.push_blob("app", b"{}");
    let typed = json!({ "mediaType": "text/x-config", "digest": config, "size": 2 });
    let by_config = of(json!({ "config": typed, "artifactType": "" }));
    let list = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [],
        "subject": subject(&absent) });
    let (index, _) = api.push_manifest("app", media::OCI_INDEX, &list.to_string());
    let all = referrers(&api, &absent, "");
    assert_eq!(all.header("oci-filters-applied"), None);
    let all = all.json();
    let entry = |digest: &Digest| {
        let all = all["manifests"].as_array().expect("manifests").iter();
        let mut all = all.filter(|m| m["digest"] == digest.to_string());
        all.next().expect("listed").clone()
    };
    assert_eq!(entry(&note)["artifactType"], "text/x-note");
    assert_eq!(entry(&note)["annotations"], json!({ "a": "b" }));
    assert_eq!(entry(&by_config)["artifactType"], "text/x-config");
    assert_eq!(entry(&index).get("artifactType"), None);
    for (query, found) in [
        ("?artifactType=text/x-note", vec![note.to_string()]),
        ("?artifactType=text%2Fx-config", vec![by_config.to_string()]),
        ("?artifactType=text/none", vec![]),
    ] {
        let some = referrers(&api, &absent, query);
        assert_eq!(some.header("oci-filters-applied"), Some("artifactType"));
        assert_eq!(digests(&some), found, "{query}");
    }
    let empty = referrers(&api, &absent, "?artifactType=");
    assert_eq!(empty.header("oci-filters-applied"), Some("artifactType"));
}

/// Row 8, the list that clients keep themselves at other registries (distribution-spec, "Enabling the Referrers
/// API"): copied here with its manifests, the answer holds those that have a subject, each once.
#[test]
fn the_list_that_old_clients_keep_under_a_tag_is_in_the_answer() {
    let (_place, server) = server();
    let api = server.api();
    for (of, tag) in [
        (
            Digest::of(b"a subject"),
            format!("sha256-{}", Digest::of(b"a subject").hex()),
        ),
        // The algorithm is cut to 32 characters, the rest to 64.
        (
            sha512(b"a subject"),
            format!("sha512-{}", &sha512(b"a subject").hex()[..64]),
        ),
    ] {
        let has = json!({ "subject": subject(&of), "artifactType": "text/x-listed" });
        let (listed, _) = api.push_manifest("app", media::OCI_MANIFEST, &api.artifact("app", has));
        let lacks = json!({ "artifactType": "text/x-has-no-subject" });
        let (stranger, _) =
            api.push_manifest("app", media::OCI_MANIFEST, &api.artifact("app", lacks));
        let entry = |digest: &Digest| json!({ "mediaType": media::OCI_MANIFEST, "digest": digest, "size": 9, "artifactType": "text/x-listed" });
        let list = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX,
            "manifests": [entry(&listed), entry(&listed), entry(&stranger)] });
        let list = list.to_string();
        api.put_manifest("app", &tag, media::OCI_INDEX, list.as_bytes())
            .expect(201);
        assert_eq!(digests(&referrers(&api, &of, "")), [listed.to_string()]);
        // What is pushed afterwards is there without the tag; the tag is what it was.
        let new = json!({ "subject": subject(&of), "artifactType": "text/x-new" });
        let (new, _) = api.push_manifest("app", media::OCI_MANIFEST, &api.artifact("app", new));
        let mut both = [listed.to_string(), new.to_string()];
        both.sort();
        assert_eq!(digests(&referrers(&api, &of, "")), both);
        assert_eq!(api.manifest("app", &tag).expect(200).body, list.as_bytes());
        // And what is deleted is gone, although the list still names it.
        let target = format!("/v2/app/manifests/{listed}");
        api.0.send("DELETE", &target, &[], b"").expect(202);
        assert_eq!(digests(&referrers(&api, &of, "")), [new.to_string()]);
    }
}

/// Row 9 (go-containerregistry pull request 2446: clients read the first page alone).
#[test]
fn hundreds_of_referrers_fit_on_one_page() {
    let (_place, server) = server();
    let api = server.api();
    let of: Digest = ABSENT.parse().expect("digest");
    let first = api.artifact(
        "app",
        json!({ "subject": subject(&of), "annotations": { "n": "_" } }),
    );
    std::thread::scope(|scope| {
        for part in 0..10 {
            let (api, first) = (&api, &first);
            scope.spawn(move || {
                for n in 0..30 {
                    let text = first.replace("\"_\"", &format!("\"{part}.{n}\""));
                    api.push_manifest("app", media::OCI_MANIFEST, &text);
                }
            });
        }
    });
    let page = referrers(&api, &of, "");
    assert_eq!((digests(&page).len(), page.header("link")), (300, None));
}
