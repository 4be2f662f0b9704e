-- 1: files in this store belong to subordinate ids (subuid(5)) of its user. Who opens it without them could
-- neither read nor remove such files.
ALTER TABLE store ADD COLUMN subordinate INTEGER NOT NULL DEFAULT 0;
