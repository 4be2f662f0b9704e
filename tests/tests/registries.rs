//! Where images are fetched from: mirrors, moved and blocked registries, short names, certificates, proxies. What the user
//! typed names the image, whoever served it.

use std::fs;

use strata_tests::certificates::Authority;
use strata_tests::command::run;
use strata_tests::distribution::Distribution;
use strata_tests::entry::Entry;
use strata_tests::fake::{Asked, Fake, honest, reply};
use strata_tests::home::Person;
use strata_tests::image::{Image, Layer};
use strata_tests::stratad::Stratad;

fn image() -> Image {
    let layer = |n: u8| Layer::of(&[Entry::file(format!("file{n}").as_bytes(), vec![n; 20_000])]);
    Image::new(&[layer(1), layer(2)])
}

fn header<'a>(asked: &'a Asked, name: &str) -> &'a str {
    let mut found = asked.headers.iter().filter(|(n, _)| n == name);
    found.next().map_or("", |(_, value)| value.as_str())
}

#[test]
fn mirrors_that_are_down_or_lie_are_passed_over_and_the_image_keeps_its_name() {
    let s = Person::new();
    let image = image();
    let server = Stratad::start(&s.place.join("data"));
    server.api().push(&image, "hub/app", "v1");
    // It has the right manifest and configuration, and sends other layers.
    let layers: Vec<String> = image.layers.iter().map(|l| l.digest.to_string()).collect();
    let sizes: Vec<usize> = image.layers.iter().map(|l| l.blob.len()).collect();
    let liar = Fake::of_image(image.clone(), move |asked| {
        let which = layers
            .iter()
            .position(|digest| asked.target.ends_with(digest))?;
        Some(reply(200, &[], &vec![b'x'; sizes[which]]))
    });
    s.home.registries(&format!(
        "[[registry]]\nprefix = \"registry.example/team\"\nlocation = \"127.0.0.1:2/never\"\n\
         [[registry.mirror]]\nlocation = \"127.0.0.1:1/down\"\n\
         [[registry.mirror]]\nlocation = \"{}/any\"\n\
         [[registry.mirror]]\nlocation = \"{}/hub\"\n",
        liar.address(),
        server.address()
    ));
    let ran = s
        .run(&[
            "--verbose",
            "pull",
            "--format",
            "json",
            "registry.example/team/app:v1",
        ])
        .ok();
    let ran = ran
        .says("mirror 127.0.0.1:1: ")
        .says(&format!("mirror {}: ", liar.address()));
    let ran = ran.says(&format!("{} serves blob", server.address()));
    assert!(
        ran.out().contains("registry.example/team/app:v1"),
        "{}",
        ran.story()
    );
    assert_eq!(s.strata.layers().len(), 2);
    let listed = s.strata.images().to_string();
    assert!(
        listed.contains("registry.example/team/app") && !listed.contains("127.0.0.1"),
        "{listed}"
    );
    // Without the honest one there is nobody left, and nothing wrong is kept.
    s.home.registries(&format!(
        "[[registry]]\nprefix = \"registry.example\"\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"127.0.0.1:1\"\n",
        liar.address()
    ));
    s.pull_afresh("registry.example/team/app:v1").refused();
}

