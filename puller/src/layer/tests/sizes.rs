//! Small, middle and large files are written in different ways, and each may begin and end anywhere in a buffer.

use super::*;
use crate::layer::large;

#[test]
fn files_of_all_sizes_have_their_content() {
    let (middle, large) = (large::MIDDLE as usize, large::FROM as usize);
    let around = |size: usize| [size - 1, size, size + 1];
    let sizes: Vec<usize> = [0, 1, 511, 512, 4096, 256 << 10, 4 << 20, 5_000_001]
        .into_iter()
        .chain(around(middle))
        .chain(around(large))
        .chain(around(3 * middle))
        .collect();
    let content = |size: usize| -> String {
        let letter = |i: usize| char::from(b' ' + ((i ^ (i >> 7) ^ size) % 90) as u8);
        (0..size).map(letter).collect()
    };
    let name = |round: usize, size: usize| format!("{round}-{size}");
    // Several times, so that none meets the ends of buffers alone by chance.
    let tar = (0..3)
        .flat_map(|round| sizes.iter().map(move |size| (round, *size)))
        .fold(Tar::new(), |tar, (round, size)| {
            tar.file(&name(round, size), &content(size))
        })
        .end();
    for archive in [tar.clone(), gzip(&tar)] {
        let place = Place::new();
        let meta = unpack(&archive[..], &place.layer(), &options(), &|_| {}).expect("unpacks");
        assert_eq!(meta.diff_id, Digest::of(&tar));
        for round in 0..3 {
            for size in &sizes {
                let path = name(round, *size);
                assert_eq!(place.stat(&path).len(), *size as u64, "{path}");
                assert!(place.read(&path) == content(*size), "{path}");
            }
        }
    }
}

#[test]
fn a_middle_file_that_breaks_off_is_an_error() {
    let content = "x".repeat(large::MIDDLE as usize * 2);
    let tar = Tar::new()
        .file("whole", &content)
        .file("half", &content)
        .end();
    let cut = &tar[..512 + content.len() + 512 + large::MIDDLE as usize];
    let result = unpack(cut, &Place::new().layer(), &options(), &|_| {});
    assert!(matches!(result, Err(LayerError::Tar(_))), "{result:?}");
}
