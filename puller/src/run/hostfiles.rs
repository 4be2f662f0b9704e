//! The files that tie a container to the host's network: resolv.conf, hosts and hostname. Each
//! container has copies of its own, mounted over the image's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::config::{Config, Network};

/// Writes the three files into `directory`; gives (the host's path, the container's path) of each.
pub(super) fn write(directory: &Path, config: &Config) -> io::Result<Vec<(PathBuf, String)>> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let hostname = &config.hostname;
    // Of the host's network, names that mean nothing without it are left out.
    let (servers, names) = match config.network {
        Network::Host => (read("/etc/resolv.conf"), read("/etc/hosts")),
        Network::None => (String::new(), String::new()),
    };
    let mut names = hosts(&names, hostname);
    for (name, address) in &config.extra_hosts {
        names.push_str(&format!("{address}\t{name}\n"));
    }
    let contents = [
        ("resolv.conf", servers),
        ("hosts", names),
        ("hostname", format!("{hostname}\n")),
    ];
    contents
        .into_iter()
        .map(|(name, content)| {
            let path = directory.join(name);
            fs::write(&path, content)?;
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
            Ok((path, format!("/etc/{name}")))
        })
        .collect()
}

/// The host's names, since the network is the host's, and the container's own.
fn hosts(of_host: &str, hostname: &str) -> String {
    let known = of_host.lines().any(|line| {
        let names = line.split('#').next().unwrap_or_default();
        names
            .split_whitespace()
            .skip(1)
            .any(|name| name == hostname)
    });
    let of_host = if of_host.trim().is_empty() {
        "127.0.0.1\tlocalhost\n::1\tlocalhost"
    } else {
        of_host.trim_end()
    };
    match known {
        true => format!("{of_host}\n"),
        // The address that Debian uses for a host's own name.
        false => format!("{of_host}\n127.0.1.1\t{hostname}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containers_name_resolves() {
        assert_eq!(
            hosts("127.0.0.1 localhost # box\n", "box"),
            "127.0.0.1 localhost # box\n127.0.1.1\tbox\n"
        );
        assert_eq!(
            hosts("127.0.0.1 localhost box\n", "box"),
            "127.0.0.1 localhost box\n"
        );
        assert!(hosts("", "box").starts_with("127.0.0.1\tlocalhost\n"));
    }
}
