//! `strata image rebase` and `base`: what an image stands on, here and in registries.

use serde_json::{Value, json};
use strata_tests::committed::shell;
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::recorder::Recorder;
use strata_tests::scene::{Scene, shell_layer};
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;

#[test]
fn an_image_moves_to_a_newer_base_and_nothing_is_fetched_or_unpacked() {
    let s = Scene::new();
    let base = |text: &str| {
        Image::with_config(
            &[
                shell_layer(),
                Layer::of(&[Entry::dir("data/"), Entry::file("data/base", text)]),
            ],
            json!({"Env": ["PATH=/usr/bin:/bin", format!("BASE={}", text.trim())], "WorkingDir": "/data"}),
        )
    };
    let (old, new) = (s.push(&base("old\n"), "old"), s.push(&base("new\n"), "new"));
    s.strata.pull(&old);
    s.strata.pull(&new);
    s.strata
        .run(&["run", "--name", "box", &old, "sh", "-c", "echo app > app"])
        .ok();
    s.strata
        .run(&[
            "commit",
            "-c",
            "CMD cat app base; echo $BASE",
            "-m",
            "the app",
            "box",
            "app:1",
        ])
        .ok();
    assert_eq!(
        s.strata.run(&["run", "--rm", "app:1"]).ok().out(),
        "app\nold\nold"
    );
    let before = s.strata.layers();
    s.strata
        .run(&["image", "rebase", "app:1", &old, &new, "app:2"])
        .ok();
    assert_eq!(s.strata.layers(), before);
    assert_eq!(
        s.strata.run(&["run", "--rm", "app:2"]).ok().out(),
        "app\nnew\nnew"
    );
    let history = s.strata.run(&["history", "app:2"]).ok().out();
    assert!(
        history.contains("the app") && history.lines().count() == 4,
        "{history}"
    );
    let there = s.server.reference("app", "rebased");
    s.strata.run(&["tag", "app:2", &there]).ok();
    s.strata.run(&["push", "-q", &there]).ok();
    assert_eq!(s.fresh_store().pull(&there).fetched(), 3);
    s.strata
        .run(&["image", "rebase", "app:2", &old, &new, "app:3"])
        .refused()
        .says("old base");
    s.strata
        .run(&[
            "image",
            "rebase",
            "app:1",
            &s.server.reference("app", "nothing"),
            &new,
        ])
        .refused()
        .says("no such image");
    // The image says on what it stands, and its base's name has moved on.
    s.strata.run(&["tag", &new, &old]).ok();
    s.strata
        .run(&["image", "rebase", "app:1", "-t", "app:4"])
        .ok();
    assert_eq!(
        s.strata.run(&["run", "--rm", "app:4"]).ok().out(),
        "app\nnew\nnew"
    );
    let already = s.strata.run(&["image", "rebase", "app:4"]).ok();
    assert!(already.story().contains("already"), "{}", already.story());
    s.strata
        .run(&["image", "rebase", &old])
        .refused()
        .says("name OLD-BASE");
}

/// A base of two layers, the second with a text in it.
fn base(text: &str) -> Image {
    Image::with_config(
        &[
            shell_layer(),
            Layer::of(&[Entry::dir("data/"), Entry::file("data/base", text)]),
        ],
        json!({"Env": [format!("BASE={text}")], "WorkingDir": "/data"}),
    )
}

/// An image of an application on a base.
fn app(base: &Image, text: &str) -> Image {
    let own = Layer::of(&[Entry::file("data/app", text)]);
    let layers: Vec<Layer> = base.layers.iter().cloned().chain([own]).collect();
    let env = json!([format!("BASE={text}")]);
    Image::with_config(
        &layers,
        json!({"Env": env, "Cmd": ["cat", "app", "base"], "WorkingDir": "/data"}),
    )
}

#[test]
fn in_a_registry_an_image_moves_by_its_manifests_and_layers_are_mounted() {
    let s = Scene::new();
    let (old, new, newer) = (base("old "), base("new "), base("newer "));
    let image = app(&old, "app ");
    let api = s.server.api();
    api.push(&old, "base", "old");
    api.push(&new, "base", "1");
    api.push(&image, "team/app", "1");
    let wire = Recorder::start(s.server.address());
    let at = |repository: &str, tag: &str| wire.reference(repository, tag);
    let rebase = |args: &[&str]| s.strata.run(&[&["image", "rebase"], args].concat()).ok();
    let moved = rebase(&[
        &at("team/app", "1"),
        &at("base", "old"),
        &at("base", "1"),
        &at("team/app", "2"),
    ]);
    assert!(
        moved
            .out()
            .starts_with(&format!("{}@sha256:", at("team/app", "2"))),
        "{}",
        moved.story()
    );
    assert!(moved.story().contains("1 mounted"), "{}", moved.story());
    let fetched = |wire: &Recorder| {
        let layers = [&old, &new, &newer, &image]
            .map(|image| image.layers.clone())
            .concat();
        let mut requests = wire.requests();
        requests.retain(|line| {
            line.starts_with("GET") && layers.iter().any(|layer| line.contains(layer.digest.hex()))
        });
        requests
    };
    assert_eq!(fetched(&wire), [""; 0], "no layer is fetched");
    assert_eq!(
        wire.uploads("team/app").len(),
        1,
        "the configuration is sent"
    );
    assert!(s.strata.layers().is_empty(), "nothing comes here");
    assert_eq!(
        api.manifest("team/app", "1").body,
        image.manifest,
        "the old one stays"
    );
    let there = s.server.reference("team/app", "2");
    s.fresh_store().pull(&there);
    assert_eq!(
        s.fresh_store().run(&["run", "--rm", &there]).ok().out(),
        "app new"
    );

    // Now the manifest says on what it stands: nothing has to be named, and its own tag moves.
    let already = rebase(&[&at("team/app", "2")]);
    assert!(already.story().contains("already"), "{}", already.story());
    api.push(&newer, "base", "1");
    let state = || bases_of(&s.strata, &[&at("team/app", "2")])[0].1.clone();
    assert_eq!(state(), "moved");
    rebase(&[&format!("docker://{}", at("team/app", "2"))]);
    assert_eq!(state(), "current");
    assert_eq!(fetched(&wire), [""; 0]);
    s.fresh_store().pull(&there);
    assert_eq!(
        s.fresh_store().run(&["run", "--rm", &there]).ok().out(),
        "app newer"
    );

    for (args, word) in [
        (vec![at("team/app", "none")], "not here"),
        (vec![at("team/app", "1")], "does not say on what it stands"),
        (
            vec![at("team/app", "1"), at("base", "1"), at("base", "1")],
            "old base",
        ),
        (
            vec![at("team/app", "1"), at("base", "none"), at("base", "1")],
            "base:none",
        ),
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ran = s.strata.run(&[&["image", "rebase"][..], &args].concat());
        let _ = ran.refused().says(word);
    }
    assert_eq!(api.manifest("team/app", "1").body, image.manifest);
}

