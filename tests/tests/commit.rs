//! `strata commit`: the steps of docker's guide about layers, every kind of change on every driver and what other
//! clients make of the new image.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use serde_json::{Value, json};
use strata_oci::media;
use strata_tests::clients::{Clients, umoci_unpack};
use strata_tests::committed::{committed, inspected, layers, mounted, names, shell};
use strata_tests::scene::{Scene, shell_image};
use strata_tests::tree::{Kind, Tree};
use strata_tests::user::need_root;

const DRIVERS: [&str; 3] = ["overlay", "fuse-overlayfs", "vfs"];

#[test]
fn the_guide_about_layers_gives_the_same_results_here() {
    let (s, base) = shell();
    let run = |args: &[&str]| s.strata.run(args).ok().out();
    let install = "mkdir -p /opt/node && echo 'echo Hello \"$@\"' > /opt/node/node && sleep 0.01";
    run(&["run", "--name=base-container", &base, "sh", "-c", install]);
    let id = run(&[
        "container",
        "commit",
        "-m",
        "Add node",
        "base-container",
        "node-base",
    ]);
    assert!(id.starts_with("sha256:"), "{id}");
    let history = run(&["image", "history", "node-base"]);
    let lines: Vec<&str> = history.lines().collect();
    assert!(
        lines[1].contains("Add node") && lines[1].contains(&id["sha256:".len()..][..12]),
        "{history}"
    );
    assert!(!lines[1].contains(" 0B "), "{history}");
    assert!(lines[2].contains("by hand"), "the base is below: {history}");
    let again = run(&["run", "--rm", "node-base", "sh", "/opt/node/node", "again"]);
    assert_eq!(again, "Hello again");
    run(&["rm", "-f", "base-container"]);

    let app = "echo 'echo Hello from an app' > app.js";
    run(&["run", "--name=app-container", "node-base", "sh", "-c", app]);
    let change = "CMD sh /opt/node/node; sh app.js";
    run(&[
        "container",
        "commit",
        "-c",
        change,
        "-m",
        "Add app",
        "app-container",
        "sample-app",
    ]);
    let history = run(&["image", "history", "sample-app"]);
    let at = |text: &str| history.lines().position(|line| line.contains(text));
    assert!(
        at("Add app") < at("Add node") && at("Add node") < at("by hand"),
        "{history}"
    );
    assert_eq!(
        run(&["run", "--rm", "sample-app"]),
        "Hello\nHello from an app"
    );
    run(&["rm", "-f", "app-container"]);

    // To a registry, and from there to a store that has the base: one small layer travels.
    let there = |name: &str| s.server.reference("guide", name);
    for name in ["node-base", "sample-app"] {
        run(&["tag", name, &there(name)]);
        let pushed = s.strata.run(&["push", &there(name)]).ok();
        assert!(!pushed.stderr.contains("new digest"), "{}", pushed.story());
    }
    let other = s.fresh_store();
    other.pull(&there("node-base"));
    let pulled = other.pull(&there("sample-app"));
    assert_eq!((pulled.fetched(), pulled.reused()), (1, 3));
    assert!(pulled.bytes_fetched < 2000, "{pulled:?}");
    let greeting = other.run(&["run", "--rm", &there("sample-app")]).ok().out();
    assert_eq!(greeting, "Hello\nHello from an app");
    other.run(&["system", "check"]).ok();
    s.strata.run(&["system", "check"]).ok();
    s.assert_no_containers();
}

#[test]
fn the_same_changes_give_the_same_layer_on_every_driver() {
    need_root();
    let (s, base) = shell();
    let script = "set -e; echo changed > one; rm two; rm -r sub; mkdir sub; echo new > sub/new; chmod 640 mine; \
        mkdir -p /fresh/dir; echo x > /fresh/dir/file; touch -d @5 /fresh/old; mkdir empty; rmdir empty; \
        rm /etc/group; mkdir /etc/group; echo y > /etc/group/inside; chmod 750 /; touch -d @7 sub/new";
    let mut found = Vec::new();
    for driver in DRIVERS {
        committed(
            &s.strata,
            driver,
            &base,
            script,
            &["-m", "the same"],
            driver,
        )
        .ok();
        let top = layers(&s.strata, driver).pop().expect("a layer");
        found.push((top, names(&s.strata, driver)));
        let tree = mounted(&s.strata, driver);
        let file = |path: &str| tree.get(path).unwrap_or_else(|| panic!("{driver}: {path}"));
        assert_eq!(file("fresh/old").mtime, (5, 0), "{driver}");
        assert_eq!(file("data/mine").mode, 0o640, "{driver}");
        assert_eq!(file("data/mine").owner, (1000, 1000), "{driver}");
        assert_eq!(
            tree.0.values().next().expect("the root").mode,
            0o750,
            "{driver}"
        );
        for gone in ["data/two", "data/sub/three", "data/empty"] {
            assert!(tree.get(gone).is_none(), "{driver}: {gone}");
        }
    }
    assert_eq!(
        found[0].1,
        [
            "./",
            "data/",
            "data/mine",
            "data/one",
            "data/sub/",
            "data/sub/new",
            "data/sub/.wh.three",
            "data/.wh.two",
            "etc/",
            "etc/group/",
            "etc/group/inside",
            "fresh/",
            "fresh/dir/",
            "fresh/dir/file",
            "fresh/old",
        ]
    );
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0], found[2]);
    let ids: Vec<Value> = DRIVERS
        .iter()
        .map(|name| inspected(&s.strata, name)["Id"].clone())
        .collect();
    assert!(
        ids.iter().all(|id| *id == ids[0] && !id.is_null()),
        "{ids:?}"
    );
}

