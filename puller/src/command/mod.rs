//! One file a command: its words, and what it does with the library.

pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod mount;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod tag;
pub(crate) mod umount;
pub(crate) mod unshare;
