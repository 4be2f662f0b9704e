//! Tar archives, read strictly: where tools differ about what an archive says, it is refused.
//!
//! Read are ustar (POSIX.1-1988), PAX (POSIX.1-2001) and GNU tar's extensions. A parser that sees
//! other entries than the next one lets an archive smuggle files past a scanner (CVE-2025-62518,
//! CVE-2026-33055), so the PAX size always wins over the header's, and extension headers that are
//! malformed, dangling, doubled or contradictory are errors.

mod error;
mod header;
mod number;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use error::{TarError, TarFault};
pub(crate) use reader::{Entry, Kind, ReaderLimits, TarReader};
pub(crate) use sparse::Segment;
pub(crate) use writer::{end, padding, write_entry};

/// Tar is made of blocks of this many bytes.
pub(crate) const BLOCK: usize = 512;

/// A time with the precision that PAX can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Time {
    /// Seconds since 1970; the time is never before `seconds`.
    pub(crate) seconds: i64,
    /// 0 to 999,999,999.
    pub(crate) nanoseconds: u32,
}
