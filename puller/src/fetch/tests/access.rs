//! Who is shown the credentials, and where a registry may lead.

use super::*;

const BASIC: &str = "Basic bWU6c2VjcmV0";

/// An honest registry that wants the token `good-N` of the N-th giving.
fn guarded(
    image: &TestImage,
    realm: String,
    valid: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Server {
    let image = image.clone();
    Server::start(move |request, _| {
        let shown = request.header("authorization").unwrap_or_default();
        if valid(shown) {
            return image.answer(request);
        }
        let challenge = format!("Bearer realm=\"{realm}\",service=\"here\"");
        Reply::new(401, "").with("WWW-Authenticate", challenge)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_with_the_credentials_and_then_shown() {
    let tokens = Server::start(|request, _| {
        assert_eq!(request.header("authorization"), Some(BASIC));
        Reply::new(200, r#"{"token":"good","expires_in":300}"#)
    });
    let image = TestImage::new(&[1000]);
    let realm = format!("http://{}/token", tokens.host());
    let server = guarded(&image, realm, |shown| shown == "Bearer good");
    Puller::new().pull(&server).await.expect("pulled");
    let asked = tokens.seen();
    assert_eq!(asked.len(), 1, "the token is kept");
    assert!(asked[0].path.contains("service=here"), "{}", asked[0].path);
    assert!(
        asked[0].path.contains("scope=repository%3Aapp%3Apull"),
        "{}",
        asked[0].path
    );
    let seen = server.seen();
    let shown: Vec<_> = seen.iter().map(|r| r.header("authorization")).collect();
    assert_eq!(shown[0], None, "nothing is shown unasked");
    assert!(
        shown[1..].iter().all(|s| *s == Some("Bearer good")),
        "{shown:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_runs_out_is_renewed_once() {
    let tokens = Server::start(|_, before| {
        Reply::new(200, format!(r#"{{"access_token":"good-{before}"}}"#))
    });
    let image = TestImage::new(&[1000]);
    let realm = format!("http://{}/token", tokens.host());
    let uses = std::sync::atomic::AtomicUsize::new(0);
    let server = guarded(&image, realm.clone(), move |shown| {
        // The first token is good for one use.
        shown == "Bearer good-1"
            || shown == "Bearer good-0"
                && uses.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0
    });
    Puller::new().pull(&server).await.expect("pulled");
    assert_eq!(tokens.seen().len(), 2);
    let never = guarded(&image, realm, |_| false);
    let error = Puller::new().refused(&never).await;
    assert!(error.contains("refuses access"), "{error}");
    assert_eq!(
        never.seen().len(),
        2,
        "asked, and asked again with the token"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_is_shown_no_credentials() {
    let image = TestImage::new(&[50_000]);
    let storage = {
        let image = image.clone();
        Server::start(move |request, _| image.answer(request))
    };
    let elsewhere = storage.host();
    let server = {
        let image = image.clone();
        Server::start(move |request, _| {
            if request.header("authorization") != Some(BASIC) {
                return Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\"");
            }
            if request.path.contains("/blobs/") {
                let to = format!("http://{elsewhere}{}", request.path);
                return Reply::new(307, "").with("Location", to);
            }
            image.answer(request)
        })
    };
    Puller::new().pull(&server).await.expect("pulled");
    let seen = storage.seen();
    assert_eq!(seen.len(), 2, "configuration and layer");
    assert!(seen.iter().all(|r| r.header("authorization").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_does_not_lead_into_other_networks() {
    let image = TestImage::new(&[10]);
    for (target, why) in [
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254"),
        ("file:///etc/passwd", "file"),
        ("http://[::ffff:169.254.169.254]/x", "not public"),
        ("//0.0.0.0/x", "0.0.0.0"),
    ] {
        let server = spoiled(&image, move |_, _, _| {
            Reply::new(302, "").with("Location", target)
        });
        let error = Puller::new().refused(&server).await;
        assert!(
            error.contains(why) && error.contains("refused"),
            "{target}: {error}"
        );
    }
    let realm = "http://169.254.169.254/token".to_owned();
    let server = guarded(&image, realm, |_| false);
    let error = Puller::new().refused(&server).await;
    assert!(error.contains("refused"), "{error}");
    let circle = spoiled(&image, |request, _, _| {
        Reply::new(302, "").with("Location", &request.path)
    });
    let error = Puller::new().refused(&circle).await;
    assert!(error.contains("redirects"), "{error}");
}
