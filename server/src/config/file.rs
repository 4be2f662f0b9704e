//! The configuration file: TOML (<https://toml.io/en/v1.0.0>), a table for each section. What is wrong in it is
//! told with its line and column, and all of it at once.

use std::ops::Range;

use toml::de::{DeArray, DeTable, DeValue};

use super::table::{KEYS, Key, nearest};
use super::value::Raw;

/// A value and where it is.
pub(super) struct Entry {
    pub(super) key: &'static Key,
    pub(super) raw: Raw,
    pub(super) at: At,
}

/// What is wrong, and where.
#[derive(Debug, PartialEq)]
pub(super) struct Mistake {
    pub(super) at: At,
    pub(super) message: String,
}

/// A place in a file; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Reads the file's text. Values are not looked into yet, only whether keys are known.
pub(super) fn parse(text: &str) -> (Vec<Entry>, Vec<Mistake>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What was recovered around an error would only be said to be wrong again.
        let mistakes = errors.iter().map(|error| Mistake {
            at: at(text, error.span().unwrap_or(0..0)),
            message: error.message().to_owned(),
        });
        return (Vec::new(), sorted(mistakes.collect()));
    }
    let (mut entries, mut mistakes) = (Vec::new(), Vec::new());
    for (section, value) in document.get_ref() {
        let name = section.get_ref().as_ref();
        let mut wrong = |span: Range<usize>, message| {
            mistakes.push(Mistake {
                at: at(text, span),
                message,
            });
        };
        if !sections().any(|known| known == name) {
            wrong(section.span(), unknown_section(name));
            continue;
        }
        let DeValue::Table(table) = value.get_ref() else {
            wrong(
                section.span(),
                format!("{name} is a section: write [{name}]"),
            );
            continue;
        };
        for (word, value) in table {
            let word_text = word.get_ref().as_ref();
            match KEYS.iter().find(|key| key.parts() == (name, word_text)) {
                Some(key) => entries.push(Entry {
                    key,
                    raw: raw(value.get_ref()),
                    at: at(text, value.span()),
                }),
                None => wrong(word.span(), unknown_key(name, word_text)),
            }
        }
    }
    entries.sort_by_key(|entry| entry.at);
    (entries, sorted(mistakes))
}

fn sorted(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    mistakes.sort_by_key(|mistake| mistake.at);
    mistakes
}

/// The sections, each as often as it has keys.
fn sections() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.parts().0)
}

fn names(section: &str) -> impl Iterator<Item = &'static str> {
    let keys = KEYS.iter().map(Key::parts);
    keys.filter_map(move |(of, name)| (of == section).then_some(name))
}

fn unknown_section(name: &str) -> String {
    if let Some(key) = KEYS.iter().find(|key| key.parts().1 == name) {
        let section = key.parts().0;
        return format!("{name} is a key of [{section}]: write it below that line");
    }
    if let Some(near) = nearest(name, sections()) {
        return format!("unknown section {name:?}; did you mean {near:?}?");
    }
    let mut known: Vec<_> = sections().collect();
    known.dedup();
    format!("unknown section {name:?}; there are {}", known.join(", "))
}

fn unknown_key(section: &str, name: &str) -> String {
    let elsewhere = KEYS.iter().find(|key| key.parts().1 == name);
    if let Some(near) = nearest(name, names(section)) {
        return format!("unknown key {name:?} in [{section}]; did you mean {near:?}?");
    }
    if let Some(key) = elsewhere {
        let right = key.parts().0;
        return format!("unknown key {name:?} in [{section}]; it belongs in [{right}]");
    }
    let known: Vec<_> = names(section).collect();
    let known = known.join(", ");
    format!("unknown key {name:?} in [{section}], which has {known}")
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.clone().into_owned()),
        DeValue::Boolean(value) => Raw::Switch(*value),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Raw::Integer(number),
            Err(_) => Raw::Other("integer beyond 64 bits"),
        },
        DeValue::Array(elements) => Raw::List(array(elements)),
        other => Raw::Other(other.type_str()),
    }
}

fn array(elements: &DeArray<'_>) -> Vec<Raw> {
    elements
        .iter()
        .map(|element| raw(element.get_ref()))
        .collect()
}

fn at(text: &str, span: Range<usize>) -> At {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or(before);
    At {
        line: before.matches('\n').count() + 1,
        column: line.chars().count() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        let (_, mistakes) = parse(text);
        let told = mistakes
            .iter()
            .map(|m| format!("{}:{}: {}", m.at.line, m.at.column, m.message));
        told.collect()
    }

    #[test]
    fn values_are_found_with_their_places() {
        let (entries, mistakes) =
            parse("# é\n[http]\nlisten = \"[::1]:1\"\n\n[limits]\nconnections = 0x10\n");
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let found: Vec<_> = entries
            .iter()
            .map(|e| (e.key.name, e.at.line, e.at.column))
            .collect();
        assert_eq!(
            found,
            [("http.listen", 3, 10), ("limits.connections", 6, 15)]
        );
        assert_eq!(entries[1].raw, Raw::Integer(16));
    }

    #[test]
    fn what_is_unknown_is_told_with_its_place_and_what_is_allowed() {
        let told = mistakes(
            "[http]\nlisen = 1\nlevel = 2\nwhat = 3\n[htp]\n[storage.data]\na = 1\n[cluster]\n",
        );
        assert_eq!(
            told,
            [
                "2:1: unknown key \"lisen\" in [http]; did you mean \"listen\"?",
                "3:1: unknown key \"level\" in [http]; it belongs in [log]",
                "4:1: unknown key \"what\" in [http], which has listen, public_url, trusted_proxies",
                "5:2: unknown section \"htp\"; did you mean \"http\"?",
                "8:2: unknown section \"cluster\"; there are http, admin, storage, limits, gc, log, telemetry",
            ]
        );
        assert_eq!(
            mistakes("sparse = true"),
            ["1:1: sparse is a key of [storage]: write it below that line"]
        );
        assert_eq!(
            mistakes("http = 1"),
            ["1:1: http is a section: write [http]"]
        );
    }

    #[test]
    fn broken_toml_is_told_with_its_place() {
        let told = mistakes("[http]\nlisten = \n[log\n");
        assert!(told[0].starts_with("2:"), "{told:?}");
        assert!(told.iter().any(|m| m.starts_with("3:")), "{told:?}");
        let twice = mistakes("[log]\nlevel = \"info\"\nlevel = \"warn\"\n");
        assert!(twice[0].starts_with("3:1:"), "{twice:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(text in "[\\[\\]a-z=\"'0-9\\n.{},#]{0,80}") {
            parse(&text);
        }
    }
}
