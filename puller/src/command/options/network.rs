//! Names and network: `--hostname`, `--network`, `--dns`, `--add-host`, and ports, which cannot be published.

use anyhow::{Context as _, Result, bail};
use strata::run::config::{Config, Network, Resolver};
use strata::run::options;

#[derive(clap::Args)]
pub(super) struct NetworkArgs {
    /// Host name of the container [default: the beginning of its id]
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(super) hostname: Option<String>,
    /// Domain name of the container
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// Network of the container: host, or none
    #[arg(
        long,
        visible_alias = "net",
        value_name = "NETWORK",
        default_value = "host"
    )]
    network: String,
    /// One more name in /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// Name server in place of the host's
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Domain to look names up in, in place of the host's; . for none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Option of resolv.conf in place of the host's
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Refused: the network is the host's, or none
    #[arg(short, long, value_name = "PORTS")]
    publish: Vec<String>,
    /// Refused as -p
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// A port that the container listens on: a remark and no more
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    expose: Vec<String>,
}

impl NetworkArgs {
    pub(super) fn read(&self, config: &mut Config) -> Result<()> {
        config.network = network(&self.network)?;
        if self.publish_all || !self.publish.is_empty() {
            return Err(options::no_published_ports(config.network == Network::Host).into());
        }
        if let Some(port) = self.expose.iter().find(|text| !is_port(text)) {
            bail!("invalid range format for --expose: {port}");
        }
        if let Some(name) = &self.hostname {
            host_name("--hostname", name)?;
            config.hostname.clone_from(name);
        }
        if let Some(name) = &self.domainname {
            host_name("--domainname", name)?;
            config.domainname.clone_from(name);
        }
        let hosts = self.add_host.iter().map(|text| options::host_name(text));
        config.extra_hosts = hosts.collect::<Result<_, _>>()?;
        let servers = self.dns.iter().map(|text| options::address(text));
        for text in self.dns_search.iter().chain(&self.dns_option) {
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
                bail!("--dns-search, --dns-option: {text:?} is no word of resolv.conf");
            }
        }
        config.resolver = Resolver {
            servers: servers.collect::<Result<_, _>>().context("--dns")?,
            search: self.dns_search.clone(),
            options: self.dns_option.clone(),
        };
        Ok(())
    }
}

/// `80`, `80-90`, `53/udp`.
fn is_port(text: &str) -> bool {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = |text: &str| text.parse::<u16>().is_ok();
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    number(first) && number(last) && matches!(protocol, "tcp" | "udp" | "sctp")
}

fn network(name: &str) -> Result<Network> {
    match name {
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        _ => bail!(
            "--network {name:?}: a container is in the host's network (host) or has none but a loopback device (none)"
        ),
    }
}

/// A name that sethostname(2) takes and that can stand in a file of hosts.
fn host_name(option: &str, text: &str) -> Result<()> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if text.is_empty()
        || text.len() > 63
        || !text.bytes().all(allowed)
        || text.starts_with(['-', '.'])
    {
        bail!("{option} {text:?}: it has 1 to 63 letters, digits, - . _");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_and_ranges() {
        for good in ["80", "80-90", "53/udp"] {
            assert!(is_port(good), "{good}");
        }
        for bad in ["", "http", "80-", "80/x", "70000"] {
            assert!(!is_port(bad), "{bad}");
        }
    }
}
