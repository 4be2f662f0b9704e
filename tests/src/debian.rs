//! A real image, made once and kept under `target/test-images`: a Debian root by mmdebstrap(1), a layer
//! that apt installs Python into, and one that deletes and replaces what the lower layers hold.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use crate::binaries::workspace;
use crate::clients::Clients;
use crate::command::{run, tool};
use crate::place::Place;
use crate::user::need_root;

const CONTAINERFILE: &str = r#"FROM scratch
ADD base.tar /
RUN apt-get update -q && apt-get install -qy --no-install-recommends python3-minimal && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
RUN rm -r /usr/share/bash-completion /etc/motd; rm -rf /etc/cron.daily && mkdir /etc/cron.daily && ln -s ../nothing /etc/cron.daily/link && chown 33:33 /etc/cron.daily && chmod u+s /usr/bin/dpkg && ln /usr/bin/python3* /opt/ && mkfifo /opt/pipe
ENV LANG=C.UTF-8
CMD ["python3", "-c", "print('python in', open('/etc/debian_version').read().strip())"]
"#;

/// The OCI layout of the image; its tag is `latest`.
#[track_caller]
pub fn layout() -> PathBuf {
    let (directory, _lock) = directory();
    let ready = directory.join("debian");
    if !ready.join("index.json").is_file() {
        make(&directory, &ready);
    }
    ready
}

/// The root file system alone, as an archive.
#[track_caller]
pub fn base() -> PathBuf {
    let (directory, _lock) = directory();
    make_base(&directory)
}

/// Where the images are kept, and the lock under which they are made.
#[track_caller]
fn directory() -> (PathBuf, File) {
    need_root();
    let directory = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => workspace().join(target),
        None => workspace().join("target"),
    };
    let directory = directory.join("test-images");
    fs::create_dir_all(&directory).expect("make a directory");
    let lock = File::create(directory.join("lock")).expect("make a lock");
    flock(&lock, FlockOperation::LockExclusive).expect("lock");
    (directory, lock)
}

#[track_caller]
fn make_base(directory: &Path) -> PathBuf {
    let base = directory.join("base.tar");
    if !base.is_file() {
        let mut command = Command::new(tool("mmdebstrap"));
        command
            .args(["--variant=minbase", "--quiet"])
            .arg(codename());
        let fresh = directory.join("new-base.tar");
        run(command.arg(&fresh).args(sources())).ok();
        fs::rename(&fresh, &base).expect("rename");
    }
    base
}

#[track_caller]
fn make(directory: &Path, ready: &Path) {
    let place = Place::new();
    let clients = Clients::new(&place);
    let context = place.dir("context");
    let base = make_base(directory);
    fs::hard_link(&base, context.join("base.tar"))
        .or_else(|_| fs::copy(&base, context.join("base.tar")).map(|_| ()))
        .expect("copy");
    fs::write(context.join("Containerfile"), CONTAINERFILE).expect("write");
    clients.build(&context, "debian").ok();
    let _ = fs::remove_dir_all(ready);
    let fresh = directory.join("debian.new");
    let _ = fs::remove_dir_all(&fresh);
    let target = format!("oci:{}:latest", fresh.display());
    clients
        .buildah(&["push", "-q", "--format", "oci", "localhost/debian", &target])
        .ok();
    fs::rename(&fresh, ready).expect("rename");
}

/// The release that this machine runs, so that its keys and mirror fit.
fn codename() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.unwrap_or("stable").trim_matches('"').to_owned()
}

/// The machine's own list of package sources, where it is kept in one file.
fn sources() -> Option<&'static str> {
    [
        "/etc/apt/sources.list.d/debian.sources",
        "/etc/apt/sources.list",
    ]
    .into_iter()
    .find(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("http")))
}
