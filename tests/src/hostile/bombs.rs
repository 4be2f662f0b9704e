//! Little that becomes much: each is stopped by a limit that the message names, before it has done harm.

use super::parsers::{old_sparse, sparse};
use super::{At, Case, Check, gone, held, refused};
use crate::archive::{Archive, Head, record};

/// What the message has to say.
const LIMIT: &str = "raise the limit";

fn new() -> Archive {
    Archive::new()
}

/// The limits that these rows are tried with; the real ones are for the largest honest images.
pub const ENTRIES: u64 = 2000;
/// Bytes of the archive and of files.
pub const BYTES: u64 = 8 << 20;
/// Uncompressed bytes for each compressed one.
pub const RATIO: u64 = 100;
/// Bytes of names that are kept.
pub const NAMES: u64 = 200_000;
/// Segments of a sparse file.
pub const SEGMENTS: u64 = 100;

/// Empty files.
pub fn too_many_entries(_: &At) -> Case {
    let many = (0..=ENTRIES).fold(new(), |archive, _| archive.file("same", ""));
    refused(many, &[LIMIT, "entries"]).with_small_limits()
}

/// One file.
pub fn too_many_bytes(_: &At) -> Case {
    let content: Vec<u8> = (0..BYTES as u32 / 4 + 1)
        .flat_map(|n| {
            n.wrapping_mul(2_654_435_761)
                .rotate_left(n % 32)
                .to_le_bytes()
        })
        .collect();
    refused(new().file("big", content), &[LIMIT]).with_small_limits()
}

/// Zeros: a thousandfold.
pub fn a_ratio_without_measure(_: &At) -> Case {
    let zeros = vec![0; BYTES as usize - 4096];
    refused(
        new().file("zeros", zeros),
        &[LIMIT, "for each compressed one"],
    )
    .with_small_limits()
}

/// A name longer than the kernel takes.
pub fn a_path_too_long(_: &At) -> Case {
    let name = "d/".repeat(2100);
    refused(
        new().pax(&[("path", name.as_bytes())]).file("a", ""),
        &[LIMIT, "bytes of name"],
    )
}

/// A target.
pub fn a_link_too_long(_: &At) -> Case {
    let target = "d/".repeat(2100);
    refused(
        new().extension(b'K', target).symlink("a", "b"),
        &[LIMIT, "bytes of name"],
    )
}

/// Of which all has to be read at once.
pub fn a_pax_header_too_long(_: &At) -> Case {
    let head = Head::new(b'x', "x").size(1 << 40);
    refused(new().head(head, ""), &[LIMIT, "PAX"])
}

/// Each of them allowed.
pub fn headers_without_end(_: &At) -> Case {
    let long = record("comment", vec![b'x'; 900_000]);
    let many = (0..8).fold(new(), |archive, _| archive.extension(b'g', &long));
    refused(many.file("a", ""), &[LIMIT, "bytes of headers"])
}

/// Without anything in them.
pub fn globals_without_end(_: &At) -> Case {
    let many = (0..14_000).fold(new(), |archive, _| archive.extension(b'g', ""));
    refused(many.file("a", ""), &[LIMIT, "bytes of headers"])
}

/// A header of 512 bytes asks for fifty directories.
pub fn directories_without_end(_: &At) -> Case {
    let many = (0..200).fold(new(), |archive, n| {
        archive.file(format!("{n}/{}", "d/".repeat(45)), "")
    });
    refused(many, &[LIMIT, "names"]).with_small_limits()
}

/// As deep as a path can be, with room for the store in front: allowed, and no recursion over it.
pub fn deep_nesting(_: &At) -> Case {
    let name = "d/".repeat(1800);
    let archive = new()
        .pax(&[("path", format!("{name}f").as_bytes())])
        .file("x", "deep");
    held(archive, &[Check::File(format!("{name}f"), "deep".into())])
}

/// Names that are remembered until the end.
pub fn whiteouts_without_end(_: &At) -> Case {
    let many = (0..1900).fold(new(), |archive, n| archive.file(format!(".wh.{n:064}"), ""));
    refused(many, &[LIMIT, "names"]).with_small_limits()
}

/// A file of holes.
pub fn a_sparse_file_of_exabytes(_: &At) -> Case {
    refused(
        sparse(b"9000000000000000000", b"0\n"),
        &[LIMIT, "bytes in files"],
    )
}

/// A map that is longer than its file.
pub fn segments_without_end(_: &At) -> Case {
    let mut more = [0; 512];
    more[..504].copy_from_slice("00000000000\x0000000000000\0".repeat(21).as_bytes());
    more[504] = 1;
    let head = old_sparse(&[], 1000, true);
    let last = (0..20).fold(new().head(head, ""), |archive, _| archive.raw(more));
    more[504] = 0;
    refused(last.raw(more), &[LIMIT, "segments"]).with_small_limits()
}

/// Nothing is allocated for what is only claimed.
pub fn a_size_of_exabytes(_: &At) -> Case {
    let archive = new().pax(&[("size", b"9223372036854775807")]);
    refused(archive.file("a", "x"), &[LIMIT])
}

/// The last one is seen; the others have to be kept for the digest, in a number that is bounded.
pub fn names_of_the_same_file(_: &At) -> Case {
    let many = (0..500).fold(new(), |archive, n| {
        archive.file(format!("{:0>90}", 'f'), n.to_string())
    });
    held(many, &[Check::File(format!("{:0>90}", 'f'), "499".into())])
}

/// What goes out of the way must not be looked for in all that is remembered; `hostile_archives.rs` measures it.
pub fn many_directories_and_many_replaced(_: &At) -> Case {
    let archive = replaced(300, true);
    held(
        archive,
        &[Check::File("same".into(), "x".into()), gone("other")],
    )
}

/// Nor when the archive is made again.
pub fn many_replaced_files(_: &At) -> Case {
    held(
        replaced(300, false),
        &[Check::File("same".into(), "x".into())],
    )
}

/// As many files of one name, beside as many directories or other files.
pub fn replaced(count: u32, directories: bool) -> Archive {
    let others = (0..count).fold(new(), |archive, n| match directories {
        true => archive.dir(format!("some/{n}")),
        false => archive.file(format!("some/{n}"), "x"),
    });
    (0..count).fold(others, |archive, _| archive.file("same", "x"))
}

/// The same with a name for each file.
pub fn beside(count: u32) -> Archive {
    let others = (0..count).fold(new(), |archive, n| archive.dir(format!("some/{n}")));
    (0..count).fold(others, |archive, n| archive.file(format!("other/{n}"), "x"))
}
