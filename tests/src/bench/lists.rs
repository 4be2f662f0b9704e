//! Long lists and many blobs: a data directory that looks as if years had filled it, and what it costs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, params};

use super::figures::{Turn, Unit};
use super::load::image;
use super::plan::Plan;
use super::server::{Kind, Server};
use crate::http::Http;

/// The peers' repositories and tags are directories: more of them would take longer to make than to list.
pub(super) const PEERS: u32 = 10_000;

/// A repository with many tags.
const TAGGED: &str = "lists/tags";

/// Requests of each list, unless they take so long that few must do.
const REQUESTS: usize = 50;
const FEW: usize = 3;
const LONG: Duration = Duration::from_secs(1);

/// Until when nothing may collect what is put here: the year 2128.
const LEASED: i64 = 5_000_000_000;

/// How many entries a server's lists get.
pub(super) fn count(kind: &Kind, wanted: u32) -> u32 {
    if kind.is_stratad() {
        wanted
    } else {
        wanted.min(PEERS)
    }
}

/// Where files take no disk's time, if there is such a place: the peers' many directories are there, because to
/// remove them from a disk takes longer than the whole benchmark.
const MEMORY: &str = "/dev/shm";

/// A directory whose `data` has `count` tags in one repository and `count` other repositories.
pub(super) fn fill(kind: &Kind, plan: &Plan, count: u32) -> Result<tempfile::TempDir> {
    let in_memory = !kind.is_stratad() && Path::new(MEMORY).is_dir();
    let base = match in_memory {
        true => Path::new(MEMORY),
        false => plan.directory.path(),
    };
    let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(base)?;
    let data = directory.path().join("data");
    let server = kind.start_on(&data)?;
    server.api().push(&image(), TAGGED, "a");
    drop(server);
    if kind.is_stratad() {
        let known = if count > 10 { plan.known } else { 0 };
        rows(&data.join("stratad.db"), count, known).context("cannot fill the database")?;
    } else {
        directories(&data, count)?;
    }
    Ok(directory)
}

/// The rows that as many pushes would have left.
fn rows(database: &Path, count: u32, known: u32) -> Result<()> {
    let db = Connection::open(database)?;
    db.execute_batch("PRAGMA cache_size = -400000; BEGIN")?;
    db.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         INSERT INTO repository (name, created_at) SELECT printf('lists/r%06d', i), 0 FROM n",
        [count],
    )?;
    db.execute(
        "INSERT INTO manifest (repository_id, digest, content_id, media_type, size, pushed_at, leased_until)
         SELECT r.id, m.digest, m.content_id, m.media_type, m.size, 0, ?1
         FROM repository r JOIN (SELECT * FROM manifest LIMIT 1) m WHERE r.name GLOB 'lists/r*'",
        [LEASED],
    )?;
    db.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         INSERT INTO tag (repository_id, name, manifest_id, updated_at)
         SELECT t.repository_id, printf('t%06d', i), t.manifest_id, 0
         FROM (SELECT * FROM tag WHERE name = 'a') t, n",
        [count],
    )?;
    if known > 0 {
        let first: i64 = db.query_row("SELECT max(id) + 1 FROM blob", [], |row| row.get(0))?;
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
             INSERT INTO blob (id, digest, size, created_at, leased_until)
             SELECT ?2 + i, printf('sha256:%08x%056x', i * 2654435761 % 4294967296, i), 1, 0, ?3 FROM n",
            params![known, first, LEASED],
        )?;
        db.execute(
            "INSERT INTO repository_blob (repository_id, blob_id, linked_at, leased_until)
             SELECT (SELECT id FROM repository WHERE name = ?1), id, 0, ?2 FROM blob WHERE id >= ?3",
            params![TAGGED, LEASED, first],
        )?;
    }
    db.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(())
}

/// The directories that as many pushes would have left (distribution's filesystem driver).
fn directories(data: &Path, count: u32) -> Result<()> {
    let repositories = data.join("docker/registry/v2/repositories");
    let tags = repositories.join(TAGGED).join("_manifests/tags");
    let link = fs::read(tags.join("a/current/link"))?;
    for n in 1..=count {
        let tag = tags.join(format!("t{n:06}/current"));
        fs::create_dir_all(&tag)?;
        fs::write(tag.join("link"), &link)?;
        let repository = repositories.join(format!("lists/r{n:06}"));
        fs::create_dir_all(repository.join("_layers"))?;
        let tag = repository.join("_manifests/tags/a/current");
        fs::create_dir_all(&tag)?;
        fs::write(tag.join("link"), &link)?;
    }
    Ok(())
}

/// Lists, and how long the server takes to start and what memory it takes when it has nothing to do.
pub(super) fn measure(
    kind: &Kind,
    directory: &tempfile::TempDir,
    plan: &Plan,
    count: u32,
    turn: &mut Turn<'_>,
) -> Result<()> {
    let (data, long) = (directory.path().join("data"), count > 10);
    if long {
        for _ in 0..plan.rounds.max(3) {
            let server = kind.start_on(&data)?;
            let (name, target) = ("start to the first answer, all blobs known", Some(100.0));
            turn.add(
                name,
                Unit::Milliseconds,
                target,
                server.started.as_secs_f64() * 1000.0,
            );
        }
    }
    let server = kind.start_on(&data)?;
    if long {
        // What runs after the start is part of being idle.
        std::thread::sleep(Duration::from_secs(2));
        let name = "memory when idle, all blobs known";
        turn.add(name, Unit::Megabytes, Some(25.0), server.memory("VmRSS")?);
    }
    let tags = format!("/v2/{TAGGED}/tags/list?n=100");
    let late = format!("{tags}&last=t{:06}", count.saturating_sub(50));
    let catalog = "/v2/_catalog?n=100".to_owned();
    let last = format!("{catalog}&last=lists/r{:06}", count.saturating_sub(50));
    let lists = match long {
        true => [
            ("tags/list of many: first 100", &tags, 100),
            ("tags/list of many: last 50", &late, 50),
            ("_catalog of many: first 100", &catalog, 100),
            // The repository with the tags comes last.
            ("_catalog of many: last 51", &last, 51),
        ]
        .as_slice()
        .to_vec(),
        false => vec![
            ("tags/list of 10", &tags, 11),
            ("_catalog of 10", &catalog, 11),
        ],
    };
    for (name, path, entries) in lists {
        let took = list(&server, path, entries, kind.is_stratad());
        let took = took.with_context(|| format!("{}: {path}", kind.name()))?;
        took.iter()
            .for_each(|ms| turn.add(name, Unit::Milliseconds, Some(2.0), *ms));
    }
    Ok(())
}

/// Milliseconds of each request, on a connection of its own.
fn list(server: &Server, path: &str, entries: usize, exact: bool) -> Result<Vec<f64>> {
    let http = Http::new(server.address());
    let (mut took, first) = (Vec::new(), Instant::now());
    while took.len() < FEW || (took.len() < REQUESTS && first.elapsed() < LONG) {
        let began = Instant::now();
        let reply = http.send("GET", path, &[], b"").expect(200);
        took.push(began.elapsed().as_secs_f64() * 1000.0);
        let json = reply.json();
        let listed = json["tags"].as_array().or(json["repositories"].as_array());
        let listed = listed.map_or(0, Vec::len);
        // docker-registry 2.8 knows no pages of tags: it sends all of them.
        let right = if exact { listed == entries } else { listed > 0 };
        ensure!(right, "{listed} entries, not {entries}");
    }
    Ok(took)
}
