//! What a list of images is limited to: docker's filters.

use std::str::FromStr;

use anyhow::Result;
use strata::store::{Image, Store};

use super::{created, matches};
use crate::command::find::local_image;

/// One filter, `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Has no name, or has one.
    Dangling(bool),
    /// Has a name of this form.
    Reference(String),
    /// Has this label, with this value if one is given.
    Label(String, Option<String>),
    /// Built before this image.
    Before(String),
    /// Built after this image.
    Since(String),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
        let owned = value.to_owned();
        Ok(match key {
            "dangling" => match value {
                "true" | "1" => Self::Dangling(true),
                "false" | "0" => Self::Dangling(false),
                _ => return Err(format!("dangling= takes true or false, not {value:?}")),
            },
            "reference" => Self::Reference(owned),
            "label" => match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(owned, None),
            },
            "before" => Self::Before(owned),
            "since" => Self::Since(owned),
            _ => {
                return Err(format!(
                    "unknown filter {key:?}: dangling, reference, label, before or since"
                ));
            }
        })
    }
}

/// Keeps the images that all filters together let through, with the names that they let through: several forms of names
/// are alternatives.
///
/// # Errors
/// There is no image of that name.
pub(super) fn keep(store: &Store, images: &mut Vec<Image>, filters: &[Filter]) -> Result<()> {
    let forms: Vec<&str> = filters
        .iter()
        .filter_map(|filter| match filter {
            Filter::Reference(form) => Some(form.as_str()),
            _ => None,
        })
        .collect();
    for filter in filters {
        match filter {
            Filter::Dangling(wanted) => {
                images.retain(|image| image.references.is_empty() == *wanted);
            }
            Filter::Label(key, value) => images.retain(|image| {
                let has = image.config.config.labels.get(key);
                has.is_some_and(|has| value.as_ref().is_none_or(|value| value == has))
            }),
            Filter::Before(name) => {
                let limit = created(&local_image(store, name)?);
                images.retain(|image| created(image) < limit);
            }
            Filter::Since(name) => {
                let limit = created(&local_image(store, name)?);
                images.retain(|image| created(image) > limit);
            }
            Filter::Reference(_) => {}
        }
    }
    if !forms.is_empty() {
        for image in images.iter_mut() {
            let references = &mut image.references;
            references.retain(|full| forms.iter().any(|form| matches(form, full)));
        }
        images.retain(|image| !image.references.is_empty());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_dockers_and_others_are_refused() {
        for (text, filter) in [
            ("dangling=true", Filter::Dangling(true)),
            ("dangling=0", Filter::Dangling(false)),
            ("label=a=b=c", Filter::Label("a".into(), Some("b=c".into()))),
            ("label=a", Filter::Label("a".into(), None)),
            ("reference=deb*", Filter::Reference("deb*".into())),
        ] {
            assert_eq!(text.parse(), Ok(filter), "{text}");
        }
        for text in ["dangling", "dangling=maybe", "size=1"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }
}
