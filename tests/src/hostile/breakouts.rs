//! The situations that containerd's `TestBreakouts` tries, under its names. Where ours answers otherwise, the row
//! says so: a hard link cannot name what another layer holds, and one whose target leads out is refused, not bent.

use super::{At, Case, directory, file, gone, held, link, refused, same};
use crate::archive::Archive;

fn etc() -> Archive {
    Archive::new().dir("etc/")
}

fn passwd() -> Archive {
    etc().file("/etc/passwd", "inside")
}

/// A file through an absolute link lands where the link leads inside.
pub fn symlink_absolute(_: &At) -> Case {
    let archive = etc().symlink("localetc", "/etc");
    held(
        archive.file("/localetc/unbroken", "unbroken"),
        &[file("etc/unbroken", "unbroken")],
    )
}

/// The same by way of a directory and back.
pub fn symlink_up_and_out(_: &At) -> Case {
    let archive = etc().dir("dummy").symlink("localetc", "/dummy/../etc");
    held(
        archive.file("/localetc/unbroken", "unbroken"),
        &[file("etc/unbroken", "unbroken")],
    )
}

/// A link in a directory, and a link to that one.
pub fn symlink_multiple_absolute(_: &At) -> Case {
    let archive = etc().dir("dummy").symlink("/dummy/etc", "/etc");
    let archive = archive.symlink("localetc", "/dummy/etc");
    held(
        archive.file("/localetc/unbroken", "unbroken"),
        &[file("etc/unbroken", "unbroken")],
    )
}

/// The second one relative.
pub fn symlink_multiple_relative(_: &At) -> Case {
    let archive = etc().dir("dummy").symlink("/dummy/etc", "/etc");
    let archive = archive.symlink("localetc", "./dummy/etc");
    held(
        archive.file("/localetc/unbroken", "unbroken"),
        &[file("etc/unbroken", "unbroken")],
    )
}

/// A file is emptied by its other name.
pub fn symlink_empty_file(_: &At) -> Case {
    let archive = etc().file("etc/emptied", "notempty");
    held(
        archive
            .symlink("localetc", "/etc")
            .file("/localetc/emptied", ""),
        &[file("etc/emptied", "")],
    )
}

/// A hard link through a link with more dots than there are directories.
pub fn hardlink_relative(_: &At) -> Case {
    let archive = passwd()
        .dir("breakouts")
        .symlink("breakouts/d1", "../../etc");
    held(
        archive.hard_link("breakouts/mypasswd", "/breakouts/d1/passwd"),
        &[same("breakouts/mypasswd", "etc/passwd")],
    )
}

/// Down first.
pub fn hardlink_down_and_out(_: &At) -> Case {
    let archive = passwd().dir("breakouts").dir("downandout");
    let archive = archive.symlink("breakouts/d1", "../downandout/../../etc");
    held(
        archive.hard_link("breakouts/mypasswd", "/breakouts/d1/passwd"),
        &[same("breakouts/mypasswd", "etc/passwd")],
    )
}

/// Through an absolute link.
pub fn hardlink_absolute(_: &At) -> Case {
    let archive = passwd().symlink("localetc", "/etc");
    held(
        archive.hard_link("localpasswd", "/localetc/passwd"),
        &[same("localpasswd", "etc/passwd")],
    )
}

/// Through a link with many dots.
pub fn hardlink_relative_long(_: &At) -> Case {
    let archive = passwd().symlink("localetc", "../../../../../../../etc");
    held(
        archive.hard_link("localpasswd", "/localetc/passwd"),
        &[same("localpasswd", "etc/passwd")],
    )
}

/// Through a link whose first directory does not exist: no kernel would find it (containerd takes dots away as text).
pub fn hardlink_relative_up_and_out(_: &At) -> Case {
    let archive = passwd().symlink("localetc", "upandout/../../../etc");
    refused(
        archive.hard_link("localpasswd", "/localetc/passwd"),
        &["localpasswd", "hard link to something"],
    )
}

/// A target that leads out is refused (containerd bends it back inside).
pub fn hardlink_direct_relative(_: &At) -> Case {
    refused(
        passwd().hard_link("localpasswd", "../../../../../etc/passwd"),
        &["localpasswd", "link target leads out"],
    )
}

