//! Archives that parsers are known to read in different ways: each has one reading here, or none.

use super::{At, Case, Check, directory, file, gone, held, refused};
use crate::archive::{Archive, BLOCK, Head, record};

fn new() -> Archive {
    Archive::new()
}

/// A file of version 1.0 with this size and this map at the beginning of its content, as far as that goes.
pub fn sparse(real_size: &[u8], map: &[u8]) -> Archive {
    let archive = new().pax(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"s"),
        ("GNU.sparse.realsize", real_size),
    ]);
    let mut content = map.to_vec();
    content.resize(map.len().next_multiple_of(BLOCK), 0);
    archive.entry(Head::new(b'0', "GNUSparseFile.0/s"), content)
}

/// A header of GNU tar's old sparse files: up to four segments, the size, and whether more of the map follows.
pub fn old_sparse(segments: &[(u64, u64)], real_size: u64, more: bool) -> Head {
    let number = |value: u64| format!("{value:011o}\0");
    let head = Head::new(b'S', "s").gnu();
    let head = segments.iter().zip(0..4).fold(head, |head, (segment, n)| {
        let at = 386 + 24 * n;
        head.put(at, number(segment.0))
            .put(at + 12, number(segment.1))
    });
    let stored = segments.iter().map(|segment| segment.1).sum();
    head.put(482, [u8::from(more)])
        .put(483, number(real_size))
        .size(stored)
}

fn hidden() -> Vec<u8> {
    new().file("hidden", "x").open()
}

/// POSIX: a record takes the place of the header's field.
pub fn pax_size_over_header_size(_: &At) -> Case {
    let archive = new().pax(&[("size", b"3")]);
    held(
        archive
            .head(Head::new(b'0', "a").size(1024), "abc")
            .file("b", "b"),
        &[file("a", "abc"), file("b", "b")],
    )
}

/// Where the header's field cannot be read at all, too.
pub fn pax_size_over_nothing(_: &At) -> Case {
    let head = Head::new(b'0', "a").put(124, b"not a number");
    held(
        new().pax(&[("size", b"3")]).head(head, "abc"),
        &[file("a", "abc")],
    )
}

/// A link has no content; some tools skip as much as the record says.
pub fn pax_size_on_a_hard_link(_: &At) -> Case {
    let archive = new().file("a", "x").pax(&[("size", b"1024")]);
    refused(archive.hard_link("b", "a").raw(hidden()), &["has a size"])
}

/// Nor has a symbolic one.
pub fn pax_size_on_a_symlink(_: &At) -> Case {
    let archive = new().pax(&[("size", b"1024")]);
    refused(archive.symlink("b", "a").raw(hidden()), &["has a size"])
}

/// The first one, or the last one?
pub fn pax_size_twice(_: &At) -> Case {
    let archive = new().pax(&[("size", b"0"), ("size", b"1024")]);
    refused(
        archive.entry(Head::new(b'0', "a"), hidden()),
        &["contradict"],
    )
}

/// No size at all.
pub fn pax_size_negative(_: &At) -> Case {
    refused(
        new().pax(&[("size", b"-512")]).file("a", ""),
        &["PAX record size"],
    )
}

/// For all files?
pub fn pax_size_in_a_global_header(_: &At) -> Case {
    let global = record("size", b"1024");
    refused(
        new().extension(b'g', global).file("a", ""),
        &["global", "size"],
    )
}

/// One name for all?
pub fn pax_path_in_a_global_header(_: &At) -> Case {
    let global = record("path", b"../x");
    refused(
        new().extension(b'g', global).file("a", ""),
        &["global", "path"],
    )
}

/// Whose name counts?
pub fn pax_path_over_gnu_name(_: &At) -> Case {
    let archive = new().extension(b'L', b"one\0").pax(&[("path", b"other")]);
    refused(archive.file("a", "x"), &["contradict", "name"])
}

/// There is no question then.
pub fn pax_path_and_gnu_name_that_agree(_: &At) -> Case {
    let archive = new().extension(b'L', b"one\0").pax(&[("path", b"one")]);
    held(archive.file("a", "x"), &[file("one", "x"), gone("a")])
}

/// Nor here.
pub fn pax_keys_twice_alike(_: &At) -> Case {
    let archive = new().pax(&[("path", b"one"), ("path", b"one")]);
    held(archive.file("a", "x"), &[file("one", "x")])
}

/// At the archive's end.
pub fn pax_header_for_nothing(_: &At) -> Case {
    refused(
        new().file("a", "x").pax(&[("path", b"b")]),
        &["not followed"],
    )
}

/// The same of GNU's.
pub fn gnu_name_for_nothing(_: &At) -> Case {
    refused(
        new().file("a", "x").extension(b'L', b"b\0"),
        &["not followed"],
    )
}

