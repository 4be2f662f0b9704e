//! What hands that know docker type, and what their scripts ask for.

use serde_json::{Value, json};
use strata_tests::both::{Side, tools_image};
use strata_tests::committed::{inspected, names, shell};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::living::Living;
use strata_tests::scene::{Scene, shell_image, shell_layer};
use strata_tests::user::need_root;

#[test]
fn whoever_mistypes_an_image_is_told_what_was_probably_meant() {
    need_root();
    let (s, reference) = shell();
    s.strata.run(&["tag", &reference, "debian"]).ok();
    // Nobody listens there.
    let elsewhere = "127.0.0.1:1/debia";
    let bundle = s.place.join("bundle");
    let bundle = bundle.to_str().expect("text");
    for args in [
        &["rmi", "debiann"][..],
        &["rmi", "edbian"],
        &["history", "debiann"],
        &["tag", "debia", "x"],
        &["tree", "debiann"],
        &["inspect", "debiann"],
        &["image", "inspect", "debiann"],
        &["diff", "debian", "debiann"],
        &["push", "debiann", "127.0.0.1:1/x"],
        &["image", "base", elsewhere],
        &["mount", elsewhere],
        &["bundle", elsewhere, bundle],
        &["create", "--pull=never", "debiann"],
        &["create", elsewhere],
    ] {
        let ran = s.strata.run(args);
        assert_ne!(ran.code(), 0, "{}", ran.story());
        ran.says("did you mean debian:latest?");
    }
    let ran = s.strata.run(&["run", "--rm", elsewhere, "true"]);
    assert_eq!(ran.code(), 125, "{}", ran.story());
    ran.says("did you mean debian:latest?").says("127.0.0.1:1");
    // What is forced passes over it.
    let passed = s.strata.run(&["rmi", "-f", "debiann"]).ok();
    assert!(passed.stderr.contains("did you mean"), "{}", passed.story());
    s.strata
        .run(&["create", "--name", "alpha", "debian", "true"])
        .ok();
    for args in [
        &["start", "alpah"][..],
        &["inspect", "aplha"],
        &["diff", "alphaa"],
        &["cp", "alpa:/etc/passwd", "-"],
        &["commit", "alhpa"],
    ] {
        s.strata.run(args).refused().says("did you mean alpha?");
    }
    let far = s.strata.run(&["history", "something-else"]).refused();
    assert!(!far.stderr.contains("did you mean"), "{}", far.story());
}

#[test]
fn of_a_flag_that_is_given_twice_the_last_one_counts_and_lists_stay_lists() {
    let s = Side::new(61_290, false, &tools_image());
    let args = [
        "run", "--rm", "--rm", "-i", "-i", "--name", "one", "--name", "two", "-h", "one", "-h",
        "two", "-e", "A=1", "-e", "B=2",
    ];
    let script = "cat /etc/hostname; echo $A$B";
    let ran = s
        .strata
        .run(&[&args[..], &[&s.reference, "sh", "-c", script]].concat())
        .ok();
    assert_eq!(ran.out(), "two\n12");
    s.strata
        .run(&["create", "--name", "one", "--name", "two", &s.reference])
        .ok();
    let listed = s.strata.run(&[
        "ps",
        "-a",
        "-a",
        "--format",
        "json",
        "--format",
        "{{.Names}}",
    ]);
    assert_eq!(listed.ok().out(), "two");
}

#[test]
fn a_read_only_container_cannot_write_the_files_of_names_either() {
    Side::each(61_291, |s| {
        let script = "for file in hosts hostname resolv.conf; do echo x 2>/dev/null >> /etc/$file && echo wrote $file; done; true";
        assert_eq!(s.says(&["--read-only"], script), "");
        assert_eq!(
            s.says(&[], script),
            "wrote hosts\nwrote hostname\nwrote resolv.conf"
        );
    });
}

#[test]
fn rm_f_of_what_is_not_there_says_so_and_is_no_failure() {
    let (s, _) = shell();
    for name in ["nosuch", ""] {
        let ran = s.strata.run(&["rm", "-f", name]).ok();
        assert_eq!(ran.out(), "", "{}", ran.story());
        assert!(ran.stderr.contains("no such container"), "{}", ran.story());
    }
    s.strata.run(&["rm", "nosuch"]).refused();
}