/// An absolute target begins at the layer's root.
pub fn hardlink_direct_absolute(_: &At) -> Case {
    held(
        passwd().hard_link("localpasswd", "/etc/passwd"),
        &[same("localpasswd", "etc/passwd")],
    )
}

/// A link in place of the root's parent.
pub fn symlink_parent_directory(_: &At) -> Case {
    let archive = passwd().symlink("..", "/etc/");
    refused(
        archive.hard_link("localpasswd", "/etc/passwd"),
        &["..", "leads out"],
    )
}

/// A link without a name.
pub fn symlink_empty_filename(_: &At) -> Case {
    let archive = passwd().symlink("", "/etc/");
    refused(
        archive.hard_link("localpasswd", "/etc/passwd"),
        &["no name"],
    )
}

/// A link whose name ends in dots is the link of the name before.
pub fn symlink_parent_relative(_: &At) -> Case {
    let archive = passwd().symlink("localetc/sub/..", "/etc/");
    held(
        archive.hard_link("/localetc/localpasswd", "/etc/passwd"),
        &[
            link("localetc", "/etc/"),
            same("etc/localpasswd", "etc/passwd"),
        ],
    )
}

/// A directory's name with a slash.
pub fn symlink_slash_ended(_: &At) -> Case {
    let archive = passwd().dir("localetc/");
    held(
        archive.hard_link("/localetc/localpasswd", "/etc/passwd"),
        &[same("localetc/localpasswd", "etc/passwd")],
    )
}

/// A hard link to a file of the layer below is refused: layers are directories of their own.
pub fn symlink_override_directory(_: &At) -> Case {
    let archive = Archive::new().symlink("localetc", "/etc");
    refused(
        archive.hard_link("/localetc/localpasswd", "/etc/passwd"),
        &["localetc/localpasswd", "hard link to something"],
    )
    .over(passwd().dir("localetc"))
}

/// The same with a relative link.
pub fn symlink_override_directory_relative(_: &At) -> Case {
    let archive = Archive::new().symlink("localetc", "../../etc");
    refused(
        archive.hard_link("/localetc/localpasswd", "/etc/passwd"),
        &["localetc/localpasswd", "hard link to something"],
    )
    .over(passwd().dir("localetc"))
}

/// A link takes an empty directory's place.
pub fn symlink_override_directory_in_one_layer(_: &At) -> Case {
    let archive = passwd().dir("localetc").symlink("localetc", "../../etc");
    held(
        archive.hard_link("/localetc/localpasswd", "/etc/passwd"),
        &[
            link("localetc", "../../etc"),
            same("etc/localpasswd", "etc/passwd"),
        ],
    )
}

/// A directory over a link of the layer below, and a hard link to a file there.
pub fn directory_override_symlink(_: &At) -> Case {
    let archive = Archive::new().dir("/localetc/");
    refused(
        archive.hard_link("/localetc/localpasswd", "/etc/passwd"),
        &["localetc/localpasswd", "hard link to something"],
    )
    .over(passwd().symlink("localetc", "/etc"))
}

/// A directory takes a link's place.
pub fn directory_override_symlink_in_one_layer(_: &At) -> Case {
    let archive = passwd().symlink("localetc", "/etc").dir("/localetc/");
    held(
        archive.hard_link("/localetc/localpasswd", "/etc/passwd"),
        &[
            directory("localetc"),
            same("localetc/localpasswd", "etc/passwd"),
        ],
    )
}

/// A directory over a link of the layer below has its own file.
pub fn directory_override_symlink_and_hardlink(_: &At) -> Case {
    let lower = passwd().symlink("localetc", "etc");
    let archive = Archive::new().dir("/localetc/");
    held(
        archive.file("/localetc/localpasswd", "different"),
        &[
            file("localetc/localpasswd", "different"),
            file("etc/passwd", "inside"),
        ],
    )
    .over(lower.hard_link("/localetc/localpasswd", "/etc/passwd"))
}

/// A whiteout of the root's parent.
pub fn whiteout_root_parent(_: &At) -> Case {
    refused(Archive::new().file(".wh...", ""), &[".wh...", "whiteout"]).over(passwd())
}

