//! Advisories against others that unpack archives, each by its number.

use super::parsers::{old_sparse, sparse};
use super::{At, Case, Check, directory, file, gone, held, link, refused, same};
use crate::archive::{Archive, Head};

/// umoci: a link in the place of the root itself, and then everything goes where it leads.
pub fn cve_2021_29136_a_symlink_named_slash_dot(at: &At) -> Case {
    let archive = Archive::new().symlink("/.", at.outside);
    refused(archive.file("secret", "changed"), &["root of a layer"])
}

/// containerd: the mode in a hard link's header was set through the symbolic link that it names.
pub fn cve_2021_32760_chmod_through_a_hard_link_to_a_symlink(at: &At) -> Case {
    let archive = Archive::new().symlink("soft", at.out("secret"));
    let hard = Head::new(b'1', "hard").link("soft").mode(0o4777);
    held(
        archive.entry(hard.owner(7, 7), b""),
        &[same("soft", "hard"), link("hard", &at.out("secret"))],
    )
}

/// containers/storage: `/etc/passwd` of an image was read on the host through a link. A pull reads no file of an image.
pub fn cve_2024_9676_a_passwd_that_links_out(at: &At) -> Case {
    let archive = Archive::new()
        .dir("etc")
        .symlink("etc/passwd", at.up("secret"));
    held(
        archive.symlink("etc/group", at.out("secret")),
        &[link("etc/group", &at.out("secret"))],
    )
}

/// containerd 2.1.0: between look and use a parent became a link.
pub fn cve_2025_47290_a_parent_becomes_a_symlink(at: &At) -> Case {
    let archive = Archive::new()
        .dir("a")
        .file("a/one", "1")
        .file("a/two", "2");
    held(
        archive.symlink("a", at.outside).file("a/secret", "mine"),
        &[
            link("a", at.outside),
            file(at.inside("secret"), "mine"),
            gone(at.inside("one")),
        ],
    )
}

/// Go's archive/tar: a map of a sparse file that goes on for ever was read into memory.
pub fn cve_2025_58183_an_endless_old_sparse_map(_: &At) -> Case {
    let mut more = [b'0'; 512];
    more[504] = 1;
    let head = old_sparse(&[(0, 0)], 1000, true);
    let blocks = (0..8000).fold(Archive::new().head(head, b""), |archive, _| {
        archive.raw(more)
    });
    refused(blocks, &["raise the limit"])
}

/// The same in version 1.0, where the map says how long it is.
pub fn cve_2025_58183_a_pax_sparse_map_of_a_billion_segments(_: &At) -> Case {
    let map = format!("1000000000\n{}", "0\n0\n".repeat(100));
    refused(sparse(b"1000", map.as_bytes()), &["sparse map is too long"])
}

fn hidden() -> Vec<u8> {
    Archive::new().file("hidden", "x").open()
}

/// tokio-tar ("TARmageddon"): the PAX size is the file's, the header says 0, and the file is an archive.
pub fn cve_2025_62518_a_pax_size_over_an_empty_header(_: &At) -> Case {
    let inner = hidden();
    let size = inner.len().to_string();
    let archive = Archive::new().pax(&[("size", size.as_bytes())]);
    held(
        archive
            .head(Head::new(b'0', "outer"), inner)
            .file("next", "n"),
        &[
            Check::Size("outer".into(), 1024),
            gone("hidden"),
            file("next", "n"),
        ],
    )
}

/// go-archive: `..` at the end of names, of directories too.
pub fn cve_2026_17106_entries_with_dots(_: &At) -> Case {
    let archive = Archive::new().dir("a/").dir("a/b/../../..");
    refused(archive.file("a/b/../../../x", "x"), &["leads out"])
}

/// go-archive: a name beside the root that begins as the root's does counted as inside.
pub fn cve_2026_17106_a_sibling_that_begins_alike(_: &At) -> Case {
    refused(
        Archive::new().hard_link("x", "../fs-sibling/secret"),
        &["x", "link target leads out"],
    )
}

/// tar-rs: a PAX size did not count where the header has one.
pub fn cve_2026_33055_a_pax_size_of_zero(_: &At) -> Case {
    let archive = Archive::new().pax(&[("size", b"0")]);
    held(
        archive
            .head(Head::new(b'0', "outer").size(1024), b"")
            .raw(hidden()),
        &[Check::Size("outer".into(), 0), file("hidden", "x")],
    )
}

