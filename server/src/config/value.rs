//! The kinds of values: how each is read from a file, a variable or a flag, what it may be, and how it is shown.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::{Config, LogFormat, units};

/// A value as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    /// In a variable or a flag, where everything is text.
    Word(String),
    /// A string of the file.
    Text(String),
    /// A whole number of the file.
    Integer(i64),
    /// `true` or `false` in the file.
    Switch(bool),
    /// An array of the file.
    List(Vec<Raw>),
    /// What no key takes; its TOML type.
    Other(&'static str),
}

/// A field of the settings, by its kind.
#[derive(Clone, Copy)]
pub(super) enum Field {
    /// Yes or no.
    Switch(fn(&mut Config) -> &mut bool),
    /// A number, from and up to these.
    Count(fn(&mut Config) -> &mut usize, usize, usize),
    /// An amount of bytes, from and up to these.
    Size(fn(&mut Config) -> &mut usize, u64, u64),
    /// Bytes a second, from and up to these.
    Rate(fn(&mut Config) -> &mut u64, u64, u64),
    /// A length of time, from and up to these.
    Time(fn(&mut Config) -> &mut Duration, Duration, Duration),
    /// An address, or none.
    Address(fn(&mut Config) -> &mut Option<SocketAddr>),
    /// At least one address.
    Addresses(fn(&mut Config) -> &mut Vec<SocketAddr>),
    /// Addresses and networks, or none.
    Networks(fn(&mut Config) -> &mut Vec<IpNet>),
    /// A directory.
    Directory(fn(&mut Config) -> &mut PathBuf),
    /// The URL of a host, or none.
    Origin(fn(&mut Config) -> &mut Option<String>),
    /// A URL, or none.
    Url(fn(&mut Config) -> &mut Option<String>),
    /// Levels of the log.
    Levels(fn(&mut Config) -> &mut String),
    /// A form of the log.
    Form(fn(&mut Config) -> &mut LogFormat),
}

