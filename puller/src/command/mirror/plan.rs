//! What a mirror is to do, from a file or the command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use strata::mirror::{Destination, Glob, MirrorConfig, Repository, Sync, TagFilter};

use super::Args;
use crate::command::remote::has_selector;
use crate::transport::platforms;

/// `90s`, `30m`, `6h`, `1d`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a time such as 90s, 30m, 6h or 1d");
    let last = text.len().saturating_sub(1);
    let (number, unit) = text.split_at_checked(last).ok_or_else(invalid)?;
    let unit: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(invalid()),
    };
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let seconds = number
        .checked_mul(unit)
        .filter(|s| (1..=366 * 86400).contains(s));
    seconds.map(Duration::from_secs).ok_or_else(invalid)
}

/// What is to be done, from the file or the command line.
pub(super) fn plan(args: &Args) -> Result<MirrorConfig> {
    let mut plan = match &args.to {
        Some(to) => named(args, to)?,
        None => {
            let [file] = &args.what[..] else {
                anyhow::bail!("expected one file, or repositories with --to TARGET");
            };
            let mut plan = read(Path::new(file))?;
            let rules = args.transport.config().load()?;
            for sync in &mut plan.syncs {
                sync.source = sync.source.resolved(&rules)?;
            }
            plan
        }
    };
    plan.images = args.images.map(usize::from).or(plan.images);
    plan.parallel = args.parallel.map(usize::from).or(plan.parallel);
    plan.rate = args.limit_rate.or(plan.rate);
    Ok(plan)
}

fn read(file: &Path) -> Result<MirrorConfig> {
    let text = std::fs::read_to_string(file).with_context(|| {
        let file = PathBuf::from(file);
        format!(
            "{}: not a readable file; to mirror a repository say --to TARGET",
            file.display()
        )
    })?;
    MirrorConfig::parse(&text).with_context(|| file.display().to_string())
}

fn named(args: &Args, to: &str) -> Result<MirrorConfig> {
    let globs = |texts: &[String]| texts.iter().map(Glob::new).collect::<Vec<_>>();
    let filter = TagFilter {
        globs: globs(&args.tags),
        exclude: globs(&args.exclude),
        regex: args.regex.clone(),
        semver: args.semver.clone(),
        newest: args.newest.and_then(|n| usize::try_from(n).ok()),
    };
    let rules = args.transport.config().load()?;
    let mut syncs = Vec::new();
    for text in &args.what {
        let (source, tag) = match has_selector(text) {
            true => {
                let image = args.transport.reference(text)?;
                ensure!(
                    image.digest().is_none(),
                    "{text:?}: a mirror keeps tags, not digests"
                );
                let source = Repository::new(image.registry(), image.repository());
                (source, image.tag().map(str::to_owned))
            }
            false => (text.parse::<Repository>()?.resolved(&rules)?, None),
        };
        syncs.push(Sync {
            destination: Destination::below(to, &source)?,
            source,
            tag,
            filter: filter.clone(),
            platforms: platforms(&args.platform),
            referrers: args.referrers,
            delete: args.delete,
        });
    }
    Ok(MirrorConfig {
        images: None,
        parallel: None,
        rate: None,
        syncs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(time("6h"), Ok(Duration::from_secs(6 * 3600)));
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        for bad in ["", "6", "h", "0s", "-1h", "6w", "9999d", "6é"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
