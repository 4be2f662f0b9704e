//! All numbers of the server in one text. What it costs does not grow with what the registry holds: totals are
//! kept with each change, not counted here.

use crate::app::App;
use crate::gc::Counters;
use crate::health::Disk;
use crate::meta::Totals;
use crate::telemetry::{Exposition, Form, log, process};

/// The numbers of this moment.
pub(super) async fn scrape(app: &App, form: Form) -> String {
    let mut text = Exposition::new(form);
    app.metrics.write(&mut text);
    app.database.write(&mut text);
    match app.meta.totals().await {
        Ok(totals) => write_totals(&mut text, &totals),
        // The scrape goes on without them: what fails is in other numbers.
        Err(error) => tracing::warn!("cannot read the totals for a scrape: {error}"),
    }
    write_collection(&mut text, &app.gc.counters);
    let data = app.config.now().storage.data.clone();
    let disk = tokio::task::spawn_blocking(move || Disk::of(&data));
    if let Ok(Ok(disk)) = disk.await {
        text.gauge(
            "stratad_disk_size_bytes",
            "Size of the file system that holds the data.",
            disk.size,
        );
        text.gauge("stratad_disk_free_bytes", "What is free of it.", disk.free);
    }
    text.counter(
        "stratad_log_lines_dropped_total",
        "Lines of the log that were dropped because nobody read it.",
        log::dropped(),
    );
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    text.gauges(
        "stratad_build_info",
        "Which stratad this is; always 1.",
        [(version.as_slice(), 1)],
    );
    process::write(&mut text);
    text.finish()
}

fn write_totals(text: &mut Exposition, totals: &Totals) {
    let gauges = [
        (
            "stratad_repositories",
            "Repositories that are known.",
            totals.repositories,
        ),
        (
            "stratad_manifests",
            "Manifests, each in each repository that holds it.",
            totals.manifests,
        ),
        (
            "stratad_manifest_bytes",
            "Bytes of manifests, each counted once.",
            totals.manifest_bytes,
        ),
        ("stratad_tags", "Tags.", totals.tags),
        ("stratad_blobs", "Blobs, each counted once.", totals.blobs),
        (
            "stratad_blob_bytes",
            "Bytes of blobs on the disk.",
            totals.blob_bytes,
        ),
        (
            "stratad_blob_links",
            "Blobs, each in each repository that holds it.",
            totals.links,
        ),
        (
            "stratad_blob_linked_bytes",
            "Bytes of blobs, each in each repository that holds it: what they would need if none were shared.",
            totals.linked_bytes,
        ),
        (
            "stratad_upload_sessions",
            "Uploads that were begun and have neither ended nor expired.",
            totals.uploads,
        ),
    ];
    for (name, help, value) in gauges {
        text.gauge(name, help, value);
    }
    text.gauge(
        "stratad_dedup_ratio",
        "Bytes that repositories hold for each byte of blobs on the disk.",
        ratio(totals.linked_bytes, totals.blob_bytes),
    );
}

fn write_collection(text: &mut Exposition, counters: &Counters) {
    let totals = [
        (
            "stratad_gc_passes_total",
            "Passes of garbage collection.",
            &counters.passes,
        ),
        (
            "stratad_gc_failures_total",
            "Steps of garbage collection that failed; the next pass tries them again.",
            &counters.failures,
        ),
        (
            "stratad_gc_upload_sessions_total",
            "Upload sessions that expired.",
            &counters.sessions,
        ),
        (
            "stratad_gc_blob_links_total",
            "Links from a repository to a blob that were removed.",
            &counters.links,
        ),
        (
            "stratad_gc_repositories_total",
            "Repositories that held nothing and were removed.",
            &counters.repositories,
        ),
        (
            "stratad_gc_blobs_total",
            "Blobs that were removed from the disk, those that no row named included.",
            &counters.files,
        ),
        (
            "stratad_gc_blob_bytes_total",
            "Bytes of blobs that were removed from the disk.",
            &counters.bytes,
        ),
    ];
    for (name, help, counter) in totals {
        text.counter(name, help, counter.get());
    }
    text.counter(
        "stratad_gc_seconds_total",
        "How long passes of garbage collection took.",
        counters.micros.get() as f64 / 1e6,
    );
}

fn ratio(linked: u64, stored: u64) -> f64 {
    if stored == 0 {
        1.0
    } else {
        linked as f64 / stored as f64
    }
}
