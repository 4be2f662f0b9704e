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
