//! FIDEDUPERANGE (ioctl_fideduperange(2)): the kernel compares two files and lets them share their blocks.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// `_IOWR(0x94, 54, struct file_dedupe_range)` of linux/fs.h.
const FIDEDUPERANGE: libc::c_ulong = 0xc018_9436;
/// As much as every file system takes at once.
const AT_ONCE: u64 = 16 << 20;
/// FILE_DEDUPE_RANGE_DIFFERS.
const DIFFERS: i32 = 1;

/// `struct file_dedupe_range` with its one `struct file_dedupe_range_info`.
#[repr(C)]
struct Range {
    source_offset: u64,
    source_length: u64,
    count: u16,
    reserved: [u16; 3],
    target: i64,
    target_offset: u64,
    shared: u64,
    status: i32,
    reserved_too: u32,
}

/// Lets `to` have the blocks of `from`. `false`: they differ.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] where the file system has no shared blocks.
pub(super) fn share(from: &File, to: &File, size: u64) -> io::Result<bool> {
    let mut at = 0;
    while at < size {
        let mut range = Range {
            source_offset: at,
            source_length: (size - at).min(AT_ONCE),
            count: 1,
            reserved: [0; 3],
            target: i64::from(to.as_raw_fd()),
            target_offset: at,
            shared: 0,
            status: 0,
            reserved_too: 0,
        };
        // SAFETY: both descriptors are open for the whole call, and the structure has the layout of linux/fs.h with
        // room for the one answer that it asks for.
        let result = unsafe { libc::ioctl(from.as_raw_fd(), FIDEDUPERANGE as _, &mut range) };
        if result < 0 {
            return Err(unsupported(io::Error::last_os_error()));
        }
        match range.status {
            DIFFERS => return Ok(false),
            status if status < 0 => {
                return Err(unsupported(io::Error::from_raw_os_error(-status)));
            }
            // Less than a block at the end of what another program cut shorter.
            _ if range.shared == 0 => return Ok(false),
            _ => at += range.shared,
        }
    }
    Ok(true)
}

/// One kind for the many answers of those that cannot.
fn unsupported(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL | libc::EXDEV) => {
            io::Error::new(io::ErrorKind::Unsupported, error)
        }
        _ => error,
    }
}
