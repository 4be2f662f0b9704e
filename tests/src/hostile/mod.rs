//! Layers that try to reach what is not theirs, to be read in two ways, or to use up a machine: each a row with a
//! name, an archive made here, and what has to come of it. `tests/tests/hostile_archives.rs` unpacks every row (one
//! test for each), `hostile_images.rs` pulls every one from a registry with the real program, and the fuzz
//! targets begin with them.
//!
//! | what it is about | rows |
//! |---|---|
//! | names and links that lead out, as containerd tries them (`TestBreakouts`) | [`breakouts`] |
//! | advisories against others, by number | [`history`] |
//! | links of both kinds, chains of them, and what takes another's place | [`links`] |
//! | whiteouts, devices, attributes | [`marks`] |
//! | archives that parsers read in different ways | [`parsers`] |
//! | sizes, lengths and numbers without measure | [`bombs`] |
//!
//! Advisories that concern no archive have their tests elsewhere:
//!
//! | advisory | test |
//! |---|---|
//! | CVE-2024-3727 (a digest that is a path) | `strata_oci::digest`, `hostile_layers.rs` (a configuration's `../../etc`) |
//! | CVE-2021-41190, GHSA-5j5w-g665-5m35 (media types) | `advisories.rs`, `hostile_registry.rs` |
//! | CVE-2020-15157, GHSA-h7vf-4x9w-h99v, layers' `urls` | `hostile_answers.rs`, `hostile_registry.rs` |
//! | CVE-2026-41567 (a helper of the image is run) | `hostile_images.rs`: no program is started |
//! | CVE-2024-25621, CVE-2021-41103 (who may look into the store) | `hostile_images.rs`: 0700 |
//! | CVE-2024-9676, CVE-2024-1753 (files of the image looked up on the host) | `puller/tests/run/files.rs` |
//! | CVE-2022-23648, CVE-2026-53488 (configuration that is obeyed) | volumes and labels are only shown |

pub mod bombs;
pub mod breakouts;
pub mod history;
pub mod links;
pub mod marks;
pub mod parsers;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::archive::Archive;

/// One archive and what has to come of it.
pub struct Case {
    /// A layer below, which the checks are about too; most have none.
    pub lower: Option<Vec<u8>>,
    /// The layer's tar.
    pub layer: Vec<u8>,
    /// What has to come of it.
    pub expect: Expect,
    /// Needs limits so small that only the library can be given them.
    pub small_limits: bool,
}

/// What has to come of a layer.
pub enum Expect {
    /// It is refused, with all these words: what is wrong, and the entry's name if it has one.
    Refused(Vec<String>),
    /// It is unpacked, all of it inside, and this is so.
    Held(Vec<Check>),
}

/// Something about the tree of a layer, or of a stack of two; paths are from its top.
#[derive(Debug, Clone)]
pub enum Check {
    /// A file with this content.
    File(String, String),
    /// A symbolic link to this.
    Link(String, String),
    /// Two names of one file.
    Same(String, String),
    /// A directory.
    Directory(String),
    /// Nothing.
    Gone(String),
    /// Permission bits.
    Mode(String, u32),
    /// The size in bytes.
    Size(String, u64),
}

/// What a row may name.
pub struct At<'a> {
    /// A directory outside that nothing may change; in it are `secret`, a file, and `inner/file`.
    pub outside: &'a str,
}

impl At<'_> {
    /// A path in the directory outside.
    pub fn out(&self, name: &str) -> String {
        format!("{}/{name}", self.outside)
    }

    /// The same by way of the root's parents.
    pub fn up(&self, name: &str) -> String {
        format!("{}{}", "../".repeat(12), self.inside(name))
    }

    /// Where the same path is when it begins at the layer's root.
    pub fn inside(&self, name: &str) -> String {
        self.out(name).trim_start_matches('/').to_owned()
    }
}

/// A row of the table.
pub struct Row {
    /// The function's name.
    pub name: &'static str,
    /// Makes the archive.
    pub make: fn(&At) -> Case,
}

/// A layer that is refused with these words.
pub fn refused(archive: Archive, words: &[&str]) -> Case {
    Case {
        lower: None,
        layer: archive.end(),
        expect: Expect::Refused(words.iter().map(|word| (*word).to_owned()).collect()),
        small_limits: false,
    }
}