#[test]
fn an_image_for_another_system_is_told_of_once() {
    need_root();
    let s = Scene::new();
    let image = shell_image();
    let diff_ids: Vec<String> = image.layers.iter().map(|l| l.diff_id.to_string()).collect();
    for (tag, architecture, system) in [
        ("system", strata_tests::image::architecture(), "windows"),
        ("machine", "s390x", "linux"),
    ] {
        let config = json!({
            "architecture": architecture, "os": system, "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let foreign = Image::of_config(&image.layers, config.to_string().into_bytes());
        let reference = s.push(&foreign, tag);
        s.strata
            .run(&[
                "pull",
                "--platform",
                &format!("{system}/{architecture}"),
                &reference,
            ])
            .ok();
        let ran = s.strata.run(&["run", "--rm", &reference, "true"]);
        let said = ran.stderr.matches("WARNING").count();
        assert_eq!(said, 1, "{}", ran.story());
        assert!(
            ran.stderr.contains(&format!("{system}/{architecture}")),
            "{}",
            ran.story()
        );
    }
}

#[test]
fn what_diff_tells_of_places_for_mounts_is_what_commit_keeps_but_not_what_was_mounted() {
    need_root();
    let (s, reference) = shell();
    let script = "echo x > /vol/file; echo x > /memory/file; echo x > /data/sub/inside/file";
    s.strata
        .run(&[
            "run",
            "--name",
            "box",
            "-v",
            "kept:/vol",
            "--tmpfs",
            "/memory",
            "--tmpfs",
            "/data/sub/inside",
            &reference,
            "sh",
            "-c",
            script,
        ])
        .ok();
    let told = s.strata.run(&["diff", "box"]).ok().out();
    let mut told: Vec<&str> = told.lines().collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "A /data/sub/inside",
            "A /memory",
            "A /vol",
            "C /data",
            "C /data/sub"
        ]
    );
    s.strata.run(&["commit", "box", "made"]).ok();
    assert_eq!(
        names(&s.strata, "made"),
        ["data/", "data/sub/", "data/sub/inside/", "memory/", "vol/"]
    );
}

#[test]
fn scripts_find_what_docker_tells_of_containers_and_images() {
    need_root();
    let s = Scene::new();
    let image = Image::with_config(
        &shell_image().layers,
        json!({ "Cmd": ["serve"], "ExposedPorts": { "80/tcp": {} }, "Volumes": { "/v": {} } }),
    );
    let reference = s.push(&image, "v1");
    s.strata.pull(&reference);
    let said = |args: &[&str]| s.strata.run(args).ok().out();
    said(&[
        "create",
        "--name",
        "box",
        "--entrypoint",
        "sh",
        "-v",
        "data:/in:ro",
        "-v",
        "/etc:/of-host",
        &reference,
        "-c",
        "true",
    ]);
    for (template, text) in [
        ("{{.Config.Entrypoint}} {{.Config.Cmd}}", "[sh] [-c true]"),
        ("{{.Path}} {{.Args}}", "sh [-c true]"),
        ("{{json .Config.ExposedPorts}}", "{\"80/tcp\":{}}"),
        (
            "{{json .HostConfig.Binds}}",
            "[\"data:/in:ro\",\"/etc:/of-host\"]",
        ),
        ("{{.RestartCount}}[{{.Driver}}]", "0[]"),
        ("[{{.NetworkSettings.IPAddress}}]", "[]"),
        (
            "{{range .NetworkSettings.Networks}}[{{.IPAddress}}]{{end}}",
            "[]",
        ),
        ("{{len .NetworkSettings.Ports}}", "0"),
    ] {
        assert_eq!(
            said(&["inspect", "-f", template, "box"]),
            text,
            "{template}"
        );
    }
    said(&["commit", "-m", "what was done", "box", "made"]);
    for (template, text) in [
        ("{{.Comment}}", "what was done"),
        ("{{.Config.Entrypoint}} {{.Config.Cmd}}", "[sh] [-c true]"),
        ("[{{.Parent}}]", "[]"),
        (
            "{{.Config.Labels}}{{.Config.OnBuild}}[{{.Config.User}}]",
            "map[][][]",
        ),
    ] {
        assert_eq!(
            said(&["inspect", "-f", template, "made"]),
            text,
            "{template}"
        );
    }
    let made = inspected(&s.strata, "made");
    assert_eq!(made["VirtualSize"], made["Size"]);
    assert_eq!(made["Config"]["ExposedPorts"], json!({ "80/tcp": {} }));
    assert_ne!(made["Size"], Value::Null);
}

#[test]
fn a_program_in_a_container_that_is_just_ending_is_refused_as_in_one_that_has_ended() {
    let s = Living::new();
    for _ in 0..8 {
        s.detached(&["--rm", "--name", "brief"], "exec sleep 0.4");
        loop {
            let ran = s.strata(&["exec", "brief", "true"]);
            match ran.code() {
                0 => {}
                // It had begun, and was killed with the container.
                137 => break,
                code => {
                    assert_eq!(code, 1, "{}", ran.story());
                    break;
                }
            }
        }
        s.strata(&["wait", "brief"]);
    }
}

