//! Logging in: what is checked before anything is kept, where it is kept, who is shown it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use strata_tests::clients::Clients;
use strata_tests::command::{Running, run};
use strata_tests::distribution::Distribution;
use strata_tests::entry::Entry;
use strata_tests::fake::{Answer, Asked, Fake, honest, reply};
use strata_tests::home::Person;
use strata_tests::image::{Image, Layer};
use strata_tests::program;

/// An image in a layout in the person's directory.
fn layout(s: &Person, image: &Image) -> String {
    let written = image.write_layout(&s.place.join("layout"), "v1");
    written.expect("write");
    s.layout("layout")
}

fn image() -> Image {
    let files = [Entry::file("file", "content ".repeat(2000))];
    Image::new(&[Layer::of(&files)])
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON")
}

#[test]
fn a_login_is_checked_kept_in_a_shut_file_used_and_forgotten() {
    let s = Person::new();
    let server = Distribution::start_guarded(&s.place, "registry");
    let name = server.address().to_string();
    let reference = server.reference("app", "v1");
    let image = image();
    let layout = layout(&s, &image);
    let push = ["push", layout.as_str(), reference.as_str()];
    s.home.run(&s.strata, &push).refused().says("log in");

    let wrong = s.home.login(&s.strata, &name, "me", "wrong").refused();
    let wrong = wrong.says("refuses this name and password");
    assert!(!wrong.stderr.contains("wrong\""), "{}", wrong.story());
    assert!(!s.home.auth_file().exists());

    let done = s.home.login(&s.strata, &name, "me", "secret").ok();
    assert!(done.out().contains("not encrypted"), "{}", done.story());
    assert!(!done.story().contains("secret"), "{}", done.story());
    let file = s.home.auth_file();
    let mode = fs::metadata(&file).expect("kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(json(&file)["auths"][&name]["auth"], "bWU6c2VjcmV0");
    let get = s.home.run(&s.strata, &["login", "--get-login", &name]).ok();
    assert_eq!(get.out(), "me");

    let pushed = s
        .home
        .run(&s.strata, &["--verbose", "push", &layout, &reference])
        .ok();
    assert!(
        pushed.stderr.contains("using stored credentials"),
        "{}",
        pushed.story()
    );
    assert!(!pushed.story().contains("secret") && !pushed.story().contains("bWU6c2VjcmV0"));
    s.home.run(&s.strata, &["pull", &reference]).ok();
    // Others read what we keep.
    let clients = Clients::new(&s.place);
    let authfile = format!("--authfile={}", file.display());
    let docker = format!("docker://{reference}");
    clients
        .skopeo(&["inspect", "--tls-verify=false", &authfile, &docker])
        .ok();

    let out = s.home.run(&s.strata, &["logout", &name]).ok();
    assert!(out.out().contains("auth.json"), "{}", out.story());
    assert_eq!(json(&file)["auths"], serde_json::json!({}));
    s.home
        .run(&s.strata, &["logout", &name])
        .refused()
        .says("not logged in");
    s.home
        .run(&s.strata, &["login", "--get-login", &name])
        .refused();
    s.home.run(&s.strata, &push).refused().says("log in");
}

#[test]
fn what_others_have_stored_is_used_the_most_precise_first() {
    let s = Person::new();
    let server = Distribution::start_guarded(&s.place, "registry");
    let name = server.address();
    let layout = layout(&s, &image());
    // me:wrong for the registry, me:secret for what is below team/.
    let auths = format!(
        r#"{{"auths":{{"http://{name}/v1/":{{"auth":"bWU6d3Jvbmc="}},"{name}/team":{{"auth":"bWU6c2VjcmV0"}}}}}}"#
    );
    s.home.write("config/containers/auth.json", &auths);
    let push = |to: &str| {
        s.home
            .run(&s.strata, &["push", &layout, &format!("{name}/{to}:v1")])
    };
    let ran = push("team/app").ok();
    assert!(
        ran.stderr.contains("chmod 600"),
        "open file: {}",
        ran.story()
    );
    push("other/app").refused().says("log in");
    // One file alone when it is said, and docker's when there is no other.
    let only = s.home.write("only.json", r#"{"auths":{}}"#);
    let only = only.display().to_string();
    let to = format!("{name}/team/more:v1");
    let refused = s
        .home
        .run(&s.strata, &["push", "--authfile", &only, &layout, &to]);
    refused.refused().says("log in");
    fs::rename(s.home.auth_file(), s.home.join("x.json")).expect("rename");
    fs::create_dir_all(s.home.join(".docker")).expect("make a directory");
    fs::rename(s.home.join("x.json"), s.home.docker_file()).expect("rename");
    push("team/third").ok();
    // A file that is none is named, and nothing is sent without what it may hold.
    s.home
        .write("config/containers/auth.json", "{\"auths\": secret");
    let broken = push("team/fourth").refused().says("containers/auth.json");
    assert!(!broken.stderr.contains("secret"), "{}", broken.story());
}

#[test]
fn a_credential_helper_keeps_what_dockers_file_leaves_to_it() {
    let s = Person::new();
    let server = Distribution::start_guarded(&s.place, "registry");
    let name = server.address().to_string();
    let helper = s.home.helper("vault");
    s.home.write(
        ".docker/config.json",
        r#"{"credsStore":"vault","psFormat":"x"}"#,
    );
    let done = s.home.login(&s.strata, &name, "me", "secret").ok();
    assert!(
        done.out().contains("docker-credential-vault"),
        "{}",
        done.story()
    );
    let file = fs::read_to_string(s.home.docker_file()).expect("read");
    assert!(
        !file.contains("secret") && !file.contains("bWU6c2VjcmV0"),
        "{file}"
    );
    assert_eq!(json(&s.home.docker_file())["psFormat"], "x");
    assert_eq!(
        json(&s.home.docker_file())["auths"][&name],
        serde_json::json!({})
    );
    let layout = layout(&s, &image());
    let to = server.reference("app", "v1");
    s.home.run(&s.strata, &["push", &layout, &to]).ok();
    s.home.run(&s.strata, &["logout", "--all"]).ok();
    s.home
        .run(&s.strata, &["pull", &to])
        .refused()
        .says("log in");
    let calls = fs::read_to_string(s.home.join("bin/vault.log")).expect("calls");
    for action in ["store", "get", "list", "erase"] {
        assert!(calls.contains(action), "{action}: {calls}");
    }
    // A helper of the registry's own goes before the general one; one that fails is named.
    program::write(
        &helper,
        "#!/bin/sh\necho 'the vault is sealed' >&2\nexit 1\n",
    );
    let ran = s.home.run(&s.strata, &["pull", &to]).refused();
    ran.says("docker-credential-vault")
        .says("the vault is sealed");
    s.home.helper("own");
    let helpers = format!(r#"{{"credsStore":"vault","credHelpers":{{"{name}":"own"}}}}"#);
    s.home.write(".docker/config.json", &helpers);
    s.home.login(&s.strata, &name, "me", "secret").ok();
    s.home.run(&s.strata, &["pull", &to]).ok();
    s.home
        .write(".docker/config.json", r#"{"credsStore":"../own"}"#);
    s.home
        .run(&s.strata, &["logout", &name])
        .refused()
        .says("not the name");
}

#[test]
fn passwords_are_not_taken_from_the_command_line_nor_asked_for_without_a_terminal() {
    let s = Person::new();
    let args = ["login", "-u", "me", "-p", "secret", "127.0.0.1:1"];
    let ran = s
        .home
        .run(&s.strata, &args)
        .refused()
        .says("--password-stdin");
    assert!(!ran.stderr.contains("secret"), "{}", ran.story());
    let args = ["login", "-u", "me", "127.0.0.1:1"];
    s.home
        .run(&s.strata, &args)
        .refused()
        .says("not a terminal");
    for (user, password) in [("", "x"), ("a:b", "x"), ("me", "")] {
        s.home
            .login(&s.strata, "127.0.0.1:1", user, password)
            .refused();
    }
    s.home
        .login(&s.strata, "127.0.0.1:1", "me", "secret")
        .refused()
        .says("cannot be reached");
    assert!(!s.home.auth_file().exists());
}

#[test]
fn a_password_is_asked_for_at_the_terminal_and_not_shown() {
    let s = Person::new();
    let server = Distribution::start_guarded(&s.place, "registry");
    let program = s.strata.program().display().to_string();
    let line = format!("{program} login {}", server.address());
    // script(1) gives the program a terminal.
    let mut command = s.home.command(&s.strata, &[]);
    let mut script = std::process::Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped());
    for (key, value) in command.envs(std::iter::empty::<(&str, &str)>()).get_envs() {
        match value {
            Some(value) => script.env(key, value),
            None => script.env_remove(key),
        };
    }
    let mut running = Running::start(&mut script);
    let mut keys = running.child.stdin.take().expect("a pipe");
    // Typed as a person does: the password only when it is asked for, after the echo has gone.
    for text in ["me\n", "secret\n"] {
        std::thread::sleep(std::time::Duration::from_millis(700));
        std::io::Write::write_all(&mut keys, text.as_bytes()).expect("type");
    }
    let ran = running.wait().ok();
    drop(keys);
    assert!(ran.out().contains("Password of me"), "{}", ran.story());
    assert!(ran.out().contains("logged in"), "{}", ran.story());
    assert!(!ran.out().contains("secret"), "{}", ran.story());
}

/// A registry of one image that wants the token `good-N` of the last giving, and names this realm.
fn wants_tokens(
    image: &Image,
    realm: String,
    good: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Fake {
    let image = image.clone();
    Fake::start(move |asked| {
        if good(header(asked, "authorization")) {
            return honest(&image, asked);
        }
        let challenge = format!("Bearer realm=\"{realm}\",service=\"here\"");
        reply(401, &[("WWW-Authenticate", &challenge)], b"")
    })
}

fn header<'a>(asked: &'a Asked, name: &str) -> &'a str {
    let mut found = asked.headers.iter().filter(|(n, _)| n == name);
    found.next().map_or("", |(_, value)| value.as_str())
}

fn token(json: &str) -> Answer {
    reply(
        200,
        &[("Content-Type", "application/json")],
        json.as_bytes(),
    )
}

#[test]
fn an_identity_token_takes_the_passwords_place_and_is_exchanged_for_access_tokens() {
    let s = Person::new();
    let service = Fake::start(|asked| match asked.method.as_str() {
        "GET" if header(asked, "authorization") == "Basic bWU6c2VjcmV0" => {
            assert!(
                asked.target.contains("offline_token=true"),
                "{}",
                asked.target
            );
            token(r#"{"token":"good","refresh_token":"refresh-1"}"#)
        }
        "POST" if asked.body_text().contains("refresh_token=refresh-1") => {
            assert!(asked.body_text().contains("grant_type=refresh_token"));
            assert!(asked.body_text().contains("scope=repository%3Aapp%3Apull"));
            token(r#"{"access_token":"good","expires_in":300}"#)
        }
        _ => reply(401, &[], b""),
    });
    let realm = format!("http://{}/token", service.address());
    let server = wants_tokens(&image(), realm, |shown| shown == "Bearer good");
    let name = server.address().to_string();
    s.home.login(&s.strata, &name, "me", "secret").ok();
    let kept = fs::read_to_string(s.home.auth_file()).expect("kept");
    assert!(
        kept.contains("refresh-1") && !kept.contains("bWU6c2VjcmV0"),
        "{kept}"
    );
    s.home
        .run(&s.strata, &["pull", &format!("{name}/app:v1")])
        .ok();
    let posts: Vec<Asked> = service
        .asked()
        .into_iter()
        .filter(|a| a.method == "POST")
        .collect();
    assert_eq!(posts.len(), 1);
    assert_eq!(header(&posts[0], "authorization"), "");
}

#[test]
fn a_service_that_speaks_oauth2_only_is_asked_so() {
    let s = Person::new();
    let service = Fake::start(|asked| match asked.method.as_str() {
        "POST"
            if asked.body_text().contains("grant_type=password")
                && asked.body_text().contains("username=me&password=s%26cret") =>
        {
            token(r#"{"access_token":"good"}"#)
        }
        "POST" => reply(401, &[], b""),
        _ => reply(405, &[], b""),
    });
    let realm = format!("http://{}/token", service.address());
    let server = wants_tokens(&image(), realm, |shown| shown == "Bearer good");
    let name = server.address().to_string();
    s.home.login(&s.strata, &name, "me", "s&cret").ok();
    s.home
        .run(&s.strata, &["pull", &format!("{name}/app:v1")])
        .ok();
}

#[test]
fn a_token_that_runs_out_in_the_middle_of_a_pull_is_renewed() {
    let s = Person::new();
    let given = std::sync::Arc::new(AtomicU32::new(0));
    let count = given.clone();
    let service = Fake::start(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        token(&format!(r#"{{"token":"good-{number}","expires_in":300}}"#))
    });
    let layers: Vec<Layer> = (0..6)
        .map(|n| {
            Layer::of(&[Entry::file(
                format!("file{n}").as_bytes(),
                format!("{n}").repeat(3000),
            )])
        })
        .collect();
    let image = Image::new(&layers);
    let realm = format!("http://{}/token", service.address());
    // Each token is good for three requests, whatever it was promised to be.
    let uses = AtomicU32::new(0);
    let server = wants_tokens(&image, realm, move |shown| {
        let Some(number) = shown
            .strip_prefix("Bearer good-")
            .and_then(|n| n.parse::<u32>().ok())
        else {
            return false;
        };
        let good = number == uses.load(Ordering::Relaxed) / 3;
        if good {
            uses.fetch_add(1, Ordering::Relaxed);
        }
        good
    });
    let args = [
        "pull",
        "--parallel",
        "1",
        &format!("{}/app:v1", server.address()),
    ];
    s.home.run(&s.strata, &args).ok();
    assert!(given.load(Ordering::Relaxed) >= 3, "{given:?}");
}

#[test]
fn a_realm_elsewhere_is_shown_no_password_in_the_clear_or_against_the_list() {
    let s = Person::new();
    let server = wants_tokens(&image(), "http://auth.example/token".to_owned(), |_| false);
    let name = server.address().to_string();
    let ran = s.home.login(&s.strata, &name, "me", "secret").refused();
    let ran = ran.says("auth.example").says("in the clear");
    assert!(!ran.story().contains("secret"), "{}", ran.story());
    // Where a token service sends its clients on, the password does not follow.
    let thief = Fake::start(|_| token(r#"{"token":"good"}"#));
    let elsewhere = format!("http://{}/token", thief.address());
    let service = Fake::start(move |asked| match asked.method.as_str() {
        "GET" => reply(405, &[], b""),
        _ => reply(307, &[("Location", &elsewhere)], b""),
    });
    let realm = format!("http://{}/token", service.address());
    let server = wants_tokens(&image(), realm, |_| false);
    let name = server.address().to_string();
    s.home
        .login(&s.strata, &name, "me", "secret")
        .refused()
        .says("not meant to see");
    assert!(thief.asked().is_empty(), "{:?}", thief.asked());
}

#[test]
fn podmans_login_is_ours_too() {
    let s = Person::new();
    let server = Distribution::start_guarded(&s.place, "registry");
    let clients = Clients::new(&s.place);
    let name = server.address().to_string();
    let file = s.home.join("podman.json").display().to_string();
    let login = [
        "login",
        "--tls-verify=false",
        "--authfile",
        &file,
        "-u",
        "me",
        "-p",
        "secret",
        &name,
    ];
    clients.podman(&login).ok();
    let layout = layout(&s, &image());
    let to = server.reference("app", "v1");
    s.home
        .run(&s.strata, &["push", "--authfile", &file, &layout, &to])
        .ok();
    let mut command = s.home.command(&s.strata, &["pull", &to]);
    run(command.env("REGISTRY_AUTH_FILE", &file)).ok();
}
