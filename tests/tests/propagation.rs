//! Mounts that pass between the host and a container, in a mount namespace that the test makes itself.

use std::process::Command;

use strata_tests::both::{Side, tools_image};
use strata_tests::command::{Ran, run, tool};

/// Runs a script where the directory `$DIR` is a mount of its own, shared; `strata` is the program there, `$REF` the
/// image.
#[track_caller]
fn on_shared_mount(s: &Side, script: &str) -> Ran {
    let directory = s.shared("shared");
    let whole = format!(
        "set -e; mount --make-rprivate /; mount -t tmpfs -o mode=777 shared \"$DIR\"; mount --make-shared \"$DIR\"; \
         mkdir -m 777 \"$DIR/early\" \"$DIR/late\"; strata() {{ {} \"$@\"; }}; {script}",
        words(&s.strata.command(&[]))
    );
    let mut command = Command::new(tool("unshare"));
    command.args(["-m", "--propagation", "unchanged", "sh", "-c", &whole]);
    for (key, value) in s.strata.command(&[]).get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    command.env("DIR", &directory).env("REF", &s.reference);
    run(&mut command)
}

/// A command line for the shell.
fn words(command: &Command) -> String {
    let all = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted: Vec<String> = all
        .map(|word| format!("'{}'", word.to_str().expect("text")))
        .collect();
    quoted.join(" ")
}

/// What the container sees of a mount that the host makes after its start.
fn later_mount(s: &Side, mode: &str) -> String {
    let script = format!(
        "strata run -d --name box -v \"$DIR:/in{mode}\" $REF sleep 1000 > /dev/null; mount -t tmpfs late \"$DIR/late\"; \
         touch \"$DIR/late/file\"; strata exec box ls /in/late; strata rm -f box > /dev/null"
    );
    on_shared_mount(s, &script).ok().out()
}

#[test]
fn a_later_mount_of_the_host_shows_only_in_a_slave_of_it() {
    Side::each(61_160, |s| {
        assert_eq!(later_mount(s, ":rslave"), "file");
        assert_eq!(later_mount(s, ":slave,ro"), "file");
        assert_eq!(later_mount(s, ""), "");
        assert_eq!(later_mount(s, ":rprivate"), "");
        let script = "strata run -d --name box --mount type=bind,source=$DIR,target=/in,bind-propagation=rslave $REF sleep 1000 > /dev/null; \
            mount -t tmpfs late $DIR/late; touch $DIR/late/file; strata exec box ls /in/late; strata rm -f box > /dev/null";
        assert_eq!(on_shared_mount(s, script).ok().out(), "file");
    });
}

#[test]
fn a_mount_of_the_container_shows_on_the_host_only_when_shared() {
    let s = Side::new(61_161, false, &tools_image());
    let made_in = |mode: &str| {
        let script = format!(
            "strata run -d --name box --cap-add SYS_ADMIN -v \"$DIR:/in:{mode}\" $REF sh -c \
             'mount -t tmpfs mine /in/early && touch /in/early/file /in/ready; sleep 1000' > /dev/null; \
             for i in 1 2 3 4 5 6 7 8 9 10; do test -e \"$DIR/ready\" || sleep 0.3; done; ls \"$DIR/early\"; strata rm -f box > /dev/null"
        );
        on_shared_mount(&s, &script).ok().out()
    };
    assert_eq!(made_in("rshared"), "file");
    assert_eq!(made_in("shared"), "file");
    assert_eq!(made_in("rslave"), "");
    assert_eq!(made_in("rprivate"), "");
}

#[test]
fn what_the_hosts_mount_does_not_let_pass_is_refused() {
    Side::each(61_162, |s| {
        for (mode, why) in [
            ("rshared", "but it is not a shared mount"),
            ("shared", "but it is not a shared mount"),
            ("rslave", "but it is not a shared or slave mount"),
        ] {
            let script = format!(
                "mount --make-private \"$DIR\"; strata run --rm -v \"$DIR/early:/in:{mode}\" $REF true"
            );
            let ran = on_shared_mount(s, &script);
            assert_eq!(ran.code(), 125, "{}", ran.story());
            let _ = ran.says(why);
        }
        // Of a slave a slave can be had, and no more.
        let script =
            "mount --make-slave \"$DIR\"; strata run --rm -v \"$DIR:/in:rshared\" $REF true";
        let ran = on_shared_mount(s, script);
        assert_eq!(ran.code(), 125, "{}", ran.story());
        if s.rootless {
            let ran = on_shared_mount(s, "strata run --rm -v \"$DIR:/in:rshared\" $REF true");
            assert_eq!(ran.code(), 125, "{}", ran.story());
            let _ = ran.says("without root");
        }
    });
}
