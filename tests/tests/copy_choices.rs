//! Copying what was asked for from where it was asked: platforms of an index, two sides that are reached
//! differently, short names; and nothing but that travels.

use strata_oci::digest::Digest;
use strata_oci::media;
use strata_tests::certificates::Authority;
use strata_tests::distribution::Distribution;
use strata_tests::home::{Person, copied};
use strata_tests::image::{Image, architecture, index};
use strata_tests::proxy::{Faults, Proxy};
use strata_tests::recorder::Recorder;
use strata_tests::stratad::Stratad;
use strata_tests::trial::on_a_base;

#[test]
fn several_platforms_travel_without_the_others_and_the_index_keeps_its_digest() {
    let s = Person::new();
    let source = Stratad::start(&s.place.join("source"));
    let images = [on_a_base(1), on_a_base(2), on_a_base(3)];
    for image in &images {
        source.api().push(image, "app", "x");
    }
    let [own, arm, other] = &images;
    let bytes = index(&[(own, architecture()), (arm, "arm"), (other, "s390x")]);
    let put = source
        .api()
        .put_manifest("app", "v1", media::OCI_INDEX, &bytes);
    put.expect(201);
    let digest = Digest::of(&bytes).to_string();
    let from = source.reference("app", "v1");
    let this = format!("linux/{}", architecture());
    let two = ["--platform", &this, "--platform", "linux/s390x", &from];
    let copy = |to: &str| s.copy(&[&two[..], &[to]].concat());

    let report = copied(copy(&s.layout("some")));
    assert_eq!(
        (&report["digest"], &report["manifests"]),
        (&digest.clone().into(), &3.into())
    );
    let blob = |image: &Image| {
        s.place
            .join(format!("some/blobs/sha256/{}", image.digest.hex()))
    };
    assert!(blob(own).exists() && blob(other).exists() && !blob(arm).exists());
    // From there they go on, and only they can.
    let sparse = Stratad::start_with(&s.place.join("sparse"), &["--sparse"]);
    let to = sparse.reference("app", "v1");
    let args = [
        "--platform",
        &this,
        "--platform",
        "linux/s390x",
        &s.layout("some"),
        &to,
    ];
    assert_eq!(copied(s.copy(&args))["digest"], *digest);
    assert_eq!(sparse.api().manifest("app", "v1").expect(200).body, bytes);
    s.copy(&[&s.layout("some"), &to])
        .refused()
        .says(arm.digest.hex());
    // A registry that wants all of an index says so, and its tag is what it was.
    let ours = Stratad::start(&s.place.join("ours"));
    let theirs = Distribution::start(&s.place, "debian");
    for (to, api) in [
        (ours.reference("app", "v1"), ours.api()),
        (theirs.reference("app", "v1"), theirs.api()),
    ] {
        copy(&to).refused().says("other platforms").says(&digest);
        assert_eq!(api.manifest("app", "v1").status, 404);
    }
    // Of two one is not there.
    s.copy(&[
        "--platform",
        &this,
        "--platform",
        "linux/riscv64",
        &from,
        &s.layout("none"),
    ])
    .refused()
    .says("riscv64")
    .says("linux/s390x");
    // One alone is that image, without the index.
    let report = copied(s.copy(&["--platform", "linux/s390x", &from, &s.layout("one")]));
    assert_eq!(report["digest"], other.digest.to_string());
    let file = format!("docker-archive:{}", s.place.join("a.tar").display());
    copy(&file).refused().says("--platform once");
}

