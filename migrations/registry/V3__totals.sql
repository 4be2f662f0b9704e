-- How much there is, kept with each change in its own transaction: whoever asks reads one row. Triggers, so that
-- no statement can forget it; they run for rows that leave by ON DELETE CASCADE too.
CREATE TABLE totals (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    repositories   INTEGER NOT NULL,
    manifests      INTEGER NOT NULL, -- in all repositories
    manifest_bytes INTEGER NOT NULL, -- of manifest_content
    tags           INTEGER NOT NULL,
    blobs          INTEGER NOT NULL,
    blob_bytes     INTEGER NOT NULL,
    links          INTEGER NOT NULL,
    linked_bytes   INTEGER NOT NULL, -- of blobs, as often as they are linked
    uploads        INTEGER NOT NULL
) STRICT;
INSERT INTO totals
SELECT 1,
    (SELECT count(*) FROM repository),
    (SELECT count(*) FROM manifest),
    (SELECT coalesce(sum(length(bytes)), 0) FROM manifest_content),
    (SELECT count(*) FROM tag),
    (SELECT count(*) FROM blob),
    (SELECT coalesce(sum(size), 0) FROM blob),
    (SELECT count(*) FROM repository_blob),
    (SELECT coalesce(sum(b.size), 0) FROM repository_blob l JOIN blob b ON b.id = l.blob_id),
    (SELECT count(*) FROM upload);

CREATE TRIGGER repository_added AFTER INSERT ON repository BEGIN
    UPDATE totals SET repositories = repositories + 1;
END;
CREATE TRIGGER repository_gone AFTER DELETE ON repository BEGIN
    UPDATE totals SET repositories = repositories - 1;
END;
CREATE TRIGGER manifest_added AFTER INSERT ON manifest BEGIN
    UPDATE totals SET manifests = manifests + 1;
END;
CREATE TRIGGER manifest_gone AFTER DELETE ON manifest BEGIN
    UPDATE totals SET manifests = manifests - 1;
END;
CREATE TRIGGER manifest_content_added AFTER INSERT ON manifest_content BEGIN
    UPDATE totals SET manifest_bytes = manifest_bytes + length(NEW.bytes);
END;
CREATE TRIGGER manifest_content_gone AFTER DELETE ON manifest_content BEGIN
    UPDATE totals SET manifest_bytes = manifest_bytes - length(OLD.bytes);
END;
CREATE TRIGGER tag_added AFTER INSERT ON tag BEGIN
    UPDATE totals SET tags = tags + 1;
END;
CREATE TRIGGER tag_gone AFTER DELETE ON tag BEGIN
    UPDATE totals SET tags = tags - 1;
END;
CREATE TRIGGER blob_added AFTER INSERT ON blob BEGIN
    UPDATE totals SET blobs = blobs + 1, blob_bytes = blob_bytes + NEW.size;
END;
CREATE TRIGGER blob_gone AFTER DELETE ON blob BEGIN
    UPDATE totals SET blobs = blobs - 1, blob_bytes = blob_bytes - OLD.size;
END;
CREATE TRIGGER repository_blob_added AFTER INSERT ON repository_blob BEGIN
    UPDATE totals SET links = links + 1,
        linked_bytes = linked_bytes + (SELECT size FROM blob WHERE id = NEW.blob_id);
END;
CREATE TRIGGER repository_blob_gone AFTER DELETE ON repository_blob BEGIN
    UPDATE totals SET links = links - 1,
        linked_bytes = linked_bytes - (SELECT size FROM blob WHERE id = OLD.blob_id);
END;
CREATE TRIGGER upload_added AFTER INSERT ON upload BEGIN
    UPDATE totals SET uploads = uploads + 1;
END;
CREATE TRIGGER upload_gone AFTER DELETE ON upload BEGIN
    UPDATE totals SET uploads = uploads - 1;
END;

-- One row, written to see whether writing works.
CREATE TABLE probe (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    probed_at INTEGER NOT NULL
) STRICT;
INSERT INTO probe VALUES (1, 0);
