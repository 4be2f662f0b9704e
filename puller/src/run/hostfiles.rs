//! The files that tie a container to the host's network: resolv.conf, hosts and hostname. Each
//! container has copies of its own, mounted over the image's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::config::{Config, Network, Resolver};

/// Writes the three files into `directory`; gives (the host's path, the container's path) of each.
pub(crate) fn write(directory: &Path, config: &Config) -> io::Result<Vec<(PathBuf, String)>> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let hostname = &config.hostname;
    // Of the host's network, names that mean nothing without it are left out.
    let (servers, names) = match config.network {
        Network::Host => (read("/etc/resolv.conf"), read("/etc/hosts")),
        Network::None => (String::new(), String::new()),
    };
    let servers = resolver(&servers, &config.resolver);
    let mut names = hosts(&names, hostname, &config.domainname);
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

/// The host's lines of resolv.conf(5), but for those of which there are others.
fn resolver(of_host: &str, wanted: &Resolver) -> String {
    let search: &[String] = match wanted.search.as_slice() {
        [one] if one == "." => &[],
        search => search,
    };
    let replaced = |line: &str| match line.split_whitespace().next() {
        Some("nameserver") => !wanted.servers.is_empty(),
        Some("search" | "domain") => !wanted.search.is_empty(),
        Some("options") => !wanted.options.is_empty(),
        _ => false,
    };
    let kept = of_host.lines().filter(|line| !replaced(line));
    let mut lines: Vec<String> = kept.map(str::to_owned).collect();
    lines.extend(wanted.servers.iter().map(|at| format!("nameserver {at}")));
    for (word, values) in [("search", search), ("options", &wanted.options)] {
        if !values.is_empty() {
            lines.push(format!("{word} {}", values.join(" ")));
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The host's names, since the network is the host's, and the container's own.
fn hosts(of_host: &str, hostname: &str, domainname: &str) -> String {
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
        false if domainname.is_empty() => format!("{of_host}\n127.0.1.1\t{hostname}\n"),
        false => format!("{of_host}\n127.0.1.1\t{hostname}.{domainname} {hostname}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_given_go_before_the_hosts() {
        let host = "# made by hand\nnameserver 10.0.0.1\nsearch home\noptions rotate\n";
        let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(resolver(host, &Resolver::default()), host);
        let wanted = Resolver {
            servers: texts(&["192.0.2.1", "192.0.2.2"]),
            search: texts(&["a.example", "b.example"]),
            options: Vec::new(),
        };
        assert_eq!(
            resolver(host, &wanted),
            "# made by hand\noptions rotate\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch a.example b.example\n"
        );
        let none = Resolver {
            search: texts(&["."]),
            options: texts(&["ndots:3"]),
            ..Resolver::default()
        };
        assert_eq!(
            resolver(host, &none),
            "# made by hand\nnameserver 10.0.0.1\noptions ndots:3\n"
        );
    }

    #[test]
    fn the_containers_name_resolves() {
        assert_eq!(
            hosts("127.0.0.1 localhost\n", "box", "example.org"),
            "127.0.0.1 localhost\n127.0.1.1\tbox.example.org box\n"
        );
        assert_eq!(
            hosts("127.0.0.1 localhost # box\n", "box", ""),
            "127.0.0.1 localhost # box\n127.0.1.1\tbox\n"
        );
        assert_eq!(
            hosts("127.0.0.1 localhost box\n", "box", ""),
            "127.0.0.1 localhost box\n"
        );
        assert!(hosts("", "box", "").starts_with("127.0.0.1\tlocalhost\n"));
    }
}
