//! How many system calls a regular file costs: what strace(1) counts of a pull of a layer with many files less that of
//! one with none, directories being the same. GNU tar needs about nine.

use std::fs;
use std::process::Command;

use strata_tests::command::{run, tool};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::scene::Scene;
use strata_tests::strata::Strata;
use strata_tests::trial::noise;
use strata_tests::user::need_root;

const FILES: u64 = 2000;

/// The most that a file may cost.
const BUDGET: f64 = 12.0;

/// Directories, and files in them by turns, as package managers write them.
fn layer(files: u64, owner: u64) -> Layer {
    let mut entries = Vec::new();
    for directory in 0..20 {
        entries.push(Entry::dir(format!("usr/lib/d{directory}/")));
        let own = (0..files).filter(|n| n / (FILES / 20) == directory);
        entries.extend(own.map(|n| {
            let name = format!("usr/lib/d{directory}/file{n}");
            Entry::file(name, noise(n, 1000)).owner(owner, owner)
        }));
    }
    Layer::of(&entries)
}

/// All calls of a pull.
fn calls(s: &Scene, tag: &str, layer: Layer) -> u64 {
    let reference = s.push(&Image::new(&[layer]), tag);
    let strata = Strata::at(s.strata.program().to_owned(), s.place.join(tag));
    let summary = s.place.join(format!("{tag}.summary"));
    let mut command = Command::new(tool("strace"));
    command.args(["-f", "-c", "-qq", "-o"]).arg(&summary);
    command
        .arg(strata.program())
        .args(["pull", "-q", &reference]);
    run(command.env("STRATA_ROOT", strata.root())).ok();
    let text = fs::read_to_string(&summary).expect("the summary");
    let total = text.lines().find(|line| line.trim_end().ends_with("total"));
    // % time, seconds, usecs/call, calls, errors if there were any, "total".
    let mut words = total.expect("a total").split_whitespace();
    let calls = words.nth(3).expect("calls");
    calls.parse().expect("a number")
}

#[test]
fn a_regular_file_costs_few_system_calls() {
    need_root();
    let s = Scene::new();
    let none = calls(&s, "none", layer(0, 0));
    for owner in [0, 1000] {
        let many = calls(&s, &format!("owner{owner}"), layer(FILES, owner));
        let each = (many as f64 - none as f64) / FILES as f64;
        println!(
            "{each:.2} system calls for each file of owner {owner}; {none} for a pull without files"
        );
        assert!(each <= BUDGET, "{each:.2} system calls for each file");
        assert!(each >= 3.0, "{each:.2}: something was not counted");
    }
}
