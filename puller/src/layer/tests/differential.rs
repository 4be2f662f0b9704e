//! The same archives read by others: the `tar` crate, and GNU tar.

use std::process::Command;

use proptest::prelude::*;

use super::super::tar::{Kind, ReaderLimits, TarReader};
use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    path: Vec<u8>,
    directory: bool,
    link: Vec<u8>,
    mode: u32,
    uid: u64,
    mtime: i64,
    content: Vec<u8>,
}

fn limits() -> ReaderLimits {
    ReaderLimits {
        entries: 1000,
        path: 4095,
        pax: 1 << 20,
        segments: 1000,
    }
}

/// Reads with our reader, from a source that gives a few bytes at a time. `None`: refused.
fn ours(archive: &[u8], step: usize) -> Option<Vec<Seen>> {
    let mut reader = TarReader::new(std::io::BufReader::with_capacity(step, archive), limits());
    let mut all = Vec::new();
    let mut raw = 0;
    while let Some(entry) = reader.next().ok()? {
        raw += reader.raw().len();
        reader.clear_raw();
        let mut content = Vec::new();
        loop {
            let bytes = reader.content().ok()?;
            if bytes.is_empty() {
                break;
            }
            content.extend_from_slice(bytes);
            let count = bytes.len();
            reader.consume(count);
        }
        raw += content.len();
        all.push(Seen {
            path: entry.path,
            directory: entry.kind == Kind::Directory,
            link: entry.link,
            mode: entry.mode,
            uid: u64::from(entry.uid),
            mtime: entry.mtime.seconds,
            content,
        });
    }
    raw += reader.raw().len();
    while let Ok(bytes @ [_, ..]) = reader.content() {
        let count = bytes.len();
        raw += count;
        reader.consume(count);
    }
    assert_eq!(raw, archive.len(), "every byte is accounted for");
    Some(all)
}

/// Reads with the `tar` crate.
fn theirs(archive: &[u8]) -> Option<Vec<Seen>> {
    let mut archive = ::tar::Archive::new(archive);
    let mut all = Vec::new();
    for entry in archive.entries().ok()? {
        let mut entry = entry.ok()?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).ok()?;
        let header = entry.header();
        all.push(Seen {
            path: entry.path_bytes().into_owned(),
            directory: header.entry_type().is_dir(),
            link: entry.link_name_bytes().unwrap_or_default().into_owned(),
            mode: header.mode().ok()? & 0o7777,
            uid: header.uid().ok()?,
            mtime: header.mtime().ok()?.cast_signed(),
            content,
        });
    }
    Some(all)
}

fn archive() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        "[a-z]{1,8}(/[a-z]{1,8}){0,3}",
        "[a-z]{90,110}(/[a-z]{1,80}){0,2}"
    ];
    let entry = (
        name,
        prop_oneof![Just('f'), Just('d'), Just('l')],
        0u32..0o10000,
        0u64..3_000_000,
        0u64..2_000_000_000,
        proptest::collection::vec(any::<u8>(), 0..1500),
        any::<bool>(),
    );
    proptest::collection::vec(entry, 0..6).prop_map(|entries| {
        let mut builder = ::tar::Builder::new(Vec::new());
        for (name, kind, mode, uid, mtime, content, gnu) in entries {
            let mut header = if gnu {
                ::tar::Header::new_gnu()
            } else {
                ::tar::Header::new_ustar()
            };
            header.set_mode(mode);
            header.set_uid(uid % 2_000_000);
            header.set_gid(0);
            header.set_mtime(mtime);
            // A name too long for ustar is refused by the writer: the entry is left out.
            let _ = match kind {
                'l' => {
                    header.set_entry_type(::tar::EntryType::Symlink);
                    header.set_size(0);
                    builder.append_link(&mut header, &name, "some/target")
                }
                'd' => {
                    header.set_entry_type(::tar::EntryType::Directory);
                    header.set_size(0);
                    builder.append_data(&mut header, &name, &b""[..])
                }
                _ => {
                    header.set_size(content.len() as u64);
                    builder.append_data(&mut header, &name, &content[..])
                }
            };
        }
        builder.into_inner().expect("in memory")
    })
}

proptest! {
    #[test]
    fn the_tar_crate_reads_the_same(archive in archive(), step in 1usize..3000) {
        let theirs = theirs(&archive).expect("written by the crate itself");
        prop_assert_eq!(ours(&archive, step), Some(theirs));
    }

    #[test]
    fn a_damaged_archive_is_refused_or_read_as_the_crate_reads_it(
        archive in archive(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut archive = archive;
        if !archive.is_empty() {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        if let (Some(ours), Some(theirs)) = (ours(&archive, 700), theirs(&archive)) {
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(blocks in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = ours(&blocks, 512);
    }
}

/// Packs a tree with GNU tar in each of its formats, unpacks it with both, and compares.
#[test]
fn gnu_tar_unpacks_the_same() {
    let place = Place::new();
    let source = place.directory.path().join("source");
    let make = |script: &str| {
        let mut shell = Command::new("sh");
        shell.arg("-ec").arg(script);
        shell.current_dir(place.directory.path());
        let status = shell.status().expect("a shell");
        assert!(status.success(), "{script}");
    };
    make(
        "mkdir -p source/dir/sub && cd source && echo text > dir/file && ln dir/file hard && \
         ln -s dir/file soft && chmod 2750 dir && chmod 4711 hard && mkfifo fifo && : > empty && \
         truncate -s 3M sparse && printf data | dd of=sparse bs=1 seek=1500000 conv=notrunc status=none && \
         long=$(printf '%0150d' 1) && echo long > $long && ln -s $long$long longlink && \
         touch -d '2001-02-03 04:05:06.789' dir/sub dir/file",
    );
    for format in [
        "--format=gnu",
        "--format=gnu -S",
        "--format=pax",
        "--format=pax -S --sparse-version=0.0",
        "--format=pax -S --sparse-version=0.1",
        "--format=pax -S --sparse-version=1.0",
    ] {
        make(&format!(
            "rm -rf theirs layer && mkdir theirs layer && tar -c {format} -f t.tar -C source . && \
             tar -xp --atime-preserve -f t.tar -C theirs"
        ));
        let archive = fs::read(place.directory.path().join("t.tar")).expect("the archive");
        place.unpack(&archive);
        let theirs = describe(&place.directory.path().join("theirs"));
        assert_eq!(describe(&place.layer().join("fs")), theirs, "{format}");
        assert!(theirs.len() > 8 && source.exists());
        if format.contains("-S") {
            assert!(place.stat("sparse").blocks() < 100, "{format}");
        }
    }
}

/// Everything that counts about a tree, one line for each entry.
fn describe(root: &Path) -> Vec<String> {
    let find = Command::new("find")
        .args([".", "-printf", "%p %y %m %U %G %s %T@ %l %n\n"])
        .current_dir(root)
        .output()
        .expect("find");
    let sums = Command::new("find")
        .args([".", "-type", "f", "-exec", "cksum", "{}", ";"])
        .current_dir(root)
        .output()
        .expect("find");
    let text = [find.stdout, sums.stdout].concat();
    let mut lines: Vec<String> = String::from_utf8_lossy(&text)
        .lines()
        // The size of a directory is the file system's affair.
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}
