//! The same bytes from any number of threads, and every reader reads them.

use std::io::Read;

use flate2::read::GzDecoder;
use proptest::prelude::*;
use strata_oci::Digest;

use super::*;
use crate::testing::noise;

fn compressed(bytes: &[u8], compression: Compression, threads: usize, step: usize) -> Vec<u8> {
    let mut out = Compressor::new(Vec::new(), compression, threads).expect("threads");
    for part in bytes.chunks(step) {
        out.write_all(part).expect("in memory");
    }
    out.finish().expect("in memory")
}

fn read(bytes: &[u8], format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    let count = match format {
        // Of one member: what comes after it is left.
        Format::Gzip => {
            let mut reader = GzDecoder::new(bytes);
            reader.read_to_end(&mut out).expect("gzip");
            reader.into_inner().len()
        }
        Format::Zstd => {
            out = zstd::decode_all(bytes).expect("zstd");
            0
        }
    };
    assert_eq!(count, 0, "one member is all");
    out
}

/// Text as in a source tree, noise and zeros.
fn content(size: usize) -> Vec<u8> {
    let words = [
        "layer",
        " blob\n",
        "digest: ",
        "0123456789",
        "\t\t",
        "registry/",
        "fn ",
    ];
    let mut out = Vec::with_capacity(size);
    for (number, byte) in noise(7, size / 6 + 1).iter().enumerate() {
        match number % 50_000 {
            0..45_000 => out.extend_from_slice(words[usize::from(*byte) % words.len()].as_bytes()),
            45_000..48_000 => out.extend_from_slice(&[*byte; 1]),
            _ => out.extend_from_slice(&[0; 16]),
        }
    }
    out.truncate(size);
    out
}

#[test]
fn threads_do_not_show_in_the_bytes() {
    let bytes = content(9_000_000);
    for format in [Format::Gzip, Format::Zstd] {
        let compression = Compression::of(format);
        let alone = compressed(&bytes, compression, 1, 65_536);
        for (threads, step) in [(2, 65_536), (3, 1_000_003), (8, usize::MAX), (1, 9999)] {
            let together = compressed(&bytes, compression, threads, step);
            assert!(
                together == alone,
                "{format} by {threads} in steps of {step}"
            );
        }
        assert!(read(&alone, format) == bytes);
    }
}

#[test]
fn sizes_around_a_block_are_read_back() {
    for format in [Format::Gzip, Format::Zstd] {
        let block = format.block();
        for size in [0, 1, 32_767, block - 1, block, block + 1, 2 * block] {
            for level in [1, format.levels().1.min(12)] {
                let compression = Compression::new(format, Some(level)).expect("a level");
                for bytes in [content(size), noise(3, size)] {
                    let packed = compressed(&bytes, compression, 2, usize::MAX);
                    assert!(read(&packed, format) == bytes, "{format} {level} {size}");
                }
            }
        }
    }
}

#[test]
fn a_block_knows_what_came_before_it() {
    // Repeats from one block to the next alone.
    let part = noise(5, 20_000);
    let first = [noise(6, Format::Gzip.block() - 20_000), part.clone()].concat();
    let twice = [first.clone(), part].concat();
    let gzip = Compression::default();
    let more = compressed(&twice, gzip, 2, usize::MAX).len();
    let less = compressed(&first, gzip, 2, usize::MAX).len();
    assert!(more - less < 1000, "{}", more - less);
}

/// When these change, layers that were compressed by an earlier version get other digests when they are
/// compressed anew: say so in the changelog.
#[test]
fn the_bytes_are_those_of_earlier_versions() {
    let bytes = content(3_000_000);
    let forms = [
        (Format::Gzip, None),
        (Format::Gzip, Some(9)),
        (Format::Gzip, Some(1)),
        (Format::Zstd, None),
        (Format::Zstd, Some(19)),
    ];
    let digests = forms.map(|(format, level)| {
        let compression = Compression::new(format, level).expect("a level");
        Digest::of(&compressed(&bytes, compression, 2, usize::MAX)).to_string()
    });
    let golden = [
        "sha256:7ac1454602f4e6f9deec14e2eda8d5bc1132740ea6932201cd06710e9c3742ea",
        "sha256:5af04639c0636f47dc1e575ec38dbd93515df7d70ac286cc8e6b157a8b73e077",
        "sha256:6900e1a0034781f01a4ce605620d99bed9733cd60a6240c17f935be20d268765",
        "sha256:54ad497021034b09eeedef43073328144eb029401deca822cc03a04614f44bbc",
        "sha256:c7d1f0b4ba822f6db3468a082d7137a088ccc26bc983ad6988f467d3bc118b4e",
    ];
    assert_eq!(digests, golden);
}

#[test]
fn what_gets_no_smaller_is_kept_as_it_is_between_what_does() {
    let (text, noise) = (content(1_500_000), noise(3, 2_000_000));
    let bytes = [&text[..], &noise, &text].concat();
    let compression = Compression::of(Format::Gzip);
    let blob = compressed(&bytes, compression, 2, 100_000);
    assert!(read(&blob, Format::Gzip) == bytes);
    let alone = compressed(&noise, compression, 2, usize::MAX);
    assert!(read(&alone, Format::Gzip) == noise);
    assert!(
        alone.len() < noise.len() + noise.len() / 5000,
        "{}",
        alone.len()
    );
    let once = compressed(&text, compression, 2, usize::MAX).len();
    assert!(blob.len() < noise.len() + 3 * once, "{} {once}", blob.len());
}

#[test]
fn levels_are_those_of_the_format() {
    assert!(Compression::new(Format::Gzip, Some(9)).is_ok());
    assert!(Compression::new(Format::Gzip, Some(0)).is_err());
    assert!(Compression::new(Format::Zstd, Some(22)).is_ok());
    let error = Compression::new(Format::Zstd, Some(23)).expect_err("none");
    assert_eq!(error.to_string(), "zstd has no level 23: use 1 to 22");
    assert!("lzma".parse::<Format>().is_err());
    assert_eq!("zstd".parse(), Ok(Format::Zstd));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_goes_in_comes_out(bytes in prop::collection::vec(0u8..4, 0..3000), copies in 1usize..500, threads in 1usize..5) {
        let bytes = bytes.repeat(copies);
        for format in [Format::Gzip, Format::Zstd] {
            let packed = compressed(&bytes, Compression::of(format), threads, usize::MAX);
            prop_assert!(read(&packed, format) == bytes);
        }
    }
}
