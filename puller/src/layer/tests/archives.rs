//! The archive itself: dialects, damage, contradictions and bombs.

use super::*;

fn with_limits(tar: &[u8], limits: Limits) -> Result<LayerMeta, LayerError> {
    let options = UnpackOptions {
        limits,
        ..options()
    };
    Place::new().try_with(tar, &options)
}

fn fault(tar: &[u8]) -> TarFault {
    match error(tar) {
        LayerError::Tar(TarError::Malformed { fault, .. }) => fault,
        other => panic!("refused for another reason: {other}"),
    }
}

#[test]
fn bytes_after_the_end_count_into_the_digest() {
    for tail in [&[0u8; 9000][..], b"anything at all", &[7; 700_000]] {
        let tar = [&Tar::new().file("a", "x").end(), tail].concat();
        let (place, _) = unpacked(&tar);
        assert_eq!(place.list(), ["a"]);
    }
}

#[test]
fn an_end_mark_may_be_missing_but_not_be_half() {
    let (place, _) = unpacked(&Tar::new().file("a", "x").open());
    assert_eq!(place.list(), ["a"]);
    let half = Tar::new().file("a", "x").raw(&[0; 512]);
    unpacked(&half.clone().open());
    assert_eq!(
        fault(&half.file("b", "hidden").end()),
        TarFault::LoneZeroBlock
    );
    let (place, meta) = unpacked(b"");
    assert!(place.list().is_empty() && meta.entries == 0);
}

#[test]
fn truncated_archives_are_refused() {
    let tar = Tar::new()
        .pax(&[("path", b"some/other/name")])
        .file("a", &"x".repeat(1500))
        .symlink("l", "t")
        .open();
    for length in (0..tar.len()).step_by(37) {
        // Between entries nothing is missing as far as the archive shows; the digest will tell.
        let between = length == 0 || length == 512 * 6;
        let result = with_limits(&tar[..length], Limits::default());
        assert_eq!(result.is_ok(), between, "cut at {length}");
    }
    let dangling = Tar::new().pax(&[("path", b"x")]).end();
    assert_eq!(fault(&dangling), TarFault::Dangling);
}

#[test]
fn garbage_is_refused() {
    assert_eq!(fault(&[b'x'; 2000]), TarFault::Checksum);
    assert_eq!(fault(b"too short"), TarFault::Truncated("a header"));
    assert_eq!(
        fault(&Tar::new().kind(b'M', "x", "").end()),
        TarFault::Type(b'M')
    );
    let mut tar = Tar::new().file("a", "x").end();
    tar[3] ^= 1;
    assert_eq!(fault(&tar), TarFault::Checksum);
}

#[test]
fn errors_of_every_stage_come_out() {
    let tar = Tar::new().file("a", &"abc".repeat(1_000_000)).end();
    let place = Place::new();
    let compressed = gzip(&tar);
    let cut = unpack(
        &compressed[..compressed.len() / 2],
        &place.layer(),
        &options(),
        &|_| {},
    );
    assert!(
        matches!(cut, Err(LayerError::Compression { .. })),
        "{cut:?}"
    );
    // The writer stops at once, with most of the layer still to come.
    let bad = [Tar::new().file("../x", "").open(), tar].concat();
    let refused = unpack(&gzip(&bad)[..], &Place::new().layer(), &options(), &|_| {});
    assert!(matches!(refused, Err(LayerError::Refused { .. })));
    let missing = place.directory.path().join("missing");
    let nowhere = unpack(&gzip(&bad)[..], &missing, &options(), &|_| {});
    assert!(matches!(nowhere, Err(LayerError::Io { .. })));
}

#[test]
fn compressed_layers_have_the_digest_of_the_archive() {
    let tar = Tar::new().file("a", &"abc".repeat(1_000_000)).end();
    for compressed in [
        gzip(&tar),
        zstd::encode_all(&tar[..], 3).expect("in memory"),
        filtered(&["xz"], &tar),
        filtered(&["bzip2"], &tar),
    ] {
        let place = Place::new();
        let seen = std::sync::atomic::AtomicU64::new(0);
        let progress = |bytes| seen.store(bytes, std::sync::atomic::Ordering::Relaxed);
        let meta = unpack(&compressed[..], &place.layer(), &options(), &progress).expect("sound");
        assert_eq!(meta.diff_id, Digest::of(&tar));
        assert_eq!(seen.into_inner(), tar.len() as u64);
    }
}

