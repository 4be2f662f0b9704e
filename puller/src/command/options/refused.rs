//! Options of docker's that ask for what is not to be had: each is known, so that whoever gives it learns why, and a
//! script does not run without what it relies on.

use anyhow::{Result, bail};

/// Left out of the help.
#[derive(clap::Args)]
pub(super) struct RefusedArgs {
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    gpus: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    link: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    ip: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    ip6: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    mac_address: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    network_alias: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    link_local_ip: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    health_cmd: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    health_interval: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    health_retries: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    health_timeout: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    health_start_period: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    health_start_interval: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    storage_opt: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    volume_driver: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    device_cgroup_rule: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    device_read_bps: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    device_write_bps: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    device_read_iops: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    device_write_iops: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    blkio_weight: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    blkio_weight_device: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    cgroup_parent: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    cpu_rt_period: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    cpu_rt_runtime: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    kernel_memory: Vec<String>,
    #[arg(long, hide = true, value_name = "VALUE", allow_hyphen_values = true)]
    memory_swappiness: Vec<String>,
    #[arg(long, hide = true)]
    oom_kill_disable: bool,
    /// What strata does anyway.
    #[arg(long, hide = true)]
    no_healthcheck: bool,
    /// There is no such trust to disable.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_content_trust: Option<bool>,
    #[arg(long, hide = true, default_value = "default")]
    isolation: String,
}

const NO_ADDRESS: &str =
    "the container has no address of its own: its network is the host's, or none";
const NO_WATCH: &str =
    "nobody watches over containers: run the check with `strata exec`, from a timer for example";
const NO_IO: &str = "input and output cannot be limited";
const NO_REAL_TIME: &str = "real-time scheduling cannot be shared out";

impl RefusedArgs {
    /// # Errors
    /// One was given; why it cannot be had.
    pub(super) fn check(&self) -> Result<()> {
        for (option, given, why) in self.given() {
            if given {
                bail!("--{option} is not supported: {why}");
            }
        }
        if !matches!(self.isolation.as_str(), "" | "default") {
            bail!(
                "--isolation {:?}: only Windows has others than the default",
                self.isolation
            );
        }
        Ok(())
    }

    fn given(&self) -> [(&'static str, bool, &'static str); 28] {
        [
            (
                "gpus",
                !self.gpus.is_empty(),
                "GPUs are given to a container by a hook of their maker's; give it the devices (--device) and mount the libraries (-v), or use --runtime with a runtime that has the hook",
            ),
            (
                "link",
                !self.link.is_empty(),
                "containers in the host's network reach each other at localhost",
            ),
            ("ip", !self.ip.is_empty(), NO_ADDRESS),
            ("ip6", !self.ip6.is_empty(), NO_ADDRESS),
            ("mac-address", !self.mac_address.is_empty(), NO_ADDRESS),
            (
                "network-alias",
                !self.network_alias.is_empty(),
                "there are no networks of containers in which a name could be looked up",
            ),
            ("link-local-ip", !self.link_local_ip.is_empty(), NO_ADDRESS),
            ("health-cmd", !self.health_cmd.is_empty(), NO_WATCH),
            (
                "health-interval",
                !self.health_interval.is_empty(),
                NO_WATCH,
            ),
            ("health-retries", !self.health_retries.is_empty(), NO_WATCH),
            ("health-timeout", !self.health_timeout.is_empty(), NO_WATCH),
            (
                "health-start-period",
                !self.health_start_period.is_empty(),
                NO_WATCH,
            ),
            (
                "health-start-interval",
                !self.health_start_interval.is_empty(),
                NO_WATCH,
            ),
            (
                "storage-opt",
                !self.storage_opt.is_empty(),
                "the size of a writable layer cannot be limited; put the store on a file system of that size",
            ),
            (
                "volume-driver",
                !self.volume_driver.is_empty(),
                "volumes are directories of the store; mount the file system on the host and give it with -v",
            ),
            (
                "device-cgroup-rule",
                !self.device_cgroup_rule.is_empty(),
                "devices are given one by one, with --device",
            ),
            ("device-read-bps", !self.device_read_bps.is_empty(), NO_IO),
            ("device-write-bps", !self.device_write_bps.is_empty(), NO_IO),
            ("device-read-iops", !self.device_read_iops.is_empty(), NO_IO),
            (
                "device-write-iops",
                !self.device_write_iops.is_empty(),
                NO_IO,
            ),
            ("blkio-weight", !self.blkio_weight.is_empty(), NO_IO),
            (
                "blkio-weight-device",
                !self.blkio_weight_device.is_empty(),
                NO_IO,
            ),
            (
                "cgroup-parent",
                !self.cgroup_parent.is_empty(),
                "a container's control group is strata/ID",
            ),
            (
                "cpu-rt-period",
                !self.cpu_rt_period.is_empty(),
                NO_REAL_TIME,
            ),
            (
                "cpu-rt-runtime",
                !self.cpu_rt_runtime.is_empty(),
                NO_REAL_TIME,
            ),
            (
                "kernel-memory",
                !self.kernel_memory.is_empty(),
                "the kernel does not limit its memory apart any more",
            ),
            (
                "memory-swappiness",
                !self.memory_swappiness.is_empty(),
                "only version 1 of control groups has it; limit --memory-swap",
            ),
            (
                "oom-kill-disable",
                self.oom_kill_disable,
                "a container without memory would hang; say how soon it is killed with --oom-score-adj",
            ),
        ]
    }
}
