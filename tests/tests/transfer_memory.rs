//! Sixteen large blobs at once: memory does not grow with them.

use strata_tests::command::Running;
use strata_tests::place::Place;
use strata_tests::strata::Strata;
use strata_tests::synthetic::Synthetic;
use strata_tests::trial::show;

/// What no transfer may exceed, in bytes.
const LIMIT: u64 = 100_000_000;

/// The size of each layer's file in bytes: more for who wants to see that it makes no difference.
fn layer_size() -> u64 {
    let wanted = std::env::var("STRATA_TESTS_LAYER_SIZE");
    wanted.map_or(32 << 20, |text| text.parse().expect("a number of bytes"))
}

/// Runs one transfer; its line of the table.
fn measured(what: &str, strata: &Strata, args: &[&str]) -> (Vec<String>, u64) {
    let running = Running::start(&mut strata.command(args));
    let (ran, peak) = running.wait_for_peak();
    let took = ran.ok().took.as_secs_f64();
    assert!(peak > 1_000_000, "{peak}: not measured");
    let row = vec![
        what.to_owned(),
        format!("{:.1} MB at most", peak as f64 / 1e6),
        format!("{took:.1} s"),
    ];
    (row, peak)
}

#[test]
fn sixteen_large_blobs_at_once_fit_into_100_mb() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let registry = Synthetic::start(16, layer_size());
    let image = registry.reference("app");
    let layout = format!("oci:{}:v1", place.join("layout").display());
    let (pushed, copied) = (registry.reference("pushed"), registry.reference("copied"));
    let cases: [(&str, Vec<&str>); 4] = [
        (
            "copy to a layout",
            vec!["copy", "-q", "--parallel", "16", &image, &layout],
        ),
        (
            "push of the layout",
            vec!["push", "-q", "--parallel", "16", &layout, &pushed],
        ),
        (
            "copy to a registry",
            vec!["copy", "-q", "--parallel", "16", &image, &copied],
        ),
        ("pull", vec!["pull", "-q", "--parallel", "16", &image]),
    ];
    let mut rows = Vec::new();
    let mut peaks = Vec::new();
    for (what, args) in cases {
        let (row, peak) = measured(what, &strata, &args);
        rows.push(row);
        peaks.push((what, peak));
        if what == "push of the layout" {
            // It takes as much room as all the rest.
            std::fs::remove_dir_all(place.join("layout")).expect("remove");
        }
    }
    let each = layer_size() / 1_000_000;
    show(
        &format!("memory of 16 transfers of {each} MB at once"),
        &rows,
    );
    assert!(
        registry.received() >= 2 * registry.layer_bytes(),
        "both were sent"
    );
    assert_eq!(strata.layers().len(), 16);
    for (what, peak) in peaks {
        assert!(peak < LIMIT, "{what}: {peak} bytes");
    }
}
