//! One file a command: its words, and what it does with the library; `remote` is what those share that ask a
//! registry and nothing else.

pub(crate) mod blob;
pub(crate) mod container;
pub(crate) mod copy;
pub(crate) mod delete;
pub(crate) mod diff;
pub(crate) mod digest;
pub(crate) mod export;
mod find;
pub(crate) mod history;
pub(crate) mod image;
pub(crate) mod images;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod manifest;
pub(crate) mod mirror;
pub(crate) mod mount;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod referrers;
pub(crate) mod remote;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod system;
pub(crate) mod tag;
pub(crate) mod tags;
pub(crate) mod tree;
pub(crate) mod umount;
pub(crate) mod unshare;
