//! Unpacking as root of a user namespace with a single id mapped: what an ordinary user has.

use std::process::Command;

use super::*;

/// Runs the test below in a user namespace. Where namespaces are forbidden, there is nothing to test.
#[test]
fn a_layer_is_unpacked_in_a_user_namespace() {
    let unshare = |command: &mut Command| {
        let output = command.output().ok()?;
        Some((output.status.success(), output.stdout, output.stderr))
    };
    let base = ["--user", "--map-root-user", "--"];
    match unshare(Command::new("unshare").args(base).arg("true")) {
        Some((true, ..)) => {}
        _ => return,
    }
    let executable = std::env::current_exe().expect("this test");
    let test = [
        "--ignored",
        "--exact",
        "layer::tests::rootless::inside_a_user_namespace",
    ];
    let run = unshare(
        Command::new("unshare")
            .args(base)
            .arg(executable)
            .args(test),
    );
    let (success, out, err) = run.expect("a child process");
    let text = [out, err].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(success && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by the test above, in a user namespace"]
fn inside_a_user_namespace() {
    let head = |name, kind, mode| Head {
        name,
        kind,
        mode,
        uid: 1000,
        gid: 42,
        device: (1, 3),
        ..Head::default()
    };
    let place = Place::new();
    let options = UnpackOptions {
        ownership: Ownership::Single,
        xattrs: XattrNamespace::User,
        holes: false,
        limits: Limits::default(),
        yielding: false,
    };
    let tar = Tar::new()
        .pax(&[
            ("SCHILY.xattr.trusted.secret", b"x"),
            ("SCHILY.xattr.security.ima", b"x"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.note", b"kept"),
        ])
        .entry(&head("d", b'5', 0o2770), b"")
        .entry(&head("d/su", b'0', 0o4711), b"content")
        .entry(&head("d/unreadable", b'0', 0), b"content")
        .entry(&head("null", b'3', 0o666), b"")
        .entry(&head("link", b'2', 0o777), b"")
        .entry(&head("fifo", b'6', 0o600), b"");
    // The link above has no target.
    assert!(place.try_with(&tar.clone().end(), &options).is_err());
    let place = Place::new();
    let tar = tar.open();
    let link = tar.len() - 1024;
    let tar = Tar::new()
        .raw(&tar[..link])
        .symlink("link", "d")
        .file("d/.wh.gone", "")
        .file("e/.wh..wh..opq", "")
        .kind(b'6', "fifo", "")
        .end();
    place.try_with(&tar, &options).expect("a good layer");
    assert_eq!(
        place.list(),
        ["d", "d/gone", "d/su", "d/unreadable", "e", "fifo", "link"]
    );
    assert_eq!(place.mode("d"), 0o2770);
    assert_eq!(place.mode("d/su"), 0o4711);
    assert_eq!(place.mode("d/unreadable"), 0);
    assert_eq!(place.stat("d/su").uid(), 0);
    assert!(place.is_whiteout("d/gone"));
    let xattr = |path, name| place.xattr(path, name);
    assert_eq!(xattr("d", "user.note").as_deref(), Some(&b"kept"[..]));
    assert_eq!(xattr("d", "user.overlay.opaque"), None);
    assert_eq!(
        xattr("d", "user.overlay.overlay.opaque").as_deref(),
        Some(&b"y"[..])
    );
    assert_eq!(
        xattr("e", "user.overlay.opaque").as_deref(),
        Some(&b"y"[..])
    );
}
