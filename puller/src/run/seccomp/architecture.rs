//! The machines whose programs run here: the kernel's number for each (linux/audit.h), and the numbers of its system
//! calls.

/// One of them.
pub(super) struct Architecture {
    /// `AUDIT_ARCH_…`.
    pub(super) machine: u32,
    /// Whether numbers with a high bit set are those of x32.
    pub(super) has_x32: bool,
    /// The number of a call by its name.
    pub(super) number: fn(&str) -> Option<u32>,
    /// The highest number that has a name.
    pub(super) newest: u32,
}

#[cfg(target_arch = "x86_64")]
mod here {
    use super::Architecture;

    pub(in super::super) const NAMES: [&str; 2] = ["amd64", "x86"];
    pub(in super::super) const LIBSECCOMP: [&str; 2] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"];
    pub(in super::super) const NATIVE: &[Architecture] = &[
        Architecture {
            machine: 0xc000_003e,
            has_x32: true,
            number: |name| Some(name.parse::<syscalls::x86_64::Sysno>().ok()?.id() as u32),
            newest: syscalls::x86_64::Sysno::last().id() as u32,
        },
        Architecture {
            machine: 0x4000_0003,
            has_x32: false,
            number: |name| Some(name.parse::<syscalls::x86::Sysno>().ok()?.id() as u32),
            newest: syscalls::x86::Sysno::last().id() as u32,
        },
    ];
}

#[cfg(target_arch = "aarch64")]
mod here {
    use super::Architecture;

    pub(in super::super) const NAMES: [&str; 2] = ["arm64", "arm"];
    pub(in super::super) const LIBSECCOMP: [&str; 2] = ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"];
    pub(in super::super) const NATIVE: &[Architecture] = &[
        Architecture {
            machine: 0xc000_00b7,
            has_x32: false,
            number: |name| Some(name.parse::<syscalls::aarch64::Sysno>().ok()?.id() as u32),
            newest: syscalls::aarch64::Sysno::last().id() as u32,
        },
        Architecture {
            machine: 0x4000_0028,
            has_x32: false,
            number: |name| Some(name.parse::<syscalls::arm::Sysno>().ok()?.id() as u32),
            newest: syscalls::arm::Sysno::last().id() as u32,
        },
    ];
}

/// `NAMES` as Go has them, `LIBSECCOMP` as profiles have them, in the order of `NATIVE`.
pub(super) use here::{LIBSECCOMP, NAMES, NATIVE};
