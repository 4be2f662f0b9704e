//! Names and links that lead elsewhere, and things in each other's place.

use super::{At, Case, Check, file, held, link, refused};
use crate::archive::{Archive, Head};

fn new() -> Archive {
    Archive::new()
}

/// `..` from the root.
pub fn dots(at: &At) -> Case {
    refused(
        new()
            .pax(&[("path", at.up("new").as_bytes())])
            .file("x", "x"),
        &["leads out"],
    )
}

/// Over a file that is there.
pub fn dots_over_a_file(at: &At) -> Case {
    refused(
        new()
            .pax(&[("path", at.up("secret").as_bytes())])
            .file("x", "x"),
        &["leads out"],
    )
}

/// From a directory.
pub fn dots_in_the_middle(at: &At) -> Case {
    let name = format!("a/{}", at.up("new"));
    refused(
        new()
            .dir("a/")
            .pax(&[("path", name.as_bytes())])
            .file("x", "x"),
        &["leads out"],
    )
}

/// In a PAX record, the header's name being harmless.
pub fn dots_in_a_pax_path(_: &At) -> Case {
    refused(
        new()
            .pax(&[("path", b"../outside/x")])
            .file("harmless", "x"),
        &["../outside/x"],
    )
}

/// In a GNU long name.
pub fn dots_in_a_gnu_name(_: &At) -> Case {
    refused(
        new()
            .extension(b'L', b"../outside/x\0")
            .file("harmless", "x"),
        &["../outside/x"],
    )
}

/// An absolute name begins at the layer's root.
pub fn absolute(at: &At) -> Case {
    let name = at.out("new");
    held(
        new().pax(&[("path", name.as_bytes())]).file("x", "mine"),
        &[file(at.inside("new"), "mine")],
    )
}

/// So does that of a file that is there.
pub fn absolute_over_a_file(at: &At) -> Case {
    let name = at.out("secret");
    held(
        new().pax(&[("path", name.as_bytes())]).file("x", "mine"),
        &[file(at.inside("secret"), "mine")],
    )
}

/// A file behind an absolute link.
pub fn through_an_absolute_link(at: &At) -> Case {
    held(
        new().symlink("l", at.outside).file("l/secret", "mine"),
        &[file(at.inside("secret"), "mine")],
    )
}

/// Behind one with more dots than there are directories.
pub fn through_a_relative_link(at: &At) -> Case {
    held(
        new().symlink("l", at.up("")).file("l/secret", "mine"),
        &[file(at.inside("secret"), "mine")],
    )
}

/// Behind a link to a link.
pub fn through_a_link_to_a_link(at: &At) -> Case {
    let archive = new().symlink("a", at.outside).symlink("b", "a");
    held(
        archive.file("b/secret", "mine"),
        &[file(at.inside("secret"), "mine")],
    )
}

fn chain(at: &At, length: usize) -> Archive {
    let last = new().symlink("l1", at.outside);
    let chain = (2..=length).fold(last, |archive, n| {
        archive.symlink(format!("l{n}"), format!("l{}", n - 1))
    });
    chain.file(format!("l{length}/secret"), "mine")
}

/// As many links as the kernel follows.
pub fn a_chain_of_forty_links(at: &At) -> Case {
    held(chain(at, 40), &[file(at.inside("secret"), "mine")])
}

/// One more.
pub fn a_chain_of_forty_one_links(at: &At) -> Case {
    refused(chain(at, 41), &["l41/secret", "symbolic link"])
}

/// Links that lead to each other.
pub fn links_in_a_circle(_: &At) -> Case {
    refused(
        new().symlink("a", "b").symlink("b", "a").file("a/x", ""),
        &["a/x", "symbolic link"],
    )
}

/// A link that begins with itself.
pub fn a_link_to_itself(_: &At) -> Case {
    refused(
        new().symlink("a", "a/b").file("a/x", ""),
        &["a/x", "symbolic link"],
    )
}

/// A directory in a link's place.
pub fn a_directory_over_a_link(at: &At) -> Case {
    let head = Head::new(b'5', "l/").mode(0o700).owner(5, 5);
    held(
        new().symlink("l", at.outside).entry(head, b""),
        &[Check::Mode("l".into(), 0o700)],
    )
}

/// A file in a link's place.
pub fn a_file_over_a_link(at: &At) -> Case {
    held(
        new().symlink("l", at.out("secret")).file("l", "mine"),
        &[file("l", "mine")],
    )
}

/// A link in the place of a directory that is open because files go there.
pub fn a_link_over_a_directory_in_use(at: &At) -> Case {
    let archive = new()
        .dir("d")
        .file("d/1", "1")
        .file("d/2", "2")
        .symlink("d", at.outside);
    held(
        archive.file("d/secret", "mine").file("d/1", "mine"),
        &[link("d", at.outside), file(at.inside("1"), "mine")],
    )
}

