//! An image's own layers on top of another base. Nothing is unpacked or compressed: layers say what changed, and say it of any
//! base; whether the program still fits is the person's to know.

use std::collections::BTreeMap;

use strata_oci::config::{ContainerConfig, History, ImageConfig};
use strata_oci::{Descriptor, Digest};

use super::base::Base;
use super::config::Draft;
use super::error::CommitError;
use super::manifest::{self, Form, Written};
use crate::fetch::Described;
use crate::store::Image;

/// A manifest's layers with the configuration that belongs to it.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The manifest's type.
    pub media_type: String,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
    /// What the manifest says beside.
    pub annotations: BTreeMap<String, String>,
    /// The parsed configuration.
    pub config: ImageConfig,
    /// Its exact bytes.
    pub config_bytes: Vec<u8>,
}

impl From<Image> for Parts {
    fn from(image: Image) -> Self {
        Self {
            media_type: image.manifest.media_type,
            layers: image.manifest.layers,
            annotations: image.manifest.annotations,
            config: image.config,
            config_bytes: image.config_bytes,
        }
    }
}

impl From<Described> for Parts {
    fn from(image: Described) -> Self {
        Self {
            media_type: image.manifest.media_type,
            layers: image.manifest.layers,
            annotations: image.manifest.annotations,
            config: image.config,
            config_bytes: image.config_bytes,
        }
    }
}

/// How an image is moved.
#[derive(Debug, Clone)]
pub struct Rebasing {
    /// The form of the new manifest; that of the image when not given, or OCI's where docker's has no word for a layer
    /// of the new base.
    pub form: Option<Form>,
    /// When, RFC 3339.
    pub created: String,
    /// What the new manifest says of its base.
    pub base: Base,
}

/// A configuration and a manifest that belong together.
#[derive(Debug, Clone)]
pub struct Rebased {
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The manifest's type.
    pub media_type: &'static str,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// Puts the layers that `image` has above those of `old` on top of those of `new`. Settings that `image` has from
/// `old` become those of `new`.
///
/// # Errors
/// [`CommitError::NotTheBase`], [`CommitError::Platform`].
pub fn rebase(
    image: &Parts,
    old: &Parts,
    new: &Parts,
    how: &Rebasing,
) -> Result<Rebased, CommitError> {
    let diff_ids = |parts: &Parts| parts.config.rootfs.diff_ids.clone();
    let (own, below, above) = (diff_ids(image), diff_ids(old), diff_ids(new));
    if !own.starts_with(&below)
        || image.layers.len() != own.len()
        || new.layers.len() != above.len()
    {
        return Err(CommitError::NotTheBase);
    }
    let (here, there) = (image.config.platform(), new.config.platform());
    if here != there {
        return Err(CommitError::Platform(here.to_string(), there.to_string()));
    }
    let kept = below.len();
    let layers = [&new.layers[..], &image.layers[kept..]].concat();
    let all: Vec<Digest> = [&above[..], &own[kept..]].concat();
    let history = [
        &new.config.history[..],
        own_steps(&image.config.history, &old.config.history, kept),
    ]
    .concat();
    let mut draft = Draft::of(&image.config_bytes)?;
    draft.created(&how.created);
    draft.layers(&all, &history);
    draft.starts(&settings(
        &image.config.config,
        &old.config.config,
        &new.config.config,
    ));
    let config = draft.bytes()?;
    let annotations = how.base.annotate(image.annotations.clone());
    let write = |form| manifest::write(form, &config, &layers, &annotations);
    let written = match (
        how.form,
        write(how.form.unwrap_or(Form::of(&image.media_type))),
    ) {
        (None, Err(CommitError::Format(_))) => write(Form::Oci),
        (_, written) => written,
    };
    let Written { bytes, media_type } = written?;
    Ok(Rebased {
        config,
        manifest: bytes,
        media_type,
        layers,
    })
}

/// The steps that are the image's own: those after the base's, or, where builders did not keep them, those that made the
/// layers above.
fn own_steps<'a>(history: &'a [History], old: &[History], kept: usize) -> &'a [History] {
    if history.starts_with(old) {
        return &history[old.len()..];
    }
    let mut layers = 0;
    let from = history.iter().position(|step| {
        layers += usize::from(!step.empty_layer);
        layers > kept
    });
    &history[from.unwrap_or(history.len())..]
}

