//! Whether the store holds what its index says, and nothing else.
//!
//! A layer is proved by [`layer::verify`]: its archive is written again and hashed, and its tree is
//! compared with the archive's headers. It is held meanwhile as a pull holds what it reuses, so
//! nobody removes or replaces it, and everything else goes on beside the check.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;
use strata_oci::digest::Digest;

use super::find::strings;
use super::image::{self, Image};
use super::sweep::{known, names};
use super::{Store, StoreError, familiar, publish, staging};
use crate::layer::{self, LayerMeta, Verdict};
use crate::progress::{Event, How, Progress};

/// How many differences of a stack are told.
const MOST_PROBLEMS: usize = 10;

/// How thoroughly to look.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// Only the index and which directories there are: no layer is read.
    pub quick: bool,
    /// How many layers are read at once.
    pub parallel: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            quick: false,
            parallel: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The database itself.
    Index,
    /// A layer, by its diffID.
    Layer(Digest),
    /// An image, by its manifest.
    Image(Digest),
    /// What mends a stack, by its chainID.
    Stack(Digest),
    /// Something that no row names and nobody works on.
    Rubbish(PathBuf),
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub subject: Subject,
    /// What is wrong, in words, the first few things.
    pub problems: Vec<String>,
    /// How many more there are.
    pub more: usize,
    /// The names, or ids, of the images that are concerned.
    pub images: Vec<String>,
    /// Of a layer: its content is proved all the same, so that it can be unpacked again without a registry.
    pub proven: bool,
}

impl Finding {
    fn new(subject: Subject, problem: impl Into<String>) -> Self {
        Self {
            subject,
            problems: vec![problem.into()],
            more: 0,
            images: Vec::new(),
            proven: false,
        }
    }

    /// Whether something is damaged, as against rubbish that only takes room.
    pub fn is_damage(&self) -> bool {
        !matches!(self.subject, Subject::Rubbish(_))
    }
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// Layers looked at.
    pub layers: usize,
    /// Bytes of their archives that were hashed.
    pub bytes: u64,
    /// Images looked at.
    pub images: usize,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

/// A row of `layers`.
struct LayerRow {
    diff_id: Digest,
    tar_size: u64,
    implied: u64,
    opaque: bool,
    rebuildable: bool,
}

impl Store {
    /// Looks at everything in the store. Blocking; others may use the store meanwhile.
    ///
    /// # Errors
    /// Only what makes looking itself impossible: damage is a finding.
    pub fn check(
        &self,
        options: &CheckOptions,
        progress: &dyn Progress,
    ) -> Result<CheckReport, StoreError> {
        let mut report = CheckReport::default();
        self.check_index(&mut report)?;
        let rows = self.check_directories(&mut report)?;
        self.check_images(&mut report)?;
        self.check_rubbish(&mut report)?;
        report.layers = rows.len();
        if !options.quick {
            self.check_stacks(&mut report)?;
        }
        self.check_layers(&rows, options, progress, &mut report)?;
        Ok(report)
    }

    fn check_index(&self, report: &mut CheckReport) -> Result<(), StoreError> {
        let db = self.db();
        let problems = strings(
            &db,
            "SELECT integrity_check FROM pragma_integrity_check LIMIT 20",
            &[],
        )?;
        let broken = strings(
            &db,
            "SELECT \"table\" || ' names a row of ' || parent || ' that is not there'
             FROM pragma_foreign_key_check LIMIT 20",
            &[],
        )?;
        let problems = problems.into_iter().filter(|p| p != "ok").chain(broken);
        let problems: Vec<String> = problems.collect();
        if !problems.is_empty() {
            report.findings.push(Finding {
                problems,
                ..Finding::new(Subject::Index, "")
            });
        }
        Ok(())
    }

    /// Rows and directories, seen at an instant when nobody changes both.
    fn check_directories(&self, report: &mut CheckReport) -> Result<Vec<LayerRow>, StoreError> {
        let _lock = self.lock_index()?;
        let db = self.db();
        let rows = layer_rows(&db)?;
        let layers = known(&db, "SELECT diff_id FROM layers")?;
        for text in &layers.unreadable {
            let problem = format!("a layer has {text:?} for its digest");
            report.findings.push(Finding::new(Subject::Index, problem));
        }
        let stacks = known(&db, "SELECT chain_id FROM stacks WHERE mended")?.names;
        for directory in ["layers", "stacks"] {
            let path = self.root.join(directory);
            for name in names(&path).map_err(StoreError::io("read", &path))? {
                let known = match directory {
                    // A directory may be the one that an unreadable row named.
                    "layers" => layers.names.contains(&name) || !layers.unreadable.is_empty(),
                    _ => stacks.contains(&name),
                };
                if !known {
                    let subject = Subject::Rubbish(path.join(name));
                    let problem = "no row of the index names it";
                    report.findings.push(Finding::new(subject, problem));
                }
            }
        }
        for hex in stacks {
            let path = self.root.join("stacks").join(&hex).join("fs");
            if !path.is_dir() {
                let subject = Subject::Stack(image::digest(&format!("sha256:{hex}"))?);
                report
                    .findings
                    .push(Finding::new(subject, "its directory is missing"));
            }
        }
        Ok(rows)
    }

