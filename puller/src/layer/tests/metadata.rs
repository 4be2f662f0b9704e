//! Owners, modes, attributes, times, links and special files, as the image's author made them.

use super::*;

#[test]
fn modes_and_owners_are_kept_whole() {
    let head = |name, kind, mode, uid| Head {
        name,
        kind,
        mode,
        uid,
        gid: uid,
        ..Head::default()
    };
    let (place, _) = unpacked(
        &Tar::new()
            .entry(&head("d", b'5', 0o3770, 1000), b"")
            .entry(&head("d/su", b'0', 0o6755, 1000), b"content")
            .entry(&head("d/root", b'0', 0o4711, 0), b"content")
            .entry(&head("none", b'5', 0, 0), b"")
            .entry(&head("none/f", b'0', 0, 70_000), b"x")
            .entry(&head("large", b'0', 0o600, 3_000_000_000), b"")
            .entry(&head("tmp", b'5', 0o1777, 0), b"")
            .end(),
    );
    for (path, mode) in [
        ("d", 0o3770),
        ("d/su", 0o6755),
        ("d/root", 0o4711),
        ("none", 0),
        ("tmp", 0o1777),
        ("large", 0o600),
    ] {
        assert_eq!(place.mode(path), mode, "{path}");
    }
    if is_root() {
        for (path, uid) in [
            ("d", 1000),
            ("d/su", 1000),
            ("d/root", 0),
            ("none/f", 70_000),
            ("large", 3_000_000_000),
        ] {
            let stat = place.stat(path);
            assert_eq!((stat.uid(), stat.gid()), (uid, uid), "{path}");
        }
    }
}

#[test]
fn the_umask_changes_nothing() {
    // A thread of its own, so that the umask is nobody else's.
    let checked = std::thread::spawn(|| {
        if !umask::neutral() {
            return;
        }
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let head = Head {
            name: "a/b/c",
            mode: 0o666,
            ..Head::default()
        };
        let (place, _) = unpacked(&Tar::new().entry(&head, b"x").end());
        assert_eq!(place.mode("a/b/c"), 0o666);
        assert_eq!(place.mode("a"), 0o755);
        assert_eq!(place.mode("a/b"), 0o755);
    });
    checked.join().expect("modes as they should be");
}

#[test]
fn times_have_nanoseconds_and_directories_keep_theirs() {
    let (place, _) = unpacked(
        &Tar::new()
            .pax(&[("mtime", b"1600000000.123456789")])
            .directory("d")
            .pax(&[("mtime", b"-1.5")])
            .file("d/old", "x")
            .symlink("d/link", "nowhere")
            .end(),
    );
    let time = |path| (place.stat(path).mtime(), place.stat(path).mtime_nsec());
    assert_eq!(time("d"), (1_600_000_000, 123_456_789));
    assert_eq!(time("d/old"), (-2, 500_000_000));
    assert_eq!(time("d/link"), (1_700_000_000, 0));
}

#[test]
fn capabilities_survive_the_change_of_owner() {
    if !is_root() {
        return;
    }
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let head = Head {
        name: "ping",
        mode: 0o4755,
        uid: 1000,
        ..Head::default()
    };
    let (place, _) = unpacked(
        &Tar::new()
            .pax(&[("SCHILY.xattr.security.capability", capability)])
            .entry(&head, b"content")
            .end(),
    );
    let found = place.xattr("ping", "security.capability");
    assert_eq!(found.as_deref(), Some(&capability[..]));
    assert_eq!(place.mode("ping"), 0o4755);
}

#[test]
fn attributes_are_set_labels_are_not() {
    let (place, _) = unpacked(
        &Tar::new()
            .pax(&[
                ("SCHILY.xattr.user.note", b"a\0b"),
                ("SCHILY.xattr.user.empty", b""),
                (
                    "SCHILY.xattr.security.selinux",
                    b"system_u:object_r:bin_t:s0",
                ),
                ("SCHILY.xattr.com.apple.provenance", b"x"),
            ])
            .file("f", "x")
            .pax(&[("SCHILY.xattr.user.note", b"d")])
            .directory("d")
            .end(),
    );
    assert_eq!(place.xattr("f", "user.note").as_deref(), Some(&b"a\0b"[..]));
    assert_eq!(place.xattr("f", "user.empty").as_deref(), Some(&b""[..]));
    assert_eq!(place.xattr("d", "user.note").as_deref(), Some(&b"d"[..]));
    assert_eq!(place.xattr("f", "security.selinux"), None);
}

#[test]
fn overlayfs_marks_of_the_image_are_escaped() {
    let overlay = std::str::from_utf8(options().xattrs.overlay()).expect("a name");
    let key = |name: &str| format!("SCHILY.xattr.{overlay}{name}");
    let (place, _) = unpacked(
        &Tar::new()
            .pax(&[
                (key("opaque").as_str(), b"y"),
                (key("overlay.redirect").as_str(), b"z"),
            ])
            .directory("d")
            .end(),
    );
    assert!(!place.is_opaque("d"));
    let found = place.xattr("d", &format!("{overlay}overlay.opaque"));
    assert_eq!(found.as_deref(), Some(&b"y"[..]));
    let found = place.xattr("d", &format!("{overlay}overlay.overlay.redirect"));
    assert_eq!(found.as_deref(), Some(&b"z"[..]));
}

