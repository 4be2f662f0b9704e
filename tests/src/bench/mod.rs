//! The benchmark of the registry: stratad and its peers on loopback in the same run, measured in turns.
//!
//! A machine is never quiet and never twice the same, so no figure stands alone: each is the median of
//! rounds in which all servers had their turn, with the least and the most, and with the ratio to each peer.
//! CPU seconds of the server (proc_pid_stat(5)) say more than the clock does when something else runs.

mod figures;
mod lists;
mod load;
mod plan;
mod server;
mod transfer;

use std::process::ExitCode;

use anyhow::{Context, Result};

use figures::Figures;
use plan::Plan;
use server::{Kind, Server};

const HELP: &str = "\
cargo bench-registry [--quick] [--directory DIR]

Measures stratad beside Debian's docker-registry and prints one table.
  --quick          smaller content and fewer rounds: about half a minute
  --directory DIR  where the servers keep their data; a real disk, by default below the build directory
More peers, when their programs are given:
  STRATA_BENCH_DISTRIBUTION=PATH  distribution 3 (go install github.com/distribution/distribution/v3/cmd/registry@v3.1.1)
  STRATA_BENCH_ZOT=PATH           zot";

/// Runs the benchmark with the words behind `cargo bench-registry`.
pub fn main(words: &[String]) -> ExitCode {
    if words.iter().any(|word| word == "-h" || word == "--help") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match Plan::parse(words).and_then(|plan| run(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nbench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: &Plan) -> Result<()> {
    let kinds = Kind::present()?;
    let mut figures = Figures::new(kinds.iter().map(Kind::name).collect());
    let content = transfer::Content::make(&plan.directory, plan.large)?;
    eprintln!("uploads");
    for _ in 0..plan.rounds {
        for (n, kind) in kinds.iter().enumerate() {
            noise(&mut figures);
            transfer::upload(kind, plan, &content, &mut figures.turn(n))?;
        }
    }
    eprintln!("small requests and downloads");
    let mut servers: Vec<Server> = Vec::new();
    for kind in &kinds {
        let server = kind.start(&plan.directory)?;
        load::seed(&server, &content)?;
        servers.push(server);
    }
    for _ in 0..plan.rounds {
        for (n, server) in servers.iter().enumerate() {
            noise(&mut figures);
            load::measure(server, plan, &mut figures.turn(n))?;
            transfer::download(server, &content, &mut figures.turn(n))?;
        }
    }
    for (n, server) in servers.iter().enumerate() {
        transfer::crowd(server, plan, &content, &mut figures.turn(n))?;
    }
    drop(servers);
    eprintln!("lists, start and memory");
    let counts = [plan.many, 10];
    for count in counts {
        for (n, kind) in kinds
            .iter()
            .enumerate()
            .filter(|(_, kind)| kind.has_lists())
        {
            let count = lists::count(kind, count);
            let filled = lists::fill(kind, plan, count).context("cannot fill the lists")?;
            lists::measure(kind, &filled, plan, count, &mut figures.turn(n))?;
        }
    }
    println!("{}", figures.table());
    println!("{}", plan.notes());
    Ok(())
}

/// The same work again and again: how much it differs is how little the clock is to be trusted.
fn noise(figures: &mut Figures) {
    let bytes = vec![7; 32 * 1024 * 1024];
    let began = std::time::Instant::now();
    std::hint::black_box(strata_oci::Digest::of(&bytes));
    figures.noise(began.elapsed());
}
