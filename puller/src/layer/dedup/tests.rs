use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Trees in a directory, and a place for names on their way.
struct Trees {
    dir: tempfile::TempDir,
    trees: Vec<PathBuf>,
}

impl Trees {
    fn new(count: usize) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let trees: Vec<PathBuf> = (0..count).map(|n| dir.path().join(n.to_string())).collect();
        for tree in &trees {
            fs::create_dir_all(tree.join("d")).expect("mkdir");
        }
        fs::create_dir(dir.path().join("scratch")).expect("mkdir");
        Self { dir, trees }
    }

    fn file(&self, tree: usize, name: &str, content: &[u8], mtime: i64) -> PathBuf {
        let path = self.trees[tree].join(name);
        fs::write(&path, content).expect("write");
        self.touch(&path, mtime);
        path
    }

    fn touch(&self, path: &Path, mtime: i64) {
        let time = Timespec {
            tv_sec: mtime,
            tv_nsec: 5,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::empty()).expect("touch");
    }

    fn link(&self) -> Shared {
        let found = Duplicates::find(&self.trees, 1, Sharing::Links).expect("found");
        let mut all = Shared::default();
        for tree in found.trees() {
            let expected = found.of(tree);
            let shared = found
                .share(tree, &self.dir.path().join("scratch"))
                .expect("shared");
            assert_eq!(shared, expected);
            all.files += shared.files;
            all.bytes += shared.bytes;
        }
        all
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).expect("there").ino()
}

#[test]
fn the_same_file_of_several_layers_becomes_one() {
    let trees = Trees::new(3);
    let paths: Vec<PathBuf> = (0..3)
        .map(|n| trees.file(n, "d/same", b"content", 7))
        .collect();
    let other = trees.file(1, "d/other", b"another", 7);
    for tree in &trees.trees {
        trees.touch(&tree.join("d"), 99);
    }
    assert_eq!(
        trees.link(),
        Shared {
            files: 2,
            bytes: 14
        }
    );
    assert!(paths.iter().all(|path| inode(path) == inode(&paths[0])));
    assert_ne!(inode(&other), inode(&paths[0]));
    for tree in &trees.trees {
        let directory = fs::metadata(tree.join("d")).expect("there");
        assert_eq!((directory.mtime(), directory.mtime_nsec()), (99, 5));
    }
    assert_eq!(
        trees.link(),
        Shared::default(),
        "a second run finds nothing to do"
    );
}

#[test]
fn other_metadata_other_sizes_and_links_of_their_own_stay_apart() {
    let trees = Trees::new(2);
    let plain = trees.file(0, "plain", b"content", 7);
    let late = trees.file(1, "late", b"content", 8);
    let mode = trees.file(1, "mode", b"content", 7);
    fs::set_permissions(&mode, fs::Permissions::from_mode(0o600)).expect("chmod");
    trees.file(1, "longer", b"content!", 7);
    let named = trees.file(1, "named", b"content", 7);
    fs::hard_link(&named, trees.trees[1].join("twice")).expect("link");
    // The file of two names is where the others could go, but they are none of its kind.
    let shared = trees.link();
    assert_eq!(shared, Shared { files: 1, bytes: 7 });
    assert_eq!(inode(&plain), inode(&named));
    assert_eq!(fs::metadata(&named).expect("there").nlink(), 3);
    assert!(inode(&late) != inode(&plain) && inode(&mode) != inode(&plain));
}

#[test]
fn two_files_of_one_layer_stay_two() {
    let trees = Trees::new(2);
    let base = trees.file(0, "base", b"content", 7);
    let first = trees.file(1, "first", b"content", 7);
    let second = trees.file(1, "second", b"content", 7);
    assert_eq!(trees.link().files, 1);
    assert_ne!(inode(&first), inode(&second));
    assert!([inode(&first), inode(&second)].contains(&inode(&base)));
}

#[test]
fn symbolic_links_are_neither_followed_nor_touched() {
    let trees = Trees::new(2);
    let outside = trees.dir.path().join("outside");
    fs::create_dir(&outside).expect("mkdir");
    fs::write(outside.join("same"), b"content").expect("write");
    trees.touch(&outside.join("same"), 7);
    std::os::unix::fs::symlink(&outside, trees.trees[0].join("way-out")).expect("symlink");
    std::os::unix::fs::symlink(outside.join("same"), trees.trees[0].join("same")).expect("symlink");
    trees.file(1, "same", b"content", 7);
    assert_eq!(trees.link(), Shared::default());
    assert_eq!(
        fs::metadata(outside.join("same")).expect("there").nlink(),
        1
    );
}

#[test]
fn blocks_are_shared_or_it_is_said_that_they_cannot_be() {
    let trees = Trees::new(2);
    let content = vec![7; 64 << 10];
    let paths = [0, 1].map(|n| trees.file(n, "same", &content, n as i64));
    let found = Duplicates::find(&trees.trees, 4096, Sharing::Blocks).expect("found");
    assert_eq!(
        found.of(1),
        Shared {
            files: 1,
            bytes: 64 << 10
        }
    );
    match found.share(1, trees.dir.path()) {
        Ok(shared) => assert_eq!(shared, found.of(1)),
        Err(LayerError::Io { source, .. }) => {
            assert_eq!(source.kind(), io::ErrorKind::Unsupported, "{source}");
        }
        Err(error) => panic!("{error}"),
    }
    assert_ne!(inode(&paths[0]), inode(&paths[1]));
    assert_eq!(fs::metadata(&paths[1]).expect("there").mtime(), 1);
    assert_eq!(fs::read(&paths[1]).expect("read"), content);
}