    /// What mends a stack lies over all that is mounted.
    fn check_stacks(&self, report: &mut CheckReport) -> Result<(), StoreError> {
        let stacks = {
            let query = "SELECT chain_id FROM stacks WHERE mended ORDER BY chain_id";
            strings(&self.db(), query, &[])?
        };
        for chain_id in stacks.iter().filter_map(|text| text.parse::<Digest>().ok()) {
            let Some((image, mut problems)) = self.unlike_mended(&chain_id)? else {
                continue;
            };
            if problems.is_empty() {
                continue;
            }
            let more = problems.len().saturating_sub(MOST_PROBLEMS);
            problems.truncate(MOST_PROBLEMS);
            report.findings.push(Finding {
                problems,
                more,
                images: vec![called(&image)],
                ..Finding::new(Subject::Stack(chain_id), "")
            });
        }
        Ok(())
    }

    fn check_images(&self, report: &mut CheckReport) -> Result<(), StoreError> {
        let mut db = self.db();
        let db = db.transaction()?;
        let digests = strings(
            &db,
            "SELECT manifest_digest FROM images ORDER BY rowid",
            &[],
        )?;
        report.images = digests.len();
        for text in digests {
            let Ok(digest) = text.parse::<Digest>() else {
                let problem = format!("an image has {text:?} for its digest");
                report.findings.push(Finding::new(Subject::Index, problem));
                continue;
            };
            let subject = Subject::Image(digest.clone());
            match image::read(&db, &text) {
                Ok(image) => {
                    let problems = problems_of(&image);
                    if !problems.is_empty() {
                        report.findings.push(Finding {
                            problems,
                            images: vec![called(&image)],
                            ..Finding::new(subject, "")
                        });
                    }
                }
                Err(error) => report
                    .findings
                    .push(Finding::new(subject, error.to_string())),
            }
        }
        Ok(())
    }

    fn check_rubbish(&self, report: &mut CheckReport) -> Result<(), StoreError> {
        let staging = self.root.join("staging");
        let dead = staging::dead(&staging).map_err(StoreError::io("read", &staging))?;
        for path in dead {
            let problem = "whoever made it is dead";
            report
                .findings
                .push(Finding::new(Subject::Rubbish(path), problem));
        }
        for path in self.old_partials()? {
            let problem = "nobody has gone on with this download for a week";
            report
                .findings
                .push(Finding::new(Subject::Rubbish(path), problem));
        }
        Ok(())
    }