#[test]
fn links_holes_attributes_and_pipes_come_through_and_sockets_do_not() {
    need_root();
    let s = Scene::new();
    let reference = s.push(&shell_image(), "v1");
    s.strata.pull(&reference);
    for driver in DRIVERS {
        let top = s
            .strata
            .run(&["--driver", driver, "mount", &reference])
            .ok()
            .out();
        let at = |name: &str| Path::new(&top).join(name);
        // A second name for a file of a lower layer, and new ones for a new file.
        fs::hard_link(at("data/one"), at("data/one-again")).expect("link");
        fs::write(at("a"), "linked").expect("write");
        fs::hard_link(at("a"), at("z")).expect("link");
        let sparse = fs::File::create(at("sparse")).expect("create");
        sparse.set_len(50 << 20).expect("a hole");
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (40 << 20) + 1).expect("write");
        drop(sparse);
        // As a program has it that runs during the commit.
        let mut open = fs::File::create(at("open")).expect("create");
        open.write_all(&vec![b'o'; 300_000]).expect("write");
        rustix::fs::setxattr(at("data/two"), "user.note", b"x", XattrFlags::empty())
            .expect("attribute");
        for (name, kind) in [("pipe", FileType::Fifo), ("socket", FileType::Socket)] {
            rustix::fs::mknodat(CWD, at(name), kind, Mode::RUSR, 0).expect(name);
        }
        let mut truth = Tree::read(Path::new(&top));
        let name = format!("made-{driver}");
        let id = top.rsplit('/').nth(1).expect("an id").to_owned();
        s.strata.run(&["commit", &id, &name]).ok();
        drop(open);
        s.strata.run(&["umount", &top]).ok();
        truth.0.remove(Path::new("socket")).expect("the socket");
        let found = mounted(&s.strata, &name);
        found.assert_same(&truth);
        let same = |path: &str| found.get(path).expect("there").same_as.clone();
        assert_eq!(same("z").as_deref(), Some(Path::new("a")));
        assert_eq!(
            same("data/one-again").as_deref(),
            Some(Path::new("data/one"))
        );
        let pipe = found.get("pipe").expect("there");
        assert!(matches!(pipe.kind, Kind::Special('p', _)), "{pipe}");
        let stored = s
            .strata
            .layer(&layers(&s.strata, &name)[2].parse().expect("digest"));
        let held = fs::metadata(stored.join("fs/sparse")).expect("there");
        let blocks = std::os::unix::fs::MetadataExt::blocks(&held);
        assert!(
            blocks * 512 < 5 << 20,
            "{driver}: a hole became {blocks} blocks"
        );
    }
    s.strata.run(&["system", "check"]).ok();
}

#[test]
fn a_container_without_changes_gives_an_image_of_the_same_layers() {
    let (s, base) = shell();
    let before = layers(&s.strata, &base);
    for driver in DRIVERS {
        committed(
            &s.strata,
            driver,
            &base,
            "cat one",
            &["-m", "nothing"],
            "same",
        )
        .ok();
        assert_eq!(layers(&s.strata, "same"), before, "{driver}");
        let history = s.strata.run(&["history", "--format", "json", "same"]).ok();
        let steps: Value = serde_json::from_slice(&history.stdout).expect("JSON");
        assert_eq!(steps[0]["comment"], "nothing");
        assert_eq!(steps[0]["size"], 0);
    }
}

