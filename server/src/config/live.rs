//! The settings as they are now: a reload replaces them while requests are served.

use std::sync::Arc;

use tokio::sync::watch;

use super::Config;

/// The settings that are in force. Whoever needs several takes one snapshot, so that they belong together;
/// whoever waits for long asks again, or subscribes. Clones are of the same settings.
#[derive(Debug, Clone)]
pub struct Live(watch::Sender<Arc<Config>>);

impl Live {
    /// Begins with these.
    pub fn new(config: Config) -> Self {
        Self(watch::Sender::new(Arc::new(config)))
    }

    /// The settings of this moment. Costs two atomic operations and never waits for a reload to be prepared.
    pub fn now(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow())
    }

    /// Puts others in force.
    pub fn replace(&self, config: Config) {
        self.0.send_replace(Arc::new(config));
    }

    /// Tells of each replacement.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Config>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_replacement_is_seen_and_told_and_a_snapshot_stays() {
        let live = Live::new(Config::new("/data"));
        let mut told = live.subscribe();
        let before = live.now();
        let mut other = Config::new("/data");
        other.limits.connections = 3;
        live.replace(other);
        assert_eq!(live.now().limits.connections, 3);
        told.changed().await.expect("told");
        assert_eq!(told.borrow().limits.connections, 3);
        assert_ne!(before.limits.connections, 3);
    }
}
