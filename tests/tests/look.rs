//! Looking at images: how they were built.

use serde_json::{Value, json};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer, architecture};
use strata_tests::scene::Scene;

/// Two layers with a file of this many bytes each.
fn two_layers() -> [Layer; 2] {
    [2_000, 345].map(|size| Layer::of(&[Entry::file(format!("file{size}"), vec![b'x'; size])]))
}

/// Layers with a history that the test chooses.
fn with_history(layers: &[Layer], history: Value) -> Image {
    let diff_ids: Vec<String> = layers.iter().map(|l| l.diff_id.to_string()).collect();
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": {}, "history": history,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    Image::of_config(layers, config.to_string().into_bytes())
}

#[test]
fn history_tells_steps_as_docker_does() {
    let scene = Scene::new();
    let long = format!("RUN /bin/sh -c {}\tend", "x".repeat(60));
    let history = json!([
        { "created": "2024-01-01T00:00:00.5Z", "created_by": "ADD file in /" },
        { "created": "2024-01-02T00:00:00Z", "created_by": "ENV A=b", "empty_layer": true },
        { "created": "2024-01-03T00:00:00+01:00", "created_by": long, "comment": "buildkit" },
    ]);
    let image = with_history(&two_layers(), history);
    let reference = scene.push(&image, "v1");
    scene.strata.pull(&reference);
    let ask = |options: &[&str]| {
        let args = [&["history"], options, &[&reference]].concat();
        scene.strata.run(&args).ok().out()
    };
    let id = image.id().to_string();
    let short = &id["sha256:".len()..][..12];

    let table = ask(&[]);
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|l| {
            l.split("   ")
                .map(str::trim)
                .filter(|c| !c.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(
        lines[0],
        ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]
    );
    assert_eq!(lines[1][0], short);
    let cut = format!("{}…", &long[..44]);
    assert_eq!(lines[1][2..], [&*cut, "345B", "buildkit"]);
    assert!(lines[1][1].ends_with("years ago") || lines[1][1].ends_with("months ago"));
    assert_eq!(lines[2][2..], ["ENV A=b", "0B"]);
    assert_eq!(lines[3][2..], ["ADD file in /", "2kB"]);
    assert!(lines[2][0] == "<missing>" && lines[3][0] == "<missing>");

    let exact = ask(&["--no-trunc", "--human=false"]);
    for word in [
        &id,
        &long.replace('\t', " "),
        "2024-01-02T23:00:00Z",
        " 2000",
    ] {
        assert!(exact.contains(word), "{word} is not in {exact}");
    }
    assert_eq!(ask(&["-q"]), format!("{short}\n<missing>\n<missing>"));
    assert_eq!(ask(&["-H"]), table);
    let parsed: Value = serde_json::from_str(&ask(&["--format", "json"])).expect("JSON");
    assert_eq!(parsed[0]["id"], id);
    assert_eq!(parsed[0]["created_by"], long);
    assert_eq!(parsed[0]["diff_id"], image.layers[1].diff_id.to_string());
    assert_eq!(
        parsed[1],
        json!({
            "id": null, "created": "2024-01-02T00:00:00Z", "created_by": "ENV A=b", "size": 0, "comment": "", "diff_id": null,
        })
    );
    let refused = scene.strata.run(&["history", "no/such:image"]).refused();
    assert!(refused.stderr.contains("no/such:image"));
}

#[test]
fn a_history_that_does_not_fit_the_layers_is_told_all_the_same() {
    let scene = Scene::new();
    for (tag, history, sizes) in [
        ("none", json!(null), vec![345, 2000]),
        ("short", json!([{}]), vec![345, 2000]),
        ("long", json!([{}, {}, {}]), vec![0, 345, 2000]),
    ] {
        let reference = scene.push(&with_history(&two_layers(), history), tag);
        scene.strata.pull(&reference);
        let told = scene
            .strata
            .run(&["history", "--format", "json", &reference])
            .ok()
            .out();
        let told: Vec<Value> = serde_json::from_str(&told).expect("JSON");
        let found: Vec<u64> = told
            .iter()
            .map(|s| s["size"].as_u64().expect("a number"))
            .collect();
        assert_eq!(found, sizes, "{tag}");
        let table = scene.strata.run(&["history", &reference]).ok().out();
        assert!(table.contains("N/A"), "{table}");
    }
}

/// A layer with one file of this many bytes.
fn layer(name: &str, size: usize) -> Layer {
    Layer::of(&[Entry::file(name, vec![b'x'; size])])
}

#[test]
fn tree_draws_the_shared_base_once() {
    let scene = Scene::new();
    let [base, app, web, more, other] = [
        ("base", 5_000),
        ("app", 300),
        ("web", 20),
        ("more", 1),
        ("other", 70_000),
    ]
    .map(|(name, size)| layer(name, size));
    for (tag, layers) in [
        ("base", vec![base.clone()]),
        ("app", vec![base.clone(), app.clone()]),
        // The last layer is shared, too, but stands on others.
        ("web", vec![base.clone(), web.clone(), more.clone()]),
        ("other", vec![other.clone(), more.clone()]),
    ] {
        let reference = scene.push(&Image::new(&layers), tag);
        scene.strata.pull(&reference);
    }
    let ask = |args: &[&str]| scene.strata.run(&[&["tree"], args].concat()).ok().out();
    let drawn = ask(&[]);
    let short = |layer: &Layer| layer.diff_id.short().to_owned();
    let host = scene.server.reference("app", "x").replace(":x", "");
    let without_ids: Vec<String> = drawn
        .lines()
        .map(|line| match line.find('(') {
            Some(at) if line.contains('●') => {
                format!("{}{}", &line[..at], &line[at + 15..])
            }
            _ => line.to_owned(),
        })
        .collect();
    assert_eq!(
        without_ids,
        [
            format!("{}  5kB  shared by 3 images", short(&base)),
            format!("├─ ● {host}:base  5kB, 0B its own"),
            format!("├─ {}  300B", short(&app)),
            format!("│  └─ ● {host}:app  5.3kB, 300B its own"),
            format!("└─ {}  2 layers, 21B", short(&more)),
            format!("   └─ ● {host}:web  5.02kB, 20B its own"),
            String::new(),
            format!("{}  2 layers, 70kB", short(&more)),
            format!("└─ ● {host}:other  70kB, 70kB its own"),
            String::new(),
            "4 images, 5 layers: 75.3kB in all, 5kB shared, 70.3kB unique (85.3kB if nothing were shared)".to_owned(),
        ],
        "{drawn}"
    );
    assert_eq!(scene.strata.run(&["image", "tree"]).ok().out(), drawn);
    let part = ask(&[&format!("{host}:app")]);
    assert!(
        part.contains(":web") && !part.contains(":other"),
        "the base's users: {part}"
    );
    assert!(ask(&["--no-trunc"]).contains(&base.diff_id.to_string()));
    let forest: Value = serde_json::from_str(&ask(&["--format", "json"])).expect("JSON");
    assert_eq!(forest["shared"], 5_001);
    assert_eq!(forest["unique"], 70_320);
    let roots = forest["roots"].as_array().expect("a list");
    let root = roots.iter().find(|r| r["used_by"] == 3).expect("the base");
    assert_eq!(root["layers"][0]["diff_id"], base.diff_id.to_string());
    assert_eq!(root["images"][0]["names"][0], format!("{host}:base"));
    let children = root["children"].as_array().expect("a list");
    assert_eq!(children.len(), 2);
    assert_eq!(children[1]["layers"].as_array().expect("a list").len(), 2);
    scene
        .strata
        .run(&["tree", "no/such"])
        .refused()
        .says("no/such");
}

#[test]
fn tree_of_nothing_and_of_an_image_without_layers() {
    let scene = Scene::new();
    let empty = scene.strata.run(&["tree"]).ok().out();
    assert!(empty.starts_with("0 images, 0 layers"), "{empty}");
    let reference = scene.push(&Image::new(&[]), "empty");
    scene.strata.pull(&reference);
    let drawn = scene.strata.run(&["tree"]).ok().out();
    assert!(drawn.starts_with("no layers\n└─ ● "), "{drawn}");
}
