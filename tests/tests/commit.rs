//! `strata commit`: the steps of docker's guide about layers, every kind of change on every driver, what other clients make
//! of the new image, and changes by chance.

use std::fs;
use std::path::Path;
use std::thread;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use serde_json::{Value, json};
use strata_oci::media;
use strata_tests::clients::{Clients, umoci_unpack};
use strata_tests::command::{Ran, Running};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::scene::{Scene, shell_image, shell_layer};
use strata_tests::strata::Strata;
use strata_tests::tree::{Kind, Tree};
use strata_tests::user::{User, need_root};
use strata_tests::wild;

const DRIVERS: [&str; 3] = ["overlay", "fuse-overlayfs", "vfs"];

/// A scene with a shell image in its store.
fn shell() -> (Scene, String) {
    let s = Scene::new();
    let reference = s.push(&shell_image(), "v1");
    s.strata.pull(&reference);
    (s, reference)
}

/// What `strata inspect` says of an image.
#[track_caller]
fn inspected(strata: &Strata, image: &str) -> Value {
    let ran = strata.run(&["inspect", image]).ok();
    let found: Value =
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.story()));
    match found {
        Value::Array(mut all) => all.remove(0),
        one => one,
    }
}

/// The diffIDs of an image, the lowest first.
#[track_caller]
fn layers(strata: &Strata, image: &str) -> Vec<String> {
    let found = inspected(strata, image);
    let layers = found["RootFS"]["Layers"].as_array().expect("layers");
    layers
        .iter()
        .filter_map(|id| id.as_str().map(str::to_owned))
        .collect()
}

/// The names in the archive of an image's topmost layer, in their order.
#[track_caller]
fn names(strata: &Strata, image: &str) -> Vec<String> {
    let top = layers(strata, image).pop().expect("a layer");
    let digest = top.parse().expect("a digest");
    let mut archive = Vec::new();
    strata::layer::rebuild(&strata.layer(&digest), &mut archive).expect("rebuilt");
    let mut archive = tar::Archive::new(archive.as_slice());
    let entries = archive.entries().expect("entries");
    entries
        .map(|entry| String::from_utf8_lossy(&entry.expect("entry").path_bytes()).into_owned())
        .collect()
}

#[track_caller]
fn mounted(strata: &Strata, reference: &str) -> Tree {
    let top = strata.run(&["mount", "--ro", reference]).ok().out();
    let tree = Tree::read(Path::new(&top));
    strata.run(&["umount", &top]).ok();
    tree
}

/// Runs a script in a container that stays, and makes an image of it.
#[track_caller]
fn committed(
    strata: &Strata,
    driver: &str,
    base: &str,
    script: &str,
    more: &[&str],
    name: &str,
) -> Ran {
    let run = [
        "--driver", driver, "run", "--name", "changed", base, "sh", "-c", script,
    ];
    strata.run(&run).ok();
    let mut commit = strata.command(&[&["commit"], more, &["changed", name]].concat());
    let ran = strata_tests::command::run(commit.env("SOURCE_DATE_EPOCH", "1600000000"));
    strata.run(&["rm", "changed"]).ok();
    ran
}

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
        rustix::fs::setxattr(at("data/two"), "user.note", b"x", XattrFlags::empty())
            .expect("attribute");
        for (name, kind) in [("pipe", FileType::Fifo), ("socket", FileType::Socket)] {
            rustix::fs::mknodat(CWD, at(name), kind, Mode::RUSR, 0).expect(name);
        }
        let mut truth = Tree::read(Path::new(&top));
        let name = format!("made-{driver}");
        let id = top.rsplit('/').nth(1).expect("an id").to_owned();
        s.strata.run(&["commit", &id, &name]).ok();
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

