//! `strata mount` and `umount`, and stacks as high as the kernel takes.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::support::{Machine, Tar, base_layer};

#[test]
fn an_image_is_mounted_with_a_writable_layer_or_without() {
    for m in Machine::both() {
        if m.rootless() {
            m.strata(&["mount", "base"]).fails(1, "strata unshare");
            let script = "set -e; s=$0; p=$($s mount base); cat $p/data/one; echo x > $p/data/one; rm $p/data/two; ls $p/data; \
                          $s umount $p; p=$($s mount --ro base); cat $p/data/one; ! echo x 2>/dev/null > $p/data/one; $s umount -a; $s mount";
            let program = m.program().display().to_string();
            let out = m.strata(&["unshare", "sh", "-c", script, &program]).ok();
            assert_eq!(out, "one\none\nsub\none");
            m.assert_tidy();
            continue;
        }
        let path = PathBuf::from(m.strata(&["mount", "base"]).ok());
        fs::write(path.join("data/one"), "changed").expect("writable");
        fs::remove_file(path.join("data/two")).expect("writable");
        assert!(
            m.strata(&["mount"])
                .ok()
                .contains(path.to_str().expect("text"))
        );
        let inside = fs::File::open(path.join("data/one")).expect("open");
        m.strata(&["umount", path.to_str().expect("text")])
            .fails(1, "in use");
        drop(inside);
        m.strata(&["umount", path.to_str().expect("text")]).ok();
        let path = PathBuf::from(m.strata(&["mount", "--ro", "base"]).ok());
        assert_eq!(
            fs::read_to_string(path.join("data/one")).expect("read"),
            "one\n"
        );
        assert!(fs::write(path.join("data/one"), "x").is_err());
        m.strata(&["mount", "base"]).ok();
        m.strata(&["umount", "base"]).ok();
        m.strata(&["umount", "base"]).fails(1, "not mounted");
        m.assert_tidy();
    }
}

#[test]
fn a_container_is_mounted_as_it_was_left() {
    for m in Machine::both().iter().filter(|m| !m.rootless()) {
        m.strata(&[
            "run",
            "--name",
            "left",
            "base",
            "sh",
            "-c",
            "echo x > /new; rm /data/one",
        ])
        .ok();
        for options in [&["mount"][..], &["mount", "--ro"]] {
            let path = PathBuf::from(m.strata(&[options, &["left"]].concat()).ok());
            assert_eq!(fs::read_to_string(path.join("new")).expect("read"), "x\n");
            assert!(!path.join("data/one").exists() && path.join("data/two").exists());
            assert_eq!(
                fs::write(path.join("more"), "y").is_ok(),
                options.len() == 1
            );
            m.strata(&["umount", "left"]).ok();
        }
        let path = PathBuf::from(m.strata(&["mount", "left"]).ok());
        assert!(path.join("more").exists());
        m.strata(&["rm", "left"]).ok();
        m.assert_tidy();
    }
}

/// A layer with one file, and one that all such layers have.
fn layer(n: usize) -> Vec<u8> {
    Tar::new()
        .file("number", 0o644, format!("{n}\n"))
        .dir("numbers/")
        .file(&format!("numbers/{n}"), 0o644, "")
        .done()
}

#[test]
fn stacks_of_many_layers_run() {
    for m in Machine::both() {
        for height in [130, 499] {
            let layers: Vec<Vec<u8>> = [base_layer()]
                .into_iter()
                .chain((1..height).map(layer))
                .collect();
            m.image("high", &layers, json!({}));
            let out = m
                .strata(&[
                    "run",
                    "--rm",
                    "high",
                    "sh",
                    "-c",
                    "cat /number; ls /numbers | wc -l",
                ])
                .ok();
            assert_eq!(out, format!("{0}\n{0}", height - 1));
        }
        m.assert_tidy();
    }
}

#[test]
fn a_layer_that_comes_twice_is_no_trouble() {
    for m in Machine::both() {
        m.image(
            "twice",
            &[base_layer(), layer(1), layer(2), layer(1)],
            json!({}),
        );
        let out = m
            .strata(&[
                "run",
                "--rm",
                "twice",
                "sh",
                "-c",
                "cat /number; ls /numbers",
            ])
            .ok();
        assert_eq!(out, "1\n1\n2");
    }
}