#[test]
fn links_to_what_is_missing_are_followed_where_something_is_to_be_mounted() {
    let files = [
        Entry::dir("data/"),
        Entry::file("data/one", "one\n"),
        Entry::symlink("dangling", "/mnt/none"),
        Entry::symlink("volume", "data/../made/here"),
    ];
    let image = Image::with_config(
        &[shell_layer(), Layer::of(&files)],
        json!({
            "Cmd": ["sh"], "Env": ["PATH=/usr/bin:/bin"], "Volumes": { "/volume": {} },
        }),
    );
    for (rootless, id) in [(false, 61_292), (true, 61_293)] {
        let s = Side::new(id, rootless, &image);
        let script = "echo x > /mnt/none/file && cat /dangling/file";
        assert_eq!(s.says(&["--tmpfs", "/dangling"], script), "x");
        assert_eq!(
            s.says(&["-w", "/dangling/deep"], "pwd -P"),
            "/mnt/none/deep"
        );
        assert_eq!(s.says(&[], "test -d /made/here && echo made"), "made");
        s.strata
            .run(&["create", "--name", "box", &s.reference])
            .ok();
        let out = s.shared("out");
        let out = out.to_str().expect("text");
        s.strata.run(&["cp", "box:/data/one", out]).ok();
    }
}

#[test]
fn lists_are_printed_as_templates_say() {
    let s = Living::new();
    let said = |args: &[&str]| s.strata(args).ok().out();
    said(&["tag", &s.reference, "localhost/app:1"]);
    let (repository, tag) = s.reference.rsplit_once(':').expect("a tag");
    let images = said(&["images", "--format", "{{.Repository}} {{.Tag}}"]);
    let mut images: Vec<&str> = images.lines().collect();
    images.sort_unstable();
    assert_eq!(
        images,
        [format!("{repository} {tag}").as_str(), "localhost/app 1"]
    );
    let id = said(&["images", "-q"]);
    let table = said(&[
        "images",
        "--format",
        "table {{.ID}}\\t{{.Tag}}",
        "localhost/app",
    ]);
    let words: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(words, ["IMAGE", "ID", "TAG", &id, "1"]);
    let history = said(&[
        "history",
        "--format",
        "{{.CreatedBy}}|{{.ID}}",
        "localhost/app:1",
    ]);
    assert_eq!(
        history.lines().next(),
        Some(format!("by hand|{id}").as_str())
    );
    s.detached(&["--name", "web"], "exec sleep 1000");
    let stats = ["stats", "--no-stream", "--format", "{{.Name}} {{.NetIO}}"];
    assert_eq!(said(&stats), "web --");
    s.strata(&["images", "--format", "{{.Nope}}"])
        .refused()
        .says("Nope");
}

#[test]
fn scripts_ask_for_the_version_and_for_ports() {
    let (s, reference) = shell();
    let said = |args: &[&str]| s.strata.run(args).ok().out();
    let version = said(&["version", "--format", "{{.Server.Version}}"]);
    assert_eq!(said(&["--version"]), format!("strata {version}"));
    assert!(said(&["version"]).contains(&version));
    said(&["create", "--name", "box", &reference, "true"]);
    assert_eq!(said(&["port", "box"]), "");
    s.strata.run(&["port", "box", "80"]).refused().says("80");
    s.strata.run(&["port", "bax"]).refused();
}

#[test]
fn a_base_without_a_name_is_not_told_beside_the_same_with_one() {
    need_root();
    let (s, base) = shell();
    let run = |args: &[&str]| s.strata.run(args).ok();
    run(&["create", "--name", "box", &base, "true"]);
    run(&["commit", "box"]);
    run(&["run", "--name", "more", &base, "touch", "/new"]);
    run(&["commit", "more", "made"]);
    let told = run(&["image", "base", "--offline", "made"]).out();
    assert!(
        !told.contains("<none>") && told.lines().count() == 2,
        "{told}"
    );
}

#[test]
fn images_are_limited_by_dockers_filters() {
    let (s, reference) = shell();
    let said = |args: &[&str]| s.strata.run(args).ok().out();
    said(&["create", "--name", "box", &reference, "true"]);
    said(&["commit", "-c", "LABEL tier=front", "box", "made"]);
    said(&["commit", "-c", "LABEL tier=back", "box"]);
    let listed = |filters: &[&str]| {
        let args = [&["images", "--format", "{{.Repository}}"], filters].concat();
        said(&args)
    };
    assert_eq!(listed(&["-f", "dangling=true"]), "<none>");
    assert_eq!(listed(&["-a", "--filter", "label=tier=front"]), "made");
    assert_eq!(listed(&["-f", "label=tier"]).lines().count(), 2);
    assert_eq!(
        listed(&["-f", "reference=ma*", "-f", "reference=nothing"]),
        "made"
    );
    assert_eq!(
        listed(&["-f", "before=made", "-f", "dangling=false"])
            .lines()
            .count(),
        1
    );
    s.strata
        .run(&["images", "-f", "since=mada"])
        .refused()
        .says("did you mean made");
    s.strata
        .run(&["container", "prune", "-f", "--filter", "dangling=true"])
        .refused();
    said(&["image", "prune", "-f", "--filter", "dangling=true"]);
    assert_eq!(listed(&[]).lines().count(), 2);
    said(&["rm", "box"]);
    said(&["image", "prune", "-f", "--filter", "dangling=false"]);
    assert_eq!(listed(&[]), "");
}
