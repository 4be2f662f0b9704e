//! Sparse files: a map of the segments that the archive holds, the rest being holes
//! (GNU tar manual, "Storing Sparse Files": the old GNU format and PAX versions 0.0, 0.1 and 1.0).
//!
//! A map is a cheap way to ask for much memory (CVE-2025-58183): its length is bounded, and it has
//! to be ordered, free of overlaps, within the file and exactly as long as what is stored.

use super::error::TarFault;
use super::number;

/// Bytes of a sparse file that the archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where they are in the file.
    pub(crate) offset: u64,
    /// How many.
    pub(crate) length: u64,
}

/// The `GNU.sparse.*` records of a PAX header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PaxSparse {
    /// The version; 0.0 and 0.1 may leave it out.
    major: Option<u64>,
    minor: Option<u64>,
    /// The file's name: `path` then holds a made-up one.
    pub(super) name: Option<Vec<u8>>,
    size: Option<u64>,
    real_size: Option<u64>,
    blocks: Option<u64>,
    /// 0.0: alternating offsets and lengths.
    pairs: Vec<u64>,
    /// 0.1: all of them in one record.
    map: Option<Vec<u64>>,
}

/// Where a PAX sparse file has its map.
pub(super) enum PaxMap {
    /// Not a sparse file.
    None,
    /// In the header.
    Header(Vec<Segment>),
    /// At the beginning of the stored bytes.
    Content,
}

impl PaxSparse {
    /// Takes the record `GNU.sparse.KEY`.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), ()> {
        let number = || number::decimal(value).map_err(|_| ());
        match key {
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"name" if value.contains(&0) => return Err(()),
            b"name" => self.name = Some(value.to_vec()),
            b"size" => self.size = Some(number()?),
            b"realsize" => self.real_size = Some(number()?),
            b"numblocks" => self.blocks = Some(number()?),
            b"offset" if self.pairs.len().is_multiple_of(2) => self.pairs.push(number()?),
            b"numbytes" if !self.pairs.len().is_multiple_of(2) => self.pairs.push(number()?),
            b"map" => {
                let numbers = value.split(|byte| *byte == b',').map(number::decimal);
                self.map = Some(numbers.collect::<Result<_, _>>().map_err(|_| ())?);
            }
            _ => return Err(()),
        }
        Ok(())
    }

    /// The size of the file with its holes.
    pub(super) fn real_size(&self) -> Result<u64, TarFault> {
        match (self.size, self.real_size) {
            (Some(size), None) | (None, Some(size)) => Ok(size),
            (Some(one), Some(other)) if one == other => Ok(one),
            (Some(_), Some(_)) => Err(TarFault::Sparse("gives two sizes")),
            (None, None) => Err(TarFault::Sparse("gives no size")),
        }
    }

    pub(super) fn map(&self) -> Result<PaxMap, TarFault> {
        if *self == Self::default() {
            return Ok(PaxMap::None);
        }
        let in_header = !self.pairs.is_empty() || self.map.is_some() || self.blocks.is_some();
        let version = (self.major, self.minor);
        if version == (Some(1), Some(0)) && !in_header {
            return Ok(PaxMap::Content);
        }
        let numbers = match (version, &self.map) {
            ((None, None) | (Some(0), Some(0)), None) => &self.pairs,
            ((None, None) | (Some(0), Some(1)), Some(map)) if self.pairs.is_empty() => map,
            _ => return Err(TarFault::Sparse("is of no known version")),
        };
        let pairs = numbers.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err(TarFault::Sparse("ends in the middle"));
        }
        let segments: Vec<Segment> = pairs.map(|pair| segment(pair[0], pair[1])).collect();
        if self.blocks != Some(segments.len() as u64) {
            return Err(TarFault::Sparse("has another length than it says"));
        }
        Ok(PaxMap::Header(segments))
    }
}

fn segment(offset: u64, length: u64) -> Segment {
    Segment { offset, length }
}

/// Reads the map at the beginning of a version 1.0 file, a line at a time.
#[derive(Default)]
pub(super) struct MapLines {
    count: Option<u64>,
    numbers: Vec<u64>,
    line: Vec<u8>,
}

