//! The demonstration with images of our own making.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::demo::containers::Shell;
use crate::demo::images::{self, SHARED};
use crate::demo::session::{Session, path_text};
use crate::demo::show::{self, bytes, time};
use crate::image::Image;
use crate::strata::Pulled;
use crate::stratad::Stratad;

struct Step {
    name: &'static str,
    reference: String,
    pulled: Pulled,
    took: Duration,
}

pub(super) fn run() -> Result<()> {
    println!("Strata: container images as shared layers");
    let session = Session::start()?;

    show::step(2, "Start a registry");
    let began = Instant::now();
    let registry = session.serve()?;
    show::fact("stratad listens on", &registry.address().to_string());
    show::fact("started in", &time(began.elapsed()));

    show::step(3, "Make two images from this machine's programs");
    let images = images::make()?;
    for (name, image) in &images {
        let own = image.layers.len() - SHARED;
        let size = bytes(image.layer_bytes());
        show::fact(
            name,
            &format!("{SHARED} shared + {own} own layers, {size} compressed"),
        );
    }

    show::step(4, "Push both");
    let references = push(&session, &registry, &images)?;

    show::step(5, "Pull both: the second fetches only its own layers");
    let pulls = pull(&session, &images, &references)?;

    show::step(6, "Run two containers at once");
    let before = session.layers_digest()?;
    let (written, started) = containers(&session, &references)?;
    let after = session.layers_digest()?;
    ensure!(
        before == after,
        "the layers below have changed: {before}, then {after}"
    );
    show::holds(&format!(
        "the layers below are untouched (one digest over all: {}…)",
        &after[7..19]
    ));

    show::step(7, "In figures");
    figures(&session, &images, &pulls, written, started)?;
    drop(registry);
    session.finish_up()
}

fn push(session: &Session, registry: &Stratad, images: &[(&str, Image)]) -> Result<Vec<String>> {
    let mut references = Vec::new();
    let mut before = 0;
    for (name, image) in images {
        let layout = session.place.join(name);
        image.write_layout(&layout, "latest")?;
        let reference = registry.reference(&format!("demo/{name}"), "latest");
        let ran = session.strata(&[
            "push",
            "-q",
            &format!("oci:{}:latest", path_text(&layout)?),
            &reference,
        ])?;
        let (_, stored) = registry.stored();
        show::fact(
            &reference,
            &format!(
                "{} more in the registry, {}",
                bytes(stored - before),
                time(ran.took)
            ),
        );
        before = stored;
        references.push(reference);
    }
    let distinct = images[0].1.layers.len() + images[1].1.layers.len() - SHARED;
    let (blobs, _) = registry.stored();
    // Configurations are blobs too; manifests may be.
    ensure!(
        blobs >= distinct + 2 && blobs <= distinct + 4,
        "the registry has {blobs} blobs"
    );
    show::holds("the registry keeps each shared layer once");
    Ok(references)
}

