//! Owners that the disk has not got.

use super::*;

fn head(name: &str, kind: u8, owner: u64) -> Head<'_> {
    let (uid, gid) = (owner, owner);
    Head {
        name,
        kind,
        uid,
        gid,
        ..Head::default()
    }
}

fn owners(layers: &[Tar], ownership: Ownership) -> Owners {
    let places: Vec<Place> = layers
        .iter()
        .map(|layer| unpacked(&layer.clone().end()).0)
        .collect();
    let layers: Vec<PathBuf> = places.iter().map(Place::layer).collect();
    let options = UnpackOptions {
        ownership,
        ..options()
    };
    Owners::of(&layers, &options).expect("records")
}

#[test]
fn the_highest_layer_that_names_something_says_whose_it_is() {
    let low = Tar::new()
        .entry(&head("dir", b'5', 7), b"")
        .entry(&head("dir/kept", b'0', 1000), b"content")
        .entry(&head("dir/taken", b'0', 1000), b"content")
        .entry(&head("dir/gone", b'0', 1000), b"")
        .entry(&head("cleared", b'5', 8), b"")
        .entry(&head("cleared/old", b'0', 1000), b"")
        .entry(&head("becomes-file", b'5', 9), b"")
        .entry(&head("becomes-file/inside", b'0', 1000), b"");
    let high = Tar::new()
        // Its parent is not named here, so it stays whose it was.
        .entry(&head("dir/taken", b'0', 0), b"x")
        .entry(&head("dir/.wh.gone", b'0', 5), b"")
        .entry(&head("cleared/.wh..wh..opq", b'0', 5), b"")
        .entry(&head("becomes-file", b'0', 11), b"");
    let all = owners(&[low, high], Ownership::Single);
    let original = |path: &str| all.original(path.as_bytes(), (0, 0));
    for (path, owner) in [
        ("dir", 7),
        ("dir/kept", 1000),
        ("dir/taken", 0),
        ("dir/gone", 0),
        ("cleared", 8),
        ("cleared/old", 0),
        ("becomes-file", 11),
        ("becomes-file/inside", 0),
        ("unknown", 0),
    ] {
        assert_eq!(original(path), (owner, owner), "{path}");
    }
    assert_eq!(all.original(b"dir/kept", (5, 0)), (5, 0), "changed since");
}

#[test]
fn where_owners_are_kept_the_disk_is_right() {
    let layer = Tar::new().entry(&head("file", b'0', 1000), b"");
    let all = owners(&[layer], Ownership::Keep);
    assert_eq!(all.original(b"file", (0, 0)), (0, 0));
}