/// Does the first header belong to the global one?
pub fn global_header_between(_: &At) -> Case {
    let archive = new().pax(&[("path", b"b")]);
    refused(
        archive
            .extension(b'g', record("comment", b"x"))
            .file("a", ""),
        &["not followed"],
    )
}

/// The length ends inside the record.
pub fn pax_length_too_short(_: &At) -> Case {
    refused(
        new().extension(b'x', b"9 path=abcdef\n").file("a", ""),
        &["PAX record is malformed"],
    )
}

/// Or behind it.
pub fn pax_length_too_long(_: &At) -> Case {
    refused(
        new().extension(b'x', b"99 path=b\n").file("a", ""),
        &["PAX record is malformed"],
    )
}

/// A record ends with a newline.
pub fn pax_without_newline(_: &At) -> Case {
    refused(
        new().extension(b'x', b"9 path=bb").file("a", ""),
        &["PAX record is malformed"],
    )
}

/// And has a value.
pub fn pax_without_equals(_: &At) -> Case {
    refused(
        new().extension(b'x', b"8 pathb\n").file("a", ""),
        &["PAX record is malformed"],
    )
}

/// Where does the name end?
pub fn nul_in_a_pax_path(_: &At) -> Case {
    refused(new().pax(&[("path", b"b\0c")]).file("a", ""), &["NUL"])
}

/// Where does this one?
pub fn nul_in_a_gnu_name(_: &At) -> Case {
    refused(new().extension(b'L', b"b\0c\0").file("a", ""), &["NUL"])
}

/// What is the key?
pub fn nul_in_a_pax_key(_: &At) -> Case {
    refused(
        new().pax(&[("path\0", b"b")]).file("a", ""),
        &["PAX record is malformed"],
    )
}

/// Two's complement: -512.
pub fn base256_negative_size(_: &At) -> Case {
    let size = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0x00,
    ];
    refused(
        new().head(Head::new(b'0', "a").put(124, size), ""),
        &["field size"],
    )
}

/// More than 64 bits.
pub fn base256_huge_size(_: &At) -> Case {
    let size = [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];
    refused(
        new().head(Head::new(b'0', "a").put(124, size), "x"),
        &["field size"],
    )
}

/// Some stop at the first character that is no digit.
pub fn octal_with_garbage(_: &At) -> Case {
    let head = Head::new(b'0', "a").put(124, b"0000001x000\0");
    refused(new().head(head, "x"), &["field size"])
}

/// Every writer that leaves it out means 0.
pub fn a_size_of_blanks(_: &At) -> Case {
    let head = Head::new(b'0', "a").put(124, [b' '; 12]);
    held(
        new().head(head, "").file("b", "b"),
        &[file("a", ""), file("b", "b")],
    )
}

/// Some call it by its prefix, some by nothing.
pub fn a_file_without_a_name(_: &At) -> Case {
    refused(new().file("", "x"), &["no name"])
}

/// Some skip it, some make a file of it.
pub fn an_unknown_type(_: &At) -> Case {
    refused(new().entry(Head::new(b'Z', "a"), "x"), &["type 'Z'"])
}

/// As everywhere, files as any other (POSIX, "7").
pub fn contiguous_files(_: &At) -> Case {
    held(new().entry(Head::new(b'7', "a"), "x"), &[file("a", "x")])
}

/// Before there was a type, a slash made the directory.
pub fn v7_directory(_: &At) -> Case {
    let head = Head::new(0, "d/").v7().mode(0o755);
    held(
        new().entry(head, "").file("d/f", "x"),
        &[directory("d"), file("d/f", "x")],
    )
}

/// Nor was there a prefix.
pub fn v7_with_a_prefix(_: &At) -> Case {
    let head = Head::new(b'0', "a").v7().put(345, b"prefix");
    held(new().entry(head, "x"), &[file("a", "x"), gone("prefix")])
}

fn star(prefix: &str) -> Head {
    let times = b"00000000000 00000000000 ";
    Head::new(b'0', "a")
        .put(345, prefix)
        .put(476, times)
        .put(508, b"tar\0")
}

/// star's prefix is shorter: times follow it.
pub fn star_prefix(_: &At) -> Case {
    held(new().entry(star("p"), "x"), &[file("p/a", "x")])
}

/// A prefix that fills the field: GNU tar would read on into the times.
pub fn star_prefix_without_end(_: &At) -> Case {
    let prefix = "p".repeat(131);
    refused(new().entry(star(&prefix), "x"), &["prefix"])
}

/// In front of the name, with a slash between.
pub fn ustar_prefix(_: &At) -> Case {
    held(
        new().entry(Head::new(b'0', "a").put(345, b"p/q"), "x"),
        &[file("p/q/a", "x")],
    )
}

