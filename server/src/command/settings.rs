//! The flags of settings, made from the table of keys.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use stratad::config::{Config, DEFAULT_FILE, FILE_VARIABLE, Inputs, KEYS, Key};

/// The settings that were typed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    file: Option<PathBuf>,
    flags: Vec<(&'static str, String)>,
}

impl Settings {
    /// With the environment of this process.
    pub(crate) fn inputs(self) -> Inputs {
        Inputs::of_process(self.file, self.flags)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut settings = Self::default();
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.file = matches.get_one("config").cloned();
        for flag in KEYS.iter().filter_map(|key| key.flag) {
            let values = matches.get_many::<String>(flag).into_iter().flatten();
            let values: Vec<_> = values.map(String::as_str).collect();
            if !values.is_empty() {
                self.flags.push((flag, values.join(",")));
            }
        }
        Ok(())
    }
}

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!(
                "The configuration file [env: {FILE_VARIABLE}] [default: {DEFAULT_FILE}, if it is there]"
            ));
        let flags = KEYS.iter().filter_map(|key| Some(flag(key, key.flag?)));
        command.arg(file).args(flags).after_help(
            "Flags win over the environment, the environment over the file. `stratad config show` prints all settings.",
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(key: &'static Key, flag: &'static str) -> Arg {
    let default = match key.show(&Config::new("")) {
        serde_json::Value::String(text) if !text.is_empty() => format!(" [default: {text}]"),
        _ if flag == "data" => {
            " [default: /var/lib/stratad, or a user's XDG data directory]".to_owned()
        }
        _ => String::new(),
    };
    let several = key.form().ends_with('…');
    let arg = Arg::new(flag)
        .long(flag)
        .value_name(key.form())
        // A mistake in what was typed is told like any other of its kind.
        .value_parser(move |word: &str| key.check(word).map(|()| word.to_owned()))
        .action(if several {
            ArgAction::Append
        } else {
            ArgAction::Set
        })
        .help(format!("{} [env: {}]{default}", key.help, key.variable));
    if key.is_switch() {
        return arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true");
    }
    arg
}