#[test]
fn a_moved_registry_is_found_and_a_blocked_one_is_not_asked() {
    let s = Person::new();
    let server = Stratad::start(&s.place.join("data"));
    server.api().push(&image(), "real/app", "v1");
    let blocked = Fake::of_image(image(), |_| None);
    s.home.registries(&format!(
        "[[registry]]\nprefix = \"*.example\"\nlocation = \"{}/real\"\n[[registry]]\nlocation = \"{}\"\nblocked = true\n",
        server.address(),
        blocked.address()
    ));
    s.run(&["pull", "some.example/app:v1"]).ok();
    assert_eq!(s.run(&["tags", "some.example/app"]).ok().out(), "v1");
    let name = format!("{}/app:v1", blocked.address());
    for command in ["pull", "digest"] {
        s.run(&[command, &name])
            .refused()
            .says("blocked")
            .says("registries.conf");
    }
    s.run(&["push", "some.example/app:v1", &name])
        .refused()
        .says("blocked");
    assert!(blocked.asked().is_empty(), "{:?}", blocked.asked());
    // Our own file decides before containers'.
    s.home.write(
        "config/strata/config.toml",
        &format!("[[registry]]\nlocation = \"{}\"\n", blocked.address()),
    );
    s.pull_afresh(&name).ok();
    let own = s.home.write("own.toml", "also-read = []\nunknown = 1\n");
    let own = own.display().to_string();
    s.run(&["pull", "--config", &own, &name])
        .refused()
        .says("own.toml")
        .says("unknown");
}

#[test]
fn mirrors_serve_tags_or_digests_as_they_are_told() {
    let s = Person::new();
    let image = image();
    let (tags, digests) = (
        Fake::of_image(image.clone(), |_| None),
        Fake::of_image(image.clone(), |_| None),
    );
    let server = Fake::of_image(image.clone(), |_| None);
    s.home.registries(&format!(
        "[[registry]]\nlocation = \"{}\"\n\
         [[registry.mirror]]\nlocation = \"{}\"\npull-from-mirror = \"tag-only\"\n\
         [[registry.mirror]]\nlocation = \"{}\"\npull-from-mirror = \"digest-only\"\n",
        server.address(),
        tags.address(),
        digests.address()
    ));
    s.pull_afresh(&format!("{}/app:v1", server.address())).ok();
    assert!(!tags.asked().is_empty());
    assert!(digests.asked().is_empty() && server.asked().is_empty());
    let before = tags.asked().len();
    s.pull_afresh(&format!("{}/app@{}", server.address(), image.digest))
        .ok();
    assert_eq!(tags.asked().len(), before);
    assert!(!digests.asked().is_empty() && server.asked().is_empty());
}

#[test]
fn each_mirror_is_shown_its_own_credentials_and_no_others() {
    let s = Person::new();
    let image = image();
    let served = image.clone();
    let mirror = Fake::start(move |asked| match header(asked, "authorization") {
        "Basic bWlycm9yOm0=" => honest(&served, asked),
        _ => reply(401, &[("WWW-Authenticate", "Basic realm=\"mirror\"")], b""),
    });
    s.home.registries(&format!(
        "[[registry]]\nprefix = \"registry.example\"\nlocation = \"registry.example\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        mirror.address()
    ));
    let auths = |mirrors: &str| {
        let text = format!(
            r#"{{"auths":{{"registry.example":{{"auth":"bWU6c2VjcmV0"}},"{}":{{"auth":"{mirrors}"}}}}}}"#,
            mirror.address()
        );
        s.home.write("config/containers/auth.json", &text);
    };
    auths("bWlycm9yOm0=");
    s.pull_afresh("registry.example/app:v1").ok();
    let shown: Vec<String> = mirror
        .asked()
        .iter()
        .map(|a| header(a, "authorization").to_owned())
        .collect();
    assert!(
        shown
            .iter()
            .all(|h| h.is_empty() || h == "Basic bWlycm9yOm0="),
        "{shown:?}"
    );
}

