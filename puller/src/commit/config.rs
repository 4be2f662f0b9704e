//! The configuration of an image that is made of another one (image-spec, config.md).
//!
//! What the other one's says and nobody changes stays, whatever it is. What only says how that one was built goes: docker's
//! `container`, `container_config`, `id` and `parent`.

use serde_json::{Map, Value, json};
use strata_oci::Digest;
use strata_oci::config::{ContainerConfig, History, MAX_CONFIG};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::CommitError;

/// Docker's notes about the build of the image below.
const OF_THE_BUILD: [&str; 5] = ["container", "container_config", "id", "parent", "parent_id"];

/// A configuration under change.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    document: Map<String, Value>,
}

impl Draft {
    /// Starts from an image's configuration.
    pub(super) fn of(config: &[u8]) -> Result<Self, CommitError> {
        let document: Value = serde_json::from_slice(config).map_err(invalid)?;
        let Value::Object(mut document) = document else {
            return Err(CommitError::Config("it is no object".to_owned()));
        };
        for key in OF_THE_BUILD {
            document.remove(key);
        }
        Ok(Self { document })
    }

    /// Says when it was made.
    pub(super) fn created(&mut self, created: &str) {
        self.document.insert("created".to_owned(), created.into());
    }

    /// Says who made it, if anybody is named.
    pub(super) fn author(&mut self, author: Option<&str>) {
        if let Some(author) = author {
            self.document.insert("author".to_owned(), author.into());
        }
    }

    /// Adds a step, with the layer that it made if it made one.
    pub(super) fn step(&mut self, step: History, diff_id: Option<&Digest>) {
        let step = History {
            empty_layer: diff_id.is_none(),
            ..step
        };
        if let Some(history) = list(&mut self.document, "history") {
            history.push(json!(step));
        }
        let rootfs = self.document.entry("rootfs").or_insert_with(|| json!({}));
        if let (Some(rootfs), Some(diff_id)) = (rootfs.as_object_mut(), diff_id) {
            rootfs.insert("type".to_owned(), "layers".into());
            if let Some(diff_ids) = list(rootfs, "diff_ids") {
                diff_ids.push(json!(diff_id));
            }
        }
    }

    /// Says how containers start. Fields that are not known here stay.
    pub(super) fn starts(&mut self, config: &ContainerConfig) {
        let known = json!(config);
        let old = self.document.entry("config").or_insert_with(|| json!({}));
        if !old.is_object() {
            *old = json!({});
        }
        let (Some(old), Value::Object(known)) = (old.as_object_mut(), known) else {
            return;
        };
        // Those that say nothing are not written at all.
        for key in ["Healthcheck", "OnBuild", "Shell"] {
            old.remove(key);
        }
        for (key, value) in known {
            let is_empty = match &value {
                Value::Null => true,
                Value::String(text) => text.is_empty(),
                Value::Array(items) => items.is_empty(),
                Value::Object(fields) => fields.is_empty(),
                _ => false,
            };
            if is_empty {
                old.remove(&key);
            } else {
                old.insert(key, value);
            }
        }
    }

    /// Replaces layers and steps.
    pub(super) fn layers(&mut self, diff_ids: &[Digest], history: &[History]) {
        let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
        self.document.insert("rootfs".to_owned(), rootfs);
        self.document.insert("history".to_owned(), json!(history));
    }

    /// The bytes, whose digest is the image's id.
    pub(super) fn bytes(self) -> Result<Vec<u8>, CommitError> {
        let bytes = serde_json::to_vec(&self.document).map_err(invalid)?;
        match bytes.len() as u64 > MAX_CONFIG {
            true => Err(CommitError::Config("it would be too large".to_owned())),
            false => Ok(bytes),
        }
    }
}

fn invalid(error: serde_json::Error) -> CommitError {
    CommitError::Config(error.to_string())
}

/// The list under a key, made if it is missing or `null`; `None` for what is no list.
fn list<'a>(document: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Vec<Value>> {
    let value = document.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut()
}

/// The moment at which images are made, and the latest one that a file in a new layer may have: both are the
/// time of `SOURCE_DATE_EPOCH` where that is set, so that the same work gives the same image
/// (reproducible-builds.org, "SOURCE_DATE_EPOCH specification").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// RFC 3339.
    pub created: String,
    /// Seconds since 1970.
    pub latest: Option<i64>,
}

impl Moment {
    /// The value of the variable, if it is set; else now.
    ///
    /// # Errors
    /// It is no time.
    pub fn of(epoch: Option<&str>) -> Result<Self, CommitError> {
        let Some(text) = epoch.filter(|text| !text.is_empty()) else {
            let created = OffsetDateTime::now_utc().format(&Rfc3339);
            return Ok(Self {
                created: created.map_err(|error| CommitError::Config(error.to_string()))?,
                latest: None,
            });
        };
        let bad = || CommitError::Epoch(text.chars().take(80).collect());
        let seconds: i64 = text.parse().map_err(|_| bad())?;
        let time = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| bad())?;
        Ok(Self {
            created: time.format(&Rfc3339).map_err(|_| bad())?,
            latest: Some(seconds),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_changes_stays_and_what_the_builder_noted_goes() {
        let old =
            br#"{"os":"linux","x-own":1,"container_config":{"Cmd":["build"]},"parent":"sha256:1",
            "config":{"Cmd":["old"],"User":"me","Own":{"Test":["NONE"]},"OnBuild":["RUN x"],"Shell":["/bin/bash","-c"]},"history":null,
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let mut draft = Draft::of(old).expect("a draft");
        draft.created("2026-01-02T03:04:05Z");
        draft.author(Some("someone"));
        let diff_id = Digest::of(b"tar");
        let comment = Some("why".to_owned());
        let step = History {
            comment,
            ..History::default()
        };
        draft.step(step.clone(), Some(&diff_id));
        draft.step(step, None);
        draft.starts(&ContainerConfig {
            cmd: vec!["new".to_owned()],
            healthcheck: Some(json!({"Test": ["NONE"]})),
            ..ContainerConfig::default()
        });
        let new: Value = serde_json::from_slice(&draft.bytes().expect("bytes")).expect("JSON");
        assert_eq!(
            new,
            json!({
                "os": "linux", "x-own": 1, "created": "2026-01-02T03:04:05Z", "author": "someone",
                "config": {"Cmd": ["new"], "Own": {"Test": ["NONE"]}, "Healthcheck": {"Test": ["NONE"]}},
                "history": [{"comment": "why"}, {"comment": "why", "empty_layer": true}],
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            })
        );
        assert!(Draft::of(b"[]").is_err() && Draft::of(b"{").is_err());
    }

    #[test]
    fn a_moment_is_now_or_what_the_variable_says() {
        let set = Moment::of(Some("86400")).expect("a time");
        assert_eq!(
            (set.created.as_str(), set.latest),
            ("1970-01-02T00:00:00Z", Some(86_400))
        );
        for unset in [None, Some("")] {
            let now = Moment::of(unset).expect("now");
            assert!(
                now.latest.is_none() && now.created.starts_with("20"),
                "{now:?}"
            );
        }
        for bad in ["x", "1.5", "99999999999999999"] {
            assert!(
                matches!(Moment::of(Some(bad)), Err(CommitError::Epoch(_))),
                "{bad}"
            );
        }
    }
}
