//! SIGHUP: the configuration file is read anew. What is wrong in it leaves everything as it was.

use stratad::Live;
use stratad::config::{Change, Inputs};
use stratad::telemetry::log::Log;

use crate::notify;

/// Reads the file again and puts in force what can change while the server runs.
pub(super) fn reload(inputs: &Inputs, live: &Live, log: &Log) {
    notify::reloading();
    match inputs.load() {
        Ok(loaded) => {
            let (config, changes) = loaded.after(&live.now());
            // First, so that a level that shows more shows the rest of this.
            if let Err(error) = log.set_level(&config.log.level) {
                tracing::error!("log.level: {error}");
            }
            live.replace(config);
            changes.iter().for_each(tell);
            tracing::info!(
                changes = changes.iter().filter(|c| c.key.reloads).count(),
                "configuration read"
            );
        }
        Err(problems) => {
            for problem in problems {
                tracing::error!("configuration: {problem}");
            }
            tracing::error!("the configuration stays as it was");
        }
    }
    notify::ready();
}

fn tell(change: &Change) {
    let (key, before, after) = (change.key.name, &change.before, &change.after);
    if change.key.reloads {
        tracing::info!("{key} is now {after}, was {before}");
    } else {
        tracing::warn!("{key} stays {before}: {after} takes a restart");
    }
}
