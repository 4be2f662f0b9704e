//! The real servers, clients and faults that the end-to-end tests and the demonstration need.
//!
//! Nothing here is shared between two tests: each has its own directory ([`place::Place`]), its own
//! [`stratad::Stratad`] on a free port and its own [`strata::Strata`] store, so that they run in parallel.
//! A process ends with the value that owns it, by its id.

pub mod api;
pub mod archive;
pub mod bench;
pub mod binaries;
pub mod both;
pub mod certificates;
pub mod chance;
pub mod clients;
pub mod command;
pub mod committed;
pub mod debian;
pub mod demo;
pub mod disk;
pub mod distribution;
pub mod entry;
pub mod fake;
pub mod faulty;
pub mod forgetful;
pub mod home;
pub mod hostile;
pub mod http;
pub mod image;
pub mod living;
pub mod machine;
pub mod place;
pub mod program;
pub mod proxy;
pub mod recorder;
pub mod saving;
pub mod scene;
pub mod scrape;
pub mod strata;
pub mod stratad;
pub mod synthetic;
pub mod terminal;
pub mod tokens;
pub mod traffic;
pub mod tree;
pub mod trial;
pub mod user;
pub mod wild;
