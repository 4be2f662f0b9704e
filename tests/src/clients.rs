//! The clients that people have, each with storage and settings of its own: what they leave goes with the test's
//! directory. Here skopeo, podman, buildah and umoci as Debian has them, which run as root (containers-storage(5),
//! vfs); the rooms have the others.

pub mod containerd;
pub mod daemon;
pub mod docker;
pub mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Ran, run, tool};
use crate::place::Place;
use crate::user::need_root;

/// The clients of one test.
pub struct Clients {
    home: PathBuf,
}

impl Clients {
    /// Clients whose settings and storage are inside `place`.
    #[track_caller]
    pub fn new(place: &Place) -> Self {
        let home = place.dir("clients");
        let write = |name: &str, text: &str| fs::write(home.join(name), text).expect("write");
        write(
            "policy.json",
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
        );
        write("registries.conf", "unqualified-search-registries = []\n");
        write(
            "containers.conf",
            "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n",
        );
        write("auth.json", "{}");
        fs::create_dir_all(home.join("tmp")).expect("make a directory");
        Self { home }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(tool(name));
        command
            .env("HOME", &self.home)
            .env("TMPDIR", self.home.join("tmp"))
            .env("XDG_RUNTIME_DIR", self.home.join("tmp"))
            .env("REGISTRY_AUTH_FILE", self.home.join("auth.json"))
            .env(
                "CONTAINERS_REGISTRIES_CONF",
                self.home.join("registries.conf"),
            )
            .env("CONTAINERS_CONF", self.home.join("containers.conf"))
            .env_remove("DOCKER_CONFIG")
            .current_dir(&self.home);
        command
    }

    /// `skopeo copy`; the names carry their transports.
    #[track_caller]
    pub fn skopeo_copy(&self, from: &str, to: &str, more: &[&str]) -> Ran {
        let mut command = self.command("skopeo");
        command.args(["--insecure-policy", "copy", "--quiet"]);
        // Only registries know the option, but it is taken everywhere.
        command.args(["--src-tls-verify=false", "--dest-tls-verify=false"]);
        run(command.args(more).args([from, to]))
    }

    /// `skopeo` with another subcommand of its own.
    #[track_caller]
    pub fn skopeo(&self, args: &[&str]) -> Ran {
        run(self.command("skopeo").args(args))
    }

    fn storage(&self, name: &str) -> Command {
        need_root();
        let mut command = self.command(name);
        command.arg("--root").arg(self.home.join("storage"));
        command.arg("--runroot").arg(self.home.join("run"));
        command.args(["--storage-driver", "vfs"]);
        command
    }

    /// `podman`.
    #[track_caller]
    pub fn podman(&self, args: &[&str]) -> Ran {
        run(self.storage("podman").args(args))
    }

    /// `podman pull` or `push` without TLS.
    #[track_caller]
    pub fn podman_transfer(&self, direction: &str, reference: &str) -> Ran {
        self.podman(&[direction, "--quiet", "--tls-verify=false", reference])
    }

    /// `podman pull` without TLS, ended after half a minute with status 124: it opens a fifo that a layer puts something else
    /// in the place of, and then waits for somebody to write.
    #[track_caller]
    pub fn podman_pull_or_give_up(&self, reference: &str) -> Ran {
        let podman = self.storage("podman");
        let mut command = Command::new(tool("timeout"));
        command.arg("30").arg(podman.get_program());
        command.args(podman.get_args()).current_dir(&self.home);
        for (name, value) in podman.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        run(command.args(["pull", "--quiet", "--tls-verify=false", reference]))
    }

    /// Runs a container of an image by podman and runc. Limits that a container may have where this runs are given, because
    /// podman's own are higher, and raising them needs a privilege that is not always there.
    #[track_caller]
    pub fn podman_run(&self, reference: &str) -> Ran {
        let runtime = tool("runc");
        let mut command = self.storage("podman");
        command.arg("--runtime").arg(runtime).args(["run", "--rm"]);
        let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
        run(command.args(limits).args(["--network=host", reference]))
    }

    /// `buildah`.
    #[track_caller]
    pub fn buildah(&self, args: &[&str]) -> Ran {
        run(self.storage("buildah").args(args))
    }

    /// `buildah bud` of a Containerfile beside the files in `context`, without TLS and without a runtime.
    #[track_caller]
    pub fn build(&self, context: &Path, tag: &str) -> Ran {
        let mut command = self.storage("buildah");
        command.args([
            "bud",
            "--isolation",
            "chroot",
            "--layers",
            "--tls-verify=false",
            "--tag",
            tag,
        ]);
        command
            .arg("--signature-policy")
            .arg(self.home.join("policy.json"));
        run(command.arg(context))
    }
}

/// `umoci unpack`: the tree of an image in an OCI layout, made by others than us.
#[track_caller]
pub fn umoci_unpack(layout: &Path, tag: &str, bundle: &Path) -> PathBuf {
    need_root();
    let image = format!("{}:{tag}", layout.display());
    umoci(&["unpack", "--image", &image, bundle.to_str().expect("text")]);
    bundle.join("rootfs")
}

/// `umoci`, to a good end.
#[track_caller]
pub fn umoci(args: &[&str]) -> Ran {
    run(Command::new(tool("umoci")).args(args)).ok()
}
