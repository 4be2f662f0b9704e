//! `strata diff`: images by layers and by files, containers against their image.

use serde_json::{Value, json};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::scene::{Scene, shell_image};
use strata_tests::strata::Strata;
use strata_tests::user::{User, need_root};

/// Two images on one base; the second one has one more layer, which differs in every way.
fn images() -> (Scene, String, String) {
    need_root();
    let scene = Scene::new();
    let base = Layer::of(&[
        Entry::dir("etc/"),
        Entry::file("etc/same", "same"),
        Entry::file("etc/content", "abc"),
        Entry::file("etc/longer", "abc"),
        Entry::file("etc/mode", "x"),
        Entry::file("etc/owner", "x"),
        Entry::file("etc/noted", "x").xattr("user.note", b"one"),
        Entry::file("etc/touched", "x"),
        Entry::file("etc/type", "x"),
        Entry::file("etc/gone", "x"),
        Entry::symlink("etc/link", "one"),
        Entry::device("etc/device", 1, 3),
        Entry::dir("quiet/"),
        Entry::dir("quiet/deep/"),
        Entry::file("quiet/deep/file", "x"),
        Entry::dir("tree/"),
        Entry::file("tree/one", "1"),
        Entry::dir("again/"),
        Entry::file("again/kept", "kept"),
        Entry::file("again/lost", "lost"),
        Entry::dir("dir-to-file/"),
        Entry::file("dir-to-file/inside", "x"),
    ]);
    let change = Layer::of(&[
        Entry::file("etc/same", "same"),
        Entry::file("etc/content", "abd"),
        Entry::file("etc/longer", "abcd"),
        Entry::file("etc/mode", "x").mode(0o600),
        Entry::file("etc/owner", "x").owner(0, 7),
        Entry::file("etc/noted", "x").xattr("user.note", b"two"),
        Entry::file("etc/touched", "x").mtime(5),
        Entry::dir("etc/type/"),
        Entry::file("etc/type/inside", "x"),
        Entry::whiteout("etc", "gone"),
        Entry::symlink("etc/link", "two"),
        Entry::device("etc/device", 1, 5),
        Entry::file(".wh.tree", ""),
        Entry::dir("again/"),
        Entry::opaque("again"),
        Entry::file("again/kept", "kept"),
        Entry::file("dir-to-file", "x"),
        Entry::dir("new/"),
        Entry::dir("new/sub/"),
        Entry::file("new/sub/file", "x"),
    ]);
    let one = scene.push(&Image::new(std::slice::from_ref(&base)), "one");
    let other = scene.push(&Image::new(&[base, change]), "other");
    scene.strata.pull(&one);
    scene.strata.pull(&other);
    (scene, one, other)
}

const FORWARD: [&str; 18] = [
    "C /again",
    "D /again/lost",
    "C /dir-to-file",
    "C /etc",
    "C /etc/content",
    "C /etc/device",
    "D /etc/gone",
    "C /etc/link",
    "C /etc/longer",
    "C /etc/mode",
    "C /etc/noted",
    "C /etc/owner",
    "C /etc/type",
    "A /etc/type/inside",
    "A /new",
    "A /new/sub",
    "A /new/sub/file",
    "D /tree",
];

fn files(text: &str) -> Vec<String> {
    text.lines()
        .filter(|l| l.starts_with(['A', 'C', 'D']))
        .map(str::to_owned)
        .collect()
}

#[test]
fn images_differ_in_layers_and_in_every_way_that_files_can() {
    let (scene, one, other) = images();
    let ask = |args: &[&str]| scene.strata.run(&[&["diff"], args].concat());
    let out = ask(&[&one, &other]).ok().out();
    assert_eq!(files(&out), FORWARD, "{out}");
    let head: Vec<&str> = out.lines().take(2).collect();
    assert!(head[0].starts_with("= 1 layer in both, "), "{out}");
    assert!(head[1].starts_with("+ "), "{out}");
    // The other way round.
    let back = ask(&[&other, &one]).ok().out();
    for line in [
        "A /etc/gone",
        "A /tree",
        "A /tree/one",
        "D /new",
        "A /dir-to-file/inside",
        "C /etc/mode",
    ] {
        assert!(files(&back).contains(&line.to_owned()), "{line}: {back}");
    }
    assert!(
        !back.contains("/new/sub"),
        "only the top of what is gone: {back}"
    );
    let timed = ask(&["--times", &one, &other]).ok().out();
    assert!(
        timed.contains("C /etc/touched") && !timed.contains("quiet"),
        "{timed}"
    );
    assert!(!timed.contains("/etc/same"), "{timed}");

    let report: Value =
        serde_json::from_str(&ask(&["--format", "json", &one, &other]).ok().out()).expect("JSON");
    let what = |path: &str| -> Value {
        let files = report["files"].as_array().expect("a list");
        files
            .iter()
            .find(|f| f["path"] == path)
            .unwrap_or_else(|| panic!("{path}"))["what"]
            .clone()
    };
    for (path, expected) in [
        ("/etc/content", json!(["content"])),
        ("/etc/longer", json!(["size", "content"])),
        ("/etc/mode", json!(["mode"])),
        ("/etc/owner", json!(["owner"])),
        ("/etc/noted", json!(["xattrs"])),
        ("/etc/type", json!(["type", "entries"])),
        ("/etc/link", json!(["target"])),
        ("/etc/device", json!(["device"])),
        ("/etc", json!(["entries"])),
    ] {
        assert_eq!(what(path), expected, "{path}");
    }
    assert_eq!(
        report["layers"]["common"].as_array().expect("a list").len(),
        1
    );
    assert_eq!(
        report["layers"]["added"].as_array().expect("a list").len(),
        1
    );
    assert_eq!(report["layers"]["deleted"], json!([]));
}

