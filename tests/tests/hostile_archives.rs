//! Every row of the table of hostile archives (`strata_tests::hostile`), unpacked: refused with a reason, or held
//! inside, and either way nothing outside is touched. What was accepted gives the identical archive again.

use std::error::Error;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};
use strata::layer::{
    LayerError, Limits, Ownership, UnpackOptions, XattrNamespace, rebuild, unpack,
};
use strata_oci::digest::Digest;
use strata_tests::entry::Compression;
use strata_tests::hostile::bombs as small;
use strata_tests::hostile::{At, Case, Expect, ROWS};
use strata_tests::place::Place;
use strata_tests::tree::Tree;
use strata_tests::user::{is_root, need_root};

macro_rules! tests {
    ($($group:ident: $($row:ident),*;)*) => { $(
        mod $group { $(
            #[test]
            fn $row() {
                super::proved(concat!(stringify!($row)));
            }
        )* }
    )* };
}
strata_tests::hostile_rows!(tests);

fn options(small: bool) -> UnpackOptions {
    let (ownership, xattrs) = if is_root() {
        (Ownership::Keep, XattrNamespace::Trusted)
    } else {
        (Ownership::Single, XattrNamespace::User)
    };
    let limits = Limits {
        entries: small::ENTRIES,
        bytes: small::BYTES,
        ratio: small::RATIO,
        names: small::NAMES,
        segments: small::SEGMENTS,
        ..Limits::default()
    };
    UnpackOptions {
        ownership,
        xattrs,
        holes: false,
        limits: if small { limits } else { Limits::default() },
        yielding: false,
    }
}

/// No row takes longer, the bombs neither.
const LONGEST: Duration = Duration::from_secs(20);

/// A directory for layers, and beside it something that no layer may touch.
struct Scene {
    place: Place,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        let outside = place.dir("outside");
        fs::create_dir(outside.join("inner")).expect("make a directory");
        for name in ["secret", "inner/file"] {
            fs::write(outside.join(name), "not yours").expect("write");
            let mode = fs::Permissions::from_mode(0o600);
            fs::set_permissions(outside.join(name), mode).expect("chmod");
        }
        Self { place }
    }

    fn outside(&self) -> PathBuf {
        self.place.join("outside")
    }

    /// Unpacks a layer, from gzip.
    fn unpack(&self, name: &str, tar: &[u8], small: bool) -> Result<PathBuf, LayerError> {
        let layer = self.place.dir(name);
        let blob = Compression::Gzip.apply(tar);
        let meta = unpack(blob.as_slice(), &layer, &options(small), &|_| {})?;
        assert_eq!(meta.diff_id, Digest::of(tar));
        assert!(meta.rebuildable);
        let mut again = Vec::new();
        rebuild(&layer, &mut again).expect("the archive again");
        assert!(again == tar, "another archive comes back");
        Ok(layer.join("fs"))
    }
}

/// In time that grows with the archive, not with its square: memory holds the files, so that it is our time.
#[test]
fn replacing_costs_no_more_than_making() {
    need_root();
    let place = Place::new();
    let disk = place.dir("disk");
    mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), None).expect("mount a tmpfs");
    let time = |name: &str, tar: &[u8]| {
        let layer = disk.join(name);
        fs::create_dir(&layer).expect("make a directory");
        let began = Instant::now();
        unpack(tar, &layer, &options(false), &|_| {}).expect("sound");
        rebuild(&layer, &mut std::io::sink()).expect("the archive again");
        began.elapsed()
    };
    let plain = time("plain", &small::beside(25_000).end());
    for directories in [true, false] {
        let replaced = small::replaced(25_000, directories).end();
        let took = time(&format!("replaced {directories}"), &replaced);
        assert!(took < 3 * plain, "{took:?}, and {plain:?} without");
    }
}

fn story(error: &LayerError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[track_caller]
fn proved(name: &str) {
    let row = ROWS.iter().find(|row| row.name == name).expect("a row");
    let scene = Scene::new();
    let outside = scene.outside();
    let before = Tree::read(&outside);
    let Case {
        lower,
        layer,
        expect,
        small_limits,
    } = (row.make)(&At {
        outside: outside.to_str().expect("text"),
    });
    if let Some(lower) = &lower {
        scene
            .unpack("lower", lower, false)
            .expect("the lower layer");
    }
    let began = Instant::now();
    let came = scene.unpack("layer", &layer, small_limits);
    assert!(began.elapsed() < LONGEST, "took {:?}", began.elapsed());
    match (expect, came) {
        (Expect::Refused(words), Err(error)) => {
            let story = story(&error);
            for word in words {
                assert!(story.contains(&word), "{word:?} is not in {story:?}");
            }
        }
        (Expect::Refused(words), Ok(_)) => panic!("accepted, though {words:?}"),
        (Expect::Held(_), Err(error)) => panic!("refused: {}", story(&error)),
        (Expect::Held(checks), Ok(tree)) => {
            assert_no_inode_of(&outside, &tree);
            // What two layers show together takes a mount: `hostile_images.rs`.
            for check in checks.iter().filter(|_| lower.is_none()) {
                check.assert(&tree);
            }
        }
    }
    let differences = before.differences(&Tree::read(&outside));
    assert!(differences.is_empty(), "reached out: {differences:?}");
    assert_eq!(
        fs::read_dir(scene.place.path()).expect("list").count(),
        2 + usize::from(lower.is_some())
    );
}

/// Nothing of the tree is a second name of something outside.
fn assert_no_inode_of(outside: &Path, tree: &Path) {
    for name in ["secret", "inner/file"] {
        let data = fs::metadata(outside.join(name)).expect("there");
        assert_eq!(
            data.nlink(),
            1,
            "{name} has another name, below {}",
            tree.display()
        );
    }
}
