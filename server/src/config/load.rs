//! Where settings come from: flags win over the environment, that over the file, and the file over the defaults.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::table::{KEYS, Key, nearest, of_variable};
use super::value::Raw;
use super::{Config, default_data, file};

/// The file that is read when none was named, if it is there.
pub const DEFAULT_FILE: &str = "/etc/stratad/stratad.toml";

/// The environment variable that names the file.
pub const FILE_VARIABLE: &str = "STRATAD_CONFIG";

const PREFIX: &str = "STRATAD_";

/// Bytes of a configuration file, at most.
const LONGEST: u64 = 1024 * 1024;

/// What was said when the program was started. A reload reads the file anew; the rest stays.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The file that a flag names.
    pub file: Option<PathBuf>,
    /// Flags of keys and their values.
    pub flags: Vec<(&'static str, String)>,
    /// The environment: variables that begin with `STRATAD_`. An empty one is as if it were not set.
    pub variables: Vec<(String, String)>,
}

/// Settings, and where each is from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings. The data directory is empty when none was said and the user has no home.
    pub config: Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Where each is from, in the order of [`KEYS`].
    pub sources: Vec<Source>,
    /// What is odd, but no reason to stop.
    pub warnings: Vec<Problem>,
}

/// Where a setting is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nothing was said.
    Default,
    /// A line of the file.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(&'static str),
    /// A flag, without the dashes.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path, line) => write!(f, "{}:{line}", path.display()),
            Source::Variable(name) => f.write_str(name),
            Source::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// What is wrong with the settings, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Problem {
    /// File with line and column, variable, or flag.
    pub place: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

fn problem(place: impl ToString, message: impl Into<String>) -> Problem {
    Problem {
        place: place.to_string(),
        message: message.into(),
    }
}

impl Inputs {
    /// Takes the variables of this process that are for the server.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(&'static str, String)>) -> Self {
        let ours = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            // What is not UTF-8 is wrong as any value.
            let value = value.to_string_lossy().into_owned();
            (name.starts_with(PREFIX) && !value.is_empty()).then_some((name, value))
        });
        Self {
            file,
            flags,
            variables: ours.collect(),
        }
    }

    /// Reads the file and puts everything together; or tells all that is wrong.
    pub fn load(&self) -> Result<Loaded, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut loaded = Loaded {
            config: Config::new(default_data().unwrap_or_default()),
            file: None,
            sources: vec![Source::Default; KEYS.len()],
            warnings: Vec::new(),
        };
        self.read_file(&mut loaded, &mut problems);
        for (name, value) in &self.variables {
            if let Some(key) = of_variable(name) {
                let source = Source::Variable(key.variable);
                loaded.set(key, value, source, &mut problems);
            } else if name != FILE_VARIABLE && !is_of_an_orchestrator(name) {
                loaded.warnings.push(unknown_variable(name));
            }
        }
        for (flag, value) in &self.flags {
            if let Some(key) = KEYS.iter().find(|key| key.flag == Some(flag)) {
                loaded.set(key, value, Source::Flag(flag), &mut problems);
            }
        }
        problems.extend(loaded.contradictions());
        if problems.is_empty() {
            Ok(loaded)
        } else {
            Err(problems)
        }
    }

    fn read_file(&self, loaded: &mut Loaded, problems: &mut Vec<Problem>) {
        let variable = self
            .variables
            .iter()
            .find(|(name, _)| name == FILE_VARIABLE);
        let named = self
            .file
            .clone()
            .or_else(|| Some(PathBuf::from(&variable?.1)));
        let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        let text = match read(&path) {
            Ok(Some(text)) => text,
            Ok(None) if named.is_none() => return,
            Ok(None) => return problems.push(problem(path.display(), "there is no such file")),
            Err(message) => return problems.push(problem(path.display(), message)),
        };
        let place = |at: file::At| format!("{}:{}:{}", path.display(), at.line, at.column);
        let (entries, mistakes) = file::parse(&text);
        for mistake in mistakes {
            problems.push(problem(place(mistake.at), mistake.message));
        }
        for entry in entries {
            match entry.key.field.set(&mut loaded.config, &entry.raw) {
                Ok(()) => loaded.note(entry.key, Source::File(path.clone(), entry.at.line)),
                Err(message) => {
                    let message = format!("{}: {message}", entry.key.name);
                    problems.push(problem(place(entry.at), message));
                }
            }
        }
        loaded.file = Some(path);
    }
}

impl Loaded {
    fn set(&mut self, key: &Key, value: &str, source: Source, problems: &mut Vec<Problem>) {
        match key
            .field
            .set(&mut self.config, &Raw::Word(value.to_owned()))
        {
            Ok(()) => self.note(key, source),
            Err(message) => problems.push(problem(source, message)),
        }
    }

    fn note(&mut self, key: &Key, source: Source) {
        for (known, place) in KEYS.iter().zip(&mut self.sources) {
            if known.name == key.name {
                place.clone_from(&source);
            }
        }
    }

    /// What each setting allows, but not all of them together.
    fn contradictions(&self) -> Option<Problem> {
        let (http, admin) = (&self.config.http.listen, self.config.admin.listen?);
        let same = admin.port() != 0 && http.contains(&admin);
        same.then(|| {
            problem(
                "admin.listen",
                format!("{admin} is an address of http.listen, too"),
            )
        })
    }

    /// The settings to go on with when the file was read anew: those that only a restart changes are
    /// as `running` has them. Returns what changes now and what does not, with the values before and after.
    pub fn after(mut self, running: &Config) -> (Config, Vec<Change>) {
        let mut running = running.clone();
        let mut changes = Vec::new();
        for key in &KEYS {
            let (before, after) = (key.show(&running), key.show(&self.config));
            if before == after {
                continue;
            }
            if !key.reloads {
                key.field.copy(&mut self.config, &mut running);
            }
            changes.push(Change { key, before, after });
        }
        (self.config, changes)
    }
}

/// A setting that is not what it was before a reload.
pub struct Change {
    /// Which.
    pub key: &'static Key,
    /// The value until now.
    pub before: serde_json::Value,
    /// The value that was read.
    pub after: serde_json::Value,
}

/// The text of a file; `None` when there is none.
fn read(path: &Path) -> Result<Option<String>, String> {
    let failed = |error| format!("cannot read it: {error}");
    let opened = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    let read = opened.take(LONGEST + 1).read_to_end(&mut bytes);
    if read.map_err(failed)? as u64 > LONGEST {
        return Err("it is longer than 1 MiB".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8")
    });
    text.map(Some)
}

/// Container engines and Kubernetes tell each container where others of its network are; for one that
/// is called `stratad` by variables that begin as ours do (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>).
fn is_of_an_orchestrator(variable: &str) -> bool {
    let rest = variable.strip_prefix(PREFIX).unwrap_or_default();
    ["SERVICE_", "PORT", "NAME", "ENV_"]
        .iter()
        .any(|of| rest.starts_with(of))
}

fn unknown_variable(name: &str) -> Problem {
    let known = KEYS.iter().map(|key| key.variable).chain([FILE_VARIABLE]);
    let message = match nearest(name, known) {
        Some(near) => format!("not a variable of stratad; did you mean {near}?"),
        None => "not a variable of stratad; `stratad config show` lists them".to_owned(),
    };
    problem(name, message)
}
