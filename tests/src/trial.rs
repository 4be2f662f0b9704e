//! One image brought here through a proxy that does wrong, and what became of it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use strata_oci::digest::Digest;

use crate::api::Api;
use crate::command::{Ran, run};
use crate::entry::{Compression, Entry, tar};
use crate::http::Http;
use crate::image::{Image, Layer};
use crate::place::Place;
use crate::strata::Strata;

/// An image of a base layer that all such images share, and a layer of its own.
pub fn on_a_base(own: u64) -> Image {
    let base = Layer::of(&[Entry::file("base", noise(1, 400_000))]);
    let top = Layer::of(&[Entry::file("own", noise(own + 2, 30_000))]);
    Image::new(&[base, top])
}

/// Bytes that do not compress, the same for the same seed (xorshift).
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![0; len];
    for piece in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        piece.copy_from_slice(&state.to_le_bytes()[..piece.len()]);
    }
    bytes
}

/// An image of one file a layer, compressed in each way in turn, and what the files hold.
#[derive(Clone)]
pub struct Sample {
    /// The image.
    pub image: Image,
    files: Vec<(String, Digest)>,
}

impl Sample {
    /// Layers with files of these sizes in bytes.
    pub fn new(seed: u64, sizes: &[usize]) -> Self {
        let ways = [Compression::Gzip, Compression::Zstd, Compression::Plain];
        let mut layers = Vec::new();
        let mut files = Vec::new();
        for (n, size) in sizes.iter().enumerate() {
            let bytes = noise(seed * 100 + n as u64, *size);
            let name = format!("file{n}");
            files.push((name.clone(), Digest::of(&bytes)));
            layers.push(Layer::new(&tar(&[Entry::file(name, bytes)]), ways[n % 3]));
        }
        Self {
            image: Image::new(&layers),
            files,
        }
    }

    /// An image of layers of others.
    pub fn of_layers(layers: &[(&Sample, usize)]) -> Self {
        let pick = |(sample, n): &(&Sample, usize)| sample.image.layers[*n].clone();
        let picked: Vec<Layer> = layers.iter().map(pick).collect();
        let files = layers.iter().map(|(sample, n)| sample.files[*n].clone());
        Self {
            image: Image::new(&picked),
            files: files.collect(),
        }
    }

    /// The size of all blobs that travel, in bytes.
    pub fn bytes(&self) -> u64 {
        self.image.layer_bytes() + self.image.config.len() as u64
    }

    /// Whether a text names one of the blobs by the short form of its digest.
    pub fn is_named_in(&self, text: &str) -> bool {
        let layers = self.image.layers.iter().map(|layer| &layer.digest);
        let mut all = layers.cloned().chain([self.image.id()]);
        all.any(|digest| text.contains(digest.short()))
    }
}

/// How an image is brought here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `strata pull`, into a store.
    Pull,
    /// `strata copy`, into a layout directory.
    Copy,
}

/// A place for one image to come to.
pub struct Trial {
    /// The directory of all.
    pub place: Place,
    /// The store and the program.
    pub strata: Strata,
    way: Way,
}

impl Trial {
    /// Empty.
    pub fn new(way: Way) -> Self {
        let place = Place::new();
        Self {
            strata: Strata::new(&place),
            place,
            way,
        }
    }

    fn layout(&self) -> PathBuf {
        self.place.join("layout")
    }

    /// The command line that brings an image.
    pub fn command(&self, reference: &str) -> Command {
        let layout = format!("oci:{}:v1", self.layout().display());
        match self.way {
            Way::Pull => self.strata.command(&["pull", "-q", reference]),
            Way::Copy => self.strata.command(&["copy", "-q", reference, &layout]),
        }
    }

    /// Runs it.
    #[track_caller]
    pub fn run(&self, reference: &str) -> Ran {
        run(&mut self.command(reference))
    }