    fn check_layers(
        &self,
        rows: &[LayerRow],
        options: &CheckOptions,
        progress: &dyn Progress,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        for (item, row) in rows.iter().enumerate().filter(|_| !options.quick) {
            let (digest, size) = (row.diff_id.clone(), row.tar_size);
            progress.event(Event::Planned { item, digest, size });
        }
        // The largest decides how long all takes, so it goes first.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|item| std::cmp::Reverse(rows[*item].tar_size));
        let next = AtomicUsize::new(0);
        let verdicts = Mutex::new(HashMap::new());
        let work = || -> Result<(), StoreError> {
            while let Some(item) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                let verdict = self.check_layer(*item, &rows[*item], options, progress)?;
                let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
                verdicts.insert(*item, verdict);
            }
            Ok(())
        };
        let threads = options.parallel.clamp(1, 64).min(rows.len().max(1));
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            running.into_iter().try_for_each(|thread| {
                let done = thread.join();
                done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        let mut verdicts = verdicts
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        for (item, row) in rows.iter().enumerate() {
            // None: it was removed while the others were looked at.
            let Some(verdict) = verdicts.remove(&item).flatten() else {
                continue;
            };
            report.bytes += verdict.bytes;
            if !verdict.is_sound() {
                report.findings.push(Finding {
                    subject: Subject::Layer(row.diff_id.clone()),
                    images: self.images_with(&row.diff_id)?,
                    problems: verdict.problems,
                    more: verdict.more,
                    proven: verdict.proven,
                });
            }
        }
        Ok(())
    }

    fn check_layer(
        &self,
        item: usize,
        row: &LayerRow,
        options: &CheckOptions,
        progress: &dyn Progress,
    ) -> Result<Option<Verdict>, StoreError> {
        let Some(_held) = self.hold_layer(&row.diff_id)? else {
            return Ok(None);
        };
        let dir = self.layer_dir(&row.diff_id);
        let mut verdict = if options.quick {
            self.look(&dir, &row.diff_id)
        } else {
            let report = |bytes| progress.event(Event::Moved { item, bytes });
            layer::verify(&dir, &row.diff_id, &self.unpack_options(), &report)
        };
        if verdict.is_sound() {
            verdict.problems.extend(self.row_problems(&dir, row));
        }
        if !options.quick {
            let ended = match verdict.is_sound() {
                true => Event::Done {
                    item,
                    how: How::Verified,
                },
                false => Event::Failed { item },
            };
            progress.event(ended);
        }
        Ok(Some(verdict))
    }

    /// What is seen without reading any content.
    fn look(&self, dir: &std::path::Path, diff_id: &Digest) -> Verdict {
        let mut verdict = Verdict::default();
        for name in ["fs", "record.zst"] {
            if !dir.join(name).exists() {
                verdict.problems.push(format!("{name} is missing"));
            }
        }
        match LayerMeta::load(dir) {
            Ok(meta) if meta.diff_id == *diff_id => {}
            Ok(meta) => {
                let problem = format!("layer.json is that of {}", meta.diff_id);
                verdict.problems.push(problem);
            }
            Err(error) => verdict.problems.push(error.to_string()),
        }
        verdict
    }

    /// Where the row says something else than the directory.
    fn row_problems(&self, dir: &std::path::Path, row: &LayerRow) -> Vec<String> {
        let mut problems = Vec::new();
        let opaque = layer::hides_everything_below(dir, self.unpack_options().xattrs);
        if !opaque.is_ok_and(|opaque| opaque == row.opaque) {
            problems.push("the index is wrong about whether it hides all layers below".to_owned());
        }
        // One that cannot be read is a problem like one that is wrong.
        let meta = LayerMeta::load(dir).ok();
        let same = meta.is_some_and(|meta| {
            meta.tar_size == row.tar_size
                && meta.implied.len() as u64 == row.implied
                && meta.rebuildable == row.rebuildable
        });
        if !same {
            problems.push("the index does not agree with its layer.json".to_owned());
        }
        problems
    }

    /// What the images that have a layer are called.
    fn images_with(&self, diff_id: &Digest) -> Result<Vec<String>, StoreError> {
        let db = self.db();
        let query = "SELECT DISTINCT coalesce(reference, id) FROM image_layers
            JOIN images USING (manifest_digest) LEFT JOIN image_references USING (manifest_digest)
            WHERE diff_id = ?1 ORDER BY 1";
        let found = strings(&db, query, &[&diff_id.to_string()])?;
        Ok(found.iter().map(|full| familiar(full)).collect())
    }
}

fn layer_rows(db: &Connection) -> Result<Vec<LayerRow>, StoreError> {
    let query = "SELECT diff_id, tar_size, implied, opaque, rebuildable FROM layers ORDER BY added, diff_id";
    let mut statement = db.prepare_cached(query)?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        // One that is none is told of with the index.
        let Ok(diff_id) = row.get::<_, String>(0)?.parse::<Digest>() else {
            continue;
        };
        all.push(LayerRow {
            diff_id,
            tar_size: u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
            implied: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
            opaque: row.get(3)?,
            rebuildable: row.get(4)?,
        });
    }
    Ok(all)
}

/// Where an image's rows contradict each other.
fn problems_of(image: &Image) -> Vec<String> {
    let mut problems = Vec::new();
    if !image.digest.matches(&image.manifest_bytes) {
        problems.push("its manifest has changed: it has another digest".to_owned());
    }
    if !image.id.matches(&image.config_bytes) {
        problems.push("its configuration has changed: it has another digest".to_owned());
    }
    let named = image.manifest.config.as_ref().map(|config| &config.digest);
    if named != Some(&image.id) {
        problems.push("its manifest names another configuration".to_owned());
    }
    let diff_ids = &image.config.rootfs.diff_ids;
    let layers = image.layers.iter().map(|layer| &layer.diff_id);
    if !layers.eq(diff_ids) {
        let missing: Vec<&str> = diff_ids
            .iter()
            .filter(|diff_id| !image.layers.iter().any(|l| l.diff_id == **diff_id))
            .map(Digest::short)
            .collect();
        problems.push(match missing.as_slice() {
            [] => "its layers are not in its configuration's order".to_owned(),
            missing => format!("layers are missing: {}", missing.join(", ")),
        });
    }
    if publish::chain_id(diff_ids) != image.chain_id {
        problems.push("the index has another chainID for it".to_owned());
    }
    problems
}

fn called(image: &Image) -> String {
    let name = image.references.first();
    name.map_or_else(|| image.id.to_string(), |full| familiar(full))
}
