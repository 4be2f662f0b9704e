//! Damage of every kind is found, and said by name.

use super::*;
use std::os::unix::fs::symlink;

/// A layer with one of everything.
fn layer() -> (Place, Digest) {
    let tar = Tar::new()
        .directory("etc/")
        .file("etc/passwd", "root:x:0:0")
        .file("etc/group", "root:x:0:")
        .symlink("etc/link", "passwd")
        .hard_link("etc/hard", "etc/passwd")
        .kind(b'6', "etc/fifo", "")
        .pax(&[("SCHILY.xattr.user.note", b"kept")])
        .file("etc/noted", "x")
        .file("usr/bin/tool", "binary")
        .file("usr/.wh.gone", "")
        .directory("var/")
        .file("var/.wh..wh..opq", "")
        .end();
    let (place, meta) = unpacked(&tar);
    (place, meta.diff_id)
}

/// What is found after `damage`.
fn found(damage: impl FnOnce(&Place)) -> Verdict {
    let (place, diff_id) = layer();
    damage(&place);
    verify(&place.layer(), &diff_id, &options(), &|_| {})
}

/// Sets a file's time to what its layer says, as damage below the file system would leave it.
fn same_time(place: &Place, path: &str) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let file = fs::File::options().write(true).open(place.at(path));
    file.expect("open").set_modified(time).expect("time");
}

#[test]
fn a_flipped_byte_is_found_by_the_digest_alone() {
    let verdict = found(|place| {
        fs::write(place.at("etc/passwd"), "root:x:0:1").expect("write");
        same_time(place, "etc/passwd");
    });
    assert!(!verdict.proven);
    assert_eq!(verdict.problems.len(), 1, "{verdict:?}");
    assert!(verdict.problems[0].contains("content has changed"));
}

#[test]
fn what_the_archive_cannot_show_as_content_is_found_by_name() {
    type Damage = fn(&Place);
    let cases: [(&str, Damage); 13] = [
        ("etc/group is missing", |p| {
            fs::remove_file(p.at("etc/group")).expect("remove")
        }),
        (
            "etc/group is a file of 4 bytes, not a file of 9 bytes",
            |p| {
                fs::write(p.at("etc/group"), "root").expect("write");
            },
        ),
        (
            "etc/group is a file of 10 bytes, not a file of 9 bytes",
            |p| {
                fs::write(p.at("etc/group"), "root:x:0:1").expect("write");
            },
        ),
        ("etc/group has mode 0666, not 0644", |p| {
            fs::set_permissions(p.at("etc/group"), fs::Permissions::from_mode(0o666))
                .expect("mode");
        }),
        ("etc has mode 0700, not 0755", |p| {
            fs::set_permissions(p.at("etc"), fs::Permissions::from_mode(0o700)).expect("mode");
        }),
        ("etc/more is not of the layer", |p| {
            fs::write(p.at("etc/more"), "").expect("write")
        }),
        ("etc/link is a link to group, not a link to passwd", |p| {
            fs::remove_file(p.at("etc/link")).expect("remove");
            symlink("group", p.at("etc/link")).expect("link");
        }),
        ("is no link of the same file any more", |p| {
            fs::remove_file(p.at("etc/hard")).expect("remove");
            fs::copy(p.at("etc/passwd"), p.at("etc/hard")).expect("copy");
        }),
        ("etc/fifo is missing", |p| {
            fs::remove_file(p.at("etc/fifo")).expect("remove")
        }),
        ("usr/gone is missing", |p| {
            fs::remove_file(p.at("usr/gone")).expect("remove")
        }),
        ("etc/noted: attribute user.note is changed", |p| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(p.at("etc/noted"), "user.note", b"other", flags).expect("set");
        }),
        ("overlay.opaque is missing", |p| {
            let name = std::str::from_utf8(options().xattrs.opaque()).expect("a name");
            rustix::fs::removexattr(p.at("var"), name).expect("remove");
        }),
        ("usr is missing", |p| {
            fs::remove_dir_all(p.at("usr")).expect("remove")
        }),
    ];
    for (words, damage) in cases {
        let verdict = found(damage);
        let told = |problem: &String| problem.contains(words);
        assert!(verdict.problems.iter().any(told), "{words}: {verdict:?}");
    }
}

#[test]
fn a_changed_time_or_owner_is_found_and_the_content_is_proven_all_the_same() {
    let verdict = found(|place| {
        let file = fs::File::options().write(true).open(place.at("etc/group"));
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_001);
        file.expect("open").set_modified(time).expect("time");
        if is_root() {
            std::os::unix::fs::chown(place.at("etc/group"), Some(7), None).expect("chown");
        }
    });
    assert!(verdict.proven);
    let all = verdict.problems.join("; ");
    let time = "etc/group was changed at 2023-11-14T22:13:21Z, not 2023-11-14T22:13:20Z";
    assert!(all.contains(time), "{all}");
    assert_eq!(
        all.contains("etc/group belongs to 7:0, not 0:0"),
        is_root(),
        "{all}"
    );
}