#[test]
fn containerds_hosts_are_asked_for_what_they_can() {
    let s = Person::new();
    let image = image();
    let server = Fake::of_image(image.clone(), |_| None);
    // Its API is not where others have it.
    let mirror = Fake::of_image(image.clone(), |asked| {
        (!asked.target.starts_with("/proxy/api/")).then(|| reply(404, &[], b""))
    });
    let name = server.address().to_string();
    s.home.write(
        &format!("hosts/{name}/hosts.toml"),
        &format!(
            "server = \"http://{name}\"\n[host.\"http://{}/proxy/api\"]\ncapabilities = [\"pull\"]\noverride_path = true\n\
             [host.\"http://{}/proxy/api\".header]\nx-team = \"blue\"\n",
            mirror.address(),
            mirror.address()
        ),
    );
    let config = format!("hosts-dirs = [{:?}]\n", s.home.join("hosts"));
    s.home.write("config/strata/config.toml", &config);
    s.run(&["pull", &format!("{name}/app:v1")]).ok();
    let asked = mirror.asked();
    assert_eq!(asked.len(), 3, "configuration and two layers: {asked:?}");
    for request in &asked {
        assert!(request.target.contains("/app/blobs/"), "{}", request.target);
        let ns = format!("?ns={}", name.replace(':', "%3A"));
        assert!(request.target.ends_with(&ns), "{}", request.target);
        assert_eq!(header(request, "x-team"), "blue");
    }
    let tags = server.asked();
    assert!(
        tags.iter().all(|a| a.target == "/v2/app/manifests/v1"),
        "{tags:?}"
    );
    assert!(tags.iter().all(|a| header(a, "x-team").is_empty()));
}

#[test]
fn short_names_mean_what_the_rules_say() {
    let s = Person::new();
    let server = Stratad::start(&s.place.join("data"));
    server.api().push(&image(), "team/tool", "v1");
    let name = server.address();
    s.home.registries(&format!(
        "unqualified-search-registries = [\"127.0.0.1:1\", \"{name}\"]\n[aliases]\n\"tool\" = \"{name}/team/tool\"\n"
    ));
    let pulled = s.run(&["pull", "tool:v1"]).ok();
    assert!(
        pulled.out().contains(&format!("{name}/team/tool:v1@")),
        "{}",
        pulled.story()
    );
    let error = s
        .run(&["pull", "team/tool:v1"])
        .refused()
        .says("short name");
    assert!(
        error.stderr.contains(&format!("{name}/team/tool:v1")),
        "{}",
        error.story()
    );
    s.home.write(
        "config/strata/config.toml",
        "short-name-mode = \"permissive\"\n",
    );
    s.pull_afresh("team/tool:v1").ok().says("127.0.0.1:1");
    s.home.write(
        "config/strata/config.toml",
        "unqualified-search-registries = []\n",
    );
    s.run(&["pull", "team/tool:v1"])
        .refused()
        .says("no registry");
}

#[test]
fn an_insecure_registry_may_speak_plain_http_or_show_any_certificate_and_no_other_may() {
    let s = Person::new();
    let image = image();
    let plain = Stratad::start(&s.place.join("data"));
    plain.api().push(&image, "app", "v1");
    let authority = Authority::new(&s.place, "authority");
    let own = authority.issue("server");
    let (cert, key) = (own.cert.display(), own.key.display());
    let tls = format!(", tls: {{certificate: {cert}, key: {key}}}");
    let secure = Distribution::start_with(&s.place, "registry", &tls, "");
    // By this name it is not known to be this machine, so that HTTPS is the rule.
    let name = |port: u16| format!("0.0.0.0:{port}");
    let (plain, secure) = (name(plain.address().port()), name(secure.address().port()));
    let from = format!("{plain}/app:v1");
    s.run(&["pull", &from]).refused();
    s.home.registries(&format!(
        "[[registry]]\nlocation = \"{plain}\"\ninsecure = true\n\
         [[registry]]\nlocation = \"{secure}\"\ninsecure = true\n"
    ));
    s.run(&["pull", &from]).ok();
    for to in [format!("{plain}/copy:v1"), format!("{secure}/copy:v1")] {
        s.run(&["push", &from, &to]).ok();
        s.run(&["copy", &from, &to]).ok();
        let digest = s.run(&["digest", &to]).ok().out();
        assert_eq!(digest, image.digest.to_string());
    }
    // What is typed goes before what is written.
    s.run(&["pull", "--tls-verify=true", &from]).refused();
    s.home.registries(&format!(
        "[[registry]]\nlocation = \"{plain}\"\ninsecure = false\n"
    ));
    s.pull_afresh(&from).refused();
}

