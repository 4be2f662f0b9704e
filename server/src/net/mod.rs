//! Connections: accepted, served by hyper, and drained when the server stops.

mod conn;
mod listen;
mod peer;
mod region;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::ServiceExt;

use crate::app::App;
use conn::Conn;

pub use listen::{ListenError, Listeners};
pub use peer::Peer;
pub use region::Regions;

/// Bytes read of a body at a time, and held of a connection, at most.
const READ: usize = 256 * 1024;

/// Serves until `shutdown` is done, then lets requests under way finish, for as long as the limits say.
pub async fn serve(
    listeners: Listeners,
    app: Arc<App>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let limits = app.config.now().limits.clone();
    let room = Arc::new(Semaphore::new(limits.connections));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listeners, &room) => accepted,
        };
        let (stream, address, permit) = accepted;
        let peer = Arc::new(Peer::new(address, Arc::clone(&app.metrics)));
        let serving = connection(
            stream,
            peer,
            Arc::clone(&app),
            router.clone(),
            stopping.clone(),
        );
        connections.spawn(async move {
            serving.await;
            drop(permit);
        });
    }
    drop(listeners);
    stop.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(app.config.now().limits.drain, drained)
        .await
        .is_err()
    {
        tracing::warn!(count = connections.len(), "cutting connections off");
        connections.shutdown().await;
    }
}

/// The next connection, and the right to have it.
async fn accept(
    listeners: &Listeners,
    room: &Arc<Semaphore>,
) -> (
    TcpStream,
    SocketAddr,
    Option<tokio::sync::OwnedSemaphorePermit>,
) {
    // The semaphore is never closed.
    let permit = Arc::clone(room).acquire_owned().await.ok();
    loop {
        match listeners.accept().await {
            Ok((stream, address)) => return (stream, address, permit),
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                tracing::error!("cannot accept connections: {error}");
                // Out of descriptors or memory: others must end first.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Errors of a connection that ended before it was accepted (accept(2)).
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

async fn connection(
    stream: TcpStream,
    peer: Arc<Peer>,
    app: Arc<App>,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let config = app.config.now();
    let limits = &config.limits;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("cannot set TCP_NODELAY: {error}");
    }
    let (regions, patience) = (app.regions.clone(), limits.write_timeout);
    let io = TokioIo::new(Conn::new(stream, regions, Arc::clone(&peer), patience));
    let service = router
        .map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Arc::clone(&peer));
            request.map(axum::body::Body::new)
        })
        .map_response(|mut response: Response| {
            // The router adds a length to what answers HEAD, and 204 must have none (RFC 9110, 8.6).
            if response.status() == StatusCode::NO_CONTENT {
                response.headers_mut().remove(CONTENT_LENGTH);
            }
            response
        });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_header_size(limits.head)
        .max_buf_size(READ)
        .writev(true)
        .serve_connection(io, TowerToHyperService::new(service));
    tokio::pin!(serving);
    let ended = tokio::select! {
        outcome = &mut serving => Some(outcome),
        _ = stopping.changed() => None,
    };
    let outcome = match ended {
        Some(outcome) => outcome,
        None => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!("connection ended: {error}");
    }
}
