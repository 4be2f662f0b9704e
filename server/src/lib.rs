//! The registry server.
//!
//! A request goes one way: [`route`] reads its line, [`auth`] lets it pass, [`http`] turns it into
//! a call of [`push`] or [`pull`], and those speak to [`meta`] (what is known) and [`blob`] (the bytes).

pub mod admin;
pub mod app;
pub mod auth;
pub mod blob;
pub mod condition;
pub mod config;
pub mod error;
pub mod gc;
pub mod health;
pub mod http;
pub mod meta;
pub mod net;
pub mod pull;
pub mod push;
pub mod route;
pub mod telemetry;
pub mod upload;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

pub use app::{App, OpenError};
pub use config::{Config, Limits, Live};
pub use net::Listeners;

/// How long the end waits for what clients that were cut off had sent to be recorded.
const RECORD: Duration = Duration::from_secs(5);

/// A registry whose data is open: it can be served.
pub struct Server {
    app: Arc<App>,
    idle: tokio::sync::mpsc::Receiver<()>,
    admin: Option<TcpListener>,
}

impl Server {
    /// Opens the data directory.
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        let admin = match config.admin.listen {
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| OpenError::Admin { address, source })?)
            }
            None => None,
        };
        let (app, idle) = App::open(config).await?;
        Ok(Self { app, idle, admin })
    }

    /// Where the admin listener listens, if there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.local_addr().ok()
    }

    /// Its settings, to be replaced while it serves.
    pub fn settings(&self) -> Live {
        self.app.config.clone()
    }

    /// [`Server::open`] over other stores than those of the data directory.
    pub async fn open_with(
        config: Config,
        meta: Arc<dyn meta::MetaStore>,
        blobs: Arc<dyn blob::BlobStore>,
    ) -> Result<Self, OpenError> {
        let (app, idle) = App::open_with(config, meta, blobs).await?;
        let admin = None;
        Ok(Self { app, idle, admin })
    }

    /// Serves until `shutdown` is done, then drains.
    pub async fn serve(
        mut self,
        listeners: impl Into<Listeners>,
        shutdown: impl Future<Output = ()>,
    ) {
        let (end, ending) = gc::Stop::new();
        let collector = tokio::spawn(gc::forever(Arc::clone(&self.app), ending));
        let (stop, stopped) = oneshot::channel::<()>();
        let admin = self.admin.take().map(|listener| {
            // It answers until the registry has drained.
            let stopped = async { drop(stopped.await) };
            tokio::spawn(admin::serve(listener, Arc::clone(&self.app), stopped))
        });
        let app = Arc::clone(&self.app);
        let shutdown = async move {
            shutdown.await;
            app.health.drain();
        };
        let router = http::router(Arc::clone(&self.app));
        net::serve(listeners.into(), Arc::clone(&self.app), router, shutdown).await;
        end.send_replace(true);
        if timeout(RECORD, collector).await.is_err() {
            tracing::warn!("stopping while garbage is being collected");
        }
        drop(stop);
        if let Some(admin) = admin {
            drop(admin.await);
        }
        drop(self.app);
        if timeout(RECORD, self.idle.recv()).await.is_err() {
            tracing::warn!("stopping while uploads are being recorded");
        }
    }
}

/// Opens the data directory and serves: [`Server::open`] and [`Server::serve`] in one.
pub async fn serve(
    listeners: impl Into<Listeners>,
    config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<(), OpenError> {
    let server = Server::open(config).await?;
    server.serve(listeners, shutdown).await;
    Ok(())
}
