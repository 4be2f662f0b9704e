//! What the fuzz targets do with their bytes: read them as a part of a request, or as a layer, and hold the reader to
//! what it promises. The workspace's tests run the same functions over the corpus (`tests/tests/fuzz_corpus.rs`).

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use http::{HeaderMap, HeaderValue, Method};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use strata::layer::{self, Limits, Ownership, UnpackOptions, XattrNamespace};
use strata_oci::manifest::{MAX_MANIFEST, Manifest};
use strata_oci::{Algorithm, Digest, Repository, Tag, media};
use stratad::condition::Condition;
use stratad::http::forwarded;
use stratad::http::query;
use stratad::http::range::{self, Part};
use stratad::route::{self, Route};

/// A target's name, which is its corpus's too, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 10] = [
    ("route", route),
    ("name", name),
    ("range", range),
    ("content_range", content_range),
    ("query", query),
    ("condition", condition),
    ("forwarded", forwarded),
    ("manifest", manifest),
    ("archive", archive),
    ("layer", layer),
];

const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::PUT,
    Method::POST,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// A method, then a path. What a route names is a name again, and the route's own path leads to it again.
pub fn route(data: &[u8]) {
    let Some((first, path)) = data.split_first() else {
        return;
    };
    let method = &METHODS[usize::from(*first) % METHODS.len()];
    let Ok(path) = std::str::from_utf8(path) else {
        return;
    };
    for path in [path.to_owned(), format!("/v2/{path}")] {
        if let Ok(route) = route::parse(method, &path)
            && let Some(own) = own_path(&route)
        {
            assert_eq!(route::parse(method, &own), Ok(route), "{method} {path}");
        }
    }
}

fn own_path(route: &Route) -> Option<String> {
    let (repository, rest) = match route {
        Route::Base | Route::Catalog | Route::Options(_) => return None,
        Route::Tags(repository) => (repository, "tags/list".to_owned()),
        Route::Referrers(repository, digest) => (repository, format!("referrers/{digest}")),
        Route::GetBlob {
            repository, digest, ..
        }
        | Route::DeleteBlob(repository, digest) => (repository, format!("blobs/{digest}")),
        Route::StartUpload(repository) => (repository, "blobs/uploads/".to_owned()),
        Route::UploadStatus(repository, id)
        | Route::AppendUpload(repository, id)
        | Route::FinishUpload(repository, id)
        | Route::CancelUpload(repository, id) => (repository, format!("blobs/uploads/{id}")),
        Route::GetManifest {
            repository,
            reference,
            ..
        }
        | Route::PutManifest(repository, reference)
        | Route::DeleteManifest(repository, reference) => {
            (repository, format!("manifests/{reference}"))
        }
    };
    Some(format!("/v2/{repository}/{rest}"))
}

/// A repository's name, a tag, a digest, an algorithm: what is one is the same again, and no path that leads elsewhere.
pub fn name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(repository) = text.parse::<Repository>() {
        assert_eq!(repository.as_str(), text);
        let leads_elsewhere = |part: &str| matches!(part, "" | "." | "..");
        assert!(text.len() <= 255 && !text.split('/').any(leads_elsewhere));
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.as_str(), text);
        assert!(text.len() <= 128 && !text.starts_with(['.', '-']) && !text.contains('/'));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
        assert!(digest.hex().bytes().all(|b| b.is_ascii_hexdigit()));
    }
    if let Ok(algorithm) = text.parse::<Algorithm>() {
        assert_eq!(algorithm.name(), text);
    }
}

/// A blob's size, then a Range header: a part is inside the blob and has something in it.
pub fn range(data: &[u8]) {
    let Some((size, header)) = data.split_first_chunk::<8>() else {
        return;
    };
    let size = u64::from_le_bytes(*size);
    // A header that is no text counts as none, as in the server.
    let header = std::str::from_utf8(header).ok();
    if let Part::Bytes(part) = range::of_blob(header, size) {
        assert!(
            part.start < part.end && part.end <= size,
            "{header:?} of {size}"
        );
    }
}

/// A chunk's Content-Range.
pub fn content_range(data: &[u8]) {
    let Ok(header) = std::str::from_utf8(data) else {
        return;
    };
    if let Some(chunk) = range::of_chunk(header) {
        assert!(chunk.start() <= chunk.end() && *chunk.end() < u64::MAX);
        let plain = format!("{}-{}", chunk.start(), chunk.end());
        assert_eq!(range::of_chunk(&plain), Some(chunk));
    }
}

/// A query: each value of `digest`, encoded again, is read again.
pub fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let values: Vec<String> = query::values(text, "digest").collect();
    let encoded = values.iter().map(|value| {
        let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
        format!("digest={value}")
    });
    let encoded = encoded.collect::<Vec<_>>().join("&");
    assert!(query::values(&encoded, "digest").eq(values));
}

/// Lines of If-Match, an empty line, lines of If-None-Match.
pub fn condition(data: &[u8]) {
    let mut lines = data.split(|b| *b == b'\n');
    let matching: Vec<&[u8]> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let not_matching: Vec<&[u8]> = lines.collect();
    let Ok(condition) = Condition::parse(matching.iter().copied(), not_matching.iter().copied())
    else {
        return;
    };
    let none = matching.is_empty() && not_matching.is_empty();
    assert_eq!(condition.is_empty(), none);
    let known = Digest::of(b"");
    for current in [None, Some(&known)] {
        let both = condition.is_expected(current) && !condition.is_known(current);
        assert_eq!(condition.allows(current), both);
    }
}