#[test]
fn a_base_in_another_registry_is_brought_to_the_image() {
    let s = Scene::new();
    let elsewhere = Stratad::start(&s.place.join("elsewhere"));
    let (old, new) = (base("old "), base("new "));
    let from = s.server.api().push(&app(&old, "app "), "app", "1");
    let old = elsewhere.api().push(&old, "base", "old");
    let new = elsewhere.api().push(&new, "base", "new");
    let to = s.server.reference("app", "2");
    let flags = [
        "image",
        "rebase",
        "--old_base",
        &old,
        "--new_base",
        &new,
        "--tag",
        &to,
        &from,
    ];
    let moved = s.strata.run(&flags).ok();
    // The lowest layer is that of the old base, too.
    assert!(
        moved.story().contains("2 copied") && moved.story().contains("2 present"),
        "{}",
        moved.story()
    );
    s.fresh_store().pull(&to);
    assert_eq!(
        s.fresh_store().run(&["run", "--rm", &to]).ok().out(),
        "app new"
    );
}

/// The bases of an image, by name and state.
#[track_caller]
fn bases_of(strata: &Strata, args: &[&str]) -> Vec<(String, String)> {
    let ran = strata.run(&[&["image", "base", "--format", "json"], args].concat());
    let bases: Vec<Value> = serde_json::from_slice(&ran.ok().stdout).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    bases
        .iter()
        .map(|base| (text(&base["name"]), text(&base["state"])))
        .collect()
}

#[test]
fn the_registry_of_a_base_is_asked_whether_its_name_has_moved_on() {
    let mut s = Scene::new();
    let old = s.server.api().push(&base("old "), "base", "1");
    s.strata.pull(&old);
    s.strata
        .run(&["run", "--name", "box", &old, "touch", "/x"])
        .ok();
    s.strata.run(&["commit", "box", "app:1"]).ok();
    let state = |args: &[&str]| bases_of(&s.strata, &[args, &["app:1"]].concat());
    let is = |state: &str| vec![(old.clone(), state.to_owned())];
    assert_eq!(state(&[]), is("current"));
    s.server.api().push(&base("new "), "base", "1");
    assert_eq!(state(&[]), is("moved"));
    assert_eq!(
        state(&["--offline"]),
        is("current"),
        "as far as is known here"
    );
    let here = s.strata.layers();
    let listed = s.strata.run(&["image", "base", "app:1"]).ok().out();
    assert!(listed.contains("moved"), "{listed}");
    assert_eq!(s.strata.layers(), here, "nothing is fetched");
    s.server.stop();
    let ran = s.strata.run(&["image", "base", "app:1"]).ok();
    assert!(
        ran.out().contains("current") && ran.stderr.contains("not known"),
        "{}",
        ran.story()
    );
}

#[test]
fn the_base_of_an_image_is_found_by_its_layers_and_by_what_it_says() {
    let (s, base) = shell();
    s.strata.run(&["tag", &base, "base:1"]).ok();
    s.strata
        .run(&["run", "--name", "box", "base:1", "touch", "/x"])
        .ok();
    s.strata.run(&["commit", "box", "app:1"]).ok();
    let told = |image: &str| bases_of(&s.strata, &[image]);
    let pair = |name: &str, state: &str| (name.to_owned(), state.to_owned());
    let found = told("app:1");
    assert!(
        found.contains(&pair("base:1", "current")) && found.contains(&pair(&base, "current")),
        "{found:?}"
    );
    let table = s.strata.run(&["image", "base", "app:1"]).ok().out();
    assert!(
        table.starts_with("BASE") && table.contains("base:1"),
        "{table}"
    );
    assert_eq!(told(&base), []);
    // The name moves to another image.
    let other = s.push(
        &Image::new(&[Layer::of(&[Entry::file("other", "x")])]),
        "other",
    );
    s.strata.pull(&other);
    s.strata.run(&["tag", &other, "base:1"]).ok();
    let found = told("app:1");
    assert!(
        found.contains(&pair("base:1", "moved")) && found.contains(&pair(&base, "current")),
        "{found:?}"
    );
    s.strata.run(&["rmi", "base:1"]).ok();
    let offline = bases_of(&s.strata, &["--offline", "app:1"]);
    assert!(offline.contains(&pair("base:1", "unknown")));
    s.strata
        .run(&["image", "base", "--offline", "none"])
        .refused();
}
