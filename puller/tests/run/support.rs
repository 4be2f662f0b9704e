//! A store with images that are made here, and the program that uses it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strata::layer::{self, LayerMeta};
use strata::store::{NewImage, Staging, Store};
use strata::userns::Privilege;
use strata_oci::Digest;
use tempfile::TempDir;

const NOBODY: u32 = 65534;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A store of root's or of an ordinary user's.
pub(crate) struct Machine {
    dir: TempDir,
    rootless: bool,
}

/// How a program ended and what it printed.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out.trim_end().to_owned()
    }

    #[track_caller]
    pub(crate) fn fails(self, code: i32, word: &str) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert!(self.err.contains(word), "{word:?} is not in: {}", self.err);
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

fn is_root() -> bool {
    matches!(strata::userns::current(), Ok(Some(Privilege::Root)))
}

impl Machine {
    /// Root's store, when the test is root, and an ordinary user's. Each has the image `base`.
    pub(crate) fn both() -> Vec<Self> {
        let mut machines = vec![Self::new(true)];
        if is_root() {
            machines.push(Self::new(false));
        }
        machines
    }

    pub(crate) fn new(rootless: bool) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let machine = Self { dir, rootless };
        let built = env!("CARGO_BIN_EXE_strata");
        if fs::hard_link(built, machine.program()).is_err() {
            // By another process: a file that is open for writing cannot be run, and processes that other threads
            // start have open for a while what this one has.
            let copied = Command::new("cp")
                .arg(built)
                .arg(machine.program())
                .status();
            assert!(copied.expect("cp").success());
        }
        machine.image(
            "base",
            &[base_layer()],
            json!({ "Env": ["FROM_IMAGE=yes"], "Cmd": ["/bin/sh"] }),
        );
        machine
    }

    pub(crate) fn rootless(&self) -> bool {
        self.rootless
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// The program, where everybody may execute it.
    pub(crate) fn program(&self) -> PathBuf {
        self.outside("strata")
    }

    /// A place outside the store.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts an image into the store; layers are tars, the lowest first.
    pub(crate) fn image(&self, name: &str, layers: &[Vec<u8>], config: Value) {
        let privilege = match self.rootless {
            true => Privilege::UserNamespace,
            false => Privilege::Root,
        };
        let store = Store::open(&self.root(), privilege).expect("open the store");
        let unpacked: Vec<(Staging, LayerMeta)> = layers
            .iter()
            .map(|tar| {
                let staging = store.stage().expect("stage");
                let options = store.unpack_options();
                let meta = layer::unpack(tar.as_slice(), staging.path(), &options, &|_| {})
                    .expect("unpack");
                (staging, meta)
            })
            .collect();
        let diff_ids: Vec<String> = unpacked
            .iter()
            .map(|(_, m)| m.diff_id.to_string())
            .collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = serde_json::to_vec(&config).expect("json");
        let described: Vec<Value> = layers
            .iter()
            .map(|tar| {
                json!({
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": Digest::of(tar), "size": tar.len(),
                })
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": Digest::of(&config), "size": config.len(),
            },
            "layers": described,
        });
        let manifest = serde_json::to_vec(&manifest).expect("json");
        let image = NewImage {
            reference: Some(format!("docker.io/library/{name}:latest")),
            resolved: Digest::of(&manifest),
            manifest,
            media_type: MANIFEST.to_owned(),
            config,
            origin: None,
        };
        store.publish(unpacked, image).expect("publish");
        drop(store);
        if self.rootless && is_root() {
            give_away(&self.root());
        }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.args(args);
        self.prepare(command)
    }

    /// Lets a command run as the store's user, with no input.
    pub(crate) fn prepare(&self, mut command: Command) -> Command {
        command
            .env("STRATA_ROOT", self.root())
            .env("HOME", self.dir.path())
            .stdin(Stdio::null());
        if self.rootless && is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    pub(crate) fn strata(&self, args: &[&str]) -> Ran {
        self.command(args).output().expect("start strata").into()
    }

    /// Runs a script in a new container of `base` that goes when it ends.
    pub(crate) fn sh(&self, options: &[&str], script: &str) -> Ran {
        self.strata(&[&["run", "--rm"], options, &["base", "sh", "-c", script]].concat())
    }

    pub(crate) fn ps(&self) -> Value {
        let text = self.strata(&["ps", "-a", "--format", "json"]).ok();
        serde_json::from_str(&text).expect("json")
    }

    /// The one container's state.
    pub(crate) fn state_of(&self, name: &str) -> String {
        let listed = self.ps();
        let found = listed
            .as_array()
            .expect("list")
            .iter()
            .find(|c| c["name"] == name);
        found
            .map_or("none", |c| c["state"].as_str().expect("text"))
            .to_owned()
    }

    /// Nothing is left of any container.
    #[track_caller]
    pub(crate) fn assert_tidy(&self) {
        assert_eq!(self.ps(), json!([]));
        let left = fs::read_dir(self.root().join("containers")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "directories of containers are left");
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
        assert!(
            !mounts.contains(&self.dir.path().display().to_string()),
            "{mounts}"
        );
    }
}

fn give_away(path: &Path) {
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
    if path.symlink_metadata().expect("stat").is_dir() {
        for entry in fs::read_dir(path).expect("list") {
            give_away(&entry.expect("entry").path());
        }
    }
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < limit, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A tar in the making.
pub(crate) struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn add(
        mut self,
        kind: tar::EntryType,
        path: &str,
        mode: u32,
        link: &str,
        content: &[u8],
    ) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_mtime(1_700_000_000);
        let added = match link {
            "" => self.0.append_data(&mut header, path, content),
            link => self.0.append_link(&mut header, path, link),
        };
        added.expect("in memory");
        self
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.add(tar::EntryType::Directory, path, 0o755, "", &[])
    }

    pub(crate) fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.add(tar::EntryType::Regular, path, mode, "", content.as_ref())
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        self.add(tar::EntryType::Symlink, path, 0o777, target, &[])
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0.into_inner().expect("in memory")
    }
}

/// A shell and the programs that the tests use, accounts, and some data to change.
pub(crate) fn base_layer() -> Vec<u8> {
    let busybox = fs::read("/bin/busybox").expect("busybox-static is needed");
    let mut layer = Tar::new()
        .dir("bin/")
        .dir("etc/")
        .dir("tmp/")
        .dir("data/")
        .dir("data/sub/");
    layer = layer.file("bin/busybox", 0o755, busybox);
    let applets = [
        "cat", "echo", "env", "false", "grep", "hostname", "id", "kill", "ls", "mkdir", "mount",
        "ps", "pwd", "rm", "sh", "sleep", "stat", "stty", "test", "touch", "trap", "true", "tty",
        "umask", "wc",
    ];
    for applet in applets {
        layer = layer.link(&format!("bin/{applet}"), "busybox");
    }
    layer
        .file(
            "etc/passwd",
            0o644,
            "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/data:/bin/sh\n",
        )
        .file("etc/group", 0o644, "root:x:0:\nwww:x:33:\nextra:x:44:www\n")
        .file("data/one", 0o644, "one\n")
        .file("data/two", 0o644, "two\n")
        .file("data/sub/three", 0o644, "three\n")
        .done()
}

/// Writes to a child's input and waits for its end.
pub(crate) fn with_input(command: &mut Command, input: &[u8]) -> Ran {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("start strata");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("wait");
    writer.join().expect("writer");
    output.into()
}
