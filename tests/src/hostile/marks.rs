//! Whiteouts, overlayfs' marks, attributes and special files, where they do not belong.

use super::{At, Case, Check, file, gone, held, link, refused};
use crate::archive::{Archive, Head};

fn new() -> Archive {
    Archive::new()
}

/// A whiteout of something outside.
pub fn a_whiteout_up(at: &At) -> Case {
    let name = at.up(".wh.secret");
    refused(
        new().pax(&[("path", name.as_bytes())]).file("x", ""),
        &["leads out"],
    )
}

/// Behind a link of the same layer it is where the link leads, inside.
pub fn a_whiteout_through_a_link(at: &At) -> Case {
    held(
        new().symlink("d", at.outside).file("d/.wh.secret", ""),
        &[link("d", at.outside), gone(at.inside("secret/x"))],
    )
}

/// The same for a whole directory, which is not made for that.
pub fn an_opaque_mark_through_a_link(at: &At) -> Case {
    held(
        new().symlink("d", at.outside).file("d/.wh..wh..opq", ""),
        &[gone(at.inside(""))],
    )
}

/// Of nothing.
pub fn an_empty_whiteout(_: &At) -> Case {
    refused(new().file(".wh.", ""), &[".wh.", "whiteout"])
}

/// With something below it.
pub fn a_whiteout_in_the_middle(_: &At) -> Case {
    refused(new().file("a/.wh.b/c", "x"), &["a/.wh.b/c", "whiteout"])
}

/// Of the type of a directory: its name counts.
pub fn a_whiteout_that_is_a_directory(_: &At) -> Case {
    held(new().dir(".wh.gone/"), &[gone("gone"), gone(".wh.gone")]).over(new().file("gone", "x"))
}

/// Set on the link itself, or nowhere.
pub fn attributes_through_a_link(at: &At) -> Case {
    let archive = new().pax(&[("SCHILY.xattr.user.x", b"1"), ("mtime", b"1.5")]);
    held(
        archive.symlink("l", at.out("secret")),
        &[link("l", &at.out("secret"))],
    )
}

/// The link's own.
pub fn an_owner_through_a_link(at: &At) -> Case {
    let head = Head::new(b'2', "l")
        .link(at.out("secret"))
        .mode(0o777)
        .owner(7, 7);
    held(new().entry(head, b""), &[link("l", &at.out("secret"))])
}

/// overlayfs would show another directory of the layers below, or of this one.
pub fn overlays_redirect(at: &At) -> Case {
    let outside = at.outside.as_bytes();
    let archive = new().pax(&[
        ("SCHILY.xattr.trusted.overlay.redirect", outside),
        ("SCHILY.xattr.user.overlay.redirect", outside),
    ]);
    held(archive.dir("d").file("d/f", "x"), &[file("d/f", "x")])
}

/// An attribute that hides what is below is the image's own, not overlayfs'.
pub fn overlays_opaque_mark(_: &At) -> Case {
    let archive = new().pax(&[
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
    ]);
    held(archive.dir("d"), &[file("d/below", "x")]).over(new().dir("d").file("d/below", "x"))
}

/// A file takes a device's place; nothing is written to the device (here the kernel's log).
pub fn a_device_that_is_written_to(_: &At) -> Case {
    let device = Head::new(b'3', "kmsg").device(1, 11).mode(0o666);
    held(
        new().entry(device, b"").file("kmsg", "mine"),
        &[file("kmsg", "mine")],
    )
}

/// A link to a device, and then a file through it.
pub fn a_device_behind_a_link(_: &At) -> Case {
    let device = Head::new(b'3', "dev/mem").device(1, 1).mode(0o666);
    let archive = new().dir("dev").entry(device, b"").symlink("l", "dev/mem");
    held(archive.file("l", "mine"), &[file("l", "mine")])
}

/// Whoever opens a fifo waits for ever.
pub fn a_fifo_that_is_written_to(_: &At) -> Case {
    let archive = new().entry(Head::new(b'6', "p").mode(0o666), b"");
    held(archive.file("p", "mine"), &[file("p", "mine")])
}

/// More than the kernel's numbers hold.
pub fn a_device_of_impossible_numbers(_: &At) -> Case {
    let head = Head::new(b'3', "d").put(329, [0xff; 8]);
    refused(new().entry(head, b""), &["device number"])
}

/// A device that brings content, which some tools skip and some read as entries.
pub fn a_device_with_content(_: &At) -> Case {
    let hidden = new().file("hidden", "x").open();
    refused(
        new().entry(Head::new(b'3', "d").device(1, 3), hidden),
        &["has a size"],
    )
}

/// Its bits are there, in a tree that nobody else can reach into (see `hostile_images.rs`).
pub fn a_setuid_program_is_only_itself(_: &At) -> Case {
    let head = Head::new(b'0', "su").mode(0o4755);
    held(new().entry(head, "x"), &[Check::Mode("su".into(), 0o4755)])
}

/// chown(2) takes -1 as "leave it": the file would be of whoever pulls.
pub fn an_owner_of_minus_one(_: &At) -> Case {
    let archive = new().pax(&[("uid", b"4294967295")]);
    refused(archive.file("f", "x"), &["PAX record uid"])
}