    /// Asserts that the image is here to the byte, and nothing else.
    #[track_caller]
    pub fn assert_right(&self, sample: &Sample) {
        match self.way {
            Way::Pull => {
                let image = &sample.image;
                for (layer, (name, digest)) in image.layers.iter().zip(&sample.files) {
                    let file = self.strata.layer(&layer.diff_id).join("fs").join(name);
                    let bytes = fs::read(file).expect("the layer's file");
                    assert_eq!(&Digest::of(&bytes), digest);
                }
                assert_eq!(self.strata.layers().len(), image.layers.len());
                assert_eq!(self.strata.leftovers(), [""; 0]);
            }
            Way::Copy => {
                let index = index(&self.layout());
                let listed = &index["manifests"][0]["digest"];
                assert_eq!(listed, &json!(sample.image.digest));
                let mut wanted: Vec<String> = sample
                    .image
                    .blobs()
                    .chain([sample.image.manifest.as_slice()])
                    .map(|blob| format!("blobs/sha256/{}", Digest::of(blob).hex()))
                    .chain(["index.json".to_owned(), "oci-layout".to_owned()])
                    .collect();
                wanted.sort();
                assert_eq!(self.files(), wanted, "nothing else lies there");
                assert!(!self.layout().join(".strata").exists());
                self.assert_blobs_proved();
            }
        }
    }

    /// Asserts that what was refused or broken off can be seen nowhere. Kept bytes of a download may be there.
    #[track_caller]
    pub fn assert_nothing_visible(&self) {
        match self.way {
            Way::Pull => {
                assert_eq!(self.strata.layers(), [""; 0]);
                assert_eq!(self.strata.images(), json!([]));
            }
            Way::Copy => {
                assert_eq!(index(&self.layout()), Value::Null);
                self.assert_blobs_proved();
            }
        }
    }

    /// Asserts that nothing half unpacked is left by a transfer that had the time to tidy up.
    #[track_caller]
    pub fn assert_tidy(&self) {
        let mut left = self.strata.leftovers();
        left.retain(|name| name.starts_with("staging/"));
        assert!(left.is_empty(), "{left:?}");
    }

    #[track_caller]
    fn assert_blobs_proved(&self) {
        for name in self.files() {
            if let Some(hex) = name.strip_prefix("blobs/sha256/") {
                let bytes = fs::read(self.layout().join(&name)).expect("read");
                assert_eq!(Digest::of(&bytes).hex(), hex);
            }
        }
    }

    /// The files of the layout.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let root = self.layout();
        let mut open = vec![root.clone()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    open.push(entry.path());
                } else {
                    let path = entry.path();
                    let name = path.strip_prefix(&root).expect("below it");
                    found.push(name.display().to_string());
                }
            }
        }
        found.sort();
        found
    }
}

fn index(layout: &Path) -> Value {
    match fs::read(layout.join("index.json")) {
        Ok(bytes) => serde_json::from_slice(&bytes).expect("an index"),
        Err(_) => Value::Null,
    }
}

/// Speaks to a registry at an address.
pub fn api(address: SocketAddr) -> Api {
    Api(Http::new(address))
}

/// Does all of these, some at a time, and gives what came of each, in order. A panic is told as what it says.
pub fn all<T: Sync, R: Send>(
    items: &[T],
    at_once: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<Result<R, String>> {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some((n, item)) = {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    items.get(n).map(|item| (n, item))
                } {
                    let came = catch_unwind(AssertUnwindSafe(|| work(item))).map_err(|panic| {
                        let text = panic.downcast_ref::<String>().cloned();
                        let plain = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
                        text.or(plain).unwrap_or_default()
                    });
                    done.lock().expect("done").push((n, came));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("done");
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, came)| came).collect()
}

/// Prints a table past the capture of output, so that a run shows it.
pub fn show(title: &str, rows: &[Vec<String>]) {
    use std::io::Write as _;
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, n| row.get(n).map_or(0, |cell: &String| cell.chars().count());
    let widths: Vec<usize> = (0..columns)
        .map(|n| rows.iter().map(|row| cell(row, n)).max().unwrap_or(0))
        .collect();
    let mut text = format!("{title}\n");
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(format!("  {}", line.join("  ")).trim_end());
        text.push('\n');
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}
