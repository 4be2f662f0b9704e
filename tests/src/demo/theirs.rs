//! The demonstration with real images of the person's choice, pulled in the order given.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::demo::session::Session;
use crate::demo::show::{self, bytes, time};
use crate::strata::Pulled;

/// Mounts one image twice, writes and deletes in the first, looks at the second and at a third.
const TWO_VIEWS: &str = r#"
set -e
one=$("$0" mount "$1"); two=$("$0" mount "$1")
victim=$(cd "$two" && find . -xdev -type f -size +0 | LC_ALL=C sort | head -n 1)
test -n "$victim"
echo new > "$one/written-by-the-demonstration"
rm "$one/$victim"
test ! -e "$one/$victim"
test -e "$two/$victim" && test ! -e "$two/written-by-the-demonstration"
three=$("$0" mount "$1")
test -e "$three/$victim" && test ! -e "$three/written-by-the-demonstration"
for path in "$one" "$two" "$three"; do "$0" umount "$path"; done
echo "$victim"
"#;

pub(super) fn run(references: &[String]) -> Result<()> {
    println!("Strata: container images as shared layers");
    let session = Session::start()?;

    show::step(2, "Pull in order: only layers that are missing travel");
    let mut pulls: Vec<(&str, Pulled, Duration)> = Vec::new();
    for reference in references {
        let (pulled, took) = session.pull(reference)?;
        let (fetched, reused) = (pulled.fetched(), pulled.reused());
        show::fact(
            reference,
            &format!(
                "{fetched} layers fetched ({}), {reused} reused, {}",
                bytes(pulled.bytes_fetched),
                time(took)
            ),
        );
        let known = |id: &str| {
            pulls
                .iter()
                .any(|(_, p, _)| p.layers.iter().any(|l| l.diff_id == id))
        };
        for layer in &pulled.layers {
            ensure!(
                !(layer.fetched && known(&layer.diff_id)),
                "{} was fetched a second time",
                layer.diff_id
            );
        }
        pulls.push((reference, pulled, took));
    }
    show::holds("no layer was fetched twice");

    show::step(3, "Mount the first image three times, change one");
    let before = session.layers_digest()?;
    let program = session.strata.program().to_string_lossy().into_owned();
    let ran = session.in_namespace(&["sh", "-c", TWO_VIEWS, &program, &references[0]])?;
    show::holds(&format!(
        "/{} was deleted and a file written in one",
        ran.out().trim_start_matches("./")
    ));
    show::holds("the others see neither");
    ensure!(
        session.layers_digest()? == before,
        "the layers below have changed"
    );
    show::holds("the layers below are untouched");

    show::step(4, "In figures");
    figures(&session, &pulls)?;
    session.finish_up()
}

fn figures(session: &Session, pulls: &[(&str, Pulled, Duration)]) -> Result<()> {
    let head = [
        "image",
        "layers",
        "fetched",
        "reused",
        "bytes fetched",
        "bytes reused",
        "pull",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut alone = 0;
    for (reference, pulled, took) in pulls {
        rows.push(vec![
            (*reference).to_owned(),
            pulled.layers.len().to_string(),
            pulled.fetched().to_string(),
            pulled.reused().to_string(),
            bytes(pulled.bytes_fetched),
            bytes(pulled.bytes_reused),
            time(*took),
        ]);
        for layer in &pulled.layers {
            let hex = layer.diff_id.rsplit(':').next().unwrap_or_default();
            alone += session.disk(&format!("layers/{hex}"))?;
        }
    }
    show::table(&rows);
    println!();
    let disk = session.disk("layers")?;
    show::fact("the images, each for itself", &bytes(alone));
    show::fact("their layers in the store", &bytes(disk));
    ensure!(disk <= alone, "the store takes more than the images apart");
    Ok(())
}
