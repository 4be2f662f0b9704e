//! Blobs from servers that are slow, break off, or do not know ranges: each byte is fetched once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use strata_oci::Digest;

use super::*;
use crate::registry::{Pace, RegistryOptions, RetryPolicy, Timeouts};
use crate::testing::{Reply, Request, Server, noise};

/// What one break can cost: the buffers of the sockets between.
const IN_FLIGHT: u64 = 512 * 1024;

struct Scene {
    bytes: Vec<u8>,
    server: Server,
    dir: tempfile::TempDir,
    options: RegistryOptions,
}

impl Scene {
    /// A blob on a server that answers what `spoil` makes of an honest answer.
    fn new(
        size: usize,
        spoil: impl Fn(&Request, usize, Reply) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let bytes = noise(size as u64, size);
        let (served, before) = (bytes.clone(), AtomicUsize::new(0));
        let server = Server::start(move |request, _| {
            let honest = match request.range() {
                None => Reply::new(200, served.clone()),
                Some((from, last)) => {
                    Reply::part(&served, from, last.map_or(served.len(), |last| last + 1))
                }
            };
            spoil(request, before.fetch_add(1, Ordering::Relaxed), honest)
        });
        let retry = RetryPolicy {
            first: Duration::from_millis(1),
            ..RetryPolicy::default()
        };
        let options = RegistryOptions {
            retry,
            ..RegistryOptions::default()
        };
        let dir = tempfile::tempdir().expect("tempdir");
        Self {
            bytes,
            server,
            dir,
            options,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("blob")
    }

    /// Brings the blob here, whole; the bytes that travelled.
    async fn bring(&self) -> u64 {
        let travelled = self.try_to().await.expect("brought");
        assert!(std::fs::read(self.path()).expect("read") == self.bytes);
        let left = std::fs::read_dir(self.dir.path()).expect("list").count();
        assert_eq!(left, 1, "the blob alone");
        travelled
    }

    async fn try_to(&self) -> Result<u64, TransferError> {
        let registry = Registry::new(&self.server.host(), &self.options).expect("a registry");
        let blob = Descriptor::new("x", Digest::of(&self.bytes), self.bytes.len() as u64);
        let last = Mutex::new(0);
        let transfer = Transfer::new(Arc::new(registry), "app", &blob);
        let path = self.path();
        let brought = transfer.to_file(&path, |bytes| {
            let mut last = last.lock().expect("no panic");
            assert!(bytes >= *last && bytes <= blob.size, "{bytes} after {last}");
            *last = bytes;
        });
        brought.await
    }

    fn keep(&self, piece: &str, from: usize, end: usize) {
        let path = self.dir.path().join(format!("blob{piece}"));
        std::fs::write(path, &self.bytes[from..end]).expect("write");
    }

    fn ranges(&self) -> Vec<Option<(usize, Option<usize>)>> {
        self.server.seen().iter().map(Request::range).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_slow_one_by_one_are_used_side_by_side() {
    let size = 8 << 20;
    let scene = Scene::new(size, |_, _, honest| honest.slow(10 << 10));
    let travelled = scene.bring().await;
    let asked = scene.ranges();
    let ahead = asked.iter().flatten().filter(|(_, last)| last.is_some());
    assert!(ahead.count() >= 2, "{asked:?}");
    assert_eq!(asked[0], None, "the first is a plain one");
    // The first was told to end before its time; nothing else was asked for twice.
    assert!(travelled < size as u64 + IN_FLIGHT, "{travelled}");
    assert!(scene.server.sent() < size as u64 + IN_FLIGHT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_one_connection_is_kept() {
    let size = 4 << 20;
    let mut scene = Scene::new(size, |_, _, honest| honest.slow(10 << 10));
    scene.options.connections = std::num::NonZeroUsize::new(1);
    assert_eq!(scene.bring().await, size as u64);
    assert_eq!(scene.ranges(), [None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_is_read_once_from_end_to_end() {
    let size = 5 << 20;
    let whole = noise(size as u64, size);
    let scene = Scene::new(size, move |_, _, _| {
        Reply::new(200, whole.clone()).slow(10 << 10)
    });
    let travelled = scene.bring().await;
    assert!(travelled < size as u64 + IN_FLIGHT, "{travelled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_of_an_earlier_try_are_used_and_only_the_gaps_are_fetched() {
    let scene = Scene::new(100_000, |_, _, honest| honest);
    scene.keep("", 0, 10_000);
    scene.keep("@30000", 30_000, 50_000);
    scene.keep("@80000", 80_000, 100_000);
    assert_eq!(scene.bring().await, 20_000 + 30_000);
    let asked = scene.ranges();
    assert_eq!(
        asked,
        [Some((10_000, Some(29_999))), Some((50_000, Some(79_999)))]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_that_is_wrong_is_noticed_and_nothing_of_it_stays() {
    let scene = Scene::new(100_000, |_, _, honest| honest);
    std::fs::write(scene.dir.path().join("blob@50000"), [7; 1000]).expect("write");
    let error = scene.try_to().await.expect_err("refused");
    assert!(matches!(error, TransferError::Content(_)), "{error}");
    assert_eq!(
        std::fs::read_dir(scene.dir.path()).expect("list").count(),
        0
    );
    assert_eq!(scene.bring().await, 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_drops_is_asked_for_again_elsewhere() {
    let mut scene = Scene::new(300_000, |_, before, honest| match before {
        // 1000 bytes a second: never silent.
        0 => honest.slow(10),
        _ => honest,
    });
    scene.options.timeouts = Timeouts {
        pace: Pace {
            least: 50_000,
            low: 50_000,
            over: Duration::from_millis(300),
        },
        ..Timeouts::default()
    };
    assert!(scene.bring().await < 300_000 + IN_FLIGHT);
    let asked = scene.ranges();
    let (from, last) = asked[1].expect("a range");
    assert!(
        asked.len() == 2 && from > 0 && from < 2000 && last.is_none(),
        "{asked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_ever_drips_is_given_up() {
    let mut scene = Scene::new(300_000, |_, _, honest| honest.slow(100));
    scene.options.retry.tries = 2;
    scene.options.timeouts.pace = Pace {
        least: 50_000,
        low: 50_000,
        over: Duration::from_millis(200),
    };
    let error = scene.try_to().await.expect_err("given up").to_string();
    assert!(error.contains("next to nothing"), "{error}");
    let kept = std::fs::metadata(scene.path()).expect("kept").len();
    assert!(kept > 1000, "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_blobs_are_written_whole_whatever_they_begin_with() {
    let size = (5 << 20) + 777;
    let scene = Scene::new(size, |_, before, honest| match before {
        0 => honest.cut(3_000_001),
        _ => honest,
    });
    assert_eq!(scene.bring().await, size as u64);
    std::fs::remove_file(scene.path()).expect("remove");
    scene.keep("", 0, 1_234_567);
    assert_eq!(scene.bring().await, size as u64 - 1_234_567);
}
