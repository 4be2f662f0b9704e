//! For tests: a registry that misbehaves as it is told, and images to put into it.

mod image;
mod server;

pub(crate) use image::{TestImage, noise};
pub(crate) use server::{Reply, Request, Server};
