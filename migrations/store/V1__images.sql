-- The local store: which images are here, of which layers, under which names.
-- A row of `layers` promises a whole, durable directory layers/<hex of diff_id>.

-- One row: who owns the trees of this store. Root's trees have the owners that the images say and
-- marks in trusted.*; a user namespace's have one owner and marks in user.*.
CREATE TABLE store (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    privilege TEXT NOT NULL CHECK (privilege IN ('root', 'user namespace'))
) STRICT;

CREATE TABLE layers (
    diff_id      TEXT PRIMARY KEY,
    tar_size     INTEGER NOT NULL, -- bytes of the uncompressed archive
    content_size INTEGER NOT NULL, -- sum of the regular files' bytes
    entries      INTEGER NOT NULL,
    implied      INTEGER NOT NULL, -- how many directories no entry of the archive names
    opaque       INTEGER NOT NULL, -- 1: its root hides all layers below it
    rebuildable  INTEGER NOT NULL, -- 1: the identical archive can be written again
    added        INTEGER NOT NULL  -- seconds since 1970
) STRICT, WITHOUT ROWID;

CREATE TABLE images (
    manifest_digest TEXT PRIMARY KEY,
    id              TEXT NOT NULL, -- digest of the configuration: what people call the image id
    chain_id        TEXT NOT NULL, -- digest over all its diff_ids (image-spec, config.md, "Layer ChainID")
    media_type      TEXT NOT NULL,
    manifest        BLOB NOT NULL,
    config          BLOB NOT NULL,
    added           INTEGER NOT NULL
) STRICT;
CREATE INDEX images_by_id ON images (id);
CREATE INDEX images_by_chain ON images (chain_id);

CREATE TABLE image_layers (
    manifest_digest TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    position        INTEGER NOT NULL, -- 0 is the lowest
    diff_id         TEXT NOT NULL REFERENCES layers,
    PRIMARY KEY (manifest_digest, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_layers_by_layer ON image_layers (diff_id);

-- Names in full: docker.io/library/debian:latest, or with @digest in place of the tag.
CREATE TABLE image_references (
    reference       TEXT PRIMARY KEY,
    repository      TEXT NOT NULL, -- the name without tag and digest
    manifest_digest TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    resolved        TEXT NOT NULL  -- what the registry said the name is: an index or the manifest
) STRICT, WITHOUT ROWID;
CREATE INDEX image_references_by_image ON image_references (manifest_digest);
CREATE INDEX image_references_by_repository ON image_references (repository);

-- Stacks of layers that have directories without an entry of their own: 1, stacks/<hex of chain_id>
-- holds what is laid on top to mend them; 0, nothing needs mending.
CREATE TABLE stacks (
    chain_id TEXT PRIMARY KEY,
    mended   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Where a blob is known to be, for mounting it across repositories at push.
CREATE TABLE origins (
    blob       TEXT NOT NULL,
    registry   TEXT NOT NULL,
    repository TEXT NOT NULL,
    seen       INTEGER NOT NULL,
    PRIMARY KEY (blob, registry, repository)
) STRICT, WITHOUT ROWID;
