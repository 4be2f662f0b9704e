//! What goes wrong between a client and a registry.

use strata_oci::verify::VerifyError;

use super::credentials::CredentialsError;
use crate::config::ConfigError;

/// A request to a registry that failed for good.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Not a host with an optional port.
    #[error("{0:?} is not a registry's name: expected a host and an optional port")]
    Name(String),
    /// No answer, after all tries.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// The host that was asked.
        host: String,
        /// The chain of causes.
        reason: String,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(String),
    /// It is not there.
    #[error("{what} is not in the registry{}", detail(.message))]
    NotFound {
        /// What was asked for.
        what: String,
        /// The registry's words.
        message: String,
    },
    /// Credentials are missing, wrong or not enough.
    #[error("{host} refuses access to {what}{}: log in, or check the name", detail(.message))]
    Denied {
        /// The registry, or its token service.
        host: String,
        /// What was asked for.
        what: String,
        /// The registry's words.
        message: String,
    },
    /// Any other answer that is not success.
    #[error("{what}: the registry answered {status}{}", detail(.message))]
    Status {
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The registry's words.
        message: String,
    },
    /// Something that this registry does not do.
    #[error("{what}: the registry does not {why}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What it does not do, and what to do instead.
        why: &'static str,
    },
    /// An answer that breaks the protocol.
    #[error("{what}: the registry's answer is not valid: {why}")]
    Protocol {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// An address that the registry named and that is not asked.
    #[error("{what}: the registry leads to {target}, which is refused: {why}")]
    Redirect {
        /// What was asked for.
        what: String,
        /// Where it would lead.
        target: String,
        /// Why not.
        why: &'static str,
    },
    /// The bytes are not those that the digest names.
    #[error("{what}: {source}")]
    Content {
        /// What was asked for.
        what: String,
        /// How it differs.
        source: VerifyError,
    },
    /// Stored credentials are of no use.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The configuration of registries is of no use, or forbids it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file on this side cannot be read or written.
    #[error("{what}: {source}")]
    Local {
        /// Which one.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

impl RegistryError {
    /// Whether another try may do better.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            _ => false,
        }
    }

    /// The same with the name of what was on its way, where a broken connection does not know it.
    pub(crate) fn of(self, what: &str) -> Self {
        match self {
            Self::Unreachable { host, reason } => {
                let reason = format!("{what}: {reason}");
                Self::Unreachable { host, reason }
            }
            error => error,
        }
    }
}

fn detail(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(" ({message})")
    }
}

/// An error's own words and those of all its causes, without the outer ones that only say that a
/// request failed.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let words = cause.to_string();
        if !parts.iter().any(|part| part.contains(&words)) {
            parts.push(words);
        }
        next = cause.source();
    }
    let says_little = |words: &String| {
        ["error sending request", "client error"]
            .iter()
            .any(|start| words.starts_with(start))
    };
    let last = parts.len().saturating_sub(1);
    let first = parts
        .iter()
        .take(last)
        .take_while(|p| says_little(p))
        .count();
    parts[first..].join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Link>>);

    #[test]
    fn the_cause_comes_first() {
        let refused = Link("connection refused", None);
        let connect = Link("client error (Connect)", Some(Box::new(refused)));
        let top = Link("error sending request", Some(Box::new(connect)));
        assert_eq!(chain(&top), "connection refused");
        let alone = Link("error sending request", None);
        assert_eq!(chain(&alone), "error sending request");
    }
}
