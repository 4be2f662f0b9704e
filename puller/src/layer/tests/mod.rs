//! Whole layers, unpacked and compared: one test for each trap that other tools fell into.

mod archives;
mod breakouts;
mod builder;
mod differential;
mod mending;
mod metadata;
mod owners;
mod rootless;
mod sizes;
mod verify;
mod whiteouts;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use strata_oci::digest::Digest;
use tempfile::TempDir;

use super::*;
use builder::{Head, Tar};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn options() -> UnpackOptions {
    let (ownership, xattrs) = if is_root() {
        (Ownership::Keep, XattrNamespace::Trusted)
    } else {
        (Ownership::Single, XattrNamespace::User)
    };
    UnpackOptions {
        ownership,
        xattrs,
        holes: false,
        limits: Limits::default(),
        yielding: false,
    }
}

/// A directory with a layer in it, and beside it something that no layer may touch.
struct Place {
    directory: TempDir,
}

const SECRET: &[u8] = b"not yours";

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let place = Self { directory };
        fs::create_dir(place.outside()).expect("outside");
        fs::create_dir(place.layer()).expect("a layer");
        let secret = place.outside().join("secret");
        fs::write(&secret, SECRET).expect("a secret");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("its mode");
        place
    }

    fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    fn layer(&self) -> PathBuf {
        self.directory.path().join("layer")
    }

    /// A path in the unpacked tree.
    fn at(&self, path: &str) -> PathBuf {
        self.layer().join("fs").join(path)
    }

    /// Unpacks, and checks what must be true whatever the layer.
    fn try_with(&self, tar: &[u8], options: &UnpackOptions) -> Result<LayerMeta, LayerError> {
        let result = unpack(tar, &self.layer(), options, &|_| {});
        let outside: Vec<_> = fs::read_dir(self.outside()).expect("outside").collect();
        assert_eq!(outside.len(), 1, "something was made outside");
        let secret = self.outside().join("secret");
        assert_eq!(fs::read(&secret).expect("the secret"), SECRET);
        let metadata = fs::metadata(&secret).expect("the secret");
        assert_eq!((metadata.mode() & 0o7777, metadata.nlink()), (0o600, 1));
        let meta = result?;
        assert_eq!(meta.diff_id, Digest::of(tar));
        assert_eq!(meta.tar_size, tar.len() as u64);
        assert_eq!(meta, LayerMeta::load(&self.layer()).expect("layer.json"));
        assert!(meta.rebuildable);
        let mut again = Vec::new();
        rebuild(&self.layer(), &mut again).expect("rebuilds");
        assert!(again == tar, "the rebuilt archive differs");
        let verdict = verify(&self.layer(), &meta.diff_id, options, &|_| {});
        assert!(verdict.is_sound() && verdict.proven, "{verdict:?}");
        assert_eq!(verdict.bytes, meta.tar_size);
        Ok(meta)
    }

    fn unpack(&self, tar: &[u8]) -> LayerMeta {
        self.try_with(tar, &options()).expect("a good layer")
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).expect("a file")
    }

    fn stat(&self, path: &str) -> fs::Metadata {
        self.at(path).symlink_metadata().expect("an entry")
    }

    fn mode(&self, path: &str) -> u32 {
        self.stat(path).mode() & 0o7777
    }

    fn is_whiteout(&self, path: &str) -> bool {
        let stat = self.stat(path);
        stat.file_type().is_char_device() && stat.rdev() == 0
    }

    fn xattr(&self, path: &str, name: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 1000];
        let length = rustix::fs::lgetxattr(self.at(path), name, &mut value).ok()?;
        value.truncate(length);
        Some(value)
    }

    fn is_opaque(&self, path: &str) -> bool {
        let name = options().xattrs.opaque();
        let name = std::str::from_utf8(name).expect("a name");
        self.xattr(path, name).as_deref() == Some(b"y")
    }

    /// All paths in the tree.
    fn list(&self) -> Vec<String> {
        let mut all = Vec::new();
        let root = self.layer().join("fs");
        let mut todo = vec![root.clone()];
        while let Some(directory) = todo.pop() {
            for entry in fs::read_dir(directory).expect("a directory") {
                let entry = entry.expect("an entry");
                if entry.file_type().expect("a type").is_dir() {
                    todo.push(entry.path());
                }
                let path = entry.path();
                let relative = path.strip_prefix(&root).expect("below").to_string_lossy();
                all.push(relative.into_owned());
            }
        }
        all.sort();
        all
    }
}

fn unpacked(tar: &[u8]) -> (Place, LayerMeta) {
    let place = Place::new();
    let meta = place.unpack(tar);
    (place, meta)
}

fn error(tar: &[u8]) -> LayerError {
    let result = Place::new().try_with(tar, &options());
    result.expect_err("a layer that has to be refused")
}

fn refusal(tar: &[u8]) -> Refusal {
    match error(tar) {
        LayerError::Refused { reason, .. } => reason,
        other => panic!("refused for another reason: {other}"),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).expect("in memory");
    out.finish().expect("in memory")
}