/// tar-rs: a directory's mode was set through a link of its name.
pub fn cve_2026_33056_a_directory_over_a_symlink_sets_a_mode(at: &At) -> Case {
    let archive = Archive::new().symlink("d", at.outside);
    let head = Head::new(b'5', "d").mode(0o777).owner(5, 5);
    held(
        archive.entry(head, b""),
        &[directory("d"), Check::Mode("d".into(), 0o777)],
    )
}

/// buildah: a link, and then a file in the directory where it leads.
pub fn cve_2026_44517_a_symlink_then_a_file_in_it(at: &At) -> Case {
    let archive = Archive::new().symlink("link", at.up("inner"));
    held(
        archive.file("link/file", "mine").file("link/new", "mine"),
        &[
            file(at.inside("inner/file"), "mine"),
            file(at.inside("inner/new"), "mine"),
        ],
    )
}

/// oras-go: a hard link's relative target was looked up in the process's working directory. `hostile_images.rs`
/// pulls with `outside` as that.
pub fn cve_2026_50163_a_hard_link_to_the_working_directory(_: &At) -> Case {
    refused(
        Archive::new().dir("a").hard_link("a/stolen", "secret"),
        &["a/stolen", "hard link to something"],
    )
}

/// oras-go: a hard link to a link, then a file written through it.
pub fn ghsa_8xwf_rjm4_xvhv_a_hard_link_over_a_symlink(at: &At) -> Case {
    let archive = Archive::new().symlink("soft", at.out("secret"));
    held(
        archive.hard_link("hard", "soft").file("hard", "mine"),
        &[file("hard", "mine"), link("soft", &at.out("secret"))],
    )
}

/// oras-go: each link of a chain is inside as text, and together they lead out.
pub fn ghsa_m37j_52j7_pjw7_a_chain_that_is_inside_as_text(at: &At) -> Case {
    let archive = Archive::new()
        .dir("a/b/c/d/e/f/g/h/i/j")
        .symlink("down", "a/b/c/d/e/f/g/h/i/j")
        .symlink("top", format!("down/{}", at.up("")));
    held(
        archive.file("top/secret", "mine"),
        &[file(at.inside("secret"), "mine")],
    )
}

/// tokio-tar: the size of a PAX header's entry was used for the header in between.
pub fn rustsec_2025_0111_a_size_for_the_wrong_header(_: &At) -> Case {
    let archive = Archive::new()
        .pax(&[("size", b"3")])
        .extension(b'L', [&b"named"[..], &[0; 600]].concat());
    held(
        archive.file("x", "abc").file("next", "n"),
        &[file("named", "abc"), file("next", "n"), gone("x")],
    )
}

/// astral-tokio-tar: a PAX header that is malformed was passed over, and with it what it says.
pub fn rustsec_2026_0066_a_malformed_pax_record(_: &At) -> Case {
    let archive = Archive::new().extension(b'x', b"11 size=512\n9 path=x");
    refused(archive.file("x", "y"), &["PAX record is malformed"])
}

/// astral-tokio-tar: a GNU long name between the PAX header and its entry.
pub fn rustsec_2026_0112_a_long_name_between_pax_and_entry(_: &At) -> Case {
    let archive = Archive::new()
        .pax(&[("path", b"by-pax")])
        .extension(b'L', b"by-gnu\0");
    refused(archive.file("x", "y"), &["contradict", "name"])
}

/// astral-tokio-tar: a mode was set through a link that is a parent.
pub fn rustsec_2026_0113_a_mode_through_a_parent_symlink(at: &At) -> Case {
    let archive = Archive::new().symlink("l", at.outside);
    held(
        archive.entry(Head::new(b'5', "l/inner").mode(0o777), b""),
        &[Check::Mode(at.inside("inner"), 0o777)],
    )
}

/// astral-tokio-tar: of two PAX headers for an entry, tools use the first, the last or both.
pub fn rustsec_2026_0145_a_pax_header_twice(_: &At) -> Case {
    let archive = Archive::new().pax(&[("size", b"1")]).pax(&[("size", b"2")]);
    refused(archive.file("x", "yz"), &["two PAX headers"])
}

/// stargz and zstd:chunked: a table of contents in the layer itself that says otherwise. It is a file as any other.
pub fn partial_pull_a_table_of_contents_that_lies(_: &At) -> Case {
    let toc = r#"{"version":1,"entries":[{"name":"evil","type":"reg","size":4}]}"#;
    let archive = Archive::new().file("honest", "h");
    held(
        archive.file("stargz.index.json", toc),
        &[
            file("honest", "h"),
            gone("evil"),
            file("stargz.index.json", toc),
        ],
    )
}
