//! The settings as text: as a file that could be read again, or as JSON. There are no secrets among them.

use serde_json::{Map, Value, json};

use super::load::{Loaded, Source};
use super::table::{KEYS, Key};

impl Loaded {
    /// A configuration file that says the same, with where each value is from.
    pub fn toml(&self) -> String {
        let mut text = String::new();
        let mut last = "";
        for (key, source) in KEYS.iter().zip(&self.sources) {
            let (section, name) = key.parts();
            if section != last {
                let gap = if last.is_empty() { "" } else { "\n" };
                text.push_str(&format!("{gap}[{section}]\n"));
                last = section;
            }
            let value = key.show(&self.config);
            let line = match &value {
                Value::Null => format!("# {name} is not set"),
                // JSON's strings, numbers, booleans and arrays of strings are TOML's too.
                value => format!("{name} = {value}"),
            };
            text.push_str(&format!(
                "{line:<40} # {}, {}\n",
                key.variable,
                told(source)
            ));
        }
        text
    }

    /// An object for each section; in it for each key an object of its value and its source.
    pub fn json(&self) -> Value {
        let mut sections = Map::new();
        for (key, source) in KEYS.iter().zip(&self.sources) {
            let (section, name) = key.parts();
            let entry = json!({ "value": key.show(&self.config), "source": source.to_string() });
            let keys = sections.entry(section).or_insert_with(|| json!({}));
            if let Value::Object(keys) = keys {
                keys.insert(name.to_owned(), entry);
            }
        }
        Value::Object(sections)
    }
}

fn told(source: &Source) -> String {
    match source {
        Source::Default => "default".to_owned(),
        other => format!("from {other}"),
    }
}

impl Key {
    /// Its row in the documentation's table.
    pub fn row(&self, defaults: &super::Config) -> String {
        let default = match self.show(defaults) {
            Value::Null => "none".to_owned(),
            Value::Array(elements) if elements.is_empty() => "none".to_owned(),
            Value::String(text) if text.is_empty() => "see below".to_owned(),
            value => format!("`{value}`"),
        };
        let flag = self
            .flag
            .map_or(String::new(), |flag| format!("`--{flag}`"));
        let reload = if self.reloads { "yes" } else { "restart" };
        format!(
            "| `{}` | `{}` | {flag} | {default} | {reload} | {}. |",
            self.name, self.variable, self.help
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Inputs, KEYS, Source};

    const DOCUMENTATION: &str = include_str!("../../../docs/configuration.md");
    const EXAMPLE: &str = include_str!("../../../packaging/stratad.toml");

    #[test]
    fn the_documentation_has_each_key_with_what_the_table_says() {
        let defaults = Config::new("");
        let rows: Vec<_> = KEYS.iter().map(|key| key.row(&defaults)).collect();
        let there: Vec<_> = DOCUMENTATION
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        assert_eq!(
            there,
            rows,
            "docs/configuration.md should have:\n{}",
            rows.join("\n")
        );
    }

    #[test]
    fn the_example_file_names_each_key_with_its_default() {
        let text: String = EXAMPLE
            .lines()
            .map(|line| format!("{}\n", uncommented(line)))
            .collect();
        let (entries, mistakes) = super::super::file::parse(&text);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let mut config = Config::new("");
        for entry in &entries {
            entry
                .key
                .field
                .set(&mut config, &entry.raw)
                .expect(entry.key.name);
        }
        let named: Vec<_> = entries.iter().map(|entry| entry.key.name).collect();
        for key in &KEYS {
            assert!(
                named.contains(&key.name),
                "packaging/stratad.toml lacks {}",
                key.name
            );
        }
        let defaults = Config::new("/var/lib/stratad");
        for key in &KEYS {
            let default = key.show(&defaults);
            let set = !default.is_null() && default != serde_json::json!([]);
            assert!(!set || key.show(&config) == default, "{}", key.name);
        }
    }

    /// Lines `#key = value` of the example are settings; `# text` is for people.
    fn uncommented(line: &str) -> &str {
        let rest = line.strip_prefix('#').unwrap_or(line);
        if rest.starts_with(' ') { line } else { rest }
    }

    #[test]
    fn what_is_shown_says_the_same_when_it_is_read() {
        let inputs = Inputs {
            flags: vec![
                ("listen", "[::1]:7,127.0.0.1:8".to_owned()),
                ("data", "/a \"b\" #c".to_owned()),
            ],
            variables: vec![
                ("STRATAD_LIMITS_HEAD_TIMEOUT".to_owned(), "1m1s".to_owned()),
                (
                    "STRATAD_HTTP_TRUSTED_PROXIES".to_owned(),
                    "10.1.2.3/8, ::1".to_owned(),
                ),
            ],
            ..Inputs::default()
        };
        let loaded = inputs.load().expect("load");
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("shown.toml");
        std::fs::write(&path, loaded.toml()).expect("write");
        let again = Inputs {
            file: Some(path.clone()),
            ..Inputs::default()
        };
        let again = again.load().expect("load");
        assert_eq!(again.config, loaded.config);
        assert_eq!(again.sources[0], Source::File(path, 2));
        let json = loaded.json();
        assert_eq!(json["http"]["listen"]["source"], "--listen");
        assert_eq!(json["http"]["trusted_proxies"]["value"][0], "10.0.0.0/8");
        assert_eq!(
            json["limits"]["head_timeout"]["source"],
            "STRATAD_LIMITS_HEAD_TIMEOUT"
        );
        assert_eq!(json["gc"]["grace"]["source"], "default");
    }
}