#[test]
fn a_mirror_keeps_some_platforms_in_step() {
    let s = Person::new();
    let source = Stratad::start(&s.place.join("source"));
    let images = [on_a_base(1), on_a_base(2)];
    for image in &images {
        source.api().push(image, "app", "x");
    }
    let bytes = index(&[(&images[0], "amd64"), (&images[1], "s390x")]);
    let put = source
        .api()
        .put_manifest("app", "v1", media::OCI_INDEX, &bytes);
    put.expect(201);
    let target = Stratad::start_with(&s.place.join("target"), &["--sparse"]);
    let file = s.place.join("mirror.toml");
    let text = format!(
        "[[sync]]\nsource = \"{}/app\"\ndestination = \"{}/app\"\ntags = {{ glob = \"v*\" }}\nplatforms = [\"linux/s390x\"]\n",
        source.address(),
        target.address()
    );
    std::fs::write(&file, text).expect("write");
    let file = file.display().to_string();
    let ran = s
        .home
        .run(&s.strata, &["mirror", "--format", "json", &file])
        .ok();
    assert!(ran.out().contains("\"copied\""), "{}", ran.story());
    assert_eq!(target.api().manifest("app", "v1").expect(200).body, bytes);
    for (image, status) in [(&images[0], 404), (&images[1], 200)] {
        let there = target.api().manifest("app", &image.digest.to_string());
        assert_eq!(there.status, status);
    }
}

#[test]
fn each_side_has_its_own_credentials_and_its_own_way() {
    let s = Person::new();
    let source = Distribution::start_guarded(&s.place, "source");
    let target = Distribution::start_guarded(&s.place, "target");
    let image = on_a_base(1);
    image
        .write_layout(&s.place.join("here"), "v1")
        .expect("write");
    let (from, to) = (source.reference("app", "v1"), target.reference("app", "v1"));
    let here = s.layout("here");
    s.copy(&[&here, &from]).refused().says("refuses access");
    s.copy(&["--src-creds", "me:secret", &here, &from])
        .refused();
    copied(s.copy(&["--dest-creds", "me:secret", &here, &from]));
    s.copy(&["--src-creds", "me:secret", &from, &to]).refused();
    s.copy(&[
        "--src-creds",
        "me:wrong",
        "--dest-creds",
        "me:secret",
        &from,
        &to,
    ])
    .refused();
    // Nobody is there to be asked for the password.
    s.copy(&["--src-creds", "me", &from, &to])
        .refused()
        .says("password");
    // One side by a file of its own.
    let file = s.place.join("auth.json");
    let entry = format!(
        "{{\"auths\":{{\"{}\":{{\"auth\":\"bWU6c2VjcmV0\"}}}}}}",
        source.address()
    );
    std::fs::write(&file, entry).expect("write");
    let file = file.display().to_string();
    let args = [
        "--src-authfile",
        &file,
        "--dest-creds",
        "me:secret",
        &from,
        &to,
    ];
    assert_eq!(copied(s.copy(&args))["digest"], image.digest.to_string());
    let mirror = |args: &[&str]| {
        let repository = format!("{}/app", source.address());
        let to = format!("{}/copies", target.address());
        let all = [&["mirror", "--to", &to], args, &[&repository]].concat();
        s.home.run(&s.strata, &all)
    };
    assert_eq!(mirror(&["--src-creds", "me:secret"]).code(), 1);
    mirror(&["--src-creds", "me:secret", "--dest-authfile", &file]).refused();
    mirror(&["--src-creds", "me:secret", "--dest-creds", "me:secret"]).ok();
}

