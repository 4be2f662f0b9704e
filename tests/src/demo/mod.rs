//! The demonstration: a registry, two images that share their base, what a second pull fetches, and two
//! containers that do not see each other's changes. Each claim is checked; one that does not hold is an error.

mod containers;
mod images;
mod own;
mod session;
mod show;
mod theirs;

use std::process::ExitCode;

use anyhow::Result;

use crate::tree::Tree;

/// Runs the demonstration with the words behind `cargo demo`: references of real images, or none.
pub fn main(words: &[String]) -> ExitCode {
    let outcome = match words {
        [word, directory] if word == session::TREE_DIGEST => tree_digest(directory),
        [word, directory] if word == session::TREE_SIZE => tree_size(directory),
        [] => own::run(),
        [help, ..] if help == "-h" || help == "--help" => {
            println!("cargo demo          with two images made of this machine's own programs");
            println!("cargo demo REF…     with images of your choice, pulled in this order");
            Ok(())
        }
        references => theirs::run(references),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What [`session::Session::layers_digest`] runs in the store's user namespace, where every file can be read.
fn tree_digest(directory: &str) -> Result<()> {
    println!("{}", Tree::try_read(directory.as_ref())?.digest());
    Ok(())
}

/// What [`session::Session::disk`] runs there: the bytes of all regular files, each inode once.
fn tree_size(directory: &str) -> Result<()> {
    let tree = Tree::try_read(directory.as_ref())?;
    let once = tree.0.values().filter(|node| node.same_as.is_none());
    println!("{}", once.map(|node| node.size).sum::<u64>());
    Ok(())
}