impl MapLines {
    /// Takes the next block; true when the map is complete. What follows in the block is padding.
    pub(super) fn block(&mut self, block: &[u8], limit: u64) -> Result<bool, TarFault> {
        for &byte in block {
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() > 20 {
                    return Err(TarFault::Sparse("is malformed"));
                }
                continue;
            }
            let number =
                number::decimal(&self.line).map_err(|_| TarFault::Sparse("is malformed"))?;
            self.line.clear();
            match self.count {
                None if number > limit => return Err(TarFault::Sparse("is too long")),
                None => self.count = Some(number),
                Some(_) => self.numbers.push(number),
            }
            if self.count.map(|count| count * 2) == Some(self.numbers.len() as u64) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn segments(self) -> Vec<Segment> {
        let pairs = self.numbers.chunks_exact(2);
        pairs.map(|pair| segment(pair[0], pair[1])).collect()
    }
}

/// A map has to be ordered, within the file, and as long as the stored bytes.
pub(super) fn check(segments: &[Segment], size: u64, stored: u64) -> Result<(), TarFault> {
    let mut end = 0;
    let mut total = 0u64;
    for segment in segments {
        if segment.offset < end {
            return Err(TarFault::Sparse("is not in order"));
        }
        end = segment
            .offset
            .checked_add(segment.length)
            .filter(|end| *end <= size)
            .ok_or(TarFault::Sparse("goes beyond the file's end"))?;
        total += segment.length;
    }
    if total == stored {
        Ok(())
    } else {
        Err(TarFault::Sparse("does not add up to what is stored"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sparse(records: &[(&str, &str)]) -> PaxSparse {
        let mut sparse = PaxSparse::default();
        for (key, value) in records {
            sparse
                .set(key.as_bytes(), value.as_bytes())
                .expect("a known record");
        }
        sparse
    }

    #[test]
    fn all_versions_give_the_same_map() {
        let expected = [segment(0, 3), segment(1000, 5)];
        let oldest = sparse(&[
            ("size", "2000"),
            ("numblocks", "2"),
            ("offset", "0"),
            ("numbytes", "3"),
            ("offset", "1000"),
            ("numbytes", "5"),
        ]);
        let old = sparse(&[("size", "2000"), ("numblocks", "2"), ("map", "0,3,1000,5")]);
        for version in [oldest, old] {
            assert_eq!(version.real_size(), Ok(2000));
            match version.map() {
                Ok(PaxMap::Header(map)) => assert_eq!(map, expected),
                _ => panic!("the map is in the header"),
            }
        }
        let new = sparse(&[("major", "1"), ("minor", "0"), ("realsize", "2000")]);
        assert!(matches!(new.map(), Ok(PaxMap::Content)));
        let mut lines = MapLines::default();
        assert_eq!(lines.block(b"2\n0\n3\n10", 100), Ok(false));
        assert_eq!(lines.block(b"00\n5\n\0\0\0", 100), Ok(true));
        assert_eq!(lines.segments(), expected);
    }

    #[test]
    fn maps_that_lie_are_refused() {
        assert!(check(&[segment(0, 3), segment(1000, 5)], 2000, 8).is_ok());
        assert!(check(&[segment(0, 3), segment(2, 5)], 2000, 8).is_err());
        assert!(check(&[segment(1999, 2)], 2000, 2).is_err());
        assert!(check(&[segment(u64::MAX, 2)], 2000, 2).is_err());
        assert!(check(&[segment(0, 3)], 2000, 8).is_err());
        assert!(MapLines::default().block(b"99999999\n", 1000).is_err());
        assert!(MapLines::default().block(&[b'1'; 512], 1000).is_err());
        assert!(
            sparse(&[("size", "9"), ("numblocks", "2"), ("map", "0,3")])
                .map()
                .is_err()
        );
        assert!(sparse(&[("size", "9"), ("major", "2")]).map().is_err());
        assert!(
            sparse(&[("size", "9"), ("realsize", "8")])
                .real_size()
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn any_map_in_the_content_is_read_or_refused(blocks in proptest::collection::vec("[0-9\n]{0,40}", 0..20)) {
            let mut lines = MapLines::default();
            for block in blocks {
                if !matches!(lines.block(block.as_bytes(), 50), Ok(false)) {
                    break;
                }
            }
            prop_assert!(lines.segments().len() <= 50);
        }
    }
}