/// Lines of headers: `F` Forwarded, `P` X-Forwarded-Prefix, others X-Forwarded-For. A stranger is who it is, and a
/// prefix is a plain path.
pub fn forwarded(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|b| *b == b'\n') {
        let (name, value) = match line {
            [b'F', value @ ..] => ("forwarded", value),
            [b'P', value @ ..] => ("x-forwarded-prefix", value),
            value => ("x-forwarded-for", value),
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().expect("a network"));
    let proxy = IpAddr::from([10, 0, 0, 1]);
    let stranger = IpAddr::from([192, 0, 2, 1]);
    let found = forwarded::client(proxy, &headers, &trusted).0;
    assert_eq!(found, found.to_canonical());
    assert_eq!(forwarded::client(stranger, &headers, &trusted).0, stranger);
    assert_eq!(forwarded::prefix(stranger, &headers, &trusted), None);
    if let Some(prefix) = forwarded::prefix(proxy, &headers, &trusted) {
        let odd = |b: u8| !b.is_ascii_alphanumeric() && !b"/-._~".contains(&b);
        assert!(prefix.starts_with('/') && !prefix.starts_with("//") && !prefix.ends_with('/'));
        assert!(!prefix.bytes().any(odd) && !prefix.split('/').any(|part| part == ".."));
    }
}

/// A line with a Content-Type, which may be empty, then a manifest: what is one is one shape, and says the same when it
/// is read with its own type.
pub fn manifest(data: &[u8]) {
    let mut parts = data.splitn(2, |b| *b == b'\n');
    let (Some(kind), Some(bytes)) = (parts.next(), parts.next()) else {
        return;
    };
    let kind = std::str::from_utf8(kind)
        .ok()
        .filter(|kind| !kind.is_empty());
    let Ok(manifest) = Manifest::parse(bytes, kind) else {
        return;
    };
    assert!(bytes.len() <= MAX_MANIFEST);
    assert_eq!(
        media::manifest_kind(&manifest.media_type),
        Some(manifest.kind)
    );
    assert!(manifest.config.is_none() || manifest.manifests.is_empty());
    for blob in manifest.required_blobs() {
        assert!(blob.digest.to_string().parse::<Digest>().is_ok());
    }
    assert!(manifest.effective_artifact_type() != Some(""));
    let again = Manifest::parse(bytes, Some(&manifest.media_type));
    assert_eq!(again, Ok(manifest));
}

/// A layer as it comes from a registry, compressed in whatever way.
pub fn archive(data: &[u8]) {
    unpack(data);
}

/// A plain archive whose headers have the right checksums, so that what is in them is looked at.
pub fn layer(data: &[u8]) {
    let mut repaired = data.to_vec();
    for block in repaired.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    unpack(&repaired);
}

const SECRET: &[u8] = b"not yours";

/// Unpacks into a directory in memory, as it is done for whoever runs this. Nothing outside changes, and what was
/// accepted gives the identical archive again.
fn unpack(data: &[u8]) {
    let memory = Path::new("/dev/shm");
    let place = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let place = place.expect("a directory");
    let (outside, into) = (place.path().join("outside"), place.path().join("layer"));
    let secret = outside.join("secret");
    fs::create_dir(&outside).expect("make a directory");
    fs::create_dir(&into).expect("make a directory");
    fs::write(&secret, SECRET).expect("write");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("chmod");
    let known = |path: &Path| {
        let data = fs::metadata(path).expect("there");
        let owner = (data.uid(), data.gid());
        (
            data.mode(),
            owner,
            data.nlink(),
            data.mtime(),
            data.mtime_nsec(),
        )
    };
    let before = [&outside, &secret].map(|path| known(path));
    let root = before[1].1.0 == 0;
    let options = UnpackOptions {
        ownership: if root {
            Ownership::Keep
        } else {
            Ownership::Single
        },
        xattrs: if root {
            XattrNamespace::Trusted
        } else {
            XattrNamespace::User
        },
        holes: false,
        yielding: false,
        limits: Limits {
            entries: 300,
            bytes: 4 << 20,
            names: 100_000,
            segments: 500,
            ..Limits::default()
        },
    };
    let unpacked = layer::unpack(data, &into, &options, &|_| {});
    assert_eq!([&outside, &secret].map(|path| known(path)), before);
    assert_eq!(fs::read(&secret).expect("the secret"), SECRET);
    for (directory, count) in [(place.path(), 2), (&outside, 1)] {
        let entries = fs::read_dir(directory).expect("list");
        assert_eq!(entries.count(), count, "something was made outside");
    }
    let Ok(meta) = unpacked else { return };
    assert!(meta.rebuildable);
    let mut again = Vec::new();
    layer::rebuild(&into, &mut again).expect("the archive again");
    assert_eq!(Digest::of(&again), meta.diff_id);
    assert_eq!(again.len() as u64, meta.tar_size);
}
