//! Implied parents in a stack of layers.

use super::*;

/// Unpacks layers, the lowest first, and mends them. Gives what was mended, as path and mode.
fn mended(layers: &[Tar]) -> Option<Vec<(String, u32)>> {
    let places: Vec<Place> = layers
        .iter()
        .map(|layer| unpacked(&layer.clone().end()).0)
        .collect();
    let stack: Vec<PathBuf> = places.iter().rev().map(Place::layer).collect();
    let out = tempfile::tempdir().expect("a directory");
    // The same shape as a layer, so that it can be listed like one.
    let place = Place { directory: out };
    fs::create_dir(place.layer()).expect("a layer");
    let tree = place.layer().join("fs");
    let made = mend_parents(&stack, &tree, &options()).expect("sound layers");
    assert_eq!(made, tree.exists());
    made.then(|| {
        place
            .list()
            .into_iter()
            .map(|path| {
                assert_eq!(place.stat(&path).mtime(), 1_700_000_000, "{path}");
                let mode = place.mode(&path);
                (path, mode)
            })
            .collect()
    })
}

fn directory(name: &str, mode: u32) -> Tar {
    add(Tar::new(), name, mode)
}

fn add(tar: Tar, name: &str, mode: u32) -> Tar {
    let head = Head {
        name,
        kind: b'5',
        mode,
        ..Head::default()
    };
    tar.entry(&head, b"")
}

#[test]
fn implied_parents_get_the_metadata_of_the_highest_layer_that_names_them() {
    let base = add(directory("a", 0o700), "a/b", 0o1777);
    let middle = add(Tar::new(), "a/b", 0o2750);
    let top = Tar::new().file("a/b/c", "x");
    let expected = [("a".to_owned(), 0o700), ("a/b".to_owned(), 0o2750)];
    assert_eq!(
        mended(&[base.clone(), middle, top.clone()]).as_deref(),
        Some(&expected[..])
    );
    // A layer in between that only implies them, too, is passed over.
    let implying = Tar::new().file("a/b/d", "y");
    let expected = [("a".to_owned(), 0o700), ("a/b".to_owned(), 0o1777)];
    assert_eq!(
        mended(&[base, implying, top]).as_deref(),
        Some(&expected[..])
    );
}

#[test]
fn parents_that_are_named_need_no_mending() {
    let base = directory("a", 0o700);
    let top = directory("a", 0o750).file("a/x", "");
    assert_eq!(mended(&[base, top]), None);
    assert_eq!(mended(&[Tar::new().file("a/b/c", "x")]), None);
    let nothing_below = Tar::new().file("new/x", "");
    assert_eq!(mended(&[directory("a", 0o700), nothing_below]), None);
}

#[test]
fn mending_stops_where_the_stack_does() {
    let base = || add(directory("a", 0o700), "a/b", 0o700);
    let top = || Tar::new().file("a/b/c", "x");
    for middle in [
        Tar::new().file(".wh.a", ""),
        Tar::new().file("a", "a file"),
        Tar::new().symlink("a", "elsewhere"),
        Tar::new().file(".wh.a", "").file("a/x", ""),
        Tar::new().file(".wh..wh..opq", "").file("z", ""),
    ] {
        assert_eq!(mended(&[base(), middle, top()]), None);
    }
}

#[test]
fn an_opaque_whiteout_hides_what_is_in_a_directory_and_not_what_it_is() {
    let base = || add(add(directory("a", 0o750), "a/b", 0o700), "a/b/c", 0o711);
    let both = [("a".to_owned(), 0o750), ("a/b".to_owned(), 0o700)];
    for opaque in [
        Tar::new().file("a/b/.wh..wh..opq", ""),
        Tar::new().file("a/b/new", "x").file("a/b/.wh..wh..opq", ""),
        // What is hidden has nothing to say about what is new under its name.
        Tar::new()
            .file("a/b/.wh..wh..opq", "")
            .file("a/b/c/new", "x"),
    ] {
        let found = mended(&[base(), opaque.clone()]);
        assert_eq!(found.as_deref(), Some(&both[..]));
        let above = Tar::new().file("a/b/d", "y");
        let found = mended(&[base(), opaque, above]);
        assert_eq!(found.as_deref(), Some(&both[..]));
    }
    let root = Tar::new().file(".wh..wh..opq", "").file("a/new", "x");
    let below = add(directory("./", 0o711), "a", 0o700);
    assert_eq!(mended(&[below, root]), Some(Vec::new()));
    // One that was removed itself is another one now, whatever else the layer says of it.
    let anew = Tar::new()
        .file(".wh.a", "")
        .file("a/.wh..wh..opq", "")
        .file("a/new", "x");
    assert_eq!(mended(&[base(), anew]), None);
}

#[test]
fn the_root_is_mended_too() {
    let base = directory("./", 0o711);
    let top = Tar::new().file("x", "");
    assert_eq!(mended(&[base, top]), Some(Vec::new()));
}

#[test]
fn owners_and_attributes_come_along_but_overlayfs_marks_do_not() {
    if !is_root() {
        return;
    }
    let head = Head {
        name: "a",
        kind: b'5',
        mode: 0o2755,
        uid: 1000,
        gid: 2000,
        ..Head::default()
    };
    let base = Tar::new()
        .pax(&[
            ("SCHILY.xattr.user.note", b"kept"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"n"),
        ])
        .entry(&head, b"")
        .file("a/.wh..wh..opq", "")
        .end();
    let (below, _) = unpacked(&base);
    let (above, _) = unpacked(&Tar::new().file("a/x", "").end());
    let place = Place::new();
    let stack = [above.layer(), below.layer()];
    let made = mend_parents(&stack, &place.layer().join("fs"), &options());
    assert!(made.expect("sound layers"));
    let stat = place.stat("a");
    assert_eq!(
        (stat.uid(), stat.gid(), place.mode("a")),
        (1000, 2000, 0o2755)
    );
    assert_eq!(place.xattr("a", "user.note").as_deref(), Some(&b"kept"[..]));
    assert!(!place.is_opaque("a"));
    let own = place.xattr("a", "trusted.overlay.overlay.opaque");
    assert_eq!(own.as_deref(), Some(&b"n"[..]));
    let unlike = || unlike_mended(&stack, &place.layer(), &options()).expect("sound layers");
    assert_eq!(unlike(), [""; 0]);
    let (path, mark) = (place.at("a"), "trusted.overlay.opaque");
    rustix::fs::setxattr(&path, mark, b"y", rustix::fs::XattrFlags::empty()).expect("a mark");
    assert_eq!(unlike(), ["directory /a has a mark of overlayfs"]);
}
