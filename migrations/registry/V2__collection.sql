-- Collection looks only at what may have come out of use. The greatest integer as `leased_until` says: was in use
-- when it was last looked at; whoever takes a use away sets a time. A link waits for its lease to end,
-- a blob that nothing links has a time that is past.
CREATE INDEX repository_blob_by_lease ON repository_blob (leased_until)
    WHERE leased_until < 9223372036854775807;
CREATE INDEX blob_by_lease ON blob (leased_until) WHERE leased_until < 9223372036854775807;

-- Whether a manifest of a repository names a digest must not cost more when manifests of many others do.
CREATE TABLE new_manifest_blob (
    manifest_id   INTEGER NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
    repository_id INTEGER NOT NULL REFERENCES repository (id),
    digest        TEXT    NOT NULL,
    PRIMARY KEY (manifest_id, digest)
) STRICT, WITHOUT ROWID;
INSERT INTO new_manifest_blob (manifest_id, repository_id, digest)
    SELECT n.manifest_id, m.repository_id, n.digest FROM manifest_blob n JOIN manifest m ON m.id = n.manifest_id;
DROP TABLE manifest_blob;
ALTER TABLE new_manifest_blob RENAME TO manifest_blob;
CREATE INDEX manifest_blob_by_digest ON manifest_blob (digest, repository_id);

CREATE TABLE new_manifest_child (
    manifest_id   INTEGER NOT NULL REFERENCES manifest (id) ON DELETE CASCADE,
    repository_id INTEGER NOT NULL REFERENCES repository (id),
    digest        TEXT    NOT NULL,
    PRIMARY KEY (manifest_id, digest)
) STRICT, WITHOUT ROWID;
INSERT INTO new_manifest_child (manifest_id, repository_id, digest)
    SELECT n.manifest_id, m.repository_id, n.digest FROM manifest_child n JOIN manifest m ON m.id = n.manifest_id;
DROP TABLE manifest_child;
ALTER TABLE new_manifest_child RENAME TO manifest_child;
CREATE INDEX manifest_child_by_digest ON manifest_child (digest, repository_id);
