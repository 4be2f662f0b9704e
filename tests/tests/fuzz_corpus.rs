//! The fuzz targets over their seed corpus: a plain test, so that neither rots between the runs of `tests/fuzz`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use strata_tests::entry::Compression;
use strata_tests::hostile::{At, ROWS};

#[allow(unreachable_pub)] // a library there, a part of a test here
#[path = "../../fuzz/src/lib.rs"]
mod targets;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).expect("directory");
    let paths = entries.map(|entry| entry.expect("entry").path());
    let stem = |path: PathBuf| {
        path.file_stem()
            .expect("name")
            .to_string_lossy()
            .into_owned()
    };
    paths.map(stem).collect()
}

#[test]
fn every_target_passes_its_corpus() {
    for (name, target) in targets::TARGETS {
        let corpus = fuzz().join("corpus").join(name);
        let mut inputs = 0;
        for entry in std::fs::read_dir(&corpus).expect("corpus") {
            let input = std::fs::read(entry.expect("entry").path()).expect("input");
            target(&input);
            // A cut input must not break it either; of large ones some cuts will do.
            let step = if input.len() > 500 {
                input.len() / 10
            } else {
                1
            };
            let cuts = (0..input.len()).step_by(step);
            cuts.take(200).for_each(|end| target(&input[..end]));
            inputs += 1;
        }
        assert!(inputs >= 5, "{name}: {inputs} inputs");
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let known: BTreeSet<String> = targets::TARGETS.map(|(name, _)| name.to_owned()).into();
    assert_eq!(names(&fuzz().join("fuzz_targets")), known);
    assert_eq!(names(&fuzz().join("corpus")), known);
}

/// The seeds of layers are the table of hostile archives: made here, so that they stay so. STRATA_WRITE_SEEDS=1 writes
/// them anew.
#[test]
fn layers_begin_with_the_hostile_archives() {
    let mut seeds = Vec::new();
    for (number, row) in ROWS.iter().enumerate() {
        let tar = (row.make)(&At {
            outside: "/outside",
        })
        .layer;
        if tar.len() > 8192 {
            continue;
        }
        if number % 10 == 0 {
            let ways = [Compression::Plain, Compression::Gzip, Compression::Zstd];
            let way = ways[number / 10 % 3];
            seeds.push((format!("archive/{}", row.name), way.apply(&tar)));
        }
        seeds.push((format!("layer/{}", row.name), tar));
    }
    for (name, bytes) in seeds {
        let path = fuzz().join("corpus").join(&name);
        if std::env::var_os("STRATA_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
            std::fs::write(&path, &bytes).expect("write");
        }
        let there = std::fs::read(&path).unwrap_or_default();
        assert!(
            there == bytes,
            "{name} is not the row: STRATA_WRITE_SEEDS=1 writes it anew"
        );
    }
}