#[test]
fn the_size_of_pax_wins_over_the_header() {
    // One reading sees a file of 1024 bytes, the other one an empty file and the entry in it.
    let hidden = Tar::new().file("hidden", "").open();
    let content = [&hidden[..], &[b'x'; 512]].concat();
    let head = Head {
        name: "a",
        size: Some(0),
        ..Head::default()
    };
    let (place, _) = unpacked(
        &Tar::new()
            .pax(&[("size", b"1024")])
            .entry(&head, &content)
            .end(),
    );
    assert_eq!(place.list(), ["a"]);
    assert_eq!(place.stat("a").len(), 1024);
    let head = Head {
        name: "a",
        size: Some(1024),
        ..Head::default()
    };
    let (place, _) = unpacked(
        &Tar::new()
            .pax(&[("size", b"0")])
            .entry(&head, b"")
            .file("seen", "")
            .end(),
    );
    assert_eq!(place.list(), ["a", "seen"]);
}

#[test]
fn sizes_where_there_is_no_content_are_refused() {
    for kind in [b'2', b'3', b'4', b'5', b'6'] {
        let head = Head {
            name: "x",
            kind,
            link: "y",
            size: Some(512),
            ..Head::default()
        };
        let tar = Tar::new().entry(&head, &[b'x'; 512]).end();
        assert_eq!(fault(&tar), TarFault::SizeWithoutContent(kind));
    }
}

#[test]
fn contradictory_extensions_are_refused() {
    let long = "l".repeat(150);
    let both = |pax: &str| {
        Tar::new()
            .pax(&[("path", pax.as_bytes())])
            .extension(b'L', long.as_bytes())
            .file("a", "")
            .end()
    };
    assert_eq!(fault(&both("other")), TarFault::Contradiction("name"));
    assert_eq!(unpacked(&both(&long)).0.list(), std::slice::from_ref(&long));
    let twice = Tar::new()
        .pax(&[("path", b"a")])
        .pax(&[("path", b"b")])
        .file("c", "");
    assert_eq!(fault(&twice.end()), TarFault::Twice("PAX headers"));
    let twice = Tar::new()
        .extension(b'L', b"a")
        .extension(b'L', b"b")
        .file("c", "");
    assert_eq!(fault(&twice.end()), TarFault::Twice("GNU long names"));
    let global = Tar::new().extension(b'g', &builder::record("path", b"x"));
    assert_eq!(
        fault(&global.file("c", "").end()),
        TarFault::PaxGlobal("path".into())
    );
    let between = Tar::new().pax(&[("path", b"a")]).extension(b'g', b"");
    assert_eq!(fault(&between.file("c", "").end()), TarFault::Dangling);
    let nul = Tar::new().extension(b'L', b"a\0b").file("c", "");
    assert_eq!(fault(&nul.end()), TarFault::Nul);
}

#[test]
fn global_headers_hold_for_all_entries() {
    let global = [
        builder::record("comment", b"0123456789abcdef"),
        builder::record("mtime", b"1500000000"),
    ]
    .concat();
    let (place, _) = unpacked(
        &Tar::new()
            .extension(b'g', &global)
            .file("a", "")
            .pax(&[("mtime", b"1600000000")])
            .file("b", "")
            .end(),
    );
    assert_eq!(place.stat("a").mtime(), 1_500_000_000);
    assert_eq!(place.stat("b").mtime(), 1_600_000_000);
}

