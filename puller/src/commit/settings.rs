//! How a container was started, as its image would say it: what a person gave for it holds for the image that is made of
//! it, as with docker.

use std::ffi::OsString;

use strata_oci::config::ContainerConfig;

use crate::run::command::DEFAULT_PATH;
use crate::run::config::Config;
use crate::run::signals;

/// The image's settings with those of the container in their place.
pub(super) fn merged(image: &ContainerConfig, container: &Config) -> ContainerConfig {
    let mut merged = image.clone();
    let arguments: Vec<String> = container.arguments.iter().map(text).collect();
    (merged.entrypoint, merged.cmd) = divided(image, container.entrypoint, arguments);
    merged.env = environment(image, container);
    merged.user.clone_from(&container.user);
    merged.working_dir.clone_from(&container.working_directory);
    if let Some(number) = container.stop_signal
        && signals::parse(&image.stop_signal) != Ok(number)
    {
        merged.stop_signal = number.to_string();
    }
    let labels = container.labels.iter();
    merged
        .labels
        .extend(labels.map(|(key, value)| (key.clone(), value.clone())));
    merged
}

/// Configurations are text; what is not becomes it as well as it can.
fn text(word: &OsString) -> String {
    word.to_string_lossy().into_owned()
}

/// Program and arguments as entrypoint and command. Where it was not kept how many are the entrypoint's, those that are
/// the image's, or begin as its entrypoint does, were not given another one.
fn divided(
    image: &ContainerConfig,
    entrypoint: Option<usize>,
    mut arguments: Vec<String>,
) -> (Vec<String>, Vec<String>) {
    if let Some(length) = entrypoint.filter(|n| (1..=arguments.len()).contains(n)) {
        let command = arguments.split_off(length);
        return (arguments, command);
    }
    if arguments.is_empty() {
        return (image.entrypoint.clone(), image.cmd.clone());
    }
    if let Some(command) = arguments.strip_prefix(image.entrypoint.as_slice()) {
        return (image.entrypoint.clone(), command.to_vec());
    }
    let command = arguments.split_off(1);
    (arguments, command)
}

/// Variables without those that every container gets anyway.
fn environment(image: &ContainerConfig, container: &Config) -> Vec<String> {
    let hostname = format!("HOSTNAME={}", container.hostname);
    let terminal = container.terminal.then_some("TERM=xterm");
    let of_every_container = |variable: &str| {
        let name = variable.split('=').next().unwrap_or_default();
        let says = |other: &String| other.split('=').next() == Some(name);
        (variable == hostname || variable == DEFAULT_PATH || Some(variable) == terminal)
            && !image.env.iter().any(says)
    };
    let variables = container.environment.iter().map(text);
    variables
        .filter(|variable| !of_every_container(variable))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(entrypoint: &[&str], cmd: &[&str], env: &[&str]) -> ContainerConfig {
        let texts = |words: &[&str]| words.iter().map(|w| w.to_string()).collect();
        ContainerConfig {
            entrypoint: texts(entrypoint),
            cmd: texts(cmd),
            env: texts(env),
            ..ContainerConfig::default()
        }
    }

    fn container(arguments: &[&str], environment: &[&str]) -> Config {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect();
        Config {
            hostname: "abc".to_owned(),
            terminal: true,
            arguments: words(arguments),
            environment: words(environment),
            ..Config::default()
        }
    }

    #[test]
    fn the_command_that_was_given_is_the_new_images() {
        let with_entry = image(&["/entry", "-x"], &["serve"], &[]);
        let plain = image(&[], &["sh"], &[]);
        for (image, arguments, entrypoint, cmd) in [
            (
                &with_entry,
                &["/entry", "-x", "serve"][..],
                &["/entry", "-x"][..],
                &["serve"][..],
            ),
            (
                &with_entry,
                &["/entry", "-x", "other", "now"],
                &["/entry", "-x"],
                &["other", "now"],
            ),
            (&with_entry, &["bash", "-l"], &["bash"], &["-l"]),
            (&plain, &["sh", "-c", "x"], &[], &["sh", "-c", "x"]),
            (&plain, &[], &[], &["sh"]),
        ] {
            let merged = merged(image, &container(arguments, &[]));
            assert_eq!(
                (merged.entrypoint, merged.cmd),
                (
                    entrypoint.iter().map(|w| w.to_string()).collect(),
                    cmd.iter().map(|w| w.to_string()).collect()
                )
            );
        }
    }

    #[test]
    fn an_entrypoint_that_was_given_is_the_new_images() {
        let mut given = container(&["sh", "-c", "x"], &[]);
        given.entrypoint = Some(1);
        let made = merged(&image(&[], &["serve"], &[]), &given);
        assert_eq!(made.entrypoint, ["sh"]);
        assert_eq!(made.cmd, ["-c", "x"]);
    }

    #[test]
    fn variables_are_the_images_and_the_persons_alone() {
        let given = ["HOSTNAME=abc", "TERM=xterm", DEFAULT_PATH, "A=2"];
        let without = merged(&image(&[], &[], &["A=1"]), &container(&["sh"], &given));
        assert_eq!(without.env, ["A=2"]);
        let own = image(&[], &[], &[DEFAULT_PATH, "TERM=xterm"]);
        assert_eq!(
            merged(&own, &container(&["sh"], &given)).env,
            ["TERM=xterm", DEFAULT_PATH, "A=2"]
        );
        let other = ["HOSTNAME=mine", "PATH=/x"];
        assert_eq!(merged(&own, &container(&["sh"], &other)).env, other);
    }

    #[test]
    fn labels_add_up_and_the_rest_is_replaced() {
        let mut base = image(&[], &["sh"], &[]);
        base.labels.insert("one".to_owned(), "1".to_owned());
        base.user = "root".to_owned();
        let mut given = container(&["sh"], &[]);
        given.labels.insert("two".to_owned(), "2".to_owned());
        given.user = "33".to_owned();
        given.working_directory = "/app".to_owned();
        base.stop_signal = "SIGINT".to_owned();
        given.stop_signal = Some(2);
        let merged = super::merged(&base, &given);
        given.stop_signal = Some(9);
        assert_eq!(super::merged(&base, &given).stop_signal, "9");
        assert_eq!(merged.labels.len(), 2);
        assert_eq!(merged.stop_signal, "SIGINT", "the same signal by its name");
        assert_eq!(
            (merged.user.as_str(), merged.working_dir.as_str()),
            ("33", "/app")
        );
    }
}
