//! Containers through the real program, as root and as an ordinary user, on a root file system made
//! of the machine's own static busybox.

mod files;
mod images;
mod mounts;
mod process;
mod support;
mod terminal;