#[test]
fn devices_and_fifos() {
    let device = |name, kind, device| Head {
        name,
        kind,
        mode: 0o666,
        device,
        ..Head::default()
    };
    let (place, _) = unpacked(
        &Tar::new()
            .entry(&device("null", b'3', (1, 3)), b"")
            .entry(&device("loop", b'4', (7, 300)), b"")
            .entry(&device("fifo", b'6', (0, 0)), b"")
            .end(),
    );
    assert!(place.stat("fifo").file_type().is_fifo());
    if !is_root() {
        assert_eq!(place.list(), ["fifo"]);
        return;
    }
    let (null, block) = (place.stat("null"), place.stat("loop"));
    assert!(null.file_type().is_char_device() && block.file_type().is_block_device());
    assert_eq!(null.rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(block.rdev(), rustix::fs::makedev(7, 300));
    assert_eq!(place.mode("null"), 0o666);
}

#[test]
fn hard_links_to_devices_that_are_left_out_are_left_out_too() {
    let rootless = UnpackOptions {
        ownership: Ownership::Single,
        xattrs: XattrNamespace::User,
        ..options()
    };
    let device = |name| Head {
        name,
        kind: b'3',
        device: (1, 3),
        ..Head::default()
    };
    let tar = Tar::new()
        .directory("usr/dev")
        .symlink("dev", "usr/dev")
        .entry(&device("dev/null"), b"")
        .entry(&device("nowhere/null"), b"")
        .hard_link("usr/dev/zero", "usr/dev/null")
        .hard_link("one", "dev/zero")
        .hard_link("two", "nowhere/null")
        .hard_link("new/three", "two")
        // What comes under the name of a device later is no device.
        .entry(&device("file"), b"")
        .file("file", "x")
        .hard_link("same", "file");
    let place = Place::new();
    let meta = place.try_with(&tar.clone().end(), &rootless);
    assert_eq!(meta.expect("a good layer").implied, [".", "usr"]);
    assert_eq!(place.list(), ["dev", "file", "same", "usr", "usr/dev"]);
    assert_eq!(place.stat("same").nlink(), 2);
    let nothing = tar.hard_link("four", "never").end();
    let refused = Place::new().try_with(&nothing, &rootless);
    assert!(
        matches!(
            refused,
            Err(LayerError::Refused {
                reason: Refusal::LinkTarget,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn hard_links_share_one_file() {
    let (place, meta) = unpacked(
        &Tar::new()
            .file("a", "content")
            .hard_link("d/b", "/a")
            .hard_link("c", "./a")
            .symlink("run", "/d")
            .hard_link("e", "run/b")
            .end(),
    );
    assert_eq!(place.stat("a").nlink(), 4);
    assert_eq!(place.stat("e").ino(), place.stat("a").ino());
    assert_eq!(meta.content_size, 7);
}

#[test]
fn a_hard_link_to_a_file_of_a_lower_layer_is_refused_by_name() {
    for tar in [
        Tar::new().hard_link("new", "only/below"),
        Tar::new().directory("d").hard_link("new", "d"),
        Tar::new().file("self", "x").hard_link("self", "self"),
        Tar::new().file("d/f", "x").hard_link("d", "d/f"),
        Tar::new().hard_link("later", "f").file("f", "x"),
    ] {
        let error = error(&tar.end());
        assert!(error.to_string().contains("hard link"), "{error}");
    }
}

#[test]
fn absolute_symbolic_links_in_the_middle_of_a_name_resolve_in_the_root() {
    let (place, meta) = unpacked(
        &Tar::new()
            .directory("run")
            .symlink("var/run", "/run")
            .file("var/run/pid", "1")
            .symlink("var/lock", "../run/lock")
            .file("var/lock/x", "2")
            .end(),
    );
    assert_eq!(place.read("run/pid"), "1");
    assert_eq!(place.read("run/lock/x"), "2");
    assert!(place.stat("var/run").is_symlink());
    // Where a link leads is made as any parent is: the lower layer may have it.
    assert_eq!(meta.implied, [".", "run/lock", "var"]);
}

#[test]
fn parents_that_no_entry_names_are_implied() {
    let (place, meta) = unpacked(
        &Tar::new()
            .file("a/b/c", "x")
            .directory("a/b")
            .file("x%y/z", "")
            .end(),
    );
    assert_eq!(meta.implied, [".", "a", "x%25y"]);
    assert_eq!(place.mode("a"), 0o755);
    let (_, meta) = unpacked(&Tar::new().directory("./").file("f", "").end());
    assert!(meta.implied.is_empty());
}

#[test]
fn the_last_of_duplicates_wins_and_the_archive_still_rebuilds() {
    let (place, _) = unpacked(
        &Tar::new()
            .file("f", "first")
            .hard_link("g", "f")
            .file("f", "second, longer")
            .file("f", "third")
            .directory("d")
            .file("d/one", "1")
            .file("d/one", "2")
            .file("d", "now a file")
            .file("was-file", "x")
            .directory("was-file")
            .file("was-file/y", "z")
            .symlink("s", "d")
            .directory("s")
            .directory("keep")
            .file("keep/inside", "stays")
            .directory("keep")
            .end(),
    );
    assert_eq!(place.read("f"), "third");
    assert_eq!(place.read("g"), "first");
    assert_eq!(place.read("d"), "now a file");
    assert_eq!(place.read("was-file/y"), "z");
    assert!(place.stat("s").is_dir());
    assert_eq!(place.read("keep/inside"), "stays");
}

#[test]
fn replaced_directories_leave_no_metadata_behind() {
    let (place, meta) = unpacked(
        &Tar::new()
            .file("a/b/c", "x")
            .file("a", "a file")
            .file("d/e/f", "x")
            .symlink("d", "elsewhere")
            .file("d/e/f", "y")
            .end(),
    );
    assert_eq!(place.read("a"), "a file");
    assert_eq!(place.read("elsewhere/e/f"), "y");
    assert_eq!(meta.implied, [".", "elsewhere", "elsewhere/e"]);
}
