//! Why bytes are not a tar archive that can be read in one way only.

use std::io;

/// A tar archive that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The bytes could not be had.
    #[error("cannot read the tar archive")]
    Read(#[source] io::Error),
    /// The archive is damaged, or says contradictory things that tools read differently.
    #[error("tar archive, near byte {offset}: {fault}")]
    Malformed {
        /// Bytes into the uncompressed archive.
        offset: u64,
        /// What is wrong there.
        fault: TarFault,
    },
    /// The archive goes beyond a limit.
    #[error("tar archive has more than {limit} {what}: raise the limit if this layer is wanted")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
}

/// What can be wrong with a tar archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarFault {
    /// The archive ends inside a header or a file.
    #[error("it ends in the middle of {0}")]
    Truncated(&'static str),
    /// The header's checksum does not match: no tar archive, or a damaged one.
    #[error("the header's checksum does not match")]
    Checksum,
    /// A numeric field holds no number, or one out of range.
    #[error("the field {0} is no number that can be used")]
    Number(&'static str),
    /// One block of zeros and then more entries: some tools stop there, others go on.
    #[error("a single block of zeros is followed by more entries")]
    LoneZeroBlock,
    /// A type of entry that cannot be unpacked.
    #[error("entry type {:?} is not supported", char::from(*.0))]
    Type(u8),
    /// An entry that has no content gives a size.
    #[error("an entry of type {:?} has a size", char::from(*.0))]
    SizeWithoutContent(u8),
    /// An extension header that describes no entry.
    #[error("an extension header is not followed by the entry it describes")]
    Dangling,
    /// Two extension headers of one kind for one entry.
    #[error("an entry has two {0}")]
    Twice(&'static str),
    /// Two extensions give the same thing different values.
    #[error("an entry's extensions contradict each other about its {0}")]
    Contradiction(&'static str),
    /// A record that is not `length key=value\n`.
    #[error("a PAX record is malformed")]
    PaxRecord,
    /// A PAX record whose value makes no sense.
    #[error("the PAX record {0} has a value that cannot be used")]
    PaxValue(String),
    /// A global PAX header gives what belongs to a single entry.
    #[error("a global PAX header carries {0}, which belongs to single entries")]
    PaxGlobal(String),
    /// A sparse map that is malformed, unordered, overlapping or does not add up.
    #[error("the sparse map {0}")]
    Sparse(&'static str),
    /// A prefix that fills star's field, which is shorter than others'.
    #[error("the name's prefix is longer than star's field for it")]
    Prefix,
    /// The name is empty.
    #[error("an entry has no name")]
    NoName,
    /// A name or a link target that holds a NUL byte.
    #[error("a name contains a NUL byte")]
    Nul,
}
