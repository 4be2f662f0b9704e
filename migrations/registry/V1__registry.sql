-- The registry's truth: which content exists, who may see it through which repository, and what
-- refers to what. Times are Unix seconds. Digests are text, `sha256:…`, so that a person can read them.

CREATE TABLE repository (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

-- Bytes on disk, once, whatever repositories show them. A row exists only after its bytes are durable,
-- and leaves before they do. Nothing is collected before `leased_until`.
CREATE TABLE blob (
    id           INTEGER PRIMARY KEY,
    digest       TEXT    NOT NULL UNIQUE,
    size         INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    leased_until INTEGER NOT NULL
) STRICT;

-- A blob is visible only through a repository that links it. The lease protects a blob that was just
-- pushed or mounted until its manifest comes.
CREATE TABLE repository_blob (
    repository_id INTEGER NOT NULL REFERENCES repository (id),
    blob_id       INTEGER NOT NULL REFERENCES blob (id),
    linked_at     INTEGER NOT NULL,
    leased_until  INTEGER NOT NULL,
    PRIMARY KEY (repository_id, blob_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX repository_blob_by_blob ON repository_blob (blob_id);

-- The exact bytes of manifests, once.
CREATE TABLE manifest_content (
    id     INTEGER PRIMARY KEY,
    digest TEXT    NOT NULL UNIQUE,
    bytes  BLOB    NOT NULL
) STRICT;

-- A manifest in a repository, with the media type that it was pushed with. `artifact_type` and
-- `annotations` (JSON) are what a referrers list shows of a manifest that has a subject.
CREATE TABLE manifest (
    id            INTEGER PRIMARY KEY,
    repository_id INTEGER NOT NULL REFERENCES repository (id),
    digest        TEXT    NOT NULL,
    content_id    INTEGER NOT NULL REFERENCES manifest_content (id),
    media_type    TEXT    NOT NULL,
    size          INTEGER NOT NULL,
    pushed_at     INTEGER NOT NULL,
    leased_until  INTEGER NOT NULL,
    subject       TEXT,
    artifact_type TEXT,
    annotations   TEXT,
    UNIQUE (repository_id, digest)
) STRICT;
CREATE INDEX manifest_by_subject ON manifest (repository_id, subject, digest) WHERE subject IS NOT NULL;
CREATE INDEX manifest_by_content ON manifest (content_id);

-- What a manifest needs: blobs of an image, children of an index. By digest and not by row, because a
-- registry may be told to take manifests whose content is not (yet) there.
CREATE TABLE manifest_blob (
    manifest_id INTEGER NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
    digest      TEXT    NOT NULL,
    PRIMARY KEY (manifest_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_blob_by_digest ON manifest_blob (digest);

CREATE TABLE manifest_child (
    manifest_id INTEGER NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
    digest      TEXT    NOT NULL,
    PRIMARY KEY (manifest_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_child_by_digest ON manifest_child (digest);

CREATE TABLE tag (
    repository_id INTEGER NOT NULL REFERENCES repository (id),
    name          TEXT    NOT NULL,
    manifest_id   INTEGER NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
    updated_at    INTEGER NOT NULL,
    PRIMARY KEY (repository_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_by_manifest ON tag (manifest_id);

-- Upload sessions: `received` bytes of the staged file are durable and hashed into `hash_state`; what the
-- file holds beyond them does not count. A session belongs to one repository and one owner.
CREATE TABLE upload (
    id         TEXT    PRIMARY KEY,
    repository TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    received   INTEGER NOT NULL,
    hash_state BLOB    NOT NULL,
    started_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX upload_by_expiry ON upload (expires_at);
