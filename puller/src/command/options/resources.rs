//! How much the container may use.

use anyhow::{Context as _, Result, bail};
use strata::run::config::Resources;
use strata::run::options;

/// A container with less does not start; docker's limit.
const LEAST_MEMORY: u64 = 6 * 1024 * 1024;

#[derive(clap::Args)]
pub(super) struct ResourceArgs {
    /// Most memory, as 512m or 2g
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,
    /// Most memory and swap together, or -1
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Memory that it keeps when others run out of it
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<String>,
    /// Most processors, as 1.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<f64>,
    /// Weight beside other containers, 2 to 262144 [default: 1024]
    #[arg(short, long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// Which processors, as 0-2,4
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Microseconds in which --cpu-quota may be used up [default: 100000]
    #[arg(long, value_name = "MICROSECONDS", conflicts_with = "cpus")]
    cpu_period: Option<u64>,
    /// Most microseconds of processors in each --cpu-period
    #[arg(
        long,
        value_name = "MICROSECONDS",
        conflicts_with = "cpus",
        allow_hyphen_values = true
    )]
    cpu_quota: Option<i64>,
    /// Which nodes of memory, as 0,1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Most processes and threads; -1 for any number
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Limit of each process, as nofile=1024:4096
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,
    /// How soon it is killed when memory runs out, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
}

impl ResourceArgs {
    pub(super) fn read(&self) -> Result<Resources> {
        let memory = self.memory.as_deref().map(options::size).transpose();
        let memory = memory.context("--memory")?.filter(|bytes| *bytes > 0);
        if memory.is_some_and(|bytes| bytes < LEAST_MEMORY) {
            bail!("--memory: Minimum memory limit allowed is 6MB");
        }
        if let Some(weight) = self.cpu_shares
            && !(2..=262_144).contains(&weight)
        {
            bail!("--cpu-shares {weight}: it goes from 2 to 262144");
        }
        for (option, list) in [
            ("--cpuset-cpus", &self.cpuset_cpus),
            ("--cpuset-mems", &self.cpuset_mems),
        ] {
            if let Some(list) = list
                && !is_list(list)
            {
                bail!("{option} {list:?}: it is a list such as 0-2,4");
            }
        }
        if let Some(period) = self.cpu_period.filter(|period| *period != 0)
            && !(1000..=1_000_000).contains(&period)
        {
            bail!(
                "--cpu-period {period}: CPU cfs period cannot be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
            );
        }
        if self
            .cpu_quota
            .is_some_and(|quota| (1..1000).contains(&quota))
        {
            bail!("--cpu-quota: CPU cfs quota cannot be less than 1ms (i.e. 1000)");
        }
        if let Some(score) = self.oom_score_adj
            && !(-1000..=1000).contains(&score)
        {
            bail!("--oom-score-adj {score}: it goes from -1000 to 1000");
        }
        let ulimits = self.ulimit.iter().map(|text| options::ulimit(text));
        Ok(Resources {
            memory,
            memory_swap: self.swap(memory)?,
            memory_reservation: self.reservation(memory)?,
            cpus: self.processors()?,
            cpu_period: self.cpu_period.filter(|period| *period != 0),
            cpu_quota: self.cpu_quota.filter(|quota| *quota != 0),
            cpuset_mems: self.cpuset_mems.clone(),
            cpu_shares: self.cpu_shares,
            cpuset: self.cpuset_cpus.clone(),
            pids: self.pids_limit.filter(|most| *most > 0),
            ulimits: ulimits.collect::<Result<_, _>>()?,
            oom_score_adj: self.oom_score_adj,
        })
    }

    pub(super) fn shm_size(&self) -> Result<Option<u64>> {
        let size = self.shm_size.as_deref().map(options::size).transpose();
        match size.context("--shm-size")? {
            Some(0) => bail!("--shm-size: it must be greater than 0"),
            size => Ok(size),
        }
    }

    fn reservation(&self, memory: Option<u64>) -> Result<Option<u64>> {
        let bytes = self.memory_reservation.as_deref().map(options::size);
        let bytes = bytes.transpose().context("--memory-reservation")?;
        match bytes.filter(|bytes| *bytes > 0) {
            Some(bytes) if bytes < LEAST_MEMORY => {
                bail!("--memory-reservation: Minimum memory reservation allowed is 6MB")
            }
            Some(bytes) if memory.is_some_and(|memory| memory < bytes) => {
                bail!(
                    "Minimum memory limit can not be less than memory reservation limit, see usage"
                )
            }
            bytes => Ok(bytes),
        }
    }

    fn swap(&self, memory: Option<u64>) -> Result<Option<i64>> {
        let both = match self.memory_swap.as_deref() {
            None => return Ok(None),
            Some("-1") => -1,
            Some(text) => i64::try_from(options::size(text).context("--memory-swap")?)?,
        };
        // As docker has it: as if nothing had been said.
        if both == 0 {
            return Ok(None);
        }
        match memory {
            None => bail!("You should always set the Memory limit when using Memoryswap limit"),
            Some(memory) if both >= 0 && (both as u64) < memory => {
                bail!("Minimum memoryswap limit should be larger than memory limit, see usage")
            }
            _ => Ok(Some(both)),
        }
    }

    fn processors(&self) -> Result<Option<f64>> {
        let Some(cpus) = self.cpus.filter(|n| *n != 0.0) else {
            return Ok(None);
        };
        let there = std::thread::available_parallelism().map_or(1, usize::from);
        if !(0.01..=there as f64).contains(&cpus) {
            bail!(
                "--cpus {cpus}: range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available"
            );
        }
        Ok(Some(cpus))
    }
}

/// cpuset(7), "List format".
fn is_list(text: &str) -> bool {
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
    text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => match (number(first), number(last)) {
            (Some(first), Some(last)) => first <= last,
            _ => false,
        },
        None => number(part).is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_numbers_and_ranges() {
        for good in ["0", "0-2,4", "1,2,3"] {
            assert!(is_list(good), "{good}");
        }
        for bad in ["", "a", "2-1", "0,", "-1", "0--1", "1-", "+1", "0\n"] {
            assert!(!is_list(bad), "{bad:?}");
        }
    }
}