/// What the image says itself stays; what it says because its base did becomes what the new base says.
fn settings(
    image: &ContainerConfig,
    old: &ContainerConfig,
    new: &ContainerConfig,
) -> ContainerConfig {
    fn pick<T: Clone + PartialEq>(image: &T, old: &T, new: &T) -> T {
        if image == old {
            new.clone()
        } else {
            image.clone()
        }
    }
    let mut env: Vec<String> = new.env.clone();
    let key = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    for variable in image
        .env
        .iter()
        .filter(|variable| !old.env.contains(variable))
    {
        match env.iter_mut().find(|other| key(other) == key(variable)) {
            Some(other) => other.clone_from(variable),
            None => env.push(variable.clone()),
        }
    }
    let mut labels = new.labels.clone();
    let own = image
        .labels
        .iter()
        .filter(|(key, value)| old.labels.get(*key) != Some(*value));
    labels.extend(own.map(|(key, value)| (key.clone(), value.clone())));
    ContainerConfig {
        user: pick(&image.user, &old.user, &new.user),
        env,
        entrypoint: pick(&image.entrypoint, &old.entrypoint, &new.entrypoint),
        cmd: pick(&image.cmd, &old.cmd, &new.cmd),
        working_dir: pick(&image.working_dir, &old.working_dir, &new.working_dir),
        labels,
        stop_signal: pick(&image.stop_signal, &old.stop_signal, &new.stop_signal),
        exposed_ports: pick(&image.exposed_ports, &old.exposed_ports, &new.exposed_ports),
        volumes: pick(&image.volumes, &old.volumes, &new.volumes),
        healthcheck: pick(&image.healthcheck, &old.healthcheck, &new.healthcheck),
        on_build: pick(&image.on_build, &old.on_build, &new.on_build),
        shell: pick(&image.shell, &old.shell, &new.shell),
    }
}

#[cfg(test)]
mod tests {
    use strata_oci::config::RootFs;
    use strata_oci::{Manifest, media};

    use super::*;