/// A whiteout of the parent.
pub fn whiteout_parent(_: &At) -> Case {
    refused(
        Archive::new().file("etc/.wh...", ""),
        &["etc/.wh...", "whiteout"],
    )
    .over(passwd())
}

/// A whiteout of the root.
pub fn whiteout_root(_: &At) -> Case {
    refused(Archive::new().file(".wh..", ""), &[".wh..", "whiteout"]).over(passwd())
}

/// A whiteout of the directory that it is in.
pub fn whiteout_current_directory(_: &At) -> Case {
    refused(
        Archive::new().file("etc/.wh..", ""),
        &["etc/.wh..", "whiteout"],
    )
    .over(passwd())
}

/// Only the link goes, not what it leads to.
pub fn whiteout_symlink(_: &At) -> Case {
    held(
        Archive::new().file(".wh.localetc", ""),
        &[file("etc/passwd", "inside"), gone("localetc")],
    )
    .over(passwd().symlink("localetc", "/etc"))
}

/// A link of the layer below is not followed: what is below is unknown when a layer is unpacked. A directory takes the
/// link's place (so in podman; containerd removes the file behind the link).
pub fn whiteout_symlink_path(_: &At) -> Case {
    held(
        Archive::new().file("localetc/.wh.whitedout", ""),
        &[
            file("etc/passwd", "inside"),
            file("etc/whitedout", "ahhhh"),
            directory("localetc"),
            gone("localetc/whitedout"),
        ],
    )
    .over(
        passwd()
            .file("etc/whitedout", "ahhhh")
            .symlink("localetc", "/etc"),
    )
}

/// A whiteout's name in the middle of a name (containerd makes such a directory).
pub fn whiteout_directory_name(_: &At) -> Case {
    refused(
        Archive::new().file(".wh.etc/somefile", "non-empty"),
        &[".wh.etc/somefile", "whiteout"],
    )
    .over(passwd())
}

/// A whiteout behind a link of the layer below that leads nowhere.
pub fn whiteout_dead_symlink_parent(_: &At) -> Case {
    held(
        Archive::new().file("localetc/.wh.etc", ""),
        &[file("etc/passwd", "inside")],
    )
    .over(passwd().symlink("localetc", "/dne"))
}

/// Dots in a whiteout's name.
pub fn whiteout_relative_path(_: &At) -> Case {
    held(
        Archive::new().file("dne/../.wh.etc", ""),
        &[gone("etc"), link("localetc", "/dne")],
    )
    .over(passwd().symlink("localetc", "/dne"))
}

/// A hard link to a symbolic link is that link, whatever comes where it leads.
pub fn hardlink_symlink_before_create_target(_: &At) -> Case {
    let archive = etc().symlink("localpasswd", "/etc/passwd");
    let archive = archive.hard_link("localpasswd-dup", "localpasswd");
    held(
        archive.file("/etc/passwd", "after"),
        &[
            link("localpasswd-dup", "/etc/passwd"),
            file("etc/passwd", "after"),
        ],
    )
}

/// To a relative one.
pub fn hardlink_symlink_relative(_: &At) -> Case {
    let archive = passwd().symlink("passwdlink", "../../../../../etc/passwd");
    held(
        archive.hard_link("localpasswd", "/passwdlink"),
        &[
            link("localpasswd", "../../../../../etc/passwd"),
            same("localpasswd", "passwdlink"),
        ],
    )
}

/// To an absolute one.
pub fn hardlink_symlink_absolute(_: &At) -> Case {
    let archive = passwd().symlink("passwdlink", "/etc/passwd");
    held(
        archive.hard_link("localpasswd", "/passwdlink"),
        &[
            link("localpasswd", "/etc/passwd"),
            same("localpasswd", "passwdlink"),
        ],
    )
}

/// A link by the very name of a file outside, to another one there: neither mode changes.
pub fn hardlink_symlink_chmod(at: &At) -> Case {
    let archive = Archive::new().symlink(at.out("inner/file"), at.out("secret"));
    held(
        archive.hard_link("sketchylink", at.out("inner/file")),
        &[link("sketchylink", &at.out("secret"))],
    )
}
