use clap::Parser as _;
use strata::run::config::{Seccomp, Source};

use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: ContainerArgs,
}

fn parse(words: &[&str]) -> Result<ContainerArgs, clap::Error> {
    let words = ["run"].iter().chain(words);
    Line::try_parse_from(words).map(|line| line.args)
}

fn config(words: &[&str]) -> Result<Config> {
    parse(words)?.config(&image(), Vec::new())
}

fn image() -> ContainerConfig {
    serde_json::from_value(serde_json::json!({
        "User": "www", "Env": ["A=image", "B=image"], "Cmd": ["serve"], "WorkingDir": "/srv", "StopSignal": "SIGUSR1",
        "Volumes": { "/data": {}, "/data/deep/er": {}, "relative": {}, "/": {}, "/a:/etc": {} }
    }))
    .expect("an image's wishes")
}

#[track_caller]
fn refused(words: &[&str], why: &str) {
    let words = [words, &["image"]].concat();
    let error = match config(&words) {
        Ok(_) => panic!("taken: {words:?}"),
        Err(error) => format!("{error:#}"),
    };
    assert!(error.contains(why), "{words:?}: {error}");
}

#[test]
fn options_end_at_the_image() {
    let args = parse(&[
        "-it", "--rm", "-e", "A=1", "-eB", "debian", "-t", "--rm", "--", "x",
    ]);
    let args = args.expect("parses");
    assert!(args.interactive && args.tty && args.rm);
    assert_eq!(args.env, ["A=1", "B"]);
    let (name, command) = args.image_and_command().expect("splits");
    let words = ["-t", "--rm", "--", "x"].map(OsString::from);
    assert_eq!((name, command), ("debian", words.as_slice()));
    let args = parse(&["debian", "--help"]).expect("the command's help, not ours");
    assert!(!args.rm && args.image_and_command.len() == 2);
    assert!(parse(&["-it"]).is_err());
    assert!(parse(&["--no-such", "i"]).is_err());
}

#[test]
fn the_persons_wishes_go_before_the_images() {
    let plain = config(&["image"]).expect("a config");
    assert_eq!(plain.arguments, ["serve"]);
    assert_eq!(
        (plain.user.as_str(), plain.working_directory.as_str()),
        ("www", "/srv")
    );
    assert_eq!(plain.stop_signal, Some(libc_signal("USR1")));
    let targets: Vec<&str> = plain.mounts.iter().map(|m| m.target.as_str()).collect();
    assert_eq!(targets, ["/data", "/data/deep/er"]);
    let words = [
        "-u",
        "0",
        "-w",
        "/x",
        "-e",
        "A=mine",
        "--stop-signal",
        "INT",
        "-l",
        "k=v",
        "-l",
        "bare",
        "--tmpfs",
        "/data",
        "--hostname",
        "box",
        "--cap-drop",
        "all",
        "--cap-add=chown,kill",
        "-m",
        "64m",
        "--init",
        "image",
        "sh",
        "-c",
        "x",
    ];
    let given = config(&words).expect("a config");
    assert_eq!(given.arguments, ["sh", "-c", "x"]);
    assert_eq!(
        (given.user.as_str(), given.working_directory.as_str()),
        ("0", "/x")
    );
    assert!(
        given.environment.contains(&"A=mine".into())
            && given.environment.contains(&"B=image".into())
    );
    assert!(given.environment.contains(&"HOSTNAME=box".into()));
    assert_eq!(given.stop_signal, Some(libc_signal("INT")));
    assert_eq!(given.labels.get("bare").map(String::as_str), Some(""));
    assert!(
        matches!(given.mounts[0].source, Source::Tmpfs { .. }),
        "in place of the image's volume"
    );
    assert_eq!(given.mounts.len(), 2);
    assert_eq!(
        (
            given.security.added.join(","),
            given.security.dropped.join(",")
        ),
        ("CHOWN,KILL".into(), "ALL".into())
    );
    assert_eq!(given.resources.memory, Some(64 << 20));
    assert!(given.init);
}

fn libc_signal(name: &str) -> i32 {
    strata::run::signals::parse(name).expect("known")
}

#[test]
fn volumes_without_a_name_get_one_each_and_parents_come_first() {
    let config =
        config(&["-v", "/x/y", "-v", "/x", "-v", "named:/a/b/c", "image"]).expect("a config");
    let targets: Vec<&str> = config.mounts.iter().map(|m| m.target.as_str()).collect();
    assert_eq!(targets, ["/data", "/x", "/x/y", "/a/b/c", "/data/deep/er"]);
    let mut names: Vec<&str> = config
        .mounts
        .iter()
        .filter_map(|m| match &m.source {
            Source::Volume {
                name,
                anonymous: true,
                ..
            } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    assert!(names.iter().all(|name| name.len() == 64));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 4);
}

#[test]
fn a_profile_of_system_calls_is_kept_as_text() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("profile.json");
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#;
    std::fs::write(&path, text).expect("write");
    let option = format!("seccomp={}", path.display());
    let config = config(&[
        "--security-opt",
        &option,
        "--security-opt=no-new-privileges",
        "image",
    ]);
    let security = config.expect("a config").security;
    assert_eq!(security.seccomp, Seccomp::Profile(text.to_owned()));
    assert!(security.no_new_privileges);
    refused(
        &["--security-opt", "seccomp=/no/such.json"],
        "/no/such.json",
    );
}

#[test]
fn what_cannot_be_had_is_refused_in_words() {
    refused(&["-p", "80:80"], "host's network");
    refused(&["--network", "none", "-P"], "nothing reaches");
    refused(&["--network", "bridge"], "host");
    refused(&["--restart", "always"], "systemd");
    refused(
        &["-v", "/no/such/source:/x"],
        "bind source path does not exist: /no/such/source",
    );
    refused(
        &["-v", "aa:/x", "--tmpfs", "/x/"],
        "Duplicate mount point: /x",
    );
    refused(&["--device", "/dev/no-such-device"], "no-such-device");
    refused(&["--cap-add", "SUPER"], "unknown capability");
    refused(&["--ulimit", "nofile=9:1"], "soft limit");
    refused(&["-m", "1m"], "6MB");
    refused(&["--memory-swap", "1g"], "always set the Memory limit");
    refused(
        &["-m", "1g", "--memory-swap", "1m"],
        "larger than memory limit",
    );
    refused(&["--cpus", "100000"], "range of CPUs");
    refused(&["--cpu-shares", "1"], "262144");
    refused(&["--shm-size", "0"], "greater than 0");
    refused(&["--oom-score-adj", "-1001"], "-1000");
    refused(&["--stop-signal", "NONE"], "invalid signal");
    refused(&["--label", "=x"], "a label has a name");
    refused(&["--env-file", "/no/such"], "/no/such");
    for bad in ["", "a b", "-x", "a/b", &"x".repeat(64), "a\n127.0.0.1 evil"] {
        refused(&[&format!("--hostname={bad}")], "--hostname");
    }
    let bare = parse(&["image"])
        .expect("parses")
        .config(&ContainerConfig::default(), Vec::new());
    assert!(
        bare.expect_err("no command")
            .to_string()
            .contains("say what to run")
    );
    assert!(
        config(&[
            "--hostname",
            "box-1.example",
            "--restart=no",
            "--pids-limit",
            "-1",
            "image"
        ])
        .is_ok()
    );
}
