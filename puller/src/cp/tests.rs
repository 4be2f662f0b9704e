use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::*;

/// A directory that plays a container's root, one that plays the machine's, and what nobody may touch.
struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("tempdir");
        for name in ["root", "root/etc", "root/srv", "host", "outside"] {
            fs::create_dir(directory.path().join(name)).expect("mkdir");
        }
        fs::write(directory.path().join("outside/secret"), "secret").expect("write");
        Self { directory }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn root(&self) -> Place {
        let root: OwnedFd = fs::File::open(self.at("root")).expect("open").into();
        Place::container(root, "box")
    }

    fn out(&self, source: &str, target: &str) -> Result<Copied, CpError> {
        let target = self.host(target);
        let machine = Place::machine();
        copy(
            (&self.root(), source.as_bytes()),
            (&machine, &target),
            CpOptions::default(),
        )
    }

    fn put(&self, source: &str, target: &str) -> Result<Copied, CpError> {
        let source = self.host(source);
        let machine = Place::machine();
        copy(
            (&machine, &source),
            (&self.root(), target.as_bytes()),
            CpOptions::default(),
        )
    }

    /// Text is kept as it is behind the directory: slashes and dots at its end count.
    fn host(&self, path: &str) -> Vec<u8> {
        let host = self.at("host");
        [host.as_os_str().as_bytes(), b"/", path.as_bytes()].concat()
    }

    fn assert_untouched(&self) {
        let outside: Vec<_> = fs::read_dir(self.at("outside")).expect("list").collect();
        assert_eq!(outside.len(), 1);
        assert_eq!(
            fs::read(self.at("outside/secret")).expect("read"),
            b"secret"
        );
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn files_go_where_docker_puts_them() {
    let s = Scene::new();
    fs::write(s.at("root/etc/conf"), "conf").expect("write");
    fs::write(s.at("host/old"), "old and longer").expect("write");
    fs::create_dir(s.at("host/dir")).expect("mkdir");
    for (target, found) in [
        ("new", "new"),
        ("old", "old"),
        ("dir", "dir/conf"),
        ("dir/", "dir/conf"),
        ("dir/x", "dir/x"),
        (".", "conf"),
    ] {
        s.out("/etc/conf", target).expect(target);
        assert_eq!(text(&s.at("host").join(found)), "conf", "{target}");
    }
    s.out("etc/conf", "relative").expect("from the root");
    for (source, target) in [
        ("/etc/conf", "missing/"),
        ("/etc/conf", "missing/x"),
        ("/etc/conf/", "y"),
        ("/etc/none", "y"),
        ("/etc", "old"),
        ("/etc/conf", "old/"),
        ("/etc/conf", "old/x"),
        ("/etc/conf/x", "y"),
    ] {
        assert!(s.out(source, target).is_err(), "{source} {target}");
    }
    assert!(!s.at("host/y").exists());
}

#[test]
fn directories_go_where_docker_puts_them() {
    let s = Scene::new();
    fs::create_dir_all(s.at("host/tree/sub")).expect("mkdir");
    fs::write(s.at("host/tree/sub/file"), "x").expect("write");
    fs::set_permissions(s.at("host/tree/sub"), fs::Permissions::from_mode(0o750)).expect("chmod");
    for (source, target, found) in [
        ("tree", "/srv", "srv/tree/sub/file"),
        ("tree/.", "/srv", "srv/sub/file"),
        ("tree/", "/srv/", "srv/tree/sub/file"),
        ("tree", "/new", "new/sub/file"),
        ("tree/.", "/newer", "newer/sub/file"),
        ("tree", "/newest/", "newest/sub/file"),
    ] {
        s.put(source, target).expect(target);
        assert_eq!(text(&s.at("root").join(found)), "x", "{source} {target}");
    }
    let mode = fs::metadata(s.at("root/new/sub")).expect("there").mode() & 0o7777;
    assert_eq!(mode, 0o750);
    // On top of what is there: other files stay, a file gives way to none but files.
    fs::write(s.at("root/srv/tree/kept"), "kept").expect("write");
    s.put("tree", "/srv").expect("again");
    assert_eq!(text(&s.at("root/srv/tree/kept")), "kept");
    fs::create_dir_all(s.at("root/clash/tree/sub/file")).expect("mkdir");
    assert!(
        s.put("tree", "/clash").is_err(),
        "a directory is not replaced by a file"
    );
    fs::create_dir_all(s.at("root/other/tree")).expect("mkdir");
    fs::write(s.at("root/other/tree/sub"), "file").expect("write");
    assert!(
        s.put("tree", "/other").is_err(),
        "a file is not replaced by a directory"
    );
}

#[test]
fn links_are_copied_as_links_unless_they_are_to_be_followed() {
    let s = Scene::new();
    fs::write(s.at("root/etc/conf"), "conf").expect("write");
    symlink("conf", s.at("root/etc/link")).expect("link");
    s.out("/etc/link", "plain").expect("copied");
    assert_eq!(
        fs::read_link(s.at("host/plain")).expect("a link"),
        Path::new("conf")
    );
    let options = CpOptions {
        follow: true,
        ..CpOptions::default()
    };
    let machine = Place::machine();
    copy(
        (&s.root(), b"/etc/link"),
        (&machine, &s.host("followed")),
        options,
    )
    .expect("copied");
    assert_eq!(text(&s.at("host/followed")), "conf");
    assert!(
        fs::symlink_metadata(s.at("host/followed"))
            .expect("there")
            .is_file()
    );
    // A target behind a link is written, not the link.
    symlink("real", s.at("host/to-real")).expect("link");
    s.out("/etc/conf", "to-real").expect("copied");
    assert_eq!(text(&s.at("host/real")), "conf");
    assert!(
        fs::symlink_metadata(s.at("host/to-real"))
            .expect("there")
            .is_symlink()
    );
    // Names of one file stay names of one file.
    fs::hard_link(s.at("root/etc/conf"), s.at("root/etc/twin")).expect("link");
    s.out("/etc", "etc").expect("copied");
    let inode = |name: &str| {
        fs::metadata(s.at("host/etc").join(name))
            .expect("there")
            .ino()
    };
    assert_eq!(inode("conf"), inode("twin"));
}

#[test]
fn no_link_in_a_container_leads_out_of_it() {
    let s = Scene::new();
    let outside = s.at("outside");
    fs::write(s.at("host/file"), "from the machine").expect("write");
    symlink(&outside, s.at("root/absolute")).expect("link");
    symlink("../../../../../../../../../../..", s.at("root/up")).expect("link");
    symlink(outside.join("secret"), s.at("root/secret")).expect("link");
    symlink("/proc/self/root", s.at("root/magic")).expect("link");
    let up = format!("up{}", outside.display());
    for path in ["/absolute/x", "/magic/x", &format!("{up}/x")] {
        assert!(s.put("file", path).is_err(), "{path}");
    }
    // A target that is a link to a file outside is one inside the container: that it is missing is an error.
    assert!(s.put("file", "/secret").is_err());
    for path in [
        "/absolute/secret",
        "/magic/etc/passwd",
        &format!("{up}/secret"),
        "/secret/",
        "../outside/secret",
    ] {
        assert!(s.out(path, "stolen").is_err(), "{path}");
    }
    s.out("/secret", "link").expect("a link is copied as one");
    assert!(
        fs::symlink_metadata(s.at("host/link"))
            .expect("there")
            .is_symlink()
    );
    s.out("/../etc", "etc").expect("above the root is the root");
    s.assert_untouched();
}

#[test]
fn what_comes_out_of_a_container_follows_no_link_on_the_machine() {
    let s = Scene::new();
    fs::create_dir_all(s.at("root/tree/dir")).expect("mkdir");
    fs::write(s.at("root/tree/dir/secret"), "from the container").expect("write");
    fs::create_dir(s.at("host/tree")).expect("mkdir");
    symlink(s.at("outside"), s.at("host/tree/dir")).expect("link");
    assert!(s.out("/tree", ".").is_err());
    s.assert_untouched();
    // A link on the way that is a file's name is replaced.
    fs::remove_file(s.at("host/tree/dir")).expect("remove");
    fs::create_dir(s.at("host/tree/dir")).expect("mkdir");
    symlink(s.at("outside/secret"), s.at("host/tree/dir/secret")).expect("link");
    s.out("/tree", ".").expect("copied");
    assert_eq!(text(&s.at("host/tree/dir/secret")), "from the container");
    s.assert_untouched();
}

#[test]
fn rights_that_go_with_an_owner_stay_behind_without_him() {
    let s = Scene::new();
    fs::write(s.at("root/etc/tool"), "x").expect("write");
    fs::set_permissions(s.at("root/etc/tool"), fs::Permissions::from_mode(0o6755)).expect("chmod");
    s.out("/etc/tool", "tool").expect("copied");
    let mode = |path: &str| fs::metadata(s.at(path)).expect("there").mode() & 0o7777;
    assert_eq!(mode("host/tool"), 0o755);
    let options = CpOptions {
        archive: true,
        ..CpOptions::default()
    };
    let machine = Place::machine();
    copy(
        (&s.root(), b"/etc/tool"),
        (&machine, &s.host("kept")),
        options,
    )
    .expect("copied");
    assert_eq!(mode("host/kept"), 0o6755);
}

#[test]
fn archives_go_in_and_out() {
    let s = Scene::new();
    fs::create_dir_all(s.at("root/tree/sub")).expect("mkdir");
    fs::write(s.at("root/tree/sub/file"), "x").expect("write");
    let archive = |source: &str| {
        let mut archive = Vec::new();
        let from = (&s.root(), source.as_bytes());
        write_archive(from, CpOptions::default(), &mut archive).expect("written");
        archive
    };
    assert_eq!(archive("/tree"), archive("/tree"));
    let read = |archive: &[u8], target: &str| read_archive(archive, (&s.root(), target.as_bytes()));
    let copied = read(&archive("/tree"), "/srv").expect("unpacked");
    assert_eq!(copied.bytes, 1);
    assert_eq!(text(&s.at("root/srv/tree/sub/file")), "x");
    read(&archive("/tree/."), "/etc/").expect("unpacked");
    assert_eq!(text(&s.at("root/etc/sub/file")), "x");
    for target in ["/none", "/tree/sub/file"] {
        assert!(read(&archive("/tree"), target).is_err(), "{target}");
    }
    assert!(read(b"no archive", "/srv").is_err());
    for name in ["../up", "a/../../up", "/../up"] {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(0);
        header.set_cksum();
        let bytes = [header.as_bytes().as_slice(), &[0; 1024]].concat();
        assert!(
            matches!(read(&bytes, "/srv"), Err(CpError::Escapes(_))),
            "{name}"
        );
    }
    s.assert_untouched();
}
