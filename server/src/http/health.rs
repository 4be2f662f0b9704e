//! `/livez` and `/readyz`: for load balancers and whoever restarts what hangs. Without authentication, and short:
//! what exactly is wrong is told on the other listener.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Method, StatusCode};

use crate::app::App;
use crate::health::{self, Check};

/// A question about the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Is it alive?
    Live,
    /// Is it ready?
    Ready,
}

impl Question {
    /// The question that a request asks, if it is one.
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return None;
        }
        match path {
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            _ => None,
        }
    }

    /// 200 or 503, in a word or with all that was looked at.
    pub(crate) async fn answer(self, app: &App, verbose: bool) -> Response {
        let checks = match self {
            Self::Live => health::live(app),
            Self::Ready => health::ready(app).await,
        };
        let well = checks.iter().all(|check| check.failure.is_none());
        let status = if well {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let text = match (verbose, well) {
            (true, _) => checks.iter().map(line).collect(),
            (false, true) => "ok\n".to_owned(),
            (false, false) => "not ok\n".to_owned(),
        };
        let headers = [
            (CONTENT_TYPE, "text/plain; charset=utf-8"),
            (CACHE_CONTROL, "no-store"),
        ];
        (status, headers, text).into_response()
    }
}

fn line(check: &Check) -> String {
    match &check.failure {
        None => format!("{}: ok\n", check.name),
        Some(failure) => format!("{}: {failure}\n", check.name),
    }
}