#[test]
fn limits_hold() {
    let limited = |tar: &[u8], limits: Limits| {
        let error = with_limits(tar, limits).expect_err("beyond a limit");
        assert!(error.to_string().contains("raise the limit"), "{error}");
    };
    let small = || Limits {
        entries: 3,
        path: 100,
        pax: 1000,
        bytes: 1 << 20,
        names: 1000,
        segments: 10,
        ..Limits::default()
    };
    let four = Tar::new().file("a", "").file("b", "").file("c", "");
    limited(&four.file("d", "").end(), small());
    let long = "l".repeat(101);
    limited(
        &Tar::new()
            .pax(&[("path", long.as_bytes())])
            .file("a", "")
            .end(),
        small(),
    );
    limited(
        &Tar::new()
            .extension(b'K', long.as_bytes())
            .symlink("a", "")
            .end(),
        small(),
    );
    limited(
        &Tar::new()
            .pax(&[("comment", &[b'x'; 1000])])
            .file("a", "")
            .end(),
        small(),
    );
    limited(&Tar::new().file("a", &"x".repeat(2 << 20)).end(), small());
    // A few bytes of archive can ask for any number of directories.
    limited(&Tar::new().file(&"d/".repeat(49), "").end(), small());
    let globals = (0..100).fold(Tar::new(), |tar, _| tar.extension(b'g', &[]));
    let many = (0..40).fold(globals, |tar, _| {
        tar.extension(b'g', &builder::record("comment", &[b'x'; 900]))
    });
    limited(
        &many.file("a", "").end(),
        Limits {
            bytes: 1 << 30,
            ..small()
        },
    );
}

#[test]
fn a_compression_bomb_is_noticed_while_it_goes_off() {
    let bomb = gzip(&Tar::new().file("zeros", &"\0".repeat(20 << 20)).end());
    assert!(bomb.len() < 100_000);
    let place = Place::new();
    let options = UnpackOptions {
        limits: Limits {
            bytes: 1 << 30,
            ratio: 100,
            ..Limits::default()
        },
        ..options()
    };
    let result = unpack(&bomb[..], &place.layer(), &options, &|_| {});
    assert!(matches!(result, Err(LayerError::Limit { limit: 100, .. })));
    assert!(place.stat("zeros").blocks() * 512 <= 21 << 20);
}

#[test]
fn runs_of_zeros_become_holes_if_that_is_wanted() {
    let zeros = "\0".repeat(8 << 20);
    let (ended, begun) = (format!("{zeros}end"), format!("begin{zeros}"));
    let tar = Tar::new().file("ended", &ended).file("begun", &begun).end();
    for holes in [false, true] {
        let place = Place::new();
        let options = UnpackOptions { holes, ..options() };
        place.try_with(&tar, &options).expect("a good layer");
        for (name, content) in [("ended", &ended), ("begun", &begun)] {
            assert!(place.read(name) == *content, "{name}");
            let stored = place.stat(name).blocks() * 512;
            assert_eq!(stored < 2 << 20, holes, "{name}: {stored} bytes");
        }
    }
}

#[test]
fn sparse_files_of_every_version() {
    let stored = [b'a'; 5];
    let pax = |records: &[(&str, &[u8])], content: &[u8]| {
        Tar::new().pax(records).entry(
            &Head {
                name: "GNUSparseFile.1/s",
                ..Head::default()
            },
            content,
        )
    };
    let mut old = builder::block(
        &Head {
            name: "s",
            kind: b'S',
            magic: b"ustar  \0",
            ..Head::default()
        },
        5,
    );
    old[386..398].copy_from_slice(b"00000000012\0");
    old[398..410].copy_from_slice(b"00000000005\0");
    old[483..495].copy_from_slice(b"00000023420\0");
    builder::seal(&mut old);
    let map = [&b"1\n10\n5\n"[..], &[0; 505], &stored].concat();
    let name = ("GNU.sparse.name", &b"s"[..]);
    for tar in [
        Tar::new().raw(&old).padded(&stored),
        pax(
            &[
                ("GNU.sparse.size", b"10000"),
                ("GNU.sparse.numblocks", b"1"),
                ("GNU.sparse.offset", b"10"),
                ("GNU.sparse.numbytes", b"5"),
                ("path", b"s"),
            ],
            &stored,
        ),
        pax(
            &[
                name,
                ("GNU.sparse.size", b"10000"),
                ("GNU.sparse.numblocks", b"1"),
                ("GNU.sparse.map", b"10,5"),
            ],
            &stored,
        ),
        pax(
            &[
                name,
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"10000"),
            ],
            &map,
        ),
    ] {
        let (place, meta) = unpacked(&tar.file("next", "n").end());
        assert_eq!(place.list(), ["next", "s"]);
        let content = fs::read(place.at("s")).expect("the file");
        assert_eq!(content.len(), 10_000);
        assert_eq!(content[10..15], stored);
        assert_eq!(content.iter().filter(|byte| **byte != 0).count(), 5);
        assert_eq!(meta.content_size, 10_001);
    }
}

