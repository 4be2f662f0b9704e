//! That every route passes the one gate: what no rule allows is denied, whichever route and method it is
//! (CVE-2026-27771: a route that did not ask; CVE-2026-41888: deleting a tag did not, deleting a manifest did).

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use tower::ServiceExt;

use super::router;
use crate::app::App;
use crate::auth::{Access, Action, Gate};
use crate::config::Config;
use crate::route::{self, Route};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const UPLOAD: &str = "0123456789abcdef0123456789abcdef";

const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// A path of each shape.
fn paths() -> Vec<String> {
    vec![
        "/v2/".to_owned(),
        "/v2/_catalog".to_owned(),
        "/v2/a/tags/list".to_owned(),
        format!("/v2/a/referrers/{DIGEST}"),
        format!("/v2/a/blobs/{DIGEST}"),
        "/v2/a/blobs/uploads/".to_owned(),
        format!("/v2/a/blobs/uploads/?mount={DIGEST}&from=b"),
        format!("/v2/a/blobs/uploads/?digest={DIGEST}"),
        format!("/v2/a/blobs/uploads/{UPLOAD}"),
        "/v2/a/manifests/tag".to_owned(),
        format!("/v2/a/manifests/{DIGEST}"),
        format!("/v2/a/manifests/{DIGEST}?tag=latest"),
    ]
}

#[tokio::test]
async fn with_no_rule_every_route_is_denied() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (mut app, _idle) = App::open(Config::new(dir.path())).await.expect("open");
    Arc::get_mut(&mut app).expect("nobody else has it").gate = Gate::default();
    let router = router(app);
    let mut denied = 0;
    for path in paths() {
        for method in METHODS {
            let request = Request::builder().method(&method).uri(&path);
            let request = request.body(Body::from("x")).expect("valid");
            let status = router
                .clone()
                .oneshot(request)
                .await
                .expect("an answer")
                .status();
            let known = route::parse(&method, path.split('?').next().expect("a path"));
            if known.is_ok() {
                assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
                denied += 1;
            } else {
                assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            }
        }
    }
    assert!(denied > 40, "{denied}");
}

#[test]
fn what_takes_away_needs_to_be_allowed_to_by_tag_and_by_digest() {
    for path in paths() {
        let path = path.split('?').next().expect("a path");
        for method in METHODS {
            let Ok(route) = route::parse(&method, path) else {
                continue;
            };
            let wanted = match (&method, Access::of(&route)) {
                (_, Access::Base | Access::Catalog) => continue,
                (_, Access::Repository(_, action)) => action,
            };
            let expected = match (&method, &route) {
                (&Method::GET | &Method::HEAD, Route::UploadStatus(..)) => Action::Push,
                (&Method::DELETE, Route::CancelUpload(..)) => Action::Push,
                (&Method::GET | &Method::HEAD, _) => Action::Pull,
                (&Method::DELETE, _) => Action::Delete,
                _ => Action::Push,
            };
            assert_eq!(wanted, expected, "{method} {path}");
        }
    }
}
