//! docker's guide "Understanding the image layers" (docs.docker.com), step by step, with `strata` for `docker`: at a real
//! pseudo-terminal, with a real Debian, its apt and its Node.js; as root, and as an ordinary user.

use std::fs;
use std::time::Duration;

use serde_json::json;
use strata_tests::clients::Clients;
use strata_tests::debian;
use strata_tests::entry::Compression;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;
use strata_tests::terminal::Terminal;
use strata_tests::user::User;

/// While apt works.
const LONG: Duration = Duration::from_secs(400);
const PROMPT: &str = ":/# ";

/// Rows of a history: what made each layer, and the comment.
fn history(strata: &Strata, image: &str) -> Vec<[String; 3]> {
    let printed = strata.run(&["image", "history", image]).ok().out();
    let heading = printed.lines().next().expect("a heading");
    let column = |name: &str| heading.find(name).unwrap_or_else(|| panic!("{printed}"));
    let (by, size, comment) = (column("CREATED BY"), column("SIZE"), column("COMMENT"));
    let cut = |line: &str, from: usize, to: usize| {
        let part: String = line
            .chars()
            .skip(from)
            .take(to.saturating_sub(from))
            .collect();
        part.trim().to_owned()
    };
    let rows = printed.lines().skip(1);
    rows.map(|line| {
        [
            cut(line, by, size),
            cut(line, size, comment),
            cut(line, comment, usize::MAX),
        ]
    })
    .collect()
}

/// Steps 1 to 10, with an image called `debian` in the store.
fn guide(strata: &Strata) {
    // 1
    let args = ["run", "--name=base-container", "-ti", "debian"];
    let mut shell = Terminal::start(&strata.command(&args));
    shell.wait_for(PROMPT);
    // 2
    shell.keys("apt update && apt install -y nodejs\r");
    shell.wait_for_within("Setting up nodejs", LONG);
    shell.wait_for_within(PROMPT, LONG);
    shell.keys("node -e 'console.log(\"Hello world!\")'\r");
    shell.wait_for("\rHello world!");
    shell.wait_for(PROMPT);
    // 3
    let id = strata
        .run(&[
            "container",
            "commit",
            "-m",
            "Add node",
            "base-container",
            "node-base",
        ])
        .ok()
        .out();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    // 4
    let rows = history(strata, "node-base");
    assert_eq!(rows[0][2], "Add node");
    assert!(rows[0][1].ends_with("MB"), "{rows:?}");
    assert_eq!(
        rows[1..],
        history(strata, "debian"),
        "the base's layers below"
    );
    // 5
    let again = [
        "run",
        "node-base",
        "node",
        "-e",
        "console.log('Hello again')",
    ];
    assert_eq!(strata.run(&again).ok().out(), "Hello again");
    // 6
    assert_eq!(
        strata.run(&["rm", "-f", "base-container"]).ok().out(),
        "base-container"
    );
    assert_eq!(shell.wait(), 137, "killed with its container");
    // 7
    let args = ["run", "--name=app-container", "-ti", "node-base"];
    let mut shell = Terminal::start(&strata.command(&args));
    shell.wait_for(PROMPT);
    shell.keys("echo 'console.log(\"Hello from an app\")' > app.js\r");
    shell.wait_for(PROMPT);
    shell.keys("node app.js\r");
    shell.wait_for("\rHello from an app");
    shell.wait_for(PROMPT);
    // 8
    let command = [
        "container",
        "commit",
        "-c",
        "CMD node app.js",
        "-m",
        "Add app",
        "app-container",
        "sample-app",
    ];
    strata.run(&command).ok();
    // 9
    let rows = history(strata, "sample-app");
    assert_eq!(rows[0][2], "Add app");
    assert_eq!(
        rows[1..],
        history(strata, "node-base"),
        "\"Add node\" and the base below"
    );
    // 10
    assert_eq!(
        strata.run(&["run", "sample-app"]).ok().out(),
        "Hello from an app"
    );
    strata.run(&["rm", "-f", "app-container"]).ok();
    assert_eq!(shell.wait(), 137);
}

/// Both images go to a registry; an empty store fetches what it has not, and podman gets the same.
fn push_and_pull(strata: &Strata, other: &Strata, server: &Stratad) -> String {
    let [base, app] = ["node-base", "sample-app"].map(|name| {
        let reference = server.reference(name, "latest");
        strata.run(&["tag", name, &reference]).ok();
        strata.run(&["push", "-q", &reference]).ok();
        reference
    });
    assert_eq!(other.pull(&base).fetched(), 2);
    let pulled = other.pull(&app);
    assert_eq!(
        (pulled.reused(), pulled.fetched()),
        (2, 1),
        "the one layer of the app"
    );
    assert_eq!(
        other.run(&["run", "--rm", &app]).ok().out(),
        "Hello from an app"
    );
    app
}

/// A registry with the image, and a store that has it under the guide's name.
fn begin(place: &Place, strata: &Strata) -> Stratad {
    let server = Stratad::start(&place.join("registry"));
    let tar = fs::read(debian::base()).expect("an archive");
    let config = json!({ "Cmd": ["/bin/bash"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"] });
    let image = Image::with_config(&[Layer::new(&tar, Compression::Plain)], config);
    let reference = server.api().push(&image, "debian", "latest");
    strata.pull(&reference);
    strata.run(&["tag", &reference, "debian"]).ok();
    server
}

#[test]
fn the_guide_passes_word_for_word_as_root() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let server = begin(&place, &strata);
    guide(&strata);
    let other = Strata::at(strata.program().to_owned(), place.join("other"));
    let app = push_and_pull(&strata, &other, &server);
    let clients = Clients::new(&place);
    clients.podman_transfer("pull", &app).ok();
    let ran = clients.podman_run(&app).ok();
    assert_eq!(ran.out(), "Hello from an app");
    strata.run(&["system", "check"]).ok();
}

#[test]
fn the_guide_passes_word_for_word_without_root() {
    let place = Place::new();
    let user = User::new(&place, 47_301).with_subordinate_ids(&place, 700_000_000, 65_536);
    let strata = Strata::of_user(&place, &user);
    let server = begin(&place, &strata);
    guide(&strata);
    let home = Place::new();
    let colleague = User::new(&home, 47_302).with_subordinate_ids(&home, 710_000_000, 65_536);
    push_and_pull(&strata, &Strata::of_user(&home, &colleague), &server);
    strata.run(&["system", "check"]).ok();
}