impl Field {
    /// What a value looks like, in a few characters.
    pub(super) fn form(self) -> &'static str {
        match self {
            Field::Switch(_) => "BOOL",
            Field::Count(..) => "NUMBER",
            Field::Size(..) | Field::Rate(..) => "SIZE",
            Field::Time(..) => "TIME",
            Field::Address(_) => "ADDR:PORT",
            Field::Addresses(_) => "ADDR:PORT,…",
            Field::Networks(_) => "NETWORK,…",
            Field::Directory(_) => "DIR",
            Field::Origin(_) | Field::Url(_) => "URL",
            Field::Levels(_) => "LEVEL",
            Field::Form(_) => "human|json",
        }
    }

    /// Reads a value and puts it into the settings; otherwise says what is allowed.
    pub(super) fn set(self, config: &mut Config, raw: &Raw) -> Result<(), String> {
        match self {
            Field::Switch(field) => *field(config) = switch(raw)?,
            Field::Count(field, low, high) => {
                let number = count(raw)?;
                let number = usize::try_from(number)
                    .ok()
                    .filter(|n| (low..=high).contains(n));
                *field(config) = number.ok_or_else(|| outside(raw, low, high))?;
            }
            Field::Size(field, low, high) => {
                let size = size(raw, low, high)?;
                *field(config) = usize::try_from(size).map_err(|e| e.to_string())?;
            }
            Field::Rate(field, low, high) => *field(config) = size(raw, low, high)?,
            Field::Time(field, low, high) => *field(config) = time(raw, low, high)?,
            Field::Address(field) => *field(config) = Some(address(text(raw)?)?),
            Field::Addresses(field) => {
                let addresses = list(raw, address)?;
                if addresses.is_empty() {
                    return Err("at least one address is needed".to_owned());
                }
                *field(config) = addresses;
            }
            Field::Networks(field) => *field(config) = list(raw, network)?,
            Field::Directory(field) => *field(config) = directory(raw)?,
            Field::Origin(field) => *field(config) = Some(origin(text(raw)?)?),
            Field::Url(field) => *field(config) = Some(url(text(raw)?)?),
            Field::Levels(field) => *field(config) = levels(text(raw)?)?,
            Field::Form(field) => {
                *field(config) = match text(raw)? {
                    "human" => LogFormat::Human,
                    "json" => LogFormat::Json,
                    other => return Err(format!("{other:?} is not \"human\" or \"json\"")),
                };
            }
        }
        Ok(())
    }

    /// Takes the value that other settings have.
    pub(super) fn copy(self, to: &mut Config, from: &mut Config) {
        match self {
            Field::Switch(field) => *field(to) = *field(from),
            Field::Count(field, ..) | Field::Size(field, ..) => *field(to) = *field(from),
            Field::Rate(field, ..) => *field(to) = *field(from),
            Field::Time(field, ..) => *field(to) = *field(from),
            Field::Address(field) => *field(to) = *field(from),
            Field::Addresses(field) => field(to).clone_from(field(from)),
            Field::Networks(field) => field(to).clone_from(field(from)),
            Field::Directory(field) => field(to).clone_from(field(from)),
            Field::Origin(field) | Field::Url(field) => field(to).clone_from(field(from)),
            Field::Levels(field) => field(to).clone_from(field(from)),
            Field::Form(field) => *field(to) = *field(from),
        }
    }

    /// The value as it would be written in the file; null when there is none.
    pub(super) fn show(self, config: &mut Config) -> Value {
        match self {
            Field::Switch(field) => json!(*field(config)),
            Field::Count(field, ..) => json!(*field(config)),
            Field::Size(field, ..) => json!(units::show_bytes(*field(config) as u64)),
            Field::Rate(field, ..) => json!(units::show_bytes(*field(config))),
            Field::Time(field, ..) => json!(units::show_duration(*field(config))),
            Field::Address(field) => json!(field(config).map(|a| a.to_string())),
            Field::Addresses(field) => match field(config).as_slice() {
                [one] => json!(one.to_string()),
                several => several.iter().map(ToString::to_string).collect(),
            },
            Field::Networks(field) => field(config).iter().map(ToString::to_string).collect(),
            Field::Directory(field) => json!(field(config).to_string_lossy()),
            Field::Origin(field) | Field::Url(field) => json!(field(config)),
            Field::Levels(field) => json!(field(config)),
            Field::Form(field) => json!(match field(config) {
                LogFormat::Human => "human",
                LogFormat::Json => "json",
            }),
        }
    }
}

/// How a value is named in a message.
fn named(raw: &Raw) -> String {
    match raw {
        Raw::Word(text) | Raw::Text(text) => format!("{text:?}"),
        Raw::Integer(number) => number.to_string(),
        Raw::Switch(value) => value.to_string(),
        Raw::List(_) => "an array".to_owned(),
        Raw::Other(kind) => format!("a value of type {kind}"),
    }
}

fn outside(raw: &Raw, low: impl ToString, high: impl ToString) -> String {
    let (low, high) = (low.to_string(), high.to_string());
    format!("{} is not within {low} and {high}", named(raw))
}

fn text(raw: &Raw) -> Result<&str, String> {
    match raw {
        Raw::Word(text) | Raw::Text(text) => Ok(text),
        _ => Err(format!("{} is not a string", named(raw))),
    }
}

/// The elements of an array, of one string, or of a word with commas.
fn list<T>(raw: &Raw, read: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    match raw {
        Raw::Word(words) => words.split(',').map(|word| read(word.trim())).collect(),
        Raw::List(elements) => elements.iter().map(|e| read(text(e)?)).collect(),
        Raw::Text(text) => Ok(vec![read(text)?]),
        _ => Err(format!(
            "{} is not a string or an array of strings",
            named(raw)
        )),
    }
}

fn switch(raw: &Raw) -> Result<bool, String> {
    match raw {
        Raw::Switch(value) => Ok(*value),
        Raw::Word(word) => match word.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(format!("{} is not true or false", named(raw))),
        },
        _ => Err(format!(
            "{} is not true or false (without quotes)",
            named(raw)
        )),
    }
}

fn count(raw: &Raw) -> Result<i64, String> {
    let number = match raw {
        Raw::Integer(number) => Some(*number),
        Raw::Word(word) => word.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| format!("{} is not a whole number", named(raw)))
}

