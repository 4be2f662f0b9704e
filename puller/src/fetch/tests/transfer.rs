//! Wires that break and servers that are confused about ranges.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_answer_is_resumed_where_it_broke() {
    let image = TestImage::new(&[300_000]);
    let server = spoiled(&image, |_, before, honest| match before {
        0 | 1 => honest.cut(100_000),
        _ => honest,
    });
    let puller = Puller::new();
    let report = puller.pull(&server).await.expect("pulled");
    assert_eq!(report.bytes_fetched, image.bytes());
    let asked = server.seen_like("GET /v2/app/blobs/");
    let ranges: Vec<_> = asked[1..].iter().map(Request::range_from).collect();
    assert_eq!(ranges, [None, Some(100_000), Some(200_000)]);
    assert!(!puller.partial(&image, 0).exists(), "nothing is kept twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_pull_kept_is_not_fetched_again() {
    let image = TestImage::new(&[300_000]);
    let broken = spoiled(&image, |_, before, honest| {
        let rest = if before == 0 { 120_000 } else { 0 };
        honest.cut(rest)
    });
    let puller = Puller::new();
    let error = puller.refused(&broken).await;
    assert!(error.contains(image.layers[0].digest.hex()), "{error}");
    let kept = std::fs::metadata(puller.partial(&image, 0)).expect("kept");
    assert_eq!(kept.len(), 120_000);
    drop(broken);
    let whole = spoiled(&image, |_, _, honest| honest);
    let report = puller.pull(&whole).await.expect("pulled");
    assert_eq!(report.bytes_fetched, image.bytes() - 120_000);
    assert!(report.layers[0].fetched);
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_bytes_that_are_wrong_are_fetched_again() {
    let image = TestImage::new(&[300_000]);
    let server = spoiled(&image, |_, _, honest| honest);
    let puller = Puller::new();
    std::fs::write(puller.partial(&image, 0), vec![0; 150_000]).expect("write");
    let report = puller.pull(&server).await.expect("pulled");
    assert_eq!(report.layers.len(), 1);
    assert!(puller.said("fetching it anew"));
    // More than the blob can have is no beginning of it.
    let longer = Puller::new();
    std::fs::write(longer.partial(&image, 0), vec![0; 400_000]).expect("write");
    let report = longer.pull(&server).await.expect("pulled");
    assert_eq!(report.bytes_fetched, image.bytes());
}

/// A pull that is killed right after its image became visible leaves them.
#[tokio::test(flavor = "multi_thread")]
async fn downloads_of_layers_that_are_here_are_removed() {
    let image = TestImage::new(&[50_000]);
    let server = spoiled(&image, |_, _, honest| honest);
    let puller = Puller::new();
    puller.pull(&server).await.expect("pulled");
    let blob = &image.blobs[&image.layers[0].digest];
    // The name is known; then only the image is.
    let names = image.manifests.keys().cloned().collect::<Vec<_>>();
    for selector in ["v1"].into_iter().chain(names.iter().map(String::as_str)) {
        std::fs::write(puller.partial(&image, 0), blob).expect("write");
        let report = puller.pull_as(&server, selector).await.expect("pulled");
        assert_eq!(report.bytes_fetched, 0);
        assert!(!puller.partial(&image, 0).exists(), "{selector}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_download_needs_no_request() {
    let image = TestImage::new(&[50_000]);
    let server = spoiled(&image, |_, _, _| Reply::new(404, ""));
    let puller = Puller::new();
    let blob = &image.blobs[&image.layers[0].digest];
    std::fs::write(puller.partial(&image, 0), blob).expect("write");
    let report = puller.pull(&server).await.expect("pulled");
    assert_eq!(report.bytes_fetched, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_ranges_is_read_from_the_start() {
    let image = TestImage::new(&[300_000]);
    let whole = image.clone();
    let server = spoiled(&image, move |request, before, _| {
        let digest = request.path.rsplit('/').next().expect("a digest");
        let blob = whole.blobs[&digest.parse().expect("a digest")].clone();
        let reply = Reply::new(200, blob);
        if before == 0 {
            reply.cut(90_000)
        } else {
            reply
        }
    });
    let puller = Puller::new();
    let report = puller.pull(&server).await.expect("pulled");
    assert_eq!(report.bytes_fetched, image.bytes() + 90_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_content_range_is_refused_and_the_whole_is_fetched() {
    let image = TestImage::new(&[300_000]);
    for wrong in ["bytes 0-99/300", "bytes 100001-301055/301056", "nonsense"] {
        let server = spoiled(&image, move |request, before, mut honest| {
            match request.range_from() {
                Some(_) => {
                    honest.headers.retain(|(name, _)| name != "Content-Range");
                    honest.with("Content-Range", wrong)
                }
                None if before == 0 => honest.cut(100_000),
                None => honest,
            }
        });
        let puller = Puller::new();
        puller.pull(&server).await.expect("pulled");
        assert!(puller.said("Content-Range"), "{wrong}");
        let last = server.seen_like("GET /v2/app/blobs/").pop().expect("asked");
        assert_eq!(last.range_from(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_that_pass_are_tried_again_and_others_are_not() {
    let image = TestImage::new(&[1000]);
    let server = spoiled(&image, |_, before, honest| match before {
        0 => Reply::new(500, "oops"),
        1 => Reply::new(429, "").with("Retry-After", "0"),
        _ => honest,
    });
    Puller::new().pull(&server).await.expect("pulled");
    let server = spoiled(&image, |_, _, _| Reply::new(503, ""));
    let error = Puller::new().refused(&server).await;
    assert!(error.contains("503"), "{error}");
    let asked = server.seen_like("GET /v2/app/blobs/");
    assert_eq!(asked.len(), 1 + 3, "the configuration, and three tries");
    let server = spoiled(&image, |_, _, _| Reply::new(404, ""));
    let error = Puller::new().refused(&server).await;
    assert!(error.contains("not in the registry"), "{error}");
    assert_eq!(server.seen_like("GET /v2/app/blobs/").len(), 2, "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_given_up_and_resumed() {
    let image = TestImage::new(&[300_000]);
    let server = spoiled(&image, |_, before, honest| match before {
        0 => honest.hang(150_000),
        _ => honest,
    });
    let report = Puller::new().pull(&server).await.expect("pulled");
    assert_eq!(report.bytes_fetched, image.bytes());
    let last = server.seen_like("GET /v2/app/blobs/").pop().expect("asked");
    assert_eq!(last.range_from(), Some(150_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pulls_of_one_layer_fetch_it_once() {
    let image = TestImage::new(&[400_000, 1000]);
    let mut other = image.clone();
    other.config["author"] = "another".into();
    other.seal();
    let mut both = image.clone();
    both.blobs.extend(other.blobs);
    let manifest = other.manifests["v1"].clone();
    both.manifests.insert("v2".to_owned(), manifest);
    let server = spoiled(&both, |_, _, honest| {
        std::thread::sleep(Duration::from_millis(200));
        honest
    });
    let puller = Puller::new();
    // Two processes see the same locks, but not each other's store object.
    let second = Store::open(&puller.dir.path().join("store"), Privilege::Root).expect("open");
    let second = Puller {
        store: Arc::new(second),
        dir: tempfile::tempdir().expect("tempdir"),
        options: puller.options.clone(),
        progress: Arc::default(),
    };
    let (one, two) = tokio::join!(puller.pull_as(&server, "v1"), second.pull_as(&server, "v2"));
    let (one, two) = (one.expect("pulled"), two.expect("pulled"));
    assert_eq!(one.bytes_fetched + two.bytes_fetched, image.bytes());
    for layer in &image.layers {
        let path = format!("GET /v2/app/blobs/{}", layer.digest);
        assert_eq!(server.seen_like(&path).len(), 1);
    }
}