fn random() -> StdRng {
    need_root();
    let seed = std::env::var("STRATA_SEED").map_or_else(
        |_| rand::rng().next_u64() >> 16,
        |text| text.parse().expect("a number"),
    );
    println!("STRATA_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

#[test]
fn changes_by_chance_come_out_elsewhere_as_they_were_made() {
    let mut random = random();
    let s = Scene::new();
    let base = Image::new(&[
        shell_layer(),
        Layer::of(&[Entry::dir("wild/"), Entry::file("wild/one", "1")]),
    ]);
    let mut name = s.push(&base, "v0");
    s.strata.pull(&name);
    for round in 0..6 {
        // fuse-overlayfs itself fails at some of the changes.
        let driver = ["overlay", "vfs"][random.random_range(0..2)];
        let top = s
            .strata
            .run(&["--driver", driver, "mount", &name])
            .ok()
            .out();
        let wild = Path::new(&top).join("wild");
        match round {
            0 => wild::grow(&wild, 60, &mut random).expect("grow"),
            _ => wild::change(&wild, 15, &mut random).expect("change"),
        }
        if round == 5 {
            wild::refine(&wild, &mut random).expect("refine");
        }
        let truth = Tree::read(Path::new(&top));
        let next = s.server.reference("app", &format!("v{}", round + 1));
        let id = top.rsplit('/').nth(1).expect("an id").to_owned();
        s.strata.run(&["commit", &id, &next]).ok();
        s.strata.run(&["umount", &top]).ok();
        s.strata.run(&["push", "-q", &next]).ok();
        println!("round {round} on {driver}");
        mounted(&s.strata, &next).assert_same(&truth);
        let there = s.fresh_store();
        there.pull(&next);
        mounted(&there, &next).assert_same(&truth);
        name = next;
    }
    s.strata.run(&["system", "check"]).ok();
}

#[test]
fn an_ordinary_user_commits_and_owners_are_those_that_the_container_saw() {
    let (s, base) = shell();
    let place = Place::new();
    let single = User::new(&place, 61_501);
    let granted = User::new(&place, 61_502).with_subordinate_ids(&place, 800_000, 65_536);
    let script = "set -e; rm two; rm -r sub; mkdir sub; echo new > sub/new; chmod 4711 sub/new; mkdir /made; \
        chown 33:44 /made 2>/dev/null || true; cp -l one /made/again";
    let mut seen = Vec::new();
    for (user, owner) in [(&single, (0, 0)), (&granted, (33, 44))] {
        // An ordinary user may not open /dev/fuse everywhere.
        for driver in ["overlay", "vfs"] {
            let strata = Strata::of_user(&place, user);
            strata.pull(&base);
            let name = s.server.reference("rootless", driver);
            committed(&strata, driver, &base, script, &[], &name).ok();
            strata.run(&["push", "-q", &name]).ok();
            let here = s.fresh_store();
            here.pull(&name);
            let tree = mounted(&here, &name);
            let made = tree.get("made").expect("there");
            assert_eq!(made.owner, owner, "{driver}");
            assert_eq!(
                tree.get("data/sub/new").expect("there").mode,
                0o4711,
                "{driver}"
            );
            assert!(tree.get("data/two").is_none() && tree.get("data/sub/three").is_none());
            let again = tree.get("made/again").expect("there").same_as.clone();
            assert_eq!(again.as_deref(), Some(Path::new("data/one")), "{driver}");
            let ran = strata
                .run(&["run", "--rm", &name, "sh", "-c", "cat sub/new; ls"])
                .ok();
            assert_eq!(ran.out(), "new\nmine\none\nsub", "{driver}");
            strata.run(&["system", "check"]).ok();
            seen.push((owner, layers(&strata, &name).pop()));
            fs::remove_dir_all(s.place.join("fresh")).expect("remove");
        }
    }
    for same in seen.chunks(2) {
        assert!(same.iter().all(|layer| *layer == same[0]), "{same:?}");
    }
}

#[test]
fn a_commit_that_is_killed_leaves_a_store_that_is_right_and_works_when_repeated() {
    let mut random = random();
    let (s, base) = shell();
    let script = "head -c 9000000 /dev/urandom > /big; mkdir /many; for n in 1 2 3 4 5 6 7 8 9; do head -c 99999 /dev/urandom > /many/$n; done";
    s.strata
        .run(&["run", "--name", "box", &base, "sh", "-c", script])
        .ok();
    let took = s.strata.run(&["commit", "box", "whole"]).ok().took;
    let truth = mounted(&s.strata, "whole");
    let whole = layers(&s.strata, "whole");
    s.strata.run(&["rmi", "whole"]).ok();
    let mut kills = 0;
    for round in 0..12 {
        let mut running = Running::start(&mut s.strata.command(&["commit", "box", "whole"]));
        thread::sleep(took.mul_f64(random.random_range(0.0..1.1)));
        kills += u32::from(running.child.try_wait().expect("wait").is_none());
        drop(running);
        s.strata.run(&["system", "check"]).ok();
        let images = s.strata.images().to_string();
        assert_eq!(s.strata.leftovers(), [""; 0], "round {round}");
        if images.contains("whole") {
            assert_eq!(layers(&s.strata, "whole"), whole);
            s.strata.run(&["rmi", "whole"]).ok();
        }
    }
    println!("{kills} kills");
    assert!(kills > 3, "nothing was tried");
    s.strata.run(&["commit", "box", "whole"]).ok();
    mounted(&s.strata, "whole").assert_same(&truth);
    s.strata.run(&["system", "check"]).ok();
}

#[test]
fn a_running_container_is_held_still_meanwhile_and_goes_on() {
    let (s, base) = shell();
    let place = Place::new();
    let user = User::new(&place, 61_503);
    for strata in [s.strata.clone(), Strata::of_user(&place, &user)] {
        strata.pull(&base);
        // The first file is always as far as the last, or one ahead. Between them is much to read.
        let script = "head -c 30000000 /dev/urandom > /data/big; n=0; while true; do n=$((n+1)); \
            echo $n > /tmp/t; mv /tmp/t /data/a; echo $n > /tmp/t; mv /tmp/t /data/z; done";
        let run = ["run", "-d", "--name", "busy", &base, "sh", "-c", script];
        strata.run(&run).ok();
        let count = |image: &str, name: &str| -> u64 {
            let ran = strata
                .run(&["run", "--rm", image, "cat", &format!("/data/{name}")])
                .ok();
            ran.out().parse().expect("a number")
        };
        let live = || -> u64 {
            let ran = strata.run(&["exec", "busy", "cat", "/data/z"]);
            ran.out().parse().unwrap_or(0)
        };
        for _ in 0..500 {
            if live() > 0 {
                break;
            }
            thread::sleep(std::time::Duration::from_millis(20));
        }
        strata.run(&["commit", "busy", "moment"]).ok();
        let (first, last) = (count("moment", "a"), count("moment", "z"));
        assert!(first == last || first == last + 1, "{first} {last}");
        let now = live();
        let goes_on = (0..500).any(|_| {
            thread::sleep(std::time::Duration::from_millis(10));
            live() > now
        });
        assert!(goes_on, "it is still at {now}");
        let listed = strata.run(&["ps"]).ok().out();
        assert!(
            listed.contains("busy") && !listed.contains("aused"),
            "{listed}"
        );
        strata.run(&["pause", "busy"]).ok();
        strata.run(&["commit", "busy", "again"]).ok();
        assert!(
            strata.run(&["ps"]).ok().out().contains("aused"),
            "one that was paused stays so"
        );
        strata.run(&["rm", "-f", "busy"]).ok();
    }
}