/// GNU tar keeps other things there.
pub fn gnu_header_with_a_prefix(_: &At) -> Case {
    let head = Head::new(b'0', "a").gnu().put(345, b"prefix");
    held(new().entry(head, "x"), &[file("a", "x"), gone("prefix")])
}

/// Three bytes, a hole, and two bytes.
pub fn sparse_old_gnu(_: &At) -> Case {
    held(
        new()
            .head(old_sparse(&[(0, 3), (1000, 2)], 2000, false), "abcde")
            .file("next", "n"),
        &[Check::Size("s".into(), 2000), file("next", "n")],
    )
}

/// The type belongs to GNU tar alone.
pub fn sparse_old_outside_gnu(_: &At) -> Case {
    let head = old_sparse(&[(0, 3)], 3, false).put(257, b"ustar\x0000");
    refused(new().head(head, "abc"), &["type 'S'"])
}

/// Which bytes are on top?
pub fn sparse_overlap(_: &At) -> Case {
    let head = old_sparse(&[(0, 3), (2, 2)], 2000, false);
    refused(new().head(head, "abcde"), &["sparse map is not in order"])
}

/// Longer than it says.
pub fn sparse_beyond_the_end(_: &At) -> Case {
    let head = old_sparse(&[(0, 3), (1999, 2)], 2000, false);
    refused(new().head(head, "abcde"), &["beyond the file's end"])
}

/// GNU's old map and a newer one.
pub fn sparse_two_maps(_: &At) -> Case {
    let archive = new().pax(&[
        ("GNU.sparse.size", b"2000"),
        ("GNU.sparse.numblocks", b"1"),
        ("GNU.sparse.map", b"0,3"),
    ]);
    refused(
        archive.head(old_sparse(&[(0, 3)], 2000, false), "abc"),
        &["contradict", "sparse map"],
    )
}

/// A name in a third place.
pub fn sparse_name_leads_out(_: &At) -> Case {
    let archive = new().pax(&[
        ("GNU.sparse.name", b"../../x"),
        ("GNU.sparse.size", b"3"),
        ("GNU.sparse.numblocks", b"1"),
        ("GNU.sparse.map", b"0,3"),
    ]);
    refused(
        archive.file("GNUSparseFile.0/x", "abc"),
        &["../../x", "leads out"],
    )
}

/// Some stop at one block of zeros, some want two.
pub fn a_lone_zero_block(_: &At) -> Case {
    let archive = new().file("a", "x").raw([0; BLOCK]);
    refused(archive.file("hidden", "x"), &["single block of zeros"])
}

/// It counts into the digest and means nothing.
pub fn junk_after_the_end(_: &At) -> Case {
    let archive = new().file("a", "x").raw([0; 2 * BLOCK]);
    held(archive.raw(b"junk that fills no block"), &[file("a", "x")])
}

/// Nor does another archive (GNU tar reads it only if told to).
pub fn a_second_archive_after_the_end(_: &At) -> Case {
    let archive = new().file("a", "x").raw([0; 2 * BLOCK]);
    held(archive.raw(hidden()), &[file("a", "x"), gone("hidden")])
}

fn cut(archive: Vec<u8>, length: usize, words: &[&str]) -> Case {
    let mut case = refused(new(), words);
    case.layer = archive[..length].to_vec();
    case
}

/// Go's own writer, stopped early, leaves such archives; no tool minds.
pub fn no_end_blocks(_: &At) -> Case {
    let mut case = held(new(), &[file("a", "x")]);
    case.layer = new().file("a", "x").open();
    case
}

/// What is not there could be anything.
pub fn cut_in_a_header(_: &At) -> Case {
    cut(
        new().file("a", "x").file("b", "y").open(),
        1024 + 300,
        &["ends in the middle"],
    )
}

/// The same within a file.
pub fn cut_in_a_file(_: &At) -> Case {
    cut(
        new().file("a", "x".repeat(2000)).open(),
        1500,
        &["ends in the middle"],
    )
}

/// Some go on to the next block that has the right one.
pub fn a_wrong_checksum(_: &At) -> Case {
    let mut block = Head::new(b'0', "a").sealed();
    block[0] = b'b';
    refused(new().raw(block).raw(hidden()), &["checksum"])
}

/// Early writers summed signed bytes.
pub fn a_signed_checksum(_: &At) -> Case {
    let head = Head::new(b'0', b"a\xff\xfe");
    let mut block = head.sealed();
    block[148..156].fill(b' ');
    let sum: i64 = block.iter().map(|byte| i64::from(byte.cast_signed())).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    held(new().raw(block).file("b", "y"), &[file("b", "y")])
}
