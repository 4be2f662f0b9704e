//! The keys: what each is called in the file, in the environment and on the command line, what it may be,
//! and whether it can change while the server runs. Everything else about keys comes from this table.

use std::time::Duration;

use super::Config;
use super::value::{Field, Raw};

/// One key.
pub struct Key {
    /// `section.name`, as in the file.
    pub name: &'static str,
    /// The environment variable.
    pub variable: &'static str,
    /// The flag of `stratad serve`, without the dashes.
    pub flag: Option<&'static str>,
    /// Whether a reload changes it; otherwise it takes a restart.
    pub reloads: bool,
    /// What it says, in a sentence.
    pub help: &'static str,
    pub(super) field: Field,
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const MIB: u64 = 1024 * 1024;

/// All keys, in the order of the documentation.
pub static KEYS: [Key; 19] = [
    Key {
        name: "http.listen",
        variable: "STRATAD_LISTEN",
        flag: Some("listen"),
        reloads: false,
        help: "Where the registry listens; port 0 takes a free one",
        field: Field::Addresses(|c| &mut c.http.listen),
    },
    Key {
        name: "http.public_url",
        variable: "STRATAD_HTTP_PUBLIC_URL",
        flag: Some("public-url"),
        reloads: true,
        help: "The URL that clients know the registry by; without it they are referred to relative paths",
        field: Field::Origin(|c| &mut c.http.public_url),
    },
    Key {
        name: "http.trusted_proxies",
        variable: "STRATAD_HTTP_TRUSTED_PROXIES",
        flag: None,
        reloads: true,
        help: "Addresses and networks of proxies whose Forwarded and X-Forwarded-* headers are believed",
        field: Field::Networks(|c| &mut c.http.trusted_proxies),
    },
    Key {
        name: "admin.listen",
        variable: "STRATAD_ADMIN_LISTEN",
        flag: Some("admin-listen"),
        reloads: false,
        help: "Where /metrics is served, and /livez and /readyz with their checks; the registry's own listener has these two in one word",
        field: Field::Address(|c| &mut c.admin.listen),
    },
    Key {
        name: "storage.data",
        variable: "STRATAD_DATA",
        flag: Some("data"),
        reloads: false,
        help: "The directory that holds everything",
        field: Field::Directory(|c| &mut c.storage.data),
    },
    Key {
        name: "storage.sparse",
        variable: "STRATAD_SPARSE",
        flag: Some("sparse"),
        reloads: true,
        help: "Accept manifests that name content which is not here, as a mirror of one platform has them",
        field: Field::Switch(|c| &mut c.storage.sparse),
    },
    Key {
        name: "limits.connections",
        variable: "STRATAD_LIMITS_CONNECTIONS",
        flag: None,
        reloads: false,
        help: "Connections at a time; more wait to be accepted",
        field: Field::Count(|c| &mut c.limits.connections, 1, 1_000_000),
    },
    Key {
        name: "limits.head",
        variable: "STRATAD_LIMITS_HEAD",
        flag: None,
        reloads: true,
        help: "Size of a request's head; a new value is for new connections",
        field: Field::Size(|c| &mut c.limits.head, 8 * 1024, MIB),
    },
    Key {
        name: "limits.head_timeout",
        variable: "STRATAD_LIMITS_HEAD_TIMEOUT",
        flag: None,
        reloads: true,
        help: "How long a connection may be idle, or take to send a request's head; a new value is for new connections",
        field: Field::Time(|c| &mut c.limits.head_timeout, SECOND, HOUR),
    },
    Key {
        name: "limits.body_timeout",
        variable: "STRATAD_LIMITS_BODY_TIMEOUT",
        flag: None,
        reloads: true,
        help: "How long a request's body may bring nothing",
        field: Field::Time(|c| &mut c.limits.body_timeout, SECOND, HOUR),
    },
    Key {
        name: "limits.body_rate",
        variable: "STRATAD_LIMITS_BODY_RATE",
        flag: None,
        reloads: true,
        help: "What a request's body must bring on average each second, once it has lasted for body_timeout",
        field: Field::Rate(|c| &mut c.limits.body_rate, 0, 1024 * MIB),
    },
    Key {
        name: "limits.write_timeout",
        variable: "STRATAD_LIMITS_WRITE_TIMEOUT",
        flag: None,
        reloads: true,
        help: "How long a client may take nothing of a response; a new value is for new connections",
        field: Field::Time(|c| &mut c.limits.write_timeout, SECOND, HOUR),
    },
    Key {
        name: "limits.drain",
        variable: "STRATAD_LIMITS_DRAIN",
        flag: None,
        reloads: true,
        help: "How long a stop waits for requests that are under way",
        field: Field::Time(|c| &mut c.limits.drain, Duration::ZERO, HOUR),
    },
    Key {
        name: "limits.upload_life",
        variable: "STRATAD_LIMITS_UPLOAD_LIFE",
        flag: None,
        reloads: true,
        help: "How long an upload is kept that nobody goes on with",
        field: Field::Time(|c| &mut c.limits.upload_life, SECOND, YEAR),
    },
    Key {
        name: "gc.interval",
        variable: "STRATAD_GC_INTERVAL",
        flag: None,
        reloads: true,
        help: "How often content is looked for that nothing names any more",
        field: Field::Time(|c| &mut c.gc.interval, SECOND, DAY),
    },
    Key {
        name: "gc.grace",
        variable: "STRATAD_GC_GRACE",
        flag: None,
        reloads: true,
        help: "How long such content is kept: a push sends blobs before the manifest that names them",
        field: Field::Time(|c| &mut c.gc.grace, Duration::ZERO, YEAR),
    },
    Key {
        name: "log.level",
        variable: "STRATAD_LOG_LEVEL",
        flag: Some("log-level"),
        reloads: true,
        help: "What is logged: off, error, warn, info, debug or trace, or several such as info,stratad=debug",
        field: Field::Levels(|c| &mut c.log.level),
    },
    Key {
        name: "log.format",
        variable: "STRATAD_LOG_FORMAT",
        flag: Some("log-format"),
        reloads: false,
        help: "How a line of the log looks: for people, or a JSON object",
        field: Field::Form(|c| &mut c.log.format),
    },
    Key {
        name: "telemetry.otlp_endpoint",
        variable: "STRATAD_TELEMETRY_OTLP_ENDPOINT",
        flag: None,
        reloads: false,
        help: "The collector that traces are sent to; only where the feature otel is built in",
        field: Field::Url(|c| &mut c.telemetry.otlp_endpoint),
    },
];

impl Key {
    /// Its section and its name in it.
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').unwrap_or(("", self.name))
    }