#[test]
fn tls_needs_the_hosts_authority_and_certificate() {
    let s = Person::new();
    let authority = Authority::new(&s.place, "authority");
    let (server, client) = (authority.issue("server"), authority.issue("client"));
    let tls = format!(
        ", tls: {{certificate: {}, key: {}, clientcas: [{}]}}",
        server.cert.display(),
        server.key.display(),
        authority.cert().display()
    );
    let registry = Distribution::start_with(&s.place, "registry", &tls, "");
    let name = registry.address().to_string();
    let image = image();
    let dir = s.place.join("layout");
    image.write_layout(&dir, "v1").expect("write");
    let source = format!("oci:{}:v1", dir.display());
    let target = format!("{name}/app:v1");
    let push = ["push", source.as_str(), target.as_str()];

    s.run(&["push", "--tls-verify", &source, &target])
        .refused()
        .says("certificate");
    let certs = format!("config/containers/certs.d/{name}");
    let copy = |from: &std::path::Path, to: &str| {
        s.home.write(
            &format!("{certs}/{to}"),
            &fs::read_to_string(from).expect("read"),
        );
    };
    copy(&authority.cert(), "ca.crt");
    s.run(&push).refused();
    copy(&client.cert, "me.cert");
    s.run(&push).refused().says("me.key");
    copy(&client.key, "me.key");
    s.run(&push).ok();
    s.run(&["push", &source, &format!("{name}/other:v1")]).ok();
    s.run(&["pull", &target]).ok();
    assert_eq!(s.run(&["tags", &format!("{name}/app")]).ok().out(), "v1");
    // Where HTTP/2 is offered it is used.
    let log = fs::read_to_string(s.place.join("registry.log")).expect("a log");
    let blobs: Vec<&str> = log
        .lines()
        .filter(|l| l.contains("GET /v2/app/blobs/"))
        .collect();
    assert!(
        !blobs.is_empty() && blobs.iter().all(|l| l.contains("HTTP/2")),
        "{log}"
    );

    // The same from our own file.
    fs::remove_dir_all(s.home.join(&certs)).expect("remove");
    s.home.write(
        "config/strata/config.toml",
        &format!(
            "[[registry]]\nlocation = \"{name}\"\ninsecure = false\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
            authority.cert(),
            client.cert,
            client.key
        ),
    );
    s.pull_afresh(&target).ok();
    let other = Authority::new(&s.place, "other");
    s.home.write(
        "config/strata/config.toml",
        &format!(
            "[[registry]]\nlocation = \"{name}\"\nca = {:?}\n",
            other.cert()
        ),
    );
    s.pull_afresh(&target).refused().says("certificate");
}

#[test]
fn proxies_of_the_environment_are_used_but_not_for_this_machine() {
    let s = Person::new();
    let image = image();
    let proxy = Fake::of_image(image.clone(), |_| None);
    let address = format!("http://{}", proxy.address());
    let mut command = s.home.command(
        &s.strata,
        &["pull", "--plain-http", "registry.example/app:v1"],
    );
    run(command.env("http_proxy", &address)).ok();
    let asked = proxy.asked();
    assert!(
        asked
            .iter()
            .all(|a| a.target.starts_with("http://registry.example/v2/")),
        "{asked:?}"
    );
    assert!(!asked.is_empty());
    let server = Fake::of_image(image, |_| None);
    let name = format!("{}/app:v1", server.address());
    let mut command = s.home.command(&s.strata, &["pull", &name]);
    run(command
        .env("http_proxy", "http://127.0.0.1:1")
        .env("ALL_PROXY", "http://127.0.0.1:1"))
    .ok();
}
