//! The listener of those who run the server: `/metrics`, `/livez` and `/readyz`, and nothing of what the registry
//! holds. It is off unless an address is given, asks for no credentials, and belongs on a private network.

mod scrape;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::app::App;
use crate::http::Question;
use crate::telemetry::Form;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 32;

/// How long a connection may take to send a request's head, or be idle: longer than between two scrapes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);

/// How long a connection lives, however much is asked over it; no slow reader stays for ever.
const LIFE: Duration = Duration::from_secs(15 * 60);

/// How long a connection that shall end may finish its request.
const FINISH: Duration = Duration::from_secs(5);

/// Bytes of a request's head.
const HEAD: usize = 16 * 1024;

/// Serves until `stop` is done.
pub(crate) async fn serve(listener: TcpListener, app: Arc<App>, stop: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&room).acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let app = Arc::clone(&app);
                connections.spawn(async move {
                    connection(stream, app).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!("cannot accept a connection of the admin listener: {error}");
                // Out of descriptors, perhaps: others must end first.
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, app: Arc<App>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(answer(&app, &request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = timeout(LIFE, serving.as_mut()).await;
    if ended.is_err() {
        serving.as_mut().graceful_shutdown();
        // What it has not taken by then it does not get.
        let _ = timeout(FINISH, serving).await;
    }
}

async fn answer(app: &App, request: &Request<Incoming>) -> Response<Body> {
    let question = match request.uri().path() {
        "/livez" => Some(Question::Live),
        "/readyz" => Some(Question::Ready),
        "/metrics" => None,
        _ => return (StatusCode::NOT_FOUND, "not found\n").into_response(),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let allow = [(ALLOW, "GET, HEAD")];
        return (StatusCode::METHOD_NOT_ALLOWED, allow, "read only\n").into_response();
    }
    let Some(question) = question else {
        let accept = request.headers().get(ACCEPT);
        let accept = accept.and_then(|accept| accept.to_str().ok());
        let form = Form::wanted(accept.unwrap_or_default());
        let text = scrape::scrape(app, form).await;
        return ([(CONTENT_TYPE, form.content_type())], text).into_response();
    };
    let mut parameters = request.uri().query().unwrap_or_default().split('&');
    let verbose = parameters.any(|p| p == "verbose" || p.starts_with("verbose="));
    question.answer(app, verbose).await
}