#[test]
fn exit_codes_tell_scripts_whether_anything_differs() {
    let (scene, one, other) = images();
    let ask = |args: &[&str]| scene.strata.run(&[&["diff"], args].concat());
    let layers = ask(&["--layers", &one, &other]).ok().out();
    assert!(
        layers.contains("\n+ ") && files(&layers).is_empty(),
        "{layers}"
    );
    assert_eq!(ask(&["--exit-code", &one, &other]).code(), 1);
    let quiet = ask(&["-q", &one, &other]);
    assert_eq!((quiet.code(), quiet.out()), (1, String::new()));
    assert_eq!(ask(&["--exit-code", "--layers", &one, &other]).code(), 1);
    assert_eq!(ask(&["-q", &one, &one]).code(), 0);
    assert_eq!(
        files(&ask(&["--exit-code", &one, &one]).ok().out()),
        [""; 0]
    );
    ask(&[&one, "no/such"]).refused().says("no/such");
    ask(&[&one]).refused().says("is an image");
    ask(&["no-such-container"])
        .refused()
        .says("no-such-container");
}

#[test]
fn a_container_differs_by_what_was_done_in_it_whatever_the_driver() {
    need_root();
    let scene = Scene::new();
    let reference = scene.push(&shell_image(), "v1");
    scene.strata.pull(&reference);
    let script = "echo changed > one; rm two; rm -r sub; mkdir sub; echo new > sub/new; mkdir -p /fresh/dir; touch /fresh/dir/file; \
                  chmod 600 mine; mkdir empty; rmdir empty";
    for driver in ["overlay", "fuse-overlayfs", "vfs"] {
        let args = [
            "--driver", driver, "run", "--name", "changed", &reference, "sh", "-c", script,
        ];
        scene.strata.run(&args).ok();
        let found = files(&scene.strata.run(&["diff", "changed"]).ok().out());
        let expected = [
            "C /data",
            "C /data/one",
            "C /data/sub",
            "A /data/sub/new",
            "D /data/sub/three",
            "D /data/two",
            "A /fresh",
            "A /fresh/dir",
            "A /fresh/dir/file",
        ];
        assert_eq!(found, expected, "{driver}");
        scene.strata.run(&["rm", "changed"]).ok();
        scene
            .strata
            .run(&[
                "--driver", driver, "run", "--name", "same", &reference, "cat", "one",
            ])
            .ok();
        let same = scene.strata.run(&["diff", "--exit-code", "same"]).ok();
        assert_eq!(same.out(), "", "{driver}");
        scene
            .strata
            .run(&["container", "diff", "--exit-code", "same"])
            .ok();
        scene.strata.run(&["rm", "same"]).ok();
    }
}

#[test]
fn an_ordinary_user_compares_images_and_containers() {
    let (scene, one, other) = images();
    let user = User::new(&scene.place, 61_041);
    let strata = Strata::of_user(&scene.place, &user);
    for reference in [&one, &other] {
        strata.pull(reference);
    }
    let out = strata.run(&["diff", &one, &other]).ok().out();
    let found = files(&out);
    // Owners and devices cannot be kept where only one id is mapped.
    let expected: Vec<&str> = FORWARD
        .into_iter()
        .filter(|line| !["C /etc/owner", "C /etc/device"].contains(line))
        .collect();
    assert_eq!(found, expected, "{out}");
    let shell = scene.push(&shell_image(), "shell");
    strata.pull(&shell);
    let script = "echo x > one; rm -r sub; mkdir sub; rm two";
    for driver in ["overlay", "vfs"] {
        let args = [
            "--driver", driver, "run", "--name", "changed", &shell, "sh", "-c", script,
        ];
        strata.run(&args).ok();
        let found = files(&strata.run(&["diff", "changed"]).ok().out());
        let expected = [
            "C /data",
            "C /data/one",
            "C /data/sub",
            "D /data/sub/three",
            "D /data/two",
        ];
        assert_eq!(found, expected, "{driver}");
        strata.run(&["rm", "changed"]).ok();
    }
    let drawn = strata.run(&["tree"]).ok().out();
    assert!(drawn.contains("shared by 2 images"), "{drawn}");
}
