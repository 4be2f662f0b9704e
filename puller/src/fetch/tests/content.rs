//! Content that is not what it is said to be.

use strata_oci::{Descriptor, media};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_missing_travels_and_what_is_there_is_only_asked_for() {
    let image = TestImage::new(&[20_000, 3000]);
    let server = spoiled(&image, |_, _, honest| honest);
    let puller = Puller::new();
    let first = puller.pull(&server).await.expect("pulled");
    assert_eq!(
        (first.bytes_fetched, first.bytes_reused),
        (image.bytes(), 0)
    );
    let before = server.seen().len();
    let second = puller.pull(&server).await.expect("pulled");
    assert_eq!(
        (second.bytes_fetched, second.bytes_reused),
        (0, image.bytes())
    );
    let asked = &server.seen()[before..];
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].method, "HEAD");

    // Another image on the same base.
    let mut grown = TestImage::new(&[20_000, 500]);
    grown.seal();
    let server = spoiled(&grown, |_, _, honest| honest);
    let report = puller.pull(&server).await.expect("pulled");
    assert_eq!(report.bytes_fetched, grown.layers[1].size);
    let states: Vec<bool> = report.layers.iter().map(|l| l.fetched).collect();
    assert_eq!(states, [false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_bytes_are_refused_and_not_kept() {
    let image = TestImage::new(&[100_000]);
    let server = spoiled(&image, |_, _, mut honest| {
        honest.body[50_000] ^= 1;
        honest
    });
    let puller = Puller::new();
    let error = puller.refused(&server).await;
    let digest = image.layers[0].digest.to_string();
    assert!(
        error.contains(&digest) && error.contains("expected"),
        "{error}"
    );
    assert!(
        !puller.partial(&image, 0).exists(),
        "wrong bytes are not kept"
    );
    let honest = spoiled(&image, |_, _, honest| honest);
    let report = puller.pull(&honest).await.expect("the next pull works");
    assert_eq!(report.bytes_fetched, image.bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_and_fewer_bytes_than_promised_are_refused() {
    let image = TestImage::new(&[10_000]);
    let longer = spoiled(&image, |_, _, mut honest| {
        honest.body.extend_from_slice(&[0; 2_000_000]);
        honest
    });
    let error = Puller::new().refused(&longer).await;
    assert!(error.contains("expected"), "{error}");
    // Without a length in the header it shows while it flows.
    let endless = spoiled(&image, |_, _, mut honest| {
        let size = honest.body.len() + 2_000_000;
        honest.body.resize(size, 0);
        let head = format!("{size:x}\r\n").into_bytes();
        honest.body = [head, honest.body, b"\r\n0\r\n\r\n".to_vec()].concat();
        honest.with("Transfer-Encoding", "chunked")
    });
    let puller = Puller::new();
    let error = puller.refused(&endless).await;
    assert!(error.contains("expected"), "{error}");
    assert!(!puller.partial(&image, 0).exists());
    let shorter = spoiled(&image, |_, _, mut honest| {
        honest.body.truncate(5000);
        honest
    });
    let error = Puller::new().refused(&shorter).await;
    assert!(error.contains("expected"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_unpacks_to_something_else_is_refused() {
    let mut image = TestImage::new(&[10_000]);
    let wrong = Digest::of(b"something else").to_string();
    image.config["rootfs"]["diff_ids"] = serde_json::json!([wrong]);
    image.seal();
    let server = spoiled(&image, |_, _, honest| honest);
    let puller = Puller::new();
    let error = puller.refused(&server).await;
    let digest = image.layers[0].digest.to_string();
    assert!(error.contains(&digest) && error.contains(&wrong), "{error}");
    assert!(!puller.partial(&image, 0).exists());
    // What cannot be compared is not proved.
    let long = format!("sha512:{}", "0".repeat(128));
    image.config["rootfs"]["diff_ids"] = serde_json::json!([long]);
    image.seal();
    let server = spoiled(&image, |_, _, honest| honest);
    let error = puller.refused(&server).await;
    assert!(error.contains("sha512"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_no_archive_is_refused() {
    let mut image = TestImage::new(&[10]);
    let junk = crate::testing::noise(7, 5000);
    let digest = Digest::of(&junk);
    image.layers[0] = Descriptor::new(media::OCI_LAYER_GZIP, digest.clone(), 5000);
    image.blobs.insert(digest.clone(), junk);
    image.seal();
    let server = spoiled(&image, |_, _, honest| honest);
    let puller = Puller::new();
    let error = puller.refused(&server).await;
    assert!(error.contains(&digest.to_string()), "{error}");
    assert!(!puller.partial(&image, 0).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_are_proved() {
    let image = TestImage::new(&[10]);
    let served = |change: fn(&mut Reply)| {
        let image = image.clone();
        Server::start(move |request, _| {
            let mut reply = image.answer(request);
            if request.path.contains("/manifests/") {
                change(&mut reply);
            }
            reply
        })
    };
    let altered = served(|reply| reply.body.push(b' '));
    let error = Puller::new().refused(&altered).await;
    assert!(error.contains("digest"), "{error}");
    let mistyped = served(|reply| {
        for (name, value) in &mut reply.headers {
            if name == "Content-Type" {
                value.clone_from(&media::OCI_INDEX.to_owned());
            }
        }
    });
    let error = Puller::new().refused(&mistyped).await;
    assert!(error.contains("media type"), "{error}");
    let endless = served(|reply| reply.body = vec![b' '; 5 << 20]);
    let error = Puller::new().refused(&endless).await;
    assert!(error.contains("more than"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_and_manifest_must_tell_one_story() {
    let mut image = TestImage::new(&[10, 20]);
    image.config["rootfs"]["diff_ids"] = serde_json::json!([image.layers[0].digest]);
    image.seal();
    let server = spoiled(&image, |_, _, honest| honest);
    let error = Puller::new().refused(&server).await;
    assert!(error.contains("names 1 layers, the manifest 2"), "{error}");
    assert_eq!(
        server.seen_like("GET /v2/app/blobs/").len(),
        1,
        "no layer is fetched"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_index_the_machines_image_is_taken() {
    let mut image = TestImage::new(&[10]);
    let own = image.seal();
    let bytes = image.manifests["v1"].clone();
    let mut child = Descriptor::new(media::OCI_MANIFEST, own.clone(), bytes.len() as u64);
    child.platform = Some(Platform::host());
    let mut foreign = child.clone();
    foreign.platform = "plan9/mips".parse().ok();
    foreign.digest = Digest::of(b"foreign");
    let index = |children: &[&Descriptor]| {
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children});
        index.to_string().into_bytes()
    };
    let both = index(&[&foreign, &child]);
    image.manifests.insert("v1".to_owned(), both.clone());
    let report = Puller::new()
        .pull(&spoiled(&image, |_, _, honest| honest))
        .await;
    let report = report.expect("pulled");
    assert_eq!(
        (report.image.digest, report.resolved),
        (own, Digest::of(&both))
    );

    image.manifests.insert("v1".to_owned(), index(&[&foreign]));
    let error = Puller::new()
        .refused(&spoiled(&image, |_, _, honest| honest))
        .await;
    assert!(error.contains("offered: plan9/mips"), "{error}");
    child.size += 1;
    image.manifests.insert("v1".to_owned(), index(&[&child]));
    let error = Puller::new()
        .refused(&spoiled(&image, |_, _, honest| honest))
        .await;
    assert!(error.contains("not what its index says"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_for_another_machine_is_refused_if_one_was_asked_for() {
    let mut image = TestImage::new(&[10]);
    image.config["architecture"] = "mips".into();
    image.seal();
    let server = spoiled(&image, |_, _, honest| honest);
    let mut puller = Puller::new();
    puller.options.platform = Some(Platform::host());
    let error = puller.refused(&server).await;
    assert!(error.contains("offered: linux/mips"), "{error}");
    puller.options.platform = None;
    puller.pull(&server).await.expect("pulled");
    assert!(puller.said("linux/mips"), "with a word about it");
}
