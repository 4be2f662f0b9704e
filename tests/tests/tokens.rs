//! Debian's docker-registry behind a token service that signs what it gives: what is asked for, renewed and refused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use strata_tests::command::{Ran, run};
use strata_tests::distribution::Distribution;
use strata_tests::faulty::{Fault, Faulty};
use strata_tests::home::Home;
use strata_tests::place::Place;
use strata_tests::recorder::Recorder;
use strata_tests::strata::Strata;
use strata_tests::tokens::TokenService;
use strata_tests::trial::Sample;

struct Scene {
    home: Home,
    strata: Strata,
    service: TokenService,
    registry: Distribution,
    sample: Sample,
    source: String,
    place: Place,
}

/// A registry that takes tokens, and an image to push.
fn scene() -> Scene {
    let place = Place::new();
    let service = TokenService::start(&place);
    let sample = Sample::new(6, &[1_500_000, 60_000]);
    let layout = place.dir("source");
    sample.image.write_layout(&layout, "v1").expect("write");
    Scene {
        home: Home::new(&place),
        strata: Strata::new(&place),
        registry: service.registry(&place, "registry"),
        service,
        sample,
        source: format!("oci:{}:v1", layout.display()),
        place,
    }
}

impl Scene {
    fn run(&self, args: &[&str]) -> Ran {
        self.home.run(&self.strata, args)
    }

    /// Credentials for `host` in a file, without asking anyone.
    fn know(&self, host: &str) {
        let auths = serde_json::json!({ "auths": { host: { "auth": "bWU6c2VjcmV0" } } });
        self.home
            .write("config/containers/auth.json", &auths.to_string());
    }

    /// The scopes of what was granted since the last call.
    fn scopes(&self) -> Vec<Vec<String>> {
        let granted = self.service.granted().into_iter();
        granted.map(|one| one.scopes).collect()
    }
}

const PULL: &str = "repository:team/app:pull";
const PUSH: &str = "repository:team/app:pull,push";

#[test]
fn a_login_gets_an_identity_that_push_pull_and_copy_use_for_what_each_needs() {
    let s = scene();
    let name = s.registry.address().to_string();
    let to = s.registry.reference("team/app", "v1");
    let wrong = s.home.login(&s.strata, &name, "me", "wrong").refused();
    wrong.says("refuses this name and password");
    s.home.login(&s.strata, &name, "me", "secret").ok();
    let kept = std::fs::read_to_string(s.home.auth_file()).expect("kept");
    assert!(kept.contains("identity-of-me"), "{kept}");
    s.service.granted();

    s.run(&["push", &s.source, &to]).ok();
    let granted = s.service.granted();
    assert!(!granted.is_empty());
    for one in granted {
        assert_eq!(
            (one.user.as_str(), one.by.as_str()),
            ("me", "refresh_token")
        );
        assert_eq!(one.scopes, [PUSH]);
    }
    s.run(&["pull", &to]).ok();
    let out = format!("oci:{}:v1", s.place.join("out").display());
    s.run(&["copy", &to, &out]).ok();
    let scopes = s.scopes();
    assert_eq!(scopes, [[PULL], [PULL]], "one token each, to read alone");
}

#[test]
fn a_mount_asks_for_both_repositories_at_once() {
    let s = scene();
    s.know(&s.registry.address().to_string());
    s.run(&["push", &s.source, &s.registry.reference("team/app", "v1")])
        .ok();
    let wire = Recorder::start(s.registry.address());
    s.know(&wire.address().to_string());
    s.scopes();
    let to = wire.reference("team/copy", "v1");
    s.run(&["copy", &wire.reference("team/app", "v1"), &to])
        .ok();
    let mounts = wire.mounts("team/copy");
    assert!(mounts.len() >= 3, "{mounts:?}");
    assert_eq!(wire.uploads("team/copy"), [""; 0], "no bytes travel");
    let both = [PULL, "repository:team/copy:pull,push"];
    assert!(s.scopes().iter().any(|scopes| scopes == &both));
    let api = format!("{}/team/copy:v1", s.registry.address());
    s.know(&s.registry.address().to_string());
    s.run(&["pull", &api]).ok();
}

#[test]
fn a_token_that_runs_out_while_a_blob_waits_is_renewed() {
    let s = scene();
    s.service.set_life(2);
    // The first that carries a blob, each way, arrives when its token is good no more.
    let firsts = [AtomicBool::new(true), AtomicBool::new(true)];
    let proxy = Faulty::start(s.registry.address(), move |asked, _| {
        let way = usize::from(asked.is_upload());
        let carries = asked.blob().is_some() || asked.is_upload();
        let first = carries && firsts[way].swap(false, Ordering::SeqCst);
        first.then_some(Fault::Delay(Duration::from_secs(4)))
    });
    s.know(&proxy.address().to_string());
    let name = proxy.reference("team/app", "v1");
    s.run(&["push", &s.source, &name]).ok();
    let pushed = s.scopes();
    assert!(pushed.len() >= 2, "{pushed:?}");
    s.run(&["pull", &name]).ok();
    let pulled = s.scopes();
    assert!(pulled.len() >= 2, "{pulled:?}");
    assert_eq!(proxy.tally().faults, 2);
    proxy.tally().assert_bound(s.sample.bytes(), "pulled");
}

#[test]
fn who_may_not_is_told_so_and_nobody_needs_a_name_for_what_is_public() {
    let s = scene();
    let private = s.registry.reference("team/app", "v1");
    s.run(&["push", &s.source, &private])
        .refused()
        .says("team/app")
        .says("log in");
    let granted = s.service.granted();
    assert!(granted.iter().all(|one| one.by == "none"), "{granted:?}");
    s.know(&s.registry.address().to_string());
    s.run(&["push", &s.source, &private]).ok();
    let public = s.registry.reference("public/app", "v1");
    s.run(&["push", &s.source, &public])
        .refused()
        .says("public/app");
    let mut nobody = s.home.command(&s.strata, &["pull", &private]);
    run(nobody.env("XDG_CONFIG_HOME", s.place.join("nobody")))
        .refused()
        .says("log in");
    // Nothing is there, but who may look is told that, and not to log in.
    let mut nobody = s.home.command(&s.strata, &["pull", &public]);
    run(nobody.env("XDG_CONFIG_HOME", s.place.join("nobody")))
        .refused()
        .says("not in the registry");
}
