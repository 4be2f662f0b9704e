//! The conformance suite of the OCI distribution specification, whole: every API and every kind of data that it
//! knows is on, and what it skips counts as failed. The program is built by others, from the folder `conformance`
//! of github.com/opencontainers/distribution-spec at 967efdc (2026-07-16), and named by `STRATA_CONFORMANCE`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use strata_tests::command::{find, run};
use strata_tests::place::Place;
use strata_tests::stratad::Stratad;

/// All that can be switched (the suite's README, "Environment Variables").
const APIS: [&str; 15] = [
    "PING",
    "PULL",
    "PUSH",
    "BLOBS_ATOMIC",
    "BLOBS_DELETE",
    "BLOBS_DIGEST_HEADER",
    "BLOBS_MOUNT_ANONYMOUS",
    "BLOBS_UPLOAD_CANCEL",
    "MANIFESTS_ATOMIC",
    "MANIFESTS_DELETE",
    "MANIFESTS_DIGEST_HEADER",
    "MANIFESTS_TAG_PARAM",
    "TAGS_ATOMIC",
    "TAGS_DELETE",
    "TAGS_LIST",
];
const DATA: [&str; 15] = [
    "IMAGE",
    "INDEX",
    "INDEX_LIST",
    "SPARSE",
    "ARTIFACT",
    "SUBJECT",
    "SUBJECT_MISSING",
    "ARTIFACT_LIST",
    "SUBJECT_LIST",
    "DATA_FIELD",
    "NONDISTRIBUTABLE",
    "CUSTOM_FIELDS",
    "NO_LAYERS",
    "EMPTY_BLOB",
    "SHA512",
];

/// What the suite has at that commit with everything on: cases, and tests, which are the cases and the groups that
/// they are in. Fewer means that some were left out.
const CASES: usize = 830;
const TESTS: usize = 1032;

fn program() -> PathBuf {
    let named = std::env::var_os("STRATA_CONFORMANCE").filter(|name| !name.is_empty());
    named.map(PathBuf::from).or_else(|| find("oci-conformance")).expect(
        "THE OCI CONFORMANCE SUITE IS MISSING: set STRATA_CONFORMANCE to its program (README, \"The tests\")",
    )
}

/// The values of one attribute of all test cases in a JUnit report, counted.
fn count(report: &str, attribute: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let start = format!("{attribute}=\"");
    for case in report.split("<testcase ").skip(1) {
        let tag = case.split('>').next().unwrap_or_default();
        let value = tag.split_once(&start).map(|(_, rest)| rest);
        let value = value.and_then(|rest| rest.split('"').next());
        *counts
            .entry(value.unwrap_or("none").to_owned())
            .or_default() += 1;
    }
    counts
}

#[track_caller]
fn conforms(version: &str) {
    let program = program();
    let place = Place::new();
    let server = Stratad::start_with(&place.join("data"), &["--sparse"]);
    let results = place.join("results");
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        // Settings of the caller's, for example a filter, would leave tests out.
        if name.to_string_lossy().starts_with("OCI_") {
            command.env_remove(name);
        }
    }
    command
        .current_dir(place.path())
        .env("OCI_REGISTRY", server.address().to_string())
        .env("OCI_TLS", "disabled")
        .env("OCI_REPO1", "conformance/first")
        .env("OCI_REPO2", "conformance/second")
        .env("OCI_VERSION", version)
        .env("OCI_RESULTS_DIR", &results)
        .env("OCI_API_REFERRER", "true")
        .envs(APIS.map(|name| (format!("OCI_API_{name}"), "true")))
        .envs(DATA.map(|name| (format!("OCI_DATA_{name}"), "true")));
    let ran = run(&mut command);
    // Each test with its outcome; those that did not pass say why below them.
    let story = ran.out();
    let wrong: Vec<&str> = story
        .lines()
        .filter(|line| line.starts_with(' ') && !line.ends_with(": Pass"))
        .collect();
    assert!(ran.status.success(), "{}\n{}", wrong.join("\n"), ran.stderr);

    let yaml = fs::read_to_string(results.join("results.yaml")).expect("results.yaml");
    let outcomes = |word: &str| yaml.lines().filter(|line| line.ends_with(word)).count();
    assert_eq!(
        outcomes(": false"),
        0,
        "something was switched off:\n{yaml}"
    );
    assert_eq!(
        outcomes(": FAIL") + outcomes(": Skip") + outcomes(": Disabled") + outcomes(": Error"),
        0,
        "{yaml}"
    );
    let report = fs::read_to_string(results.join("junit.xml")).expect("junit.xml");
    let cases = count(&report, "status");
    let counted = report.split("<testsuite ").nth(1).unwrap_or_default();
    let counted = counted.split('>').next().unwrap_or_default();
    // Past the capture of output, so that the run shows the figures.
    let _ = writeln!(
        std::io::stderr(),
        "OCI conformance at {version}: {cases:?} of {counted}"
    );
    let all = BTreeMap::from([("passed".to_owned(), CASES)]);
    assert_eq!(cases, all, "{}", wrong.join("\n"));
    let whole = format!("tests=\"{TESTS}\" failures=\"0\" errors=\"0\"");
    assert!(counted.contains(&whole), "{counted}");
}

#[test]
fn the_oci_conformance_suite_passes_whole_at_version_1_1() {
    conforms("1.1");
}

#[test]
fn the_oci_conformance_suite_passes_whole_at_the_coming_version() {
    conforms("dev");
}

#[test]
fn outcomes_in_a_report_are_counted() {
    let report = r#"<testsuite><testcase name="a" status="passed"><x status="y"/></testcase>
        <testcase name="b" status="skipped"></testcase><testcase name="c"></testcase>"#;
    let expected = [("none", 1), ("passed", 1), ("skipped", 1)];
    let expected = expected.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(count(report, "status"), BTreeMap::from(expected));
}