/// A layer that is held inside.
pub fn held(archive: Archive, checks: &[Check]) -> Case {
    Case {
        lower: None,
        layer: archive.end(),
        expect: Expect::Held(checks.to_vec()),
        small_limits: false,
    }
}

impl Case {
    /// On top of another layer.
    pub fn over(mut self, lower: Archive) -> Self {
        self.lower = Some(lower.end());
        self
    }

    /// Refused only by small limits.
    pub fn with_small_limits(mut self) -> Self {
        self.small_limits = true;
        self
    }
}

fn file(path: impl Into<String>, content: &str) -> Check {
    Check::File(path.into(), content.into())
}

fn link(path: &str, to: &str) -> Check {
    Check::Link(path.into(), to.into())
}

fn same(one: &str, other: &str) -> Check {
    Check::Same(one.into(), other.into())
}

fn directory(path: impl Into<String>) -> Check {
    Check::Directory(path.into())
}

fn gone(path: impl Into<String>) -> Check {
    Check::Gone(path.into())
}

/// Every row, by group: `hostile_rows!(each)` calls `each! { group: row, row …; … }`.
#[macro_export]
macro_rules! hostile_rows {
    ($each:ident) => {
        $each! {
            breakouts:
                symlink_absolute, symlink_up_and_out, symlink_multiple_absolute, symlink_multiple_relative,
                symlink_empty_file, hardlink_relative, hardlink_down_and_out, hardlink_absolute,
                hardlink_relative_long, hardlink_relative_up_and_out, hardlink_direct_relative,
                hardlink_direct_absolute, symlink_parent_directory, symlink_empty_filename,
                symlink_parent_relative, symlink_slash_ended, symlink_override_directory,
                symlink_override_directory_relative, symlink_override_directory_in_one_layer,
                directory_override_symlink, directory_override_symlink_in_one_layer,
                directory_override_symlink_and_hardlink, whiteout_root_parent, whiteout_parent, whiteout_root,
                whiteout_current_directory, whiteout_symlink, whiteout_symlink_path, whiteout_directory_name,
                whiteout_dead_symlink_parent, whiteout_relative_path, hardlink_symlink_before_create_target,
                hardlink_symlink_relative, hardlink_symlink_absolute, hardlink_symlink_chmod;
            history:
                cve_2021_29136_a_symlink_named_slash_dot, cve_2021_32760_chmod_through_a_hard_link_to_a_symlink,
                cve_2024_9676_a_passwd_that_links_out, cve_2025_47290_a_parent_becomes_a_symlink,
                cve_2025_58183_an_endless_old_sparse_map, cve_2025_58183_a_pax_sparse_map_of_a_billion_segments,
                cve_2025_62518_a_pax_size_over_an_empty_header, cve_2026_17106_entries_with_dots,
                cve_2026_17106_a_sibling_that_begins_alike, cve_2026_33055_a_pax_size_of_zero,
                cve_2026_33056_a_directory_over_a_symlink_sets_a_mode, cve_2026_44517_a_symlink_then_a_file_in_it,
                cve_2026_50163_a_hard_link_to_the_working_directory, ghsa_8xwf_rjm4_xvhv_a_hard_link_over_a_symlink,
                ghsa_m37j_52j7_pjw7_a_chain_that_is_inside_as_text, rustsec_2025_0111_a_size_for_the_wrong_header,
                rustsec_2026_0066_a_malformed_pax_record, rustsec_2026_0112_a_long_name_between_pax_and_entry,
                rustsec_2026_0113_a_mode_through_a_parent_symlink, rustsec_2026_0145_a_pax_header_twice,
                partial_pull_a_table_of_contents_that_lies;
            links:
                dots, dots_over_a_file, dots_in_the_middle, dots_in_a_pax_path, dots_in_a_gnu_name, absolute,
                absolute_over_a_file, through_an_absolute_link, through_a_relative_link, through_a_link_to_a_link,
                a_chain_of_forty_links, a_chain_of_forty_one_links, links_in_a_circle, a_link_to_itself,
                a_directory_over_a_link, a_file_over_a_link, a_link_over_a_directory_in_use,
                a_link_over_an_implied_parent, a_magic_link_of_proc, a_hard_link_out, a_hard_link_up,
                a_hard_link_through_a_link, a_hard_link_to_a_directory, a_hard_link_to_a_lower_file,
                a_hard_link_to_a_later_file, a_hard_link_to_itself, a_hard_link_over_its_own_parent,
                a_hard_link_to_the_records, a_long_name, a_long_component, the_root_as_a_file, the_root_as_a_link,
                the_root_as_a_hard_link, a_name_of_dots, the_parent_is_a_file, the_parent_is_a_fifo;
            marks:
                a_whiteout_up, a_whiteout_through_a_link, an_opaque_mark_through_a_link, an_empty_whiteout,
                a_whiteout_in_the_middle, a_whiteout_that_is_a_directory, attributes_through_a_link,
                an_owner_through_a_link, overlays_redirect, overlays_opaque_mark, a_device_that_is_written_to,
                a_device_behind_a_link, a_fifo_that_is_written_to, a_device_of_impossible_numbers,
                a_device_with_content, a_setuid_program_is_only_itself, an_owner_of_minus_one;
            parsers:
                pax_size_over_header_size, pax_size_over_nothing, pax_size_on_a_hard_link, pax_size_on_a_symlink,
                pax_size_twice, pax_size_negative, pax_size_in_a_global_header, pax_path_in_a_global_header,
                pax_path_over_gnu_name, pax_path_and_gnu_name_that_agree, pax_keys_twice_alike,
                pax_header_for_nothing, gnu_name_for_nothing, global_header_between, pax_length_too_short,
                pax_length_too_long, pax_without_newline, pax_without_equals, nul_in_a_pax_path,
                nul_in_a_gnu_name, nul_in_a_pax_key, base256_negative_size, base256_huge_size, octal_with_garbage,
                a_size_of_blanks, a_file_without_a_name, an_unknown_type, contiguous_files, v7_directory,
                v7_with_a_prefix, star_prefix, star_prefix_without_end, ustar_prefix, gnu_header_with_a_prefix,
                sparse_old_gnu, sparse_old_outside_gnu, sparse_overlap, sparse_beyond_the_end, sparse_two_maps,
                sparse_name_leads_out, a_lone_zero_block, junk_after_the_end, a_second_archive_after_the_end,
                no_end_blocks, cut_in_a_header, cut_in_a_file, a_wrong_checksum, a_signed_checksum;
            bombs:
                too_many_entries, too_many_bytes, a_ratio_without_measure, a_path_too_long, a_link_too_long,
                a_pax_header_too_long, headers_without_end, globals_without_end, directories_without_end,
                deep_nesting, whiteouts_without_end, a_sparse_file_of_exabytes, segments_without_end,
                a_size_of_exabytes, names_of_the_same_file, many_directories_and_many_replaced,
                many_replaced_files;
        }
    };
}