#[test]
fn parts_of_a_second_count_as_far_as_a_file_system_may_keep_them() {
    let tar = Tar::new()
        .pax(&[("mtime", b"1700000000.123456789")])
        .file("file", "x")
        .end();
    let (place, meta) = unpacked(&tar);
    let found = |nanoseconds| {
        let file = fs::File::options().write(true).open(place.at("file"));
        let since = std::time::Duration::new(1_700_000_000, nanoseconds);
        let time = std::time::UNIX_EPOCH + since;
        file.expect("open").set_modified(time).expect("time");
        verify(&place.layer(), &meta.diff_id, &options(), &|_| {}).problems
    };
    for kept in [123_456_789, 123_456_700, 123_456_000, 123_000_000, 0] {
        assert_eq!(found(kept), [""; 0], "{kept}");
    }
    for other in [123_456_788, 123_456_790, 900_000_000, 1] {
        let problems = found(other);
        assert!(problems[0].contains("was changed at"), "{problems:?}");
    }
}

#[test]
fn an_acl_has_the_last_word_on_permissions() {
    if !is_root() {
        return;
    }
    let acl = |entries: &[(u16, u16, u32)]| {
        let entries = entries.iter().flat_map(|(tag, rights, id)| {
            let id = id.to_le_bytes();
            [tag.to_le_bytes(), rights.to_le_bytes()]
                .concat()
                .into_iter()
                .chain(id)
        });
        let version = 2_u32.to_le_bytes();
        version.into_iter().chain(entries).collect::<Vec<u8>>()
    };
    const ANY: u32 = u32::MAX;
    let masked = acl(&[
        (1, 6, ANY),
        (2, 7, 1000),
        (4, 4, ANY),
        (0x10, 7, ANY),
        (0x20, 4, ANY),
    ]);
    let minimal = acl(&[(1, 6, ANY), (4, 4, ANY), (0x20, 0, ANY)]);
    for (acl, mode) in [(masked, 0o674), (minimal, 0o640)] {
        let tar = Tar::new()
            .pax(&[("SCHILY.xattr.system.posix_acl_access", &acl)])
            .file("file", "x")
            .end();
        let (place, meta) = unpacked(&tar);
        let problems = || verify(&place.layer(), &meta.diff_id, &options(), &|_| {}).problems;
        assert_eq!(place.mode("file"), mode);
        assert_eq!(problems(), [""; 0]);
        let mode = fs::Permissions::from_mode(0o777);
        fs::set_permissions(place.at("file"), mode).expect("chmod");
        assert!(problems()[0].contains("file has mode 0777, not 0644"));
    }
}

#[test]
fn a_record_that_is_gone_or_cut_or_altered_is_found() {
    let record = |place: &Place| place.layer().join("record.zst");
    let gone = found(|place| fs::remove_file(record(place)).expect("remove"));
    assert!(gone.problems[0].contains("No such file"), "{gone:?}");
    let cut = found(|place| {
        let bytes = fs::read(record(place)).expect("read");
        fs::write(record(place), &bytes[..bytes.len() / 2]).expect("write");
    });
    assert!(!cut.proven && !cut.is_sound(), "{cut:?}");
    let altered = found(|place| {
        let mut bytes = fs::read(record(place)).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        fs::write(record(place), bytes).expect("write");
    });
    assert!(!altered.proven && !altered.is_sound(), "{altered:?}");
    let json = found(|place| fs::write(place.layer().join("layer.json"), "{").expect("write"));
    assert!(
        json.proven && json.problems[0].contains("layer.json"),
        "{json:?}"
    );
    let nothing = found(|place| fs::remove_dir_all(place.layer()).expect("remove"));
    assert!(!nothing.proven && !nothing.is_sound(), "{nothing:?}");
}

#[test]
fn many_differences_are_counted_and_the_first_are_told() {
    let mut tar = Tar::new();
    for number in 0..100 {
        tar = tar.file(&format!("file-{number}"), "x");
    }
    let (place, meta) = unpacked(&tar.end());
    for number in 0..100 {
        fs::write(place.at(&format!("other-{number}")), "").expect("write");
    }
    let verdict = verify(&place.layer(), &meta.diff_id, &options(), &|_| {});
    assert!(verdict.proven);
    // The time of the directory that they are in is another one, too.
    assert_eq!(verdict.problems.len() + verdict.more, 101);
    assert!(verdict.problems.len() < 20);
}
