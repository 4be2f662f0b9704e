//! What of the host a container shares, and parameters of the kernel of its own.

use anyhow::{Result, bail};
use strata::run::config::Config;
use strata::run::options;

#[derive(clap::Args)]
pub(super) struct NamespaceArgs {
    /// System V objects, message queues and /dev/shm: private, or the host's (host)
    #[arg(long, value_name = "MODE", default_value = "")]
    ipc: String,
    /// Host name: private, or the host's (host)
    #[arg(long, value_name = "MODE", default_value = "")]
    uts: String,
    /// Processes: private
    #[arg(long, value_name = "MODE", default_value = "")]
    pid: String,
    /// Users: those of whoever runs strata (host)
    #[arg(long, value_name = "MODE", default_value = "")]
    userns: String,
    /// Control groups that it sees: private
    #[arg(long, value_name = "MODE", default_value = "")]
    cgroupns: String,
    /// Set a parameter of the kernel that belongs to the container
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
}

impl NamespaceArgs {
    /// After the network and the names.
    pub(super) fn read(&self, config: &mut Config) -> Result<()> {
        config.shares_ipc = options::is_host("--ipc", &self.ipc)?;
        config.shares_name = options::is_host("--uts", &self.uts)?;
        for (option, text) in [
            ("--pid", &self.pid),
            ("--userns", &self.userns),
            ("--cgroupns", &self.cgroupns),
        ] {
            options::own_namespace(option, text)?;
        }
        if config.shares_name && !(config.hostname.is_empty() && config.domainname.is_empty()) {
            bail!("conflicting options: hostname and the UTS mode");
        }
        if config.shares_ipc && config.shm_size.is_some() {
            bail!("conflicting options: --shm-size and --ipc host, whose /dev/shm is the host's");
        }
        let sysctls = self.sysctl.iter();
        let sysctls = sysctls.map(|text| options::sysctl(text, config.network, config.shares_ipc));
        config.sysctls = sysctls.collect::<Result<_, _>>()?;
        Ok(())
    }
}
