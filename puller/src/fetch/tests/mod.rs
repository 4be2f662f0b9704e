//! Pulls from registries that break, lie or mislead: either the result is right or the error says
//! what is wrong, nothing unproved is visible, and the next pull works.

mod access;
mod content;
mod transfer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oci_distribution::Reference;

use super::*;
use crate::progress::Recording;
use crate::registry::{Credentials, RetryPolicy, Timeouts};
use crate::store::Store;
use crate::testing::{Reply, Request, Server, TestImage};
use crate::userns::Privilege;

/// A store of a test's own, and how it pulls.
struct Puller {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    options: PullOptions,
    progress: Arc<Recording>,
}

impl Puller {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(&dir.path().join("store"), Privilege::Root).expect("open");
        let registry = RegistryOptions {
            retry: RetryPolicy {
                tries: 3,
                first: Duration::from_millis(1),
                longest: Duration::from_millis(20),
            },
            timeouts: Timeouts {
                idle: Duration::from_millis(400),
                ..Timeouts::default()
            },
            credentials: Some(Credentials::new("me", "secret")),
            ..RegistryOptions::default()
        };
        Self {
            store: Arc::new(store),
            dir,
            options: PullOptions {
                registry,
                ..PullOptions::default()
            },
            progress: Arc::default(),
        }
    }

    async fn pull_as(&self, server: &Server, selector: &str) -> Result<PullReport, PullError> {
        let (host, app, selector) = (server.host(), "app".to_owned(), selector.to_owned());
        let reference = if selector.contains(':') {
            Reference::with_digest(host, app, selector)
        } else {
            Reference::with_tag(host, app, selector)
        };
        let progress = self.progress.clone();
        pull(self.store.clone(), &reference, &self.options, progress).await
    }

    async fn pull(&self, server: &Server) -> Result<PullReport, PullError> {
        self.pull_as(server, "v1").await
    }

    /// The error of a pull that has to fail and to leave nothing to see.
    async fn refused(&self, server: &Server) -> String {
        let error = self.pull(server).await.expect_err("it has to fail");
        assert!(self.store.images().expect("images").is_empty());
        assert_eq!(self.list("layers"), 0, "no layer is visible");
        assert_eq!(self.list("staging"), 0, "nothing is left staged");
        error.to_string()
    }

    fn list(&self, directory: &str) -> usize {
        let path = self.dir.path().join("store").join(directory);
        std::fs::read_dir(path).map_or(0, |entries| entries.count())
    }

    fn partial(&self, image: &TestImage, layer: usize) -> PathBuf {
        self.store.partial_path(&image.layers[layer].digest)
    }

    fn said(&self, words: &str) -> bool {
        let events = self.progress.events();
        events
            .iter()
            .any(|event| matches!(event, Event::Message(text) if text.contains(words)))
    }
}

/// A registry that is honest but for what `spoil` makes of its answers about layers; it is told
/// how many requests for the same came before.
fn spoiled(
    image: &TestImage,
    spoil: impl Fn(&Request, usize, Reply) -> Reply + Send + Sync + 'static,
) -> Server {
    let image = image.clone();
    let layers: Vec<String> = image.layers.iter().map(|l| l.digest.to_string()).collect();
    Server::start(move |request, before| {
        let honest = image.answer(request);
        if layers.iter().any(|digest| request.path.ends_with(digest)) {
            spoil(request, before, honest)
        } else {
            honest
        }
    })
}
