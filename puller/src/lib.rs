//! Pulls container images layer by layer and mounts containers from them.
//!
//! A layer is extracted once into a directory of its own, keyed by its diffID, and shared by every
//! image and container that stands on it. This library is what the `strata` command is made of:
//! a [`store::Store`] on disk, a [`registry`] client, [`fetch`], [`push`], [`copy`] and [`mirror`] between the two,
//! a [`driver`] that mounts stacks of layers and [`run`] that starts processes in them.

pub mod config;
pub mod copy;
pub mod driver;
pub mod fetch;
pub mod layer;
pub mod mirror;
pub mod progress;
pub mod push;
pub mod registry;
pub mod run;
pub mod store;
#[cfg(test)]
mod testing;
pub mod transfer;
pub mod userns;