#[test]
fn the_new_images_settings_are_those_of_the_container_and_the_changes() {
    let (s, base) = shell();
    let script = [
        "run", "--name", "box", "-e", "GIVEN=1", "-w", "/tmp", &base, "sh", "-c", "exit 3",
    ];
    assert_eq!(s.strata.run(&script).code(), 3);
    let commit = |args: &[&str]| {
        s.strata
            .run(&[&["commit", "-a", "A. Uthor"], args].concat())
    };
    commit(&[
        "-c",
        "ENV A=1 B=\"two words\"",
        "--change",
        "EXPOSE 80",
        "-c",
        "LABEL x=y",
        "-c",
        "USER 1000:1000",
        "-c",
        "WORKDIR /data",
        "-c",
        "VOLUME /v",
        "-c",
        "STOPSIGNAL SIGINT",
        "-c",
        "ENTRYPOINT [\"/bin/sh\"]",
        "-c",
        "CMD [\"-c\", \"echo $B; id -u; pwd\"]",
        "box",
        "set:1",
    ])
    .ok();
    let config = &inspected(&s.strata, "set:1")["Config"];
    let expected = json!({
        "ExposedPorts": {"80/tcp": {}}, "Labels": {"x": "y"}, "User": "1000:1000", "WorkingDir": "/data",
        "Volumes": {"/v": {}}, "StopSignal": "SIGINT", "Entrypoint": ["/bin/sh"],
        "Cmd": ["-c", "echo $B; id -u; pwd"],
    });
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&config[key], value, "{key}: {config}");
    }
    let env: Vec<&str> = config["Env"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(
        env.contains(&"A=1") && env.contains(&"B=two words") && env.contains(&"FROM_IMAGE=yes"),
        "{env:?}"
    );
    assert!(
        !env.iter().any(|variable| variable.starts_with("HOSTNAME=")),
        "{env:?}"
    );
    let out = s.strata.run(&["run", "--rm", "set:1"]).ok().out();
    assert_eq!(out, "two words\n1000\n/data");
    let again = commit(&["box"]).ok();
    assert!(
        s.strata.images().to_string().contains(&again.out()),
        "an image without a name"
    );

    for (args, word) in [
        (&["-c", "RUN make", "box"][..], "RUN"),
        (&["-c", "ENV A='", "box"], "quote"),
        (&["box", "UPPER"], "UPPER"),
        (
            &[
                "box",
                "name@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            ],
            "digest",
        ),
        (
            &["--format", "docker", "--compression", "zstd", "box"],
            "zstd",
        ),
        (&["nobody"], "nobody"),
    ] {
        commit(args).refused().says(word);
    }
    let bad = strata_tests::command::run(
        s.strata
            .command(&["commit", "box"])
            .env("SOURCE_DATE_EPOCH", "soon"),
    );
    bad.refused().says("SOURCE_DATE_EPOCH");
}

#[test]
fn a_name_that_a_layer_cannot_hold_is_refused_and_leaves_nothing() {
    let (s, base) = shell();
    let script = "echo x > /data/.wh.one";
    let before = s.strata.layers();
    for driver in ["overlay", "vfs"] {
        committed(&s.strata, driver, &base, script, &[], "never")
            .refused()
            .says("/data/.wh.one");
    }
    assert_eq!(s.strata.layers(), before);
    assert_eq!(s.strata.leftovers(), [""; 0]);
    assert!(!s.strata.images().to_string().contains("never"));
}

#[test]
fn manifests_are_of_the_form_that_is_wanted_and_others_read_them() {
    need_root();
    let (s, base) = shell();
    let clients = Clients::new(&s.place);
    let script = "rm two; mkdir new; echo content > new/file; cp -l new/file new/link; rm -r sub; mkdir sub; chmod 4755 mine";
    let run = ["run", "--name", "box", &base, "sh", "-c", script];
    s.strata.run(&run).ok();
    let truth = {
        let id = s.strata.run(&["commit", "box", "truth"]).ok().out();
        mounted(&s.strata, &id)
    };
    for (args, manifest, layer) in [
        (&[][..], media::OCI_MANIFEST, media::OCI_LAYER_GZIP),
        (
            &["--compression", "zstd"],
            media::OCI_MANIFEST,
            media::OCI_LAYER_ZSTD,
        ),
        (
            &["--format", "docker"],
            media::DOCKER_MANIFEST,
            media::DOCKER_LAYER_GZIP,
        ),
    ] {
        let tag = format!("v{}", args.len() + manifest.len());
        let reference = s.server.reference("forms", &tag);
        s.strata
            .run(&[&["commit"], args, &["box", &reference]].concat())
            .ok();
        s.strata.run(&["push", "-q", &reference]).ok();
        let served = s.server.api().manifest("forms", &tag).json();
        assert_eq!(served["mediaType"], manifest);
        assert_eq!(served["layers"][2]["mediaType"], layer);

        let there = s.fresh_store();
        there.pull(&reference);
        mounted(&there, &reference).assert_same(&truth);

        clients.podman_transfer("pull", &reference).ok();
        let top = clients.podman(&["image", "mount", &reference]).ok().out();
        let theirs = Tree::read(Path::new(&top)).without_times_of_directories();
        truth
            .clone()
            .without_times_of_directories()
            .assert_same(&theirs);
        clients.podman(&["image", "umount", &reference]).ok();

        let layout = s.place.join(format!("layout-{tag}"));
        let to = format!("oci:{}:v1", layout.display());
        clients
            .skopeo_copy(&format!("docker://{reference}"), &to, &[])
            .ok();
        // umoci (0.4) has no word for zstd.
        if layer != media::OCI_LAYER_ZSTD {
            let bundle = s.place.join(format!("bundle-{tag}"));
            let theirs =
                Tree::read(&umoci_unpack(&layout, "v1", &bundle)).without_times_of_directories();
            truth
                .clone()
                .without_times_of_directories()
                .assert_same(&theirs);
        }
    }
}
