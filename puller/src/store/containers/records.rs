//! The rows of containers.

use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::{Container, ContainerError, Kind, NewContainer, State, now};
use crate::run::names;

/// What is said of a container as long as the command that made it has not come to start it.
pub(super) const UNSTARTED: &str =
    "the command that made it was to start it and has not come to that";

/// Adds a row; without a name given, under the first made-up one that is free.
pub(super) fn insert(
    index: &Connection,
    id: &str,
    new: &NewContainer,
) -> Result<Container, ContainerError> {
    let command = serde_json::to_string(&new.command).unwrap_or_default();
    let digest = new.image.digest.to_string();
    let created = time::OffsetDateTime::now_utc();
    for attempt in 0..100 {
        let name = match new.name {
            Some(name) => name.to_owned(),
            None => names::pick(rand::random(), attempt),
        };
        let mut insert = index.prepare_cached(
            "INSERT INTO containers (id, name, kind, state, manifest_digest, image, ephemeral, command, created, created_nanos, error)
             VALUES (:id, :name, :kind, 'created', :digest, :image, :ephemeral, :command, :created, :nanos, :error)
             ON CONFLICT (name) DO NOTHING",
        )?;
        let inserted = insert.execute(named_params! {
            ":id": id,
            ":name": name,
            ":kind": new.kind.name(),
            ":digest": digest,
            ":image": new.image_name,
            ":ephemeral": new.ephemeral,
            ":command": command,
            ":created": created.unix_timestamp(),
            ":nanos": created.nanosecond(),
            ":error": if new.starting { UNSTARTED } else { "" },
        });
        let inserted = match inserted {
            Err(error) if is_foreign_key(&error) => {
                return Err(ContainerError::ImageGone(new.image_name.to_owned()));
            }
            inserted => inserted?,
        };
        let found = find(index, if inserted == 1 { id } else { &name })?;
        match found.into_iter().next() {
            Some(container) if inserted == 1 => return Ok(container),
            Some(holder) if new.name.is_some() => {
                return Err(ContainerError::Conflict {
                    name,
                    id: holder.id,
                });
            }
            _ => {}
        }
    }
    Err(ContainerError::Name(
        "(none of a hundred made-up names is free)".to_owned(),
    ))
}

/// Gives a container another name.
pub(super) fn rename(index: &Connection, id: &str, name: &str) -> Result<(), ContainerError> {
    let renamed = index.execute(
        "UPDATE OR IGNORE containers SET name = ?2 WHERE id = ?1",
        (id, name),
    )?;
    if renamed == 1 {
        return Ok(());
    }
    match find(index, name)?.into_iter().next() {
        Some(holder) => Err(ContainerError::Conflict {
            name: name.to_owned(),
            id: holder.id,
        }),
        None => Err(ContainerError::NoSuch(id.to_owned())),
    }
}

/// The only row that one of a container refers to is its image's.
fn is_foreign_key(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code == Some(rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
}

pub(super) fn exited(
    index: &Connection,
    id: &str,
    code: u8,
    oom_killed: bool,
    error: &str,
) -> rusqlite::Result<()> {
    let mut update = index.prepare_cached(
        "UPDATE containers SET state = 'exited', pid = NULL, pid_started = NULL, exit_code = ?2, finished = ?3,
         paused = 0, oom_killed = ?4, error = ?5 WHERE id = ?1",
    )?;
    update.execute((id, code, now(), oom_killed, error))?;
    Ok(())
}

pub(super) fn remove(index: &Connection, id: &str) -> rusqlite::Result<()> {
    index
        .prepare_cached("DELETE FROM containers WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}

const COLUMNS: &str = "id, name, kind, state, manifest_digest, image, ephemeral, command, pid, pid_started, exit_code, created, started, finished, paused, oom_killed, error";

/// By name or id; else all whose id begins with the text.
pub(super) fn find(index: &Connection, name_or_id: &str) -> rusqlite::Result<Vec<Container>> {
    let exact = format!("SELECT {COLUMNS} FROM containers WHERE name = ?1 OR id = ?1");
    let mut exact = index.prepare_cached(&exact)?;
    if let Some(container) = exact.query_row([name_or_id], read).optional()? {
        return Ok(vec![container]);
    }
    if name_or_id.is_empty() || !name_or_id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(Vec::new());
    }
    let prefix =
        format!("SELECT {COLUMNS} FROM containers WHERE id >= ?1 AND id < ?1 || 'g' LIMIT 2");
    let mut prefix = index.prepare_cached(&prefix)?;
    prefix
        .query_map([name_or_id.to_ascii_lowercase()], read)?
        .collect()
}

pub(super) fn all(index: &Connection) -> rusqlite::Result<Vec<Container>> {
    let all =
        format!("SELECT {COLUMNS} FROM containers ORDER BY created DESC, created_nanos DESC, id");
    index.prepare_cached(&all)?.query_map([], read)?.collect()
}

fn read(row: &Row) -> rusqlite::Result<Container> {
    let damaged = |column: usize, text: String| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(column, kind, text.into())
    };
    let kind: String = row.get(2)?;
    let state: String = row.get(3)?;
    let digest: String = row.get(4)?;
    let command: String = row.get(7)?;
    Ok(Container {
        id: row.get(0)?,
        name: row.get(1)?,
        kind: match kind.as_str() {
            "container" => Kind::Container,
            "mount" => Kind::Mount,
            "read-only mount" => Kind::ReadOnlyMount,
            _ => return Err(damaged(2, kind)),
        },
        state: match state.as_str() {
            "created" => State::Created,
            "running" => State::Running,
            "exited" => State::Exited,
            _ => return Err(damaged(3, state)),
        },
        manifest_digest: digest.parse().map_err(|_| damaged(4, digest))?,
        image: row.get(5)?,
        ephemeral: row.get(6)?,
        command: serde_json::from_str(&command).map_err(|_| damaged(7, command))?,
        pid: row.get(8)?,
        pid_started: row
            .get::<_, Option<i64>>(9)?
            .and_then(|t| u64::try_from(t).ok()),
        exit_code: row.get(10)?,
        created: row.get(11)?,
        started: row.get(12)?,
        finished: row.get(13)?,
        paused: row.get(14)?,
        oom_killed: row.get(15)?,
        error: row.get(16)?,
    })
}
