//! Where the programs under test are: `STRATA_BIN_DIR`, or what cargo builds from the present source.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// The path of `stratad` or `strata`, built in release if need be, once a process.
#[track_caller]
pub fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| match build() {
        Ok(built) => built,
        Err(error) => panic!("cannot build the programs under test: {error:#}"),
    });
    built[name].clone()
}

/// The programs in `STRATA_BIN_DIR`; without it, builds both in release with cargo's progress on standard error.
pub fn build() -> Result<BTreeMap<String, PathBuf>> {
    if let Some(directory) = std::env::var_os("STRATA_BIN_DIR") {
        let program = |name: &str| (name.to_owned(), Path::new(&directory).join(name));
        return Ok(["stratad", "strata"].map(program).into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        // The same packages as for the tests themselves: dependencies then have the same features and are
        // not compiled a second time.
        .args(["build", "--release", "--workspace", "--bins"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo build failed");
    let mut built = BTreeMap::new();
    for line in output.stdout.split(|&b| b == b'\n') {
        let Ok(message) = serde_json::from_slice::<serde_json::Value>(line) else {
            continue;
        };
        if let (Some(name), Some(path)) = (
            message["target"]["name"].as_str(),
            message["executable"].as_str(),
        ) {
            built.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    for name in ["stratad", "strata"] {
        ensure!(
            built.contains_key(name),
            "cargo did not say where {name} is"
        );
    }
    Ok(built)
}

/// The root of the source tree.
pub fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}
