//! Options and layers as the kernel takes them; with the privilege, real mounts.

use super::*;

#[test]
fn options_fit_a_page_with_the_most_layers() {
    let lowers: Vec<i32> = (1000..1500).collect();
    let driver = Overlay::new(Privilege::UserNamespace).volatile();
    let text = option_text(&lowers, Some((2000, 2001)), &driver.options(true));
    assert!(text.len() < 4096, "{}", text.len());
    assert!(text.starts_with("lowerdir=1000:1001:"));
    assert!(text.ends_with("1499,upperdir=2000,workdir=2001,userxattr,index=off,volatile"));
}

#[test]
fn root_needs_no_user_attributes_and_read_only_is_not_volatile() {
    let driver = Overlay::new(Privilege::Root).volatile();
    let names: Vec<_> = driver.options(false).iter().map(|o| o.0).collect();
    assert_eq!(names, ["redirect_dir", "metacopy", "index"]);
}

#[test]
fn awkward_paths_are_named_by_descriptor() {
    let dir = tempfile::tempdir().expect("tempdir");
    let plain = Speakable::new(dir.path()).expect("opens");
    assert_eq!(plain.text, dir.path().as_os_str());
    for name in ["a:b", "a,b", "a\\b", &"x".repeat(251)] {
        let awkward = dir.path().join(name);
        fs::create_dir(&awkward).expect("mkdir");
        let named = Speakable::new(&awkward).expect("opens");
        let text = named.text.to_str().expect("ascii").to_owned();
        assert!(text.starts_with("/proc/self/fd/"), "{text}");
        assert_eq!(fs::canonicalize(text).expect("there"), awkward);
    }
    assert!(Speakable::new(&dir.path().join("no:where")).is_err());
}

#[test]
fn too_many_layers_are_refused_before_the_kernel_is_asked() {
    let lowers: Vec<PathBuf> = (0..501).map(|n| PathBuf::from(format!("/l/{n}"))).collect();
    let stack = Stack {
        lowers: &lowers,
        upper: None,
        scratch: Path::new("/w"),
        read_only: true,
    };
    assert!(matches!(
        Layers::new(&stack, Path::new("/t"), Path::new("/e")),
        Err(DriverError::TooManyLayers { layers: 501, .. })
    ));
}

#[test]
fn an_empty_image_and_a_single_layer_are_padded() {
    let target = Path::new("/t");
    let one = [PathBuf::from("/l")];
    let read_only = |lowers| Stack {
        lowers,
        upper: None,
        scratch: Path::new("/w"),
        read_only: false,
    };
    let empty = Path::new("/e");
    for (lowers, padded) in [
        (&one[..], [Path::new("/l"), target]),
        (&[], [target, empty]),
    ] {
        let layers = Layers::new(&read_only(lowers), target, empty);
        assert_eq!(layers.expect("fine").lowers, padded);
    }
    let writable = Stack {
        lowers: &[],
        upper: Some(Path::new("/u")),
        scratch: Path::new("/w"),
        read_only: false,
    };
    assert_eq!(
        Layers::new(&writable, target, empty).expect("fine").lowers,
        [target]
    );
}

/// Both ways of mounting, really; needs a privilege that the caller may lack, then it shows nothing.
#[test]
fn both_ways_mount_the_same_stack() {
    if crate::userns::current().ok().flatten().is_none() {
        return;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let make = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir(&path).expect("mkdir");
        path
    };
    let (low, high, target) = (make("low:est"), make("high"), make("target"));
    let (upper, work) = (make("upper"), make("work"));
    fs::write(low.join("f"), "low").expect("write");
    fs::write(high.join("f"), "high").expect("write");
    fs::write(low.join("g"), "only low").expect("write");
    // The lowest again in the middle, as images with repeated layers have it.
    let lowers = [high.clone(), low.clone(), high];
    let driver = Overlay::new(
        crate::userns::current()
            .ok()
            .flatten()
            .expect("checked above"),
    );
    for (writable, classic) in [(true, false), (true, true), (false, false), (false, true)] {
        let stack = Stack {
            lowers: &lowers,
            upper: Some(&upper),
            scratch: &work,
            read_only: !writable,
        };
        let layers = Layers::new(&stack, &target, Path::new("/e")).expect("fine");
        if classic {
            driver.mount_by_options(&layers, &target).expect("mounts");
        } else {
            driver.mount(&stack, &target).expect("mounts");
        }
        assert!(crate::driver::is_mounted(&target) && !crate::driver::is_mounted(&upper));
        assert_eq!(fs::read(target.join("f")).expect("read"), b"high");
        assert_eq!(fs::read(target.join("g")).expect("read"), b"only low");
        assert_eq!(fs::write(target.join("new"), "x").is_ok(), writable);
        assert!(matches!(
            driver.mount(&stack, &target),
            Err(DriverError::Target { .. })
        ));
        let inside = fs::File::open(target.join("f")).expect("open");
        assert!(matches!(
            driver.unmount(&target, false),
            Err(DriverError::Busy { .. })
        ));
        drop(inside);
        driver.unmount(&target, false).expect("unmounts");
    }
    assert!(!low.join("new").exists());
}

#[test]
fn five_hundred_layers_mount_both_ways() {
    let Some(privilege) = crate::userns::current().ok().flatten() else {
        return;
    };
    let dir = tempfile::tempdir().expect("tempdir");
    let target = dir.path().join("target");
    fs::create_dir(&target).expect("mkdir");
    let lowers: Vec<PathBuf> = (0..MAX_LAYERS)
        .map(|n| {
            let layer = dir
                .path()
                .join(format!("a,layer:with-a-name-of-some-length-{n:060}"));
            fs::create_dir(&layer).expect("mkdir");
            fs::write(layer.join(n.to_string()), "").expect("write");
            layer
        })
        .collect();
    let stack = Stack {
        lowers: &lowers,
        upper: None,
        scratch: dir.path(),
        read_only: true,
    };
    let driver = Overlay::new(privilege);
    let layers = Layers::new(&stack, &target, Path::new("/e")).expect("fine");
    for classic in [false, true] {
        match classic {
            true => driver.mount_by_options(&layers, &target).expect("mounts"),
            false => driver.mount(&stack, &target).expect("mounts"),
        }
        assert_eq!(fs::read_dir(&target).expect("list").count(), MAX_LAYERS);
        driver.unmount(&target, false).expect("unmounts");
    }
}