fn pull(
    session: &Session,
    images: &[(&'static str, Image)],
    references: &[String],
) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    for ((name, image), reference) in images.iter().zip(references) {
        let (pulled, took) = session.pull(reference)?;
        let (fetched, reused) = (pulled.fetched(), pulled.reused());
        let told = format!(
            "{fetched} layers fetched ({}), {reused} reused, {}",
            bytes(pulled.bytes_fetched),
            time(took)
        );
        show::fact(name, &told);
        let expected = if steps.is_empty() { 0 } else { SHARED };
        ensure!(
            reused == expected,
            "{reused} layers were reused, not {expected}"
        );
        let own: u64 = image.layers[expected..]
            .iter()
            .map(|l| l.blob.len() as u64)
            .sum();
        ensure!(
            pulled.bytes_fetched == own,
            "{} bytes were fetched, not {own}",
            pulled.bytes_fetched
        );
        steps.push(Step {
            name,
            reference: reference.clone(),
            pulled,
            took,
        });
    }
    let (again, took) = session.pull(&references[0])?;
    ensure!(
        again.fetched() == 0 && again.bytes_fetched == 0,
        "a pull of what is there fetched something"
    );
    show::holds("only layers that were missing travelled");
    show::holds(&format!(
        "pulling the first again fetched nothing and took {}",
        time(took)
    ));
    Ok(steps)
}

/// Returns the bytes that both containers wrote, and how long the first took to start.
fn containers(session: &Session, references: &[String]) -> Result<(u64, Duration)> {
    let began = Instant::now();
    let mut one = Shell::start(session, &references[0])?;
    let started = began.elapsed();
    let mut two = Shell::start(session, &references[1])?;
    session.check_interrupt()?;
    one.ask("echo 'written in one' > /etc/motd; rm /etc/group; echo new > /srv/note")?;
    let seen = one.ask("cat /etc/motd; ls /etc/group 2>/dev/null; cat /srv/note")?;
    ensure!(
        seen == "written in one\nnew",
        "the first container sees {seen:?}"
    );
    show::holds("the first overwrites, deletes and adds a file, and sees that");
    let seen = two.ask("cat /etc/motd; ls /etc/group; ls /srv")?;
    ensure!(
        seen == "from the shared layer\n/etc/group\ndata\nstart",
        "the second container sees {seen:?}"
    );
    show::holds("the second, on the same base layers, sees none of it");
    two.ask("rm -r /srv; mkdir /srv; echo two > /srv/two")?;
    let seen = one.ask("ls /srv")?;
    ensure!(
        seen == "data\nnote\nstart",
        "the first container sees {seen:?}"
    );
    show::holds("nor the first what the second replaces");
    let mut new = Shell::start(session, &references[0])?;
    let seen = new.ask("cat /etc/motd; ls /etc/group; ls /srv")?;
    ensure!(
        seen == "from the shared layer\n/etc/group\ndata\nstart",
        "a new container sees {seen:?}"
    );
    show::holds("a new container starts from the image as it was pulled");
    let written = session.disk("containers")?;
    for shell in [one, two, new] {
        shell.end()?;
    }
    Ok((written, started))
}

fn figures(
    session: &Session,
    images: &[(&'static str, Image)],
    steps: &[Step],
    written: u64,
    started: Duration,
) -> Result<()> {
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let mut rows = vec![words(&[
        "image",
        "layers",
        "fetched",
        "reused",
        "bytes fetched",
        "bytes reused",
        "pull",
    ])];
    for step in steps {
        rows.push(vec![
            step.name.to_owned(),
            step.pulled.layers.len().to_string(),
            step.pulled.fetched().to_string(),
            step.pulled.reused().to_string(),
            bytes(step.pulled.bytes_fetched),
            bytes(step.pulled.bytes_reused),
            time(step.took),
        ]);
    }
    show::table(&rows);
    println!();
    let mut alone = 0;
    for step in steps {
        alone += content_size(session, &step.reference)?;
    }
    let disk = session.disk("layers")?;
    ensure!(
        images.len() == 2 && disk < alone,
        "layers take {disk} bytes, the images apart {alone}"
    );
    show::fact("the two images, each for itself", &bytes(alone));
    show::fact(
        "their layers in the store",
        &format!(
            "{} ({:.0} % less)",
            bytes(disk),
            100.0 - disk as f64 * 100.0 / alone as f64
        ),
    );
    show::fact("written by three containers", &bytes(written));
    show::fact("a container starts in", &time(started));
    Ok(())
}

/// The bytes in the files of an image's layers, counted as if it shared none of them.
fn content_size(session: &Session, reference: &str) -> Result<u64> {
    let (pulled, _) = session.pull(reference)?;
    let mut sum = 0;
    for layer in &pulled.layers {
        let hex = layer.diff_id.rsplit(':').next().unwrap_or_default();
        sum += session.disk(&format!("layers/{hex}"))?;
    }
    Ok(sum)
}