    fn parts(layers: &[&str], env: &[&str], cmd: &str) -> Parts {
        let digests: Vec<Digest> = layers.iter().map(|l| Digest::of(l.as_bytes())).collect();
        let step = |name: &&str| History {
            created_by: Some((*name).to_owned()),
            ..History::default()
        };
        let config = ImageConfig {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            config: ContainerConfig {
                env: env.iter().map(|v| (*v).to_owned()).collect(),
                cmd: vec![cmd.to_owned()],
                ..ContainerConfig::default()
            },
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: digests.clone(),
            },
            history: layers.iter().map(step).collect(),
            ..ImageConfig::default()
        };
        let blob = |digest: &Digest| Descriptor::new(media::OCI_LAYER_GZIP, digest.clone(), 1);
        Parts {
            media_type: media::OCI_MANIFEST.to_owned(),
            layers: digests.iter().map(blob).collect(),
            annotations: BTreeMap::from([("own".to_owned(), "kept".to_owned())]),
            config_bytes: serde_json::to_vec(&config).expect("JSON"),
            config,
        }
    }

    fn moved(image: &Parts, old: &Parts, new: &Parts) -> Result<Rebased, CommitError> {
        let base = Base {
            name: Some("docker.io/library/base:1".to_owned()),
            digest: Some(Digest::of(b"new base")),
        };
        let created = "2026-01-01T00:00:00Z".to_owned();
        let form = None;
        rebase(
            image,
            old,
            new,
            &Rebasing {
                form,
                created,
                base,
            },
        )
    }

    #[test]
    fn own_layers_steps_and_settings_move_to_the_new_base() {
        let old = parts(&["a", "b"], &["PATH=/bin", "V=1"], "bash");
        let new = parts(&["a2", "b2", "c2"], &["PATH=/usr/bin", "V=2"], "sh");
        let image = parts(&["a", "b", "app"], &["PATH=/bin", "V=1", "APP=x"], "app");
        let rebased = moved(&image, &old, &new).expect("rebased");
        let names = |names: &[&str]| -> Vec<Digest> {
            names
                .iter()
                .map(|name| Digest::of(name.as_bytes()))
                .collect()
        };
        let config: ImageConfig = serde_json::from_slice(&rebased.config).expect("config");
        let expected = names(&["a2", "b2", "c2", "app"]);
        assert_eq!(config.rootfs.diff_ids, expected);
        let blobs: Vec<Digest> = rebased.layers.iter().map(|l| l.digest.clone()).collect();
        assert_eq!(blobs, expected);
        let steps: Vec<&str> = config
            .history
            .iter()
            .filter_map(|s| s.created_by.as_deref())
            .collect();
        assert_eq!(steps, ["a2", "b2", "c2", "app"]);
        assert_eq!(config.config.env, ["PATH=/usr/bin", "V=2", "APP=x"]);
        assert_eq!(config.config.cmd, ["app"]);
        let manifest = Manifest::parse(&rebased.manifest, None).expect("a manifest");
        let said = Base::said(&manifest.annotations);
        assert_eq!(said.name.as_deref(), Some("docker.io/library/base:1"));
        assert_eq!(said.digest, Some(Digest::of(b"new base")));
        assert_eq!(manifest.annotations["own"], "kept");
        let same_cmd = parts(&["a", "b", "app"], &[], "bash");
        let rebased = moved(&same_cmd, &old, &new).expect("rebased");
        let config: ImageConfig = serde_json::from_slice(&rebased.config).expect("config");
        assert_eq!(config.config.cmd, ["sh"], "it was the base's");
    }

    #[test]
    fn dockers_form_stays_unless_it_has_no_word_for_a_layer_of_the_new_base() {
        let old = parts(&["a"], &[], "x");
        let mut new = parts(&["b"], &[], "x");
        let mut image = parts(&["a", "app"], &[], "x");
        image.media_type = media::DOCKER_MANIFEST.to_owned();
        let kind = |new: &Parts| moved(&image, &old, new).expect("rebased").media_type;
        assert_eq!(kind(&new), media::DOCKER_MANIFEST);
        new.layers[0].media_type = media::OCI_LAYER_ZSTD.to_owned();
        assert_eq!(kind(&new), media::OCI_MANIFEST);
    }

    #[test]
    fn another_base_and_another_machine_are_refused() {
        let (old, new) = (parts(&["a"], &[], "x"), parts(&["b"], &[], "x"));
        let image = parts(&["c", "app"], &[], "x");
        let refused = moved(&image, &old, &new);
        assert!(matches!(refused, Err(CommitError::NotTheBase)));
        let mut other = new.clone();
        other.config.architecture = "arm64".to_owned();
        let image = parts(&["a", "app"], &[], "x");
        let refused = moved(&image, &old, &other);
        assert!(matches!(refused, Err(CommitError::Platform(..))));
    }

    #[test]
    fn steps_that_were_not_kept_are_told_by_their_layers() {
        let step = |name: &str, empty_layer| History {
            created_by: Some(name.to_owned()),
            empty_layer,
            ..History::default()
        };
        let history = [
            step("x", false),
            step("env", true),
            step("own", false),
            step("cmd", true),
        ];
        assert_eq!(
            own_steps(&history, &[step("other", false)], 1),
            &history[2..]
        );
        assert_eq!(own_steps(&history, &history[..2], 1), &history[2..]);
        assert!(own_steps(&history, &[step("other", false)], 2).is_empty());
    }
}
