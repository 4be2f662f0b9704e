//! What a bundle says of the image that it was made of (image-spec, conversion.md, "Annotation Fields").

use std::collections::BTreeMap;

use strata_oci::config::ImageConfig;

/// The image's labels, and its other properties unless a label says them otherwise.
pub fn annotations(image: &ImageConfig) -> BTreeMap<String, String> {
    let ports: Vec<&str> = image
        .config
        .exposed_ports
        .keys()
        .map(String::as_str)
        .collect();
    let known = [
        ("os", image.os.as_str()),
        ("architecture", image.architecture.as_str()),
        ("variant", image.variant.as_deref().unwrap_or_default()),
        ("author", image.author.as_deref().unwrap_or_default()),
        ("created", image.created.as_deref().unwrap_or_default()),
        ("stopSignal", image.config.stop_signal.as_str()),
        ("exposedPorts", &ports.join(",")),
    ];
    let mut annotations: BTreeMap<String, String> = known
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| {
            (
                format!("org.opencontainers.image.{key}"),
                (*value).to_owned(),
            )
        })
        .collect();
    annotations.extend(image.config.labels.clone());
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_go_before_what_is_made_of_the_rest() {
        let image: ImageConfig = serde_json::from_value(serde_json::json!({
            "architecture": "amd64", "os": "linux", "author": "me", "rootfs": { "type": "layers", "diff_ids": [] },
            "config": {
                "StopSignal": "SIGQUIT", "ExposedPorts": { "80/tcp": {}, "53/udp": {} },
                "Labels": { "mine": "yes", "org.opencontainers.image.author": "another" },
            },
        }))
        .expect("a configuration");
        let found = annotations(&image);
        let of = |key: &str| {
            found
                .get(&format!("org.opencontainers.image.{key}"))
                .map(String::as_str)
        };
        assert_eq!(of("architecture"), Some("amd64"));
        assert_eq!(of("author"), Some("another"));
        assert_eq!(of("stopSignal"), Some("SIGQUIT"));
        assert_eq!(of("exposedPorts"), Some("53/udp,80/tcp"));
        assert_eq!(of("created"), None);
        assert_eq!(found.get("mine").map(String::as_str), Some("yes"));
    }
}