/// In the place of a directory that no entry named.
pub fn a_link_over_an_implied_parent(at: &At) -> Case {
    let archive = new().file("d/sub/1", "1").symlink("d", at.outside);
    held(
        archive.file("d/inner/file", "mine"),
        &[file(at.inside("inner/file"), "mine")],
    )
}

/// Links of proc(5) lead out without a path: they are text here.
pub fn a_magic_link_of_proc(at: &At) -> Case {
    let archive = new()
        .symlink("l", "/proc/self/root")
        .symlink("cwd", "/proc/self/cwd");
    let inside = format!("proc/self/root/{}", at.inside("secret"));
    let name = format!("l{}", at.out("secret"));
    held(
        archive
            .pax(&[("path", name.as_bytes())])
            .file("x", "mine")
            .file("cwd/secret", "mine"),
        &[file(inside, "mine"), file("proc/self/cwd/secret", "mine")],
    )
}

/// To an absolute name of a file outside, which the layer does not have.
pub fn a_hard_link_out(at: &At) -> Case {
    refused(
        new().hard_link("l", at.out("secret")).file("l", "changed"),
        &["\"l\"", "hard link"],
    )
}

/// With dots.
pub fn a_hard_link_up(at: &At) -> Case {
    refused(
        new().hard_link("l", at.up("secret")),
        &["\"l\"", "link target leads out"],
    )
}

/// Through a link.
pub fn a_hard_link_through_a_link(at: &At) -> Case {
    refused(
        new().symlink("d", at.outside).hard_link("l", "d/secret"),
        &["\"l\"", "hard link"],
    )
}

/// No file system has them.
pub fn a_hard_link_to_a_directory(_: &At) -> Case {
    refused(new().dir("d").hard_link("l", "d"), &["\"l\"", "hard link"])
}

/// image-spec leaves it open; here layers are directories of their own.
pub fn a_hard_link_to_a_lower_file(_: &At) -> Case {
    refused(
        new().hard_link("new", "below"),
        &["new", "not a file of this layer"],
    )
    .over(new().file("below", "x"))
}

/// The target has to come first.
pub fn a_hard_link_to_a_later_file(_: &At) -> Case {
    refused(
        new().hard_link("l", "later").file("later", "x"),
        &["\"l\"", "hard link"],
    )
}

/// The file would go before it is linked.
pub fn a_hard_link_to_itself(_: &At) -> Case {
    refused(
        new().file("self", "x").hard_link("self", "self"),
        &["self", "hard link"],
    )
}

/// So would the directory that the target is in.
pub fn a_hard_link_over_its_own_parent(_: &At) -> Case {
    refused(
        new().file("d/f", "x").hard_link("d", "d/f"),
        &["\"d\"", "hard link"],
    )
}

/// What lies beside the layer's tree in the store is no part of it.
pub fn a_hard_link_to_the_records(_: &At) -> Case {
    refused(
        new().hard_link("l", "../record.zst"),
        &["\"l\"", "link target leads out"],
    )
}

/// Longer than any path can be.
pub fn a_long_name(_: &At) -> Case {
    let name = "n/".repeat(5000);
    refused(
        new().pax(&[("path", name.as_bytes())]).file("x", "x"),
        &["bytes of name"],
    )
}

/// A part that is longer than file systems have.
pub fn a_long_component(_: &At) -> Case {
    let name = "n".repeat(300);
    refused(
        new().pax(&[("path", name.as_bytes())]).file("x", "x"),
        &["nnnn", "too long"],
    )
}

/// The root is a directory.
pub fn the_root_as_a_file(_: &At) -> Case {
    refused(new().file("./", "x"), &["root of a layer"])
}

/// And no link.
pub fn the_root_as_a_link(at: &At) -> Case {
    refused(
        new().symlink("a/..", at.outside).file("new", "x"),
        &["root of a layer"],
    )
}

/// Of neither kind.
pub fn the_root_as_a_hard_link(_: &At) -> Case {
    refused(
        new().file("f", "x").hard_link("/", "f"),
        &["root of a layer"],
    )
}

/// Nothing but the parent.
pub fn a_name_of_dots(_: &At) -> Case {
    refused(new().file("..", "x"), &["leads out"])
}

/// A file cannot hold anything.
pub fn the_parent_is_a_file(_: &At) -> Case {
    refused(
        new().file("f", "x").file("f/g", "x"),
        &["f/g", "not a directory"],
    )
}

/// Nor can a fifo, which is not opened to find out.
pub fn the_parent_is_a_fifo(_: &At) -> Case {
    let archive = new().entry(Head::new(b'6', "p"), b"").file("p/x", "x");
    refused(archive, &["p/x", "not a directory"])
}