macro_rules! table {
    ($($group:ident: $($row:ident),*;)*) => {
        /// All rows.
        pub const ROWS: &[Row] = &[$($(Row { name: stringify!($row), make: $group::$row }),*),*];
    };
}
hostile_rows!(table);

impl Check {
    /// Asserts that it is so in the tree at `top`.
    #[track_caller]
    pub fn assert(&self, top: &Path) {
        let at = |path: &str| top.join(path.trim_start_matches('/'));
        let look = |path: &str| {
            let found = fs::symlink_metadata(at(path));
            found.unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        match self {
            Self::File(path, content) => {
                assert!(look(path).is_file(), "{path} is no file");
                let found = fs::read(at(path)).expect("read");
                assert_eq!(String::from_utf8_lossy(&found), *content, "{path}");
            }
            Self::Link(path, to) => {
                let found = fs::read_link(at(path));
                assert_eq!(found.expect("a link"), Path::new(to), "{path}");
            }
            Self::Same(one, other) => {
                let (one, other) = (look(one), look(other));
                assert_eq!(
                    (one.dev(), one.ino()),
                    (other.dev(), other.ino()),
                    "{self:?}"
                );
            }
            Self::Directory(path) => assert!(look(path).is_dir(), "{path} is no directory"),
            Self::Gone(path) => assert!(fs::symlink_metadata(at(path)).is_err(), "{path} is there"),
            Self::Mode(path, mode) => assert_eq!(look(path).mode() & 0o7777, *mode, "{path}"),
            Self::Size(path, size) => assert_eq!(look(path).len(), *size, "{path}"),
        }
    }
}
