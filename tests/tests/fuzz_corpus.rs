//! The fuzz targets over their seed corpus: a plain test, so that neither rots between the runs of `tests/fuzz`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
            // A cut input must not break it either.
            (0..input.len().min(200)).for_each(|end| target(&input[..end]));
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
