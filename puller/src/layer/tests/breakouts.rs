//! Layers that try to reach what is not theirs. `Place` looks after what is outside.

use super::*;

fn outside(place: &Place) -> String {
    place.outside().to_string_lossy().into_owned()
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in [
        "../outside/x",
        "/../outside/x",
        "a/../../outside/x",
        "./../outside/secret",
        "../layer-sibling/x",
        "..",
    ] {
        assert_eq!(refusal(&Tar::new().file(name, "x").end()), Refusal::Escapes);
        let tar = Tar::new().pax(&[("path", name.as_bytes())]).file("a", "x");
        assert_eq!(refusal(&tar.end()), Refusal::Escapes);
        let tar = Tar::new().extension(b'L', name.as_bytes()).file("a", "x");
        assert_eq!(refusal(&tar.end()), Refusal::Escapes);
        assert_eq!(refusal(&Tar::new().directory(name).end()), Refusal::Escapes);
    }
}

#[test]
fn absolute_names_start_at_the_root_of_the_layer() {
    let place = Place::new();
    let name = format!("{}/secret", outside(&place));
    place.unpack(&Tar::new().file(&name, "mine").end());
    assert_eq!(place.read(name.trim_start_matches('/')), "mine");
}

#[test]
fn a_symbolic_link_to_the_outside_leads_inside() {
    let place = Place::new();
    let target = outside(&place);
    place.unpack(
        &Tar::new()
            .symlink("link", &target)
            .file("link/secret", "mine")
            .file("link/new", "mine")
            .end(),
    );
    let inside = format!("{}/secret", target.trim_start_matches('/'));
    assert_eq!(place.read(&inside), "mine");
}

#[test]
fn dots_in_symbolic_links_stop_at_the_root() {
    let (place, _) = unpacked(
        &Tar::new()
            .symlink("up", "../../../../outside")
            .file("up/x", "mine")
            .end(),
    );
    assert_eq!(place.read("outside/x"), "mine");
}

#[test]
fn a_chain_of_symbolic_links_leads_inside() {
    let (place, _) = unpacked(
        &Tar::new()
            .directory("a")
            .symlink("a/b", "..")
            .symlink("a/c", "b/..")
            .symlink("d", "a/c/b/../..")
            .file("d/outside/secret", "mine")
            .file("a/c/outside/other", "mine")
            .end(),
    );
    assert_eq!(place.read("outside/secret"), "mine");
    assert_eq!(place.read("outside/other"), "mine");
}

#[test]
fn symbolic_links_in_a_circle_are_refused() {
    let tar = Tar::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/x", "");
    assert_eq!(refusal(&tar.end()), Refusal::LinkLoop);
    let tar = Tar::new().symlink("a", "a/b").file("a/x", "");
    assert_eq!(refusal(&tar.end()), Refusal::LinkLoop);
}

#[test]
fn the_root_stays_a_directory() {
    for name in [".", "/.", "./", "/", "a/.."] {
        for kind in [b'0', b'1', b'2', b'6'] {
            let tar = Tar::new().kind(kind, name, "/etc").end();
            assert_eq!(refusal(&tar), Refusal::Root, "{name}");
        }
    }
}

#[test]
fn hard_links_that_lead_out_are_refused() {
    for link in [
        "../outside/secret",
        "/../outside/secret",
        "a/../../outside/secret",
    ] {
        let tar = Tar::new().hard_link("x", link).end();
        assert_eq!(refusal(&tar), Refusal::LinkEscapes);
    }
    let place = Place::new();
    let secret = format!("{}/secret", outside(&place));
    let tar = Tar::new().hard_link("x", &secret).end();
    assert_eq!(refusal(&tar), Refusal::LinkTarget);
    let tar = Tar::new()
        .symlink("link", &outside(&place))
        .hard_link("x", "link/secret")
        .end();
    let result = place.try_with(&tar, &options());
    assert!(matches!(result, Err(LayerError::Refused { .. })));
}

#[test]
fn a_hard_link_to_a_symbolic_link_links_the_link() {
    let place = Place::new();
    let secret = format!("{}/secret", outside(&place));
    place.unpack(
        &Tar::new()
            .symlink("soft", &secret)
            .hard_link("hard", "soft")
            .file("hard", "mine")
            .end(),
    );
    assert!(place.stat("soft").is_symlink());
    assert_eq!(place.read("hard"), "mine");
}

#[test]
fn a_file_replaces_a_symbolic_link_and_does_not_write_through_it() {
    let place = Place::new();
    let secret = format!("{}/secret", outside(&place));
    place.unpack(&Tar::new().symlink("x", &secret).file("x", "mine").end());
    assert_eq!(place.read("x"), "mine");
}

#[test]
fn modes_are_not_set_through_symbolic_links() {
    let place = Place::new();
    let head = Head {
        name: "x",
        kind: b'5',
        mode: 0o777,
        ..Head::default()
    };
    let tar = Tar::new().symlink("x", &outside(&place)).entry(&head, b"");
    place.unpack(&tar.end());
    assert!(place.stat("x").is_dir());
    let secret = format!("{}/secret", outside(&place));
    let place = Place::new();
    place.unpack(&Tar::new().symlink("x", &secret).symlink("x", "other").end());
    assert!(place.stat("x").is_symlink());
}

#[test]
fn special_files_are_never_opened() {
    // Opening a fifo would wait for a reader for ever, opening a device could do anything.
    let (place, _) = unpacked(
        &Tar::new()
            .kind(b'6', "x", "")
            .file("x", "mine")
            .kind(b'6', "y", "")
            .end(),
    );
    assert_eq!(place.read("x"), "mine");
    assert!(place.stat("y").file_type().is_fifo());
    let tar = Tar::new().kind(b'6', "x", "").file("x/y", "").end();
    assert_eq!(refusal(&tar), Refusal::ParentNotDirectory);
}

#[test]
fn a_directory_swapped_for_a_symbolic_link_is_not_written_through() {
    // The directory is in the cache of open directories when it is replaced.
    let place = Place::new();
    let tar = Tar::new()
        .directory("a")
        .file("a/one", "1")
        .symlink("a", &outside(&place))
        .file("a/secret", "mine")
        .end();
    place.unpack(&tar);
    assert!(place.stat("a").is_symlink());
}