#[test]
fn one_side_may_be_plain_or_unproved_and_the_other_not() {
    let s = Person::new();
    let authority = Authority::new(&s.place, "authority");
    let own = authority.issue("server");
    let tls = format!(
        ", tls: {{certificate: {}, key: {}}}",
        own.cert.display(),
        own.key.display()
    );
    let secure = Distribution::start_with(&s.place, "secure", &tls, "");
    let plain = Stratad::start(&s.place.join("data"));
    plain.api().push(&on_a_base(1), "app", "v1");
    let (from, to) = (plain.reference("app", "v1"), secure.reference("app", "v1"));
    // On this machine all are plain unless something else is said.
    s.copy(&["--tls-verify=true", &from, &to]).refused();
    s.copy(&["--dest-tls-verify=true", &from, &to])
        .refused()
        .says("certificate");
    s.copy(&["--src-plain-http", "--src-tls-verify=false", &from, &to]);
    let usage = s.copy(&["--src-plain-http", "--src-tls-verify", &from, &to]);
    assert_eq!(usage.code(), 2, "{}", usage.story());
    let config = s.place.join("config.toml");
    let rule = format!(
        "[[registry]]\nlocation = \"{}\"\nca = \"{}\"\n",
        secure.address(),
        authority.cert().display()
    );
    std::fs::write(&config, rule).expect("write");
    let config = config.display().to_string();
    copied(s.copy(&["--config", &config, "--dest-tls-verify=true", &from, &to]));
    // And what is said of one goes before what is said of both.
    let args = [
        "--config",
        &config,
        "--tls-verify=true",
        "--src-plain-http",
        &from,
        &to,
    ];
    assert_eq!(copied(s.copy(&args))["unchanged"], true);
}

#[test]
fn short_names_and_mirrors_count_for_copies_and_their_failures_are_told() {
    let s = Person::new();
    let server = Stratad::start(&s.place.join("data"));
    let image = on_a_base(1);
    server.api().push(&image, "team/tool", "v1");
    s.home.write(
        "config/containers/registries.conf",
        &format!(
            "unqualified-search-registries = [\"127.0.0.1:1\", \"{0}\"]\nshort-name-mode = \"permissive\"\n\
             [aliases]\n\"tool\" = \"registry.example/team/tool\"\n\
             [[registry]]\nlocation = \"registry.example\"\ninsecure = true\n\
             [[registry.mirror]]\nlocation = \"127.0.0.1:1\"\n[[registry.mirror]]\nlocation = \"{0}\"\n",
            server.address()
        ),
    );
    let ran = s
        .copy(&["tool:v1", &s.layout("a")])
        .says("mirror 127.0.0.1:1");
    assert_eq!(copied(ran)["digest"], image.digest.to_string());
    // Where a name may mean several, the first that is there; the layout has it by its tag.
    let ran = s
        .copy(&["team/tool:v1", &s.layout("b")])
        .says("127.0.0.1:1");
    assert_eq!(copied(ran)["digest"], image.digest.to_string());
    let to = format!("{}/copies", server.address());
    let ran = s
        .home
        .run(&s.strata, &["mirror", "--to", &to, "tool:v1"])
        .ok();
    assert!(ran.stderr.contains("mirror 127.0.0.1:1"), "{}", ran.story());
    let there = server.api().manifest("copies/team/tool", "v1").expect(200);
    assert_eq!(there.body, image.manifest);
    // `docker://` says: as docker reads it.
    s.copy(&["docker://tool:v1", &s.layout("c")]).refused();
}

#[test]
fn between_registries_only_the_missing_bytes_travel_on_either_wire() {
    let s = Person::new();
    let source = Stratad::start(&s.place.join("source"));
    let target = Stratad::start(&s.place.join("target"));
    let (old, new) = (on_a_base(1), on_a_base(2));
    source.api().push(&old, "app", "old");
    source.api().push(&new, "app", "new");
    target.api().push(&old, "app", "old");
    let down = Proxy::start(source.address(), Faults::default());
    let up = Recorder::start(target.address());
    let from = format!("{}/app:new", down.address());
    copied(s.copy(&[&from, &up.reference("app", "new")]));
    let missing = (new.layers[1].blob.len() + new.config.len()) as u64;
    let whole = new.layer_bytes();
    assert!(whole > missing * 5);
    let (fetched, sent) = (down.received(), up.sent());
    assert!(fetched < missing + 10_000, "{fetched} for {missing}");
    assert!(sent < missing + 10_000, "{sent} for {missing}");
    let there = target.api().manifest("app", "new").expect(200);
    assert_eq!(there.body, new.manifest);
}
