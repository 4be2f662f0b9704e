//! `strata info`: the store, who uses it, and how layers are stacked here.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;
use strata::driver::Chooser;
use strata::store::containers::State;
use strata::userns::{Ids, Privilege};
use strata_oci::Platform;

use crate::printer::{self, Format};
use crate::settings::Settings;

/// Show the store, what is in it, and what this machine lets strata do
///
/// The driver is found by trying a small mount; the reasons why better ones do not work are shown with it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How to print
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let images = store.images()?.len();
    let containers = store.containers()?;
    let running = containers.iter().filter(|c| c.state == State::Running);
    let running = running.count();
    let chooser: Chooser = settings.chooser(&store);
    let choice = chooser.choose();
    let (driver, passed_over) = match &choice {
        Ok(choice) => {
            let reasons = choice.passed_over.iter().map(ToString::to_string);
            (choice.name.to_string(), reasons.collect())
        }
        Err(error) => ("none".to_owned(), vec![error.to_string()]),
    };
    let user = match store.privilege() {
        Privilege::Root => "root".to_owned(),
        Privilege::UserNamespace if Ids::here()?.is_single() => {
            "an ordinary user, without subordinate ids: all files have one owner".to_owned()
        }
        Privilege::UserNamespace => "an ordinary user, with subordinate ids".to_owned(),
    };
    let rootless = store.privilege() == Privilege::UserNamespace;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim_end();
    let (version, platform) = (env!("CARGO_PKG_VERSION"), Platform::host().to_string());
    if args.format == Format::Json {
        printer::json(&json!({
            "version": version,
            "platform": platform,
            "kernel": kernel,
            "root": store.root().display().to_string(),
            "rootless": rootless,
            "user": user,
            "driver": driver,
            "passed_over": passed_over,
            "images": images,
            "containers": containers.len(),
            "running": running,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    printer::line(format_args!("Version: {version}"));
    printer::line(format_args!("Platform: {platform}, Linux {kernel}"));
    printer::line(format_args!("Store: {}", store.root().display()));
    printer::line(format_args!("User: {user}"));
    printer::line(format_args!("Driver: {driver}"));
    for reason in &passed_over {
        printer::line(format_args!("  not used: {reason}"));
    }
    printer::line(format_args!("Images: {images}"));
    printer::line(format_args!(
        "Containers: {} ({running} running)",
        containers.len()
    ));
    Ok(ExitCode::SUCCESS)
}
