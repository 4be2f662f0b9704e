//! `strata cp` where a container is more than its layers: volumes, binds and read-only places of one that does not run, and
//! extended attributes and rights on both sides.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use strata_tests::both::Side;

#[test]
fn volumes_and_binds_of_a_container_that_does_not_run_are_part_of_it() {
    Side::each(61_611, |side| {
        let host = side.shared("host");
        let (strata, image) = (&side.strata, &side.reference);
        fs::write(host.join("file"), "from the machine\n").expect("write");
        fs::set_permissions(host.join("file"), fs::Permissions::from_mode(0o644)).expect("chmod");
        let bound = side.shared("bound");
        let bind = format!("{}:/bound", bound.display());
        let sealed = format!("{}:/sealed:ro", bound.display());
        let options = [
            "-v",
            "named:/named",
            "-v",
            &bind,
            "-v",
            &sealed,
            "--tmpfs",
            "/memory",
        ];
        let create = [
            &["create", "--name", "box"],
            &options[..],
            &[
                image,
                "sh",
                "-c",
                "cat /named/in /bound/in; echo kept >/named/out; echo mine >/vol/out",
            ],
        ]
        .concat();
        strata.run(&create).ok();
        let at = |path: &str| host.join(path).display().to_string();
        let file = at("file");
        // Before it ever ran: an empty volume has what the image has there.
        strata.run(&["cp", "box:/vol/seed", &at("seed")]).ok();
        assert_eq!(
            fs::read_to_string(host.join("seed")).expect("read"),
            "seed\n"
        );
        for target in ["box:/named/in", "box:/bound/in", "box:/new"] {
            strata.run(&["cp", &file, target]).ok();
        }
        assert!(
            bound.join("in").exists(),
            "it is in the directory that is bound"
        );
        for (target, word) in [
            ("box:/sealed/in", "ead-only"),
            ("box:/gone/in", "could not find"),
        ] {
            strata.run(&["cp", &file, target]).refused().says(word);
        }
        let ran = strata.run(&["start", "-a", "box"]).ok();
        assert_eq!(ran.out(), "from the machine\nfrom the machine");
        // After it has ended, under links too.
        strata.run(&["cp", "box:/named/out", &at("out")]).ok();
        assert_eq!(
            fs::read_to_string(host.join("out")).expect("read"),
            "kept\n"
        );
        strata.run(&["cp", "box:/vol/deep/../out", &at("out")]).ok();
        assert_eq!(
            fs::read_to_string(host.join("out")).expect("read"),
            "mine\n"
        );
        let whole = strata.run(&["cp", "box:/", "-"]).ok().stdout;
        let whole = String::from_utf8_lossy(&whole);
        for name in ["named/out", "bound/in", "sealed/in", "new"] {
            assert!(whole.contains(name), "{name}");
        }
        assert_eq!(
            strata_tests::place::mounts_under(side.place.path()),
            Vec::<std::path::PathBuf>::new()
        );
        // What went into a volume is not in the container's own layer.
        let changed = strata.run(&["diff", "box"]).ok().out();
        assert!(
            changed.contains("A /new") && !changed.contains("/named/in"),
            "{changed}"
        );
        strata.run(&["rm", "-v", "box"]).ok();
        let args = [
            "create",
            "--name",
            "sealed",
            "--read-only",
            "-v",
            "named:/named",
            image,
            "true",
        ];
        strata.run(&args).ok();
        let _ = strata
            .run(&["cp", &file, "sealed:/data/x"])
            .refused()
            .says("ead-only");
        strata.run(&["cp", &file, "sealed:/named/again"]).ok();
        strata.run(&["rm", "sealed"]).ok();
    });
}

#[test]
fn extended_attributes_and_rights_go_where_they_mean_something() {
    Side::each(61_612, |side| {
        let host = side.shared("host");
        let (strata, image) = (&side.strata, &side.reference);
        let text = |path: &Path, name: &str| {
            let mut value = vec![0; 100];
            let length = rustix::fs::getxattr(path, name, &mut value);
            length.map(|length| String::from_utf8_lossy(&value[..length]).into_owned())
        };
        let file = host.join("tree/program");
        fs::create_dir_all(host.join("tree")).expect("mkdir");
        fs::write(&file, "#!").expect("write");
        let set = |path: &Path, name: &str, value: &[u8]| {
            rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).expect(name);
        };
        set(&file, "user.note", b"of a file");
        set(&host.join("tree"), "user.note", b"of a directory");
        // cap_net_raw=ep (linux/capability.h, vfs_cap_data, revision 2).
        let mut capability = vec![1, 0, 0, 2, 0, 0x20, 0, 0];
        capability.resize(20, 0);
        set(&file, "security.capability", &capability);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).expect("chmod");
        let at = |path: &str| host.join(path).display().to_string();
        strata.run(&["create", "--name", "box", image, "true"]).ok();
        strata.run(&["cp", &at("tree"), "box:/srv"]).ok();
        strata.run(&["cp", "box:/srv", &at("back")]).ok();
        let back = host.join("back/program");
        assert_eq!(text(&back, "user.note").as_deref(), Ok("of a file"));
        assert_eq!(
            text(&host.join("back"), "user.note").as_deref(),
            Ok("of a directory")
        );
        let has = |path: &Path| text(path, "security.capability").is_ok();
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o7777;
        assert!(!has(&back), "no right comes out of a container unasked");
        assert_eq!(mode(&back), 0o755);
        if !side.rootless {
            strata.run(&["cp", "-a", "box:/srv/.", &at("asked")]).ok();
            let asked = host.join("asked/program");
            assert!(has(&asked), "with -a it does");
            assert_eq!(mode(&asked), 0o4755);
        }
        strata.run(&["rm", "box"]).ok();
    });
}
