//! The two images: a shell and its libraries, coreutils, accounts (the same layers in both), and what is
//! each one's own. Every program is this machine's.

use anyhow::{Context, Result};
use serde_json::json;

use crate::command::find;
use crate::entry::Entry;
use crate::image::{Image, Layer};
use crate::machine::{COREUTILS, Collector, accounts};

/// How many layers both images have in common.
pub(super) const SHARED: usize = 2;

/// Two images by name.
pub(super) fn make() -> Result<[(&'static str, Image); 2]> {
    let mut base = Collector::default();
    base.programs(&["sh"])?;
    let mut shell = base.take()?;
    shell.extend(accounts());
    shell.push(Entry::file("etc/motd", "from the shared layer\n"));
    base.programs(&COREUTILS)?;
    let shared = [Layer::of(&shell), Layer::of(&base.take()?)];
    let search = own(&shared, &["grep", "sed"], "search")?;
    let pack = own(&shared, &["gzip", "tar", "find"], "pack")?;
    Ok([("search", search), ("pack", pack)])
}

fn own(shared: &[Layer], programs: &[&str], name: &str) -> Result<Image> {
    // The shared layers' files again, so that only what they lack is new.
    let mut collector = Collector::default();
    collector.programs(&["sh"])?;
    collector.programs(&COREUTILS)?;
    collector.take()?;
    let present: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|p| find(p).is_some())
        .collect();
    collector.programs(&present)?;
    let tools = collector.take()?;
    let script = format!(
        "#!/bin/sh\necho \"{name}: $(cat /srv/data | wc -c) bytes of data, $(cat /etc/motd)\"\n"
    );
    let data = format!("the data of {name}\n").repeat(20_000);
    let app = [
        Entry::dir("srv/"),
        Entry::program("srv/start", script),
        Entry::file("srv/data", data),
    ];
    let layers = [shared, &[Layer::of(&tools), Layer::of(&app)]].concat();
    let config = json!({
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "WorkingDir": "/srv",
        "Cmd": ["/srv/start"],
    });
    let image = Image::with_config(&layers, config);
    image
        .layers
        .get(SHARED)
        .context("an image without layers of its own")?;
    Ok(image)
}