    /// What a value looks like, in a few characters.
    pub fn form(&self) -> &'static str {
        self.field.form()
    }

    /// Whether a word is a value of this key.
    ///
    /// # Errors
    /// What the key takes instead.
    pub fn check(&self, word: &str) -> Result<(), String> {
        let raw = Raw::Word(word.to_owned());
        self.field.set(&mut Config::new(""), &raw)
    }

    /// Whether its flag stands alone, without a value.
    pub fn is_switch(&self) -> bool {
        matches!(self.field, Field::Switch(_))
    }

    /// What these settings say, as it would be written in the file (a JSON value); null for nothing.
    pub fn show(&self, config: &Config) -> serde_json::Value {
        self.field.show(&mut config.clone())
    }
}

/// The key that an environment variable is for.
pub(super) fn of_variable(variable: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.variable == variable)
}

/// The known word that is nearest to one that is not, if any is near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(word, name), name))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_variables_and_flags_are_of_one_form_and_each_names_one_key() {
        let mut seen = HashSet::new();
        for key in &KEYS {
            let (section, name) = key.parts();
            assert!(!section.is_empty(), "{}", key.name);
            let regular = format!("STRATAD_{}_{}", section, name).to_uppercase();
            let short = format!("STRATAD_{name}").to_uppercase();
            let established = ["STRATAD_LISTEN", "STRATAD_DATA", "STRATAD_SPARSE"];
            let expected = if established.contains(&key.variable) {
                short
            } else {
                regular
            };
            assert_eq!(key.variable, expected);
            for word in [Some(key.name), Some(key.variable), key.flag]
                .into_iter()
                .flatten()
            {
                assert!(seen.insert(word), "{word} is there twice");
            }
        }
    }

    #[test]
    fn the_nearest_word_is_offered_and_none_that_is_far() {
        let known = || KEYS.iter().map(|key| key.parts().1);
        assert_eq!(nearest("lisen", known()), Some("listen"));
        assert_eq!(nearest("bodytimeout", known()), Some("body_timeout"));
        assert_eq!(nearest("storagedriver", known()), None);
    }
}
