//! What the command may do: capabilities, system calls, `--privileged`.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use strata::run::config::{Seccomp, Security};
use strata::run::options::{self, SecurityOption};
use strata::run::seccomp;

/// A profile of system calls that a person wrote is smaller.
const MAX_PROFILE: u64 = 1024 * 1024;

#[derive(clap::Args)]
pub(super) struct SecurityArgs {
    /// Give a capability beyond the default set, or ALL
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    cap_add: Vec<String>,
    /// Take a capability of the default set away, or ALL
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    cap_drop: Vec<String>,
    /// Everything that strata's own user may do, and all devices
    #[arg(long)]
    privileged: bool,
    /// no-new-privileges, seccomp=unconfined|FILE, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
}

impl SecurityArgs {
    pub(super) fn read(&self) -> Result<Security> {
        let names = |words: &[String], flag: &str| {
            let names = words.iter().map(|word| options::capability(word));
            names
                .collect::<Result<Vec<_>, _>>()
                .with_context(|| flag.to_owned())
        };
        let mut security = Security {
            privileged: self.privileged,
            added: names(&self.cap_add, "--cap-add")?,
            dropped: names(&self.cap_drop, "--cap-drop")?,
            ..Security::default()
        };
        for text in &self.security_opt {
            match options::security_option(text)? {
                SecurityOption::NoNewPrivileges(wanted) => security.no_new_privileges = wanted,
                SecurityOption::SeccompUnconfined => security.seccomp = Seccomp::Unconfined,
                SecurityOption::SeccompDefault => security.seccomp = Seccomp::Default,
                SecurityOption::SeccompProfile(path) => security.seccomp = profile(&path)?,
                SecurityOption::Unmasked => security.unmasked = true,
                SecurityOption::Nothing => {}
            }
        }
        Ok(security)
    }
}

fn profile(path: &Path) -> Result<Seccomp> {
    let read = || -> Result<String> {
        let mut text = String::new();
        std::fs::File::open(path)?
            .take(MAX_PROFILE + 1)
            .read_to_string(&mut text)?;
        if text.len() as u64 > MAX_PROFILE {
            bail!("it is larger than {MAX_PROFILE} bytes");
        }
        Ok(text)
    };
    let what = || format!("--security-opt seccomp={}", path.display());
    let text = read().with_context(what)?;
    seccomp::check_profile(&text).with_context(what)?;
    Ok(Seccomp::Profile(text))
}
