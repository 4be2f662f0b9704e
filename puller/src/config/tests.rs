//! Which source decides, and what follows from it.

use super::*;

fn places(dir: &Path) -> Places {
    let dir = dir.to_owned();
    Places::from_environment(None, false, move |name| match name {
        "HOME" => Some(dir.clone()),
        "CONTAINERS_REGISTRIES_CONF" => Some(dir.join("registries.conf")),
        _ => None,
    })
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
    std::fs::write(path, text).expect("write");
}

fn hosts(plan: &Plan) -> Vec<String> {
    let all = plan.mirrors.iter().chain(&plan.registry);
    all.map(|target| format!("{}/{}", target.host, target.repository))
        .collect()
}

#[test]
fn the_first_source_that_has_a_rule_decides_alone() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path();
    write(
        dir,
        ".config/strata/config.toml",
        &format!(
            "hosts-dirs = [{:?}]\n[[registry]]\nlocation = \"a.test\"\n[[registry.mirror]]\nlocation = \"own.test\"",
            dir.join("hosts")
        ),
    );
    write(
        dir,
        "registries.conf",
        "[[registry]]\nlocation = \"a.test\"\nblocked = true\n[[registry]]\nprefix = \"b.test\"\nlocation = \"c.test/b\"\n[[registry.mirror]]\nlocation = \"m.test/b\"",
    );
    write(
        dir,
        "registries.conf.d/1.conf",
        "[[registry]]\nlocation = \"d.test\"\nblocked = true",
    );
    write(dir, "registries.conf.d/1.txt", "nonsense");
    for name in ["a.test", "b.test", "e.test"] {
        write(
            dir,
            &format!("hosts/{name}/hosts.toml"),
            "server = \"https://real.test\"\n[host.\"https://containerd.test\"]\ncapabilities = [\"pull\"]",
        );
    }
    let config = Config::read(&places(dir)).expect("well formed");
    let plan = |registry: &str| config.plan(registry, "team/app");
    assert_eq!(
        hosts(&plan("a.test").expect("a plan")),
        ["own.test/team/app"]
    );
    assert_eq!(
        hosts(&plan("b.test").expect("a plan")),
        ["m.test/b/team/app", "c.test/b/team/app"]
    );
    let error = plan("d.test").expect_err("blocked").to_string();
    assert!(
        error.contains("d.test/team/app is blocked by") && error.contains("1.conf"),
        "{error}"
    );
    let last = plan("e.test").expect("a plan");
    assert_eq!(hosts(&last), ["containerd.test/team/app"]);
    assert!(!last.mirrors[0].serves(true, true) && last.mirrors[0].serves(false, true));
    assert_eq!(config.registry("e.test").expect("a host").host, "real.test");
    assert_eq!(config.registry("a.test").expect("a host").host, "a.test");
    assert!(hosts(&plan("f.test").expect("a plan")).is_empty());
}

#[test]
fn sources_can_be_left_out_and_a_named_file_has_to_be_there() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path();
    write(dir, ".config/strata/config.toml", "also-read = []");
    write(
        dir,
        "registries.conf",
        "[[registry]]\nlocation = \"a.test\"\nblocked = true",
    );
    let config = Config::read(&places(dir)).expect("well formed");
    assert!(config.plan("a.test", "x").is_ok());
    let mut other = places(dir);
    other.own = vec![(dir.join("none.toml"), true)];
    let error = Config::read(&other).expect_err("not there").to_string();
    assert!(error.contains("none.toml"), "{error}");
}

#[test]
fn mirrors_by_digest_serve_images_named_by_digest() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path();
    write(
        dir,
        "registries.conf",
        "[[registry]]\nlocation = \"a.test\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"m.test\"",
    );
    let config = Config::read(&places(dir)).expect("well formed");
    let plan = config.plan("a.test", "x").expect("a plan");
    // The blobs of an image that is named by tag come from where its manifest came from.
    assert!(!plan.mirrors[0].serves(true, true) && !plan.mirrors[0].serves(false, true));
    assert!(plan.mirrors[0].serves(false, false));
}

#[test]
fn certificates_come_from_the_rule_else_from_the_hosts_directory() {
    let home = tempfile::tempdir().expect("tempdir");
    let dir = home.path();
    write(dir, ".config/containers/certs.d/a.test/x.crt", "");
    write(dir, ".config/containers/certs.d/b.test/x.crt", "");
    write(
        dir,
        "registries.conf",
        "[[registry]]\nlocation = \"b.test\"\nca = \"/own.pem\"",
    );
    let config = Config::read(&places(dir)).expect("well formed");
    let ca = |host: &str| config.registry(host).expect("a host").tls.ca;
    assert_eq!(
        ca("a.test"),
        [dir.join(".config/containers/certs.d/a.test/x.crt")]
    );
    assert_eq!(ca("b.test"), [PathBuf::from("/own.pem")]);
    assert!(ca("c.test").is_empty());
}

#[test]
fn limits_of_layers_are_ours_to_set_and_strict() {
    let home = tempfile::tempdir().expect("tempdir");
    let (own, theirs) = (".config/strata/config.toml", "registries.conf");
    let limits = || Config::read(&places(home.path())).map(|config| config.limits());
    write(home.path(), theirs, "[limits]\nentries = 1");
    assert_eq!(limits().expect("none"), Limits::default());
    write(home.path(), own, "[limits]\nentries = 5\nratio = 7");
    let expected = Limits {
        entries: 5,
        ratio: 7,
        ..Limits::default()
    };
    assert_eq!(limits().expect("well formed"), expected);
    for wrong in ["entrees = 5", "entries = -1", "bytes = \"1G\""] {
        write(home.path(), own, &format!("[limits]\n{wrong}"));
        let error = limits().expect_err("a mistake").to_string();
        assert!(error.contains("limits"), "{error}");
    }
}