fn size(raw: &Raw, low: u64, high: u64) -> Result<u64, String> {
    let size = match raw {
        Raw::Word(text) | Raw::Text(text) => units::bytes(text),
        _ => None,
    };
    let size = size.ok_or_else(|| {
        let named = named(raw);
        format!("{named} is not an amount of bytes: say a whole number and its unit, such as \"64KiB\" (B, KiB, MiB, GiB, kB, MB, GB)")
    })?;
    if (low..=high).contains(&size) {
        return Ok(size);
    }
    Err(outside(
        raw,
        units::show_bytes(low),
        units::show_bytes(high),
    ))
}

fn time(raw: &Raw, low: Duration, high: Duration) -> Result<Duration, String> {
    let time = match raw {
        Raw::Word(text) | Raw::Text(text) => units::duration(text),
        _ => None,
    };
    let time = time.ok_or_else(|| {
        let named = named(raw);
        format!("{named} is not a length of time: say a whole number and its unit, such as \"60s\" (ms, s, m, h, d, w)")
    })?;
    if (low..=high).contains(&time) {
        return Ok(time);
    }
    let (low, high) = (units::show_duration(low), units::show_duration(high));
    Err(outside(raw, low, high))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not an address and port, such as 127.0.0.1:5000, 0.0.0.0:5000 or [::]:5000 (no names)")
    })
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().ok();
    network
        .or_else(|| Some(IpNet::from(text.parse::<IpAddr>().ok()?)))
        .map(|network| network.trunc())
        .ok_or_else(|| {
            format!(
                "{text:?} is not an address or a network, such as 10.0.0.7, 10.0.0.0/8 or fd00::/8"
            )
        })
}

/// A file does not know from where the server is started, so it has to name the whole path.
fn directory(raw: &Raw) -> Result<PathBuf, String> {
    let text = text(raw)?;
    if text.is_empty() || text.contains('\0') {
        return Err(format!("{text:?} is not a directory"));
    }
    if matches!(raw, Raw::Text(_)) && !Path::new(text).is_absolute() {
        return Err(format!("{text:?} is not an absolute path"));
    }
    Ok(PathBuf::from(text))
}

/// Clients know a registry by its host alone: the protocol's paths begin at its root.
fn origin(text: &str) -> Result<String, String> {
    let url = url(text)?;
    let parsed = url.parse::<http::Uri>().map_err(|e| e.to_string())?;
    if parsed.path() != "/" || parsed.query().is_some() || url.contains('#') {
        return Err(format!(
            "{text:?} has a path: clients reach a registry at the root of a host, such as https://registry.example.com"
        ));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn url(text: &str) -> Result<String, String> {
    let parsed = text.parse::<http::Uri>().ok();
    let authority = parsed.as_ref().and_then(http::Uri::authority);
    if authority.is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("a URL with a user or a password is not taken here".to_owned());
    }
    let known = parsed.as_ref().and_then(http::Uri::scheme_str);
    let rest = authority.and_then(|a| a.as_str().strip_prefix(a.host()));
    let host = authority.is_some_and(|authority| !authority.host().is_empty());
    let port = authority.is_some_and(|authority| authority.port_u16().is_some());
    if matches!(known, Some("http" | "https")) && host && (port || rest == Some("")) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is not a URL, such as https://registry.example.com"
    ))
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn levels(text: &str) -> Result<String, String> {
    let is_target = |name: &str| {
        let mut characters = name.chars();
        !name.is_empty() && characters.all(|c| c.is_ascii_alphanumeric() || "_:".contains(c))
    };
    for directive in text.split(',') {
        let (target, level) = directive.rsplit_once('=').unwrap_or(("stratad", directive));
        let level = level.trim().to_ascii_lowercase();
        if !LEVELS.contains(&level.as_str()) || !is_target(target.trim()) {
            return Err(format!(
                "{directive:?} is not a level: say off, error, warn, info, debug or trace, or several such as \"info,stratad=debug\""
            ));
        }
    }
    Ok(text.to_owned())
}
