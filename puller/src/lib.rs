//! Pulls container images layer by layer and mounts containers from them.
//!
//! A layer is extracted once into a directory of its own, keyed by its diffID, and shared by every
//! image and container that stands on it. This library is what the `strata` command is made of:
//! a [`store::Store`] on disk, a [`registry`] client, [`fetch`], [`push`], [`copy`] and [`mirror`] between the two,
//! a [`driver`] that mounts stacks of layers and [`run`] that starts processes in them.
//!
//! # Pulling
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use oci_distribution::Reference;
//! use strata::fetch::{self, PullOptions};
//! use strata::progress::Silent;
//! use strata::store::Store;
//! use strata::userns;
//!
//! // An ordinary user's store needs a user namespace, which is entered before any thread is started.
//! let store = Arc::new(Store::open(Path::new("/srv/images"), userns::enter()?)?);
//! let image: Reference = "registry.example.org/team/app:v1".parse()?;
//! let pulled = fetch::pull(store, &image, &PullOptions::default(), Arc::new(Silent)).await?;
//! println!("{}: {} bytes fetched", pulled.resolved, pulled.bytes_fetched);
//! # Ok(())
//! # }
//! ```
//!
//! # Copying
//!
//! ```no_run
//! # async fn example() -> Result<(), strata::copy::CopyError> {
//! use std::sync::Arc;
//!
//! use oci_distribution::Reference;
//! use strata::copy::{Copier, CopyOptions, Source, Target};
//! use strata::progress::{Event, Progress};
//!
//! /// Told what happens, from several threads.
//! struct Told;
//!
//! impl Progress for Told {
//!     fn event(&self, event: Event) {
//!         if let Event::Message(text) = event {
//!             eprintln!("{text}");
//!         }
//!     }
//! }
//!
//! let named = |registry: &str, tag: &str| {
//!     Reference::with_tag(registry.to_owned(), "team/app".to_owned(), tag.to_owned())
//! };
//! let copier = Copier::new(CopyOptions::default(), Arc::new(Told));
//! for tag in ["v1", "v2"] {
//!     let source = Source::Registry(named("registry.example.org", tag));
//!     let target = Target::Registry(named("localhost:5000", tag));
//!     let report = copier.copy(&source, &target).await?;
//!     println!("{tag}: {} bytes travelled", report.bytes);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Mirroring
//!
//! ```no_run
//! # async fn example() -> Result<(), strata::mirror::ConfigError> {
//! use std::sync::Arc;
//!
//! use strata::copy::CopyOptions;
//! use strata::mirror::{self, ImageReport, MirrorConfig, MirrorOptions};
//! use strata::progress::Silent;
//!
//! let config = MirrorConfig::parse(
//!     r#"
//!     [[sync]]
//!     source = "registry.example.org/team/app"
//!     destination = "localhost:5000/mirror/app"
//!     tags = { semver = ">=1.2", newest = 5 }
//!     "#,
//! )?;
//! let options = MirrorOptions {
//!     copy: CopyOptions::default(),
//!     images: 2,
//!     dry_run: true,
//! };
//! let tell = |image: &ImageReport| println!("{}: {:?}", image.target, image.outcome);
//! let done = mirror::run(&config.syncs, &options, Arc::new(Silent), &tell).await;
//! println!("{} images, {} failed", done.images, done.failed);
//! # Ok(())
//! # }
//! ```

pub mod bundle;
pub mod commit;
pub mod config;
pub mod copy;
pub mod cp;
pub mod diff;
pub mod driver;
pub mod fetch;
mod few;
pub mod inflate;
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