#[test]
fn sparse_maps_cannot_eat_the_memory_or_the_disk() {
    let sparse = |realsize: &[u8], content: &[u8]| {
        Tar::new()
            .pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", b"s"),
                ("GNU.sparse.realsize", realsize),
            ])
            .file("x", &String::from_utf8_lossy(content))
            .end()
    };
    let many = format!("99999999\n{}", "0\n0\n".repeat(300));
    assert_eq!(
        fault(&sparse(b"10", many.as_bytes())),
        TarFault::Sparse("is too long")
    );
    let unended = format!("60000\n{}", "0\n0\n".repeat(300));
    assert_eq!(
        fault(&sparse(b"10", unended.as_bytes())),
        TarFault::Sparse("ends in the middle")
    );
    let mut empty = b"0\n".to_vec();
    empty.resize(512, 0);
    let error = error(&sparse(b"9000000000000000000", &empty));
    assert!(matches!(error, LayerError::Limit { .. }), "{error}");
}

#[test]
fn old_directories_end_in_a_slash() {
    let head = Head {
        name: "d/",
        kind: 0,
        mode: 0o700,
        magic: &[0; 8],
        ..Head::default()
    };
    let (place, meta) = unpacked(&Tar::new().entry(&head, b"").file("d/f", "x").end());
    assert!(place.stat("d").is_dir());
    assert_eq!(meta.implied, ["."]);
}

#[test]
fn a_changed_tree_does_not_rebuild() {
    let tar = Tar::new().file("a", "content").file("b", "more").end();
    let (place, _) = unpacked(&tar);
    fs::write(place.at("a"), "short").expect("written");
    let result = rebuild(&place.layer(), &mut Vec::new());
    assert!(matches!(result, Err(LayerError::Damaged { .. })));
    fs::remove_file(place.at("a")).expect("removed");
    std::os::unix::fs::symlink("b", place.at("a")).expect("a link");
    let result = rebuild(&place.layer(), &mut Vec::new());
    assert!(matches!(result, Err(LayerError::Damaged { .. })));
}

#[test]
fn a_layer_does_not_get_the_memory_that_it_asks_for() {
    let tar = Tar::new().file("a", "x").end();
    let unpacked = |bytes: &[u8]| unpack(bytes, &Place::new().layer(), &options(), &|_| {});
    // A zstd frame of one raw block (RFC 8878, 3.1.1), its window 2 to the power of 10 and this.
    let zstd = |window: u8| {
        let length = tar.len() as u32;
        let block = ((length << 3) | 1).to_le_bytes();
        let head = [0x28, 0xb5, 0x2f, 0xfd, 0, window << 3];
        [&head[..], &block[..3], &tar].concat()
    };
    assert!(tar.len() < 1 << 17 && unpacked(&zstd(17)).is_ok());
    let dictionary = |size: &str| filtered(&["xz", &format!("--lzma2=dict={size}")], &tar);
    assert!(unpacked(&dictionary("192MiB")).is_ok());
    for (bytes, format) in [
        (zstd(18), "zstd"),
        (zstd(21), "zstd"),
        (dictionary("1GiB"), "xz"),
    ] {
        let refused = unpacked(&bytes).expect_err("refused");
        assert!(matches!(refused, LayerError::Memory { .. }), "{refused:?}");
        assert!(refused.to_string().contains(format), "{refused}");
    }
    let lz4 = unpacked(b"\x04\x22\x4d\x18....").expect_err("refused");
    assert!(lz4.to_string().contains("lz4"), "{lz4}");
}

/// What a program that compresses makes of some bytes.
fn filtered(command: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("write");
    std::io::Seek::rewind(&mut file).expect("rewind");
    let mut program = std::process::Command::new(command[0]);
    let done = program.args(&command[1..]).arg("-c").stdin(file).output();
    let done = done.expect("the program");
    assert!(done.status.success(), "{command:?}");
    done.stdout
}
