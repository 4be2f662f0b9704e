-- Containers, and mounts of images with a writable layer of their own. A row goes with a directory
-- containers/<id>; the program that runs a container holds a lock on it, so a row that says
-- "running" without a lock is what a crash left.

CREATE TABLE containers (
    id              TEXT PRIMARY KEY, -- 64 hexadecimal digits
    name            TEXT NOT NULL UNIQUE,
    kind            TEXT NOT NULL CHECK (kind IN ('container', 'mount', 'read-only mount')),
    state           TEXT NOT NULL CHECK (state IN ('created', 'running', 'exited')),
    manifest_digest TEXT NOT NULL REFERENCES images, -- keeps the image's layers
    image           TEXT NOT NULL, -- what it was called when the container was made
    ephemeral       INTEGER NOT NULL, -- 1: goes when its program ends, its writable layer was never synced
    command         TEXT NOT NULL, -- program and arguments as a JSON list, for people to read
    pid             INTEGER, -- of the first process, in the pid namespace of the one who ran it
    pid_started     INTEGER, -- its start time (proc_pid_stat(5), field 22): a pid is used again
    exit_code       INTEGER,
    created         INTEGER NOT NULL, -- seconds since 1970, as all times here
    started         INTEGER,
    finished        INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX containers_by_image ON containers (manifest_digest);
