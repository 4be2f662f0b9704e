//! Access to devices limited by a program that the kernel asks (bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE): control groups of
//! version 2 have no files for it (Documentation/admin-guide/cgroup-v2.rst of Linux, "Device controller").
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use crate::run::devices::Limit;

/// Numbers of linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Programs of groups above and below are asked as well, and all have to agree.
const ALLOW_MULTI: u32 = 2;
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const READ: i32 = 2;
const WRITE: i32 = 4;
/// It calls nothing of the kernel that a licence is asked for.
const LICENCE: &CStr = c"Apache-2.0";

/// An instruction (Documentation/bpf/standardization/instruction-set.rst).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

impl Instruction {
    fn new(code: u8, target: u8, source: u8, offset: i16, value: i32) -> Self {
        let registers = match cfg!(target_endian = "little") {
            true => (source << 4) | target,
            false => (target << 4) | source,
        };
        Self {
            code,
            registers,
            offset,
            value,
        }
    }

    /// target = the 32 bits at `offset` behind source.
    fn load(target: u8, source: u8, offset: i16) -> Self {
        Self::new(0x61, target, source, offset, 0)
    }

    fn copy(target: u8, source: u8) -> Self {
        Self::new(0xbf, target, source, 0, 0)
    }

    fn set(target: u8, value: i32) -> Self {
        Self::new(0xb7, target, 0, 0, value)
    }

    fn and(target: u8, value: i32) -> Self {
        Self::new(0x57, target, 0, 0, value)
    }

    fn shift_right(target: u8, bits: i32) -> Self {
        Self::new(0x77, target, 0, 0, bits)
    }

    fn unless_equal(register: u8, value: i32, skip: i16) -> Self {
        Self::new(0x55, register, 0, skip, value)
    }

    fn if_equal(register: u8, value: i32, skip: i16) -> Self {
        Self::new(0x15, register, 0, skip, value)
    }

    fn exit() -> Self {
        Self::new(0x95, 0, 0, 0, 0)
    }
}

/// Gives 0, "refused", for what a limit forbids, and 1 for all else. What is asked about is a `bpf_cgroup_dev_ctx`:
/// kind and access in halves of one word, major and minor number.
fn program(limits: &[Limit]) -> Vec<Instruction> {
    type I = Instruction;
    let mut code = vec![
        I::load(2, 1, 0),
        I::copy(3, 2),
        I::and(3, 0xffff),
        I::shift_right(2, 16),
        I::load(4, 1, 4),
        I::load(5, 1, 8),
    ];
    for limit in limits {
        let kind = if limit.block { BLOCK } else { CHARACTER };
        let refused = if limit.read { 0 } else { READ } | if limit.write { 0 } else { WRITE };
        code.extend([
            I::unless_equal(3, kind, 7),
            I::unless_equal(4, limit.major.cast_signed(), 6),
            I::unless_equal(5, limit.minor.cast_signed(), 5),
            I::copy(0, 2),
            I::and(0, refused),
            I::if_equal(0, 0, 2),
            I::set(0, 0),
            I::exit(),
        ]);
    }
    code.extend([I::set(0, 1), I::exit()]);
    code
}

/// Limits what processes of the group in `directory` can open. It goes with the group.
pub(super) fn limit(directory: &Path, limits: &[Limit]) -> io::Result<()> {
    let group = File::open(directory)?;
    let code = program(limits);
    /// The beginning of `union bpf_attr` for BPF_PROG_LOAD; what is not given is 0.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        licence: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
    }
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: code.len().try_into().map_err(io::Error::other)?,
        instructions: code.as_ptr() as u64,
        licence: LICENCE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    let loaded = bpf(PROG_LOAD, &load)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded) };
    let number = |fd: i32| u32::try_from(fd).map_err(io::Error::other);
    let attach = Attach {
        target: number(group.as_raw_fd())?,
        program: number(loaded.as_raw_fd())?,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    bpf(PROG_ATTACH, &attach).map(|_| ())
}

/// bpf(2).
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: both structures have the layout of the kernel's and say their size; what they point to outlives the call,
    // and the kernel only reads it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program says of (kind, access, major, minor).
    fn ask(code: &[Instruction], question: (i32, i32, i32, i32)) -> i64 {
        let (kind, access, major, minor) = question;
        let mut registers = [0i64; 6];
        let mut at = 0usize;
        loop {
            let one = code[at];
            let (target, source) = match cfg!(target_endian = "little") {
                true => (one.registers & 15, one.registers >> 4),
                false => (one.registers >> 4, one.registers & 15),
            };
            let (target, source) = (usize::from(target), usize::from(source));
            let value = i64::from(one.value);
            let mut skip = 0;
            match one.code {
                0x61 => {
                    registers[target] = match one.offset {
                        0 => i64::from((access << 16) | kind),
                        4 => i64::from(major),
                        _ => i64::from(minor),
                    }
                }
                0xbf => registers[target] = registers[source],
                0xb7 => registers[target] = value,
                0x57 => registers[target] &= value,
                0x77 => registers[target] >>= value,
                0x55 if registers[target] != value => skip = one.offset,
                0x15 if registers[target] == value => skip = one.offset,
                0x55 | 0x15 => {}
                0x95 => return registers[0],
                other => panic!("{other:#x}"),
            }
            at += 1 + usize::try_from(skip).expect("forward");
        }
    }

    #[test]
    fn what_a_limit_forbids_is_refused_and_nothing_else() {
        let limit = |block, minor, read, write| Limit {
            block,
            major: 7,
            minor,
            read,
            write,
        };
        let code = program(&[
            limit(true, 0, true, false),
            limit(false, 300_000, false, true),
            limit(true, 1, false, false),
        ]);
        let allowed = |question| ask(&code, question) == 1;
        assert!(allowed((BLOCK, READ, 7, 0)) && allowed((BLOCK, 1, 7, 0)));
        assert!(!allowed((BLOCK, WRITE, 7, 0)) && !allowed((BLOCK, READ | WRITE, 7, 0)));
        assert!(allowed((CHARACTER, WRITE, 7, 0)) && allowed((BLOCK, WRITE, 8, 0)));
        assert!(!allowed((CHARACTER, READ, 7, 300_000)));
        assert!(allowed((CHARACTER, WRITE, 7, 300_000)));
        assert!(!allowed((BLOCK, READ, 7, 1)) && !allowed((BLOCK, WRITE, 7, 1)));
        assert!(allowed((BLOCK, WRITE, 7, 2)));
    }
}
