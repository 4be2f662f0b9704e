//! `strata system check`: prove what is in the store.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};
use strata::fetch::{self, Repaired};
use strata::progress::Progress;
use strata::registry::RegistryOptions;
use strata::store::{CheckOptions, CheckReport, Finding, Store, Subject};

use crate::printer;
use crate::settings::Settings;
use crate::show::{ProgressArgs, Work};
use crate::transport::{TransportArgs, until_interrupted};

/// Prove that the store holds what its index says
///
/// Every layer's archive is written again from its record and files, hashed, and compared with the layer's diffID; types, modes,
/// owners, times, links, attributes and whiteouts are compared with the archive's headers. Leaves with 1 when something is damaged.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Put right what is wrong: damaged layers are unpacked again, or fetched again from the registry that they came from,
    /// unless a running container uses them; rubbish is removed
    #[arg(long, short)]
    repair: bool,
    /// Do not read the layers: only the index, and which directories there are
    #[arg(long, short)]
    quick: bool,
    /// How many layers to read at once [default: as many as there are processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: Option<u8>,
    #[command(flatten)]
    progress: ProgressArgs,
    /// How to print the result
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: printer::Format,
    #[command(flatten)]
    transport: TransportArgs,
}

/// A finding, and what became of it.
struct Told {
    finding: Finding,
    outcome: Outcome,
}

enum Outcome {
    /// Nothing was done about it.
    Left,
    Repaired(&'static str),
    /// It could not be put right.
    Failed(String),
}

pub(super) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let began = Instant::now();
    let store = settings.open_store_unswept()?;
    let show = args.progress.begin(false, Work::Check);
    let defaults = CheckOptions::default();
    let options = CheckOptions {
        quick: args.quick,
        parallel: args.parallel.map_or(defaults.parallel, usize::from),
    };
    let report = store.check(&options, &*show.part())?;
    let (report, told) = match args.repair {
        true => {
            let registry = args.transport.options();
            match until_interrupted(repaired(&store, report, &registry, &show.part()))? {
                Ok(repaired) => repaired,
                Err(code) => return Ok(code),
            }
        }
        false => left(report),
    };
    drop(show);
    let damaged =
        |told: &&Told| told.finding.is_damage() && !matches!(told.outcome, Outcome::Repaired(_));
    let damaged = told.iter().filter(damaged).count();
    match args.format {
        printer::Format::Json => json(&report, &told, damaged)?,
        printer::Format::Table => table(&report, &told, damaged, began),
    }
    Ok(ExitCode::from(u8::from(damaged > 0)))
}

fn left(mut report: CheckReport) -> (CheckReport, Vec<Told>) {
    let outcome = |finding| Told {
        finding,
        outcome: Outcome::Left,
    };
    let told = std::mem::take(&mut report.findings);
    (report, told.into_iter().map(outcome).collect())
}

/// Puts right what can be put right, one finding after the other.
async fn repaired(
    store: &Arc<Store>,
    mut report: CheckReport,
    options: &RegistryOptions,
    progress: &Arc<dyn Progress>,
) -> Result<(CheckReport, Vec<Told>)> {
    let mut told = Vec::new();
    let rubbish = report.findings.iter().any(|f| !f.is_damage());
    let swept = match rubbish {
        true => store.sweep().map_err(|error| error.to_string()),
        false => Ok(()),
    };
    for (item, finding) in std::mem::take(&mut report.findings).into_iter().enumerate() {
        let outcome = match &finding.subject {
            Subject::Layer(diff_id) => {
                let repair =
                    fetch::repair_layer(store, diff_id, finding.proven, item, options, progress);
                match repair.await {
                    Ok(Repaired::Unpacked) => Outcome::Repaired("unpacked again"),
                    Ok(Repaired::Fetched) => Outcome::Repaired("fetched again"),
                    Err(error) => Outcome::Failed(error.to_string()),
                }
            }
            Subject::Stack(chain_id) => match store.forget_stack(chain_id) {
                Ok(()) => Outcome::Repaired("will be made again"),
                Err(error) => Outcome::Failed(error.to_string()),
            },
            Subject::Rubbish(path) => match &swept {
                Err(error) => Outcome::Failed(error.clone()),
                Ok(()) if path.exists() => Outcome::Left,
                Ok(()) => Outcome::Repaired("removed"),
            },
            Subject::Index | Subject::Image(_) => Outcome::Left,
        };
        told.push(Told { finding, outcome });
    }
    Ok((report, told))
}

fn subject(finding: &Finding) -> (&'static str, String) {
    match &finding.subject {
        Subject::Index => ("index", "strata.db".to_owned()),
        Subject::Layer(digest) => ("layer", digest.to_string()),
        Subject::Image(digest) => ("image", digest.to_string()),
        Subject::Stack(digest) => ("stack", digest.to_string()),
        Subject::Rubbish(path) => ("rubbish", path.display().to_string()),
    }
}

fn advice(finding: &Finding) -> &'static str {
    match &finding.subject {
        Subject::Index => {
            "copy what can be read to another store (strata save), and pull the rest there"
        }
        Subject::Layer(_) | Subject::Stack(_) => "strata system check --repair",
        Subject::Image(_) => "remove it (strata rmi) and pull it again",
        Subject::Rubbish(_) => "strata system check --repair removes it",
    }
}

fn json(report: &CheckReport, told: &[Told], damaged: usize) -> Result<()> {
    let findings = told.iter().map(|Told { finding, outcome }| {
        let (kind, what) = subject(finding);
        let mut value = json!({
            "kind": kind, "subject": what, "damaged": finding.is_damage(), "problems": finding.problems,
            "more_problems": finding.more, "images": finding.images,
        });
        match outcome {
            Outcome::Left => value["advice"] = advice(finding).into(),
            Outcome::Repaired(how) => value["repaired"] = (*how).into(),
            Outcome::Failed(why) => value["not_repaired"] = why.as_str().into(),
        }
        value
    });
    let findings: Vec<Value> = findings.collect();
    printer::json(&json!({
        "images": report.images, "layers": report.layers, "bytes": report.bytes, "damaged": damaged,
        "findings": findings,
    }))
}

fn table(report: &CheckReport, told: &[Told], damaged: usize, began: Instant) {
    for Told { finding, outcome } in told {
        let (kind, what) = subject(finding);
        let state = match outcome {
            Outcome::Repaired(how) => (*how).to_owned(),
            _ if finding.is_damage() => "damaged".to_owned(),
            _ => "rubbish".to_owned(),
        };
        printer::line(format_args!("{kind} {what}: {state}"));
        for problem in &finding.problems {
            printer::line(format_args!("  {problem}"));
        }
        if finding.more > 0 {
            printer::line(format_args!("  and {} more", finding.more));
        }
        if !finding.images.is_empty() {
            printer::line(format_args!("  images: {}", finding.images.join(", ")));
        }
        match outcome {
            Outcome::Left => printer::line(format_args!("  to do: {}", advice(finding))),
            Outcome::Failed(why) => printer::line(format_args!("  not repaired: {why}")),
            Outcome::Repaired(_) => {}
        }
    }
    let (layers, images) = (report.layers, report.images);
    let bytes = printer::size(report.bytes);
    let took = began.elapsed().as_secs_f64();
    let result = match damaged {
        0 => "nothing is damaged".to_owned(),
        1 => "1 thing is damaged".to_owned(),
        several => format!("{several} things are damaged"),
    };
    printer::line(format_args!(
        "{images} images, {layers} layers ({bytes} hashed) in {took:.1}s: {result}"
    ));
}
