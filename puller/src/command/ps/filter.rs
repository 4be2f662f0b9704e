//! What a list of containers is limited to: docker's filters.

use std::str::FromStr;

use anyhow::Result;
use strata::run::config::{Config, Network, Source};
use strata::store::Store;
use strata::store::containers::Container;

use crate::command::containers::find;

/// One filter, `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Has this in its name.
    Name(String),
    /// Its id begins so.
    Id(String),
    /// In this state, docker's word.
    Status(String),
    /// Has this label, with this value if one is given.
    Label(String, Option<String>),
    /// Of this image.
    Ancestor(String),
    /// Ended with this code.
    Exited(u8),
    /// Made before this container.
    Before(String),
    /// Made after this container.
    Since(String),
    /// Has this volume, or something mounted there.
    Volume(String),
    /// In this network.
    Network(String),
}

const STATES: [&str; 7] = [
    "created",
    "restarting",
    "running",
    "removing",
    "paused",
    "exited",
    "dead",
];

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
        let owned = value.to_owned();
        Ok(match key {
            "name" => Self::Name(value.trim_start_matches('/').to_owned()),
            "id" => Self::Id(value.to_ascii_lowercase()),
            "status" if STATES.contains(&value) => Self::Status(owned),
            "status" => {
                return Err(format!(
                    "invalid status {value:?}: one of {}",
                    STATES.join(", ")
                ));
            }
            "label" => match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(owned, None),
            },
            "ancestor" => Self::Ancestor(owned),
            "exited" => Self::Exited(
                value
                    .parse()
                    .map_err(|_| "exited= takes an exit code, 0 to 255")?,
            ),
            "before" => Self::Before(owned),
            "since" => Self::Since(owned),
            "volume" => Self::Volume(owned),
            "network" => Self::Network(owned),
            _ => {
                return Err(format!(
                    "unknown filter {key:?}: name, id, status, label, ancestor, exited, before, since, volume or network"
                ));
            }
        })
    }
}

impl Filter {
    /// Whether it chooses by what only some states have.
    pub(super) fn is_about_state(&self) -> bool {
        matches!(self, Self::Status(_) | Self::Exited(_))
    }

    /// Filters of one key are alternatives (but for labels), those of different keys count all.
    fn key(&self) -> u8 {
        match self {
            Self::Name(_) => 0,
            Self::Id(_) => 1,
            Self::Status(_) => 2,
            Self::Label(..) => 3,
            Self::Ancestor(_) => 4,
            Self::Exited(_) => 5,
            Self::Before(_) => 6,
            Self::Since(_) => 7,
            Self::Volume(_) => 8,
            Self::Network(_) => 9,
        }
    }
}

/// Which of the containers, the newest first, all filters together let through.
pub(super) fn choose(store: &Store, all: &[Container], filters: &[Filter]) -> Result<Vec<bool>> {
    let mut chosen = vec![true; all.len()];
    for key in 0..10u8 {
        let of_key: Vec<&Filter> = filters
            .iter()
            .filter(|filter| filter.key() == key)
            .collect();
        let Some(first) = of_key.first() else {
            continue;
        };
        let every = matches!(first, Filter::Label(..));
        let mut admitted = Vec::new();
        for filter in &of_key {
            admitted.push(admit(store, all, filter)?);
        }
        for (index, chosen) in chosen.iter_mut().enumerate() {
            let mut each = admitted.iter().map(|admitted| admitted[index]);
            *chosen &= if every {
                each.all(|a| a)
            } else {
                each.any(|a| a)
            };
        }
    }
    Ok(chosen)
}

fn admit(store: &Store, all: &[Container], filter: &Filter) -> Result<Vec<bool>> {
    let config = |container: &Container| {
        let read = Config::read(&store.container_dir(&container.id));
        read.ok().flatten().unwrap_or_default()
    };
    let position = |name: &str| -> Result<usize> {
        let id = find(store, name)?.id;
        Ok(all.iter().position(|c| c.id == id).unwrap_or(all.len()))
    };
    let by = |admits: &dyn Fn(&Container) -> bool| all.iter().map(admits).collect();
    Ok(match filter {
        Filter::Name(part) => by(&|c| c.name.contains(part.as_str())),
        Filter::Id(start) => by(&|c| c.id.starts_with(start.as_str())),
        Filter::Status(word) => by(&|c| c.status() == word),
        Filter::Exited(code) => by(&|c| c.status() == "exited" && c.exit_code == Some(*code)),
        Filter::Ancestor(image) => {
            let digest = store.image(image)?.map(|image| image.digest);
            by(&|c| Some(&c.manifest_digest) == digest.as_ref())
        }
        Filter::Label(key, value) => by(&|c| {
            let labels = config(c).labels;
            let has = labels.get(key);
            has.is_some_and(|has| value.as_ref().is_none_or(|value| value == has))
        }),
        Filter::Before(name) => {
            let at = position(name)?;
            (0..all.len()).map(|index| index > at).collect()
        }
        Filter::Since(name) => {
            let at = position(name)?;
            (0..all.len()).map(|index| index < at).collect()
        }
        Filter::Volume(wanted) => by(&|c| {
            config(c).mounts.iter().any(|mount| {
                let named = matches!(&mount.source, Source::Volume { name, .. } if name == wanted);
                named || mount.target == *wanted
            })
        }),
        Filter::Network(wanted) => by(&|c| {
            let name = match config(c).network {
                Network::Host => "host",
                Network::None => "none",
            };
            name == wanted
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_dockers_and_others_are_refused() {
        for (text, filter) in [
            ("name=/web", Filter::Name("web".into())),
            ("status=paused", Filter::Status("paused".into())),
            ("label=a=b=c", Filter::Label("a".into(), Some("b=c".into()))),
            ("label=a", Filter::Label("a".into(), None)),
            ("exited=137", Filter::Exited(137)),
        ] {
            assert_eq!(text.parse(), Ok(filter), "{text}");
        }
        for bad in ["", "name", "status=up", "exited=256", "colour=red"] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }
}
