//! What a layer removes from those below it.

use super::*;

#[test]
fn a_whiteout_becomes_a_device_without_any_lower_layer() {
    let (place, meta) = unpacked(&Tar::new().directory("a").file("a/.wh.b", "").end());
    assert!(place.is_whiteout("a/b"));
    let origin = options().xattrs.origin();
    let origin = std::str::from_utf8(origin).expect("a name");
    assert_eq!(place.xattr("a", origin), Some(Vec::new()), "for overlayfs");
    assert_eq!(place.list(), ["a", "a/b"]);
    assert_eq!(meta.implied, ["."]);
}

#[test]
fn an_opaque_whiteout_marks_its_directory() {
    let (place, _) = unpacked(
        &Tar::new()
            .directory("a")
            .file("a/.wh..wh..opq", "")
            .file("a/new", "x")
            .end(),
    );
    assert!(place.is_opaque("a"));
    assert_eq!(place.list(), ["a", "a/new"]);
}

#[test]
fn a_whiteout_under_a_whiteout_is_nothing() {
    for tar in [
        Tar::new().file(".wh.foo", "").file("foo/.wh.bar", ""),
        Tar::new().file("foo/.wh.bar", "").file(".wh.foo", ""),
        Tar::new().file("foo/.wh..wh..opq", "").file(".wh.foo", ""),
    ] {
        let (place, _) = unpacked(&tar.end());
        assert_eq!(place.list(), ["foo"]);
        assert!(place.is_whiteout("foo"));
    }
}

#[test]
fn a_whiteout_under_a_file_is_nothing() {
    let (place, _) = unpacked(&Tar::new().file("foo", "x").file("foo/.wh.bar", "").end());
    assert_eq!(place.list(), ["foo"]);
    assert_eq!(place.read("foo"), "x");
}

#[test]
fn a_whiteout_and_a_directory_make_an_opaque_directory() {
    for tar in [
        Tar::new()
            .file(".wh.foo", "")
            .directory("foo")
            .file("foo/new", "x"),
        Tar::new()
            .directory("foo")
            .file("foo/new", "x")
            .file(".wh.foo", ""),
        Tar::new().file("foo/new", "x").file(".wh.foo", ""),
    ] {
        let (place, meta) = unpacked(&tar.end());
        assert_eq!(place.list(), ["foo", "foo/new"]);
        assert!(place.is_opaque("foo"));
        assert_eq!(place.mode("foo"), 0o755);
        assert_eq!(meta.implied, ["."]);
    }
}

#[test]
fn a_whiteout_and_a_file_of_the_same_layer_leave_the_file() {
    for tar in [
        Tar::new().file(".wh.foo", "").file("foo", "new"),
        Tar::new().file("foo", "new").file(".wh.foo", ""),
    ] {
        let (place, _) = unpacked(&tar.end());
        assert_eq!(place.read("foo"), "new");
    }
}

#[test]
fn no_whiteout_is_made_inside_an_opaque_directory() {
    for tar in [
        Tar::new()
            .file("a/.wh.b", "")
            .file("a/c/.wh.d", "")
            .file("a/.wh..wh..opq", ""),
        Tar::new()
            .file("a/.wh..wh..opq", "")
            .file("a/.wh.b", "")
            .file("a/c/.wh.d", ""),
    ] {
        let (place, _) = unpacked(&tar.directory("a").directory("a/c").end());
        assert_eq!(place.list(), ["a", "a/c"]);
        assert!(place.is_opaque("a") && !place.is_opaque("a/c"));
    }
}

#[test]
fn names_that_are_no_whiteouts_are_refused() {
    for name in [".wh.", "a/.wh.", ".wh..", ".wh...", "a/.wh.b/c"] {
        assert_eq!(refusal(&Tar::new().file(name, "").end()), Refusal::Whiteout);
    }
}

#[test]
fn metadata_of_aufs_is_ignored() {
    let (place, _) = unpacked(
        &Tar::new()
            .file(".wh..wh.aufs", "what aufs wrote")
            .directory(".wh..wh.plnk")
            .file(".wh..wh.plnk/1.2", "and this")
            .file("a", "x")
            .end(),
    );
    assert_eq!(place.list(), ["a"]);
}

#[test]
fn a_whiteout_of_the_root_is_found_by_the_store() {
    let (place, _) = unpacked(&Tar::new().file(".wh..wh..opq", "").file("a", "x").end());
    let hides = |place: &Place| hides_everything_below(&place.layer(), options().xattrs);
    assert!(hides(&place).expect("a layer"));
    let (other, _) = unpacked(&Tar::new().file("a", "x").end());
    assert!(!hides(&other).expect("a layer"));
}

#[test]
fn a_whiteout_behind_a_symbolic_link_goes_where_the_link_leads() {
    let (place, _) = unpacked(
        &Tar::new()
            .symlink("lib", "usr/lib")
            .directory("usr/lib")
            .file("lib/.wh.old", "")
            .end(),
    );
    assert!(place.is_whiteout("usr/lib/old"));
}

#[test]
fn a_whiteout_behind_a_link_that_took_its_parents_place_makes_nothing() {
    for mark in ["was/.wh.child", "was/deep/.wh.child", "was/.wh..wh..opq"] {
        let (place, meta) = unpacked(&Tar::new().symlink("was", "/not/here").file(mark, "").end());
        assert_eq!(place.list(), ["was"], "{mark}");
        assert_eq!(meta.implied, ["."]);
    }
}

#[test]
fn a_device_that_overlayfs_takes_for_a_whiteout_is_one() {
    let head = Head {
        name: "gone",
        kind: b'3',
        ..Head::default()
    };
    let (place, _) = unpacked(&Tar::new().entry(&head, b"").end());
    assert!(place.is_whiteout("gone"));
}

#[test]
fn whiteouts_do_not_change_the_time_of_their_directory() {
    let (place, _) = unpacked(&Tar::new().directory("a").file("a/.wh.b", "").end());
    assert_eq!(place.stat("a").mtime(), 1_700_000_000);
}
