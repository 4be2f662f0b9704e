-- What there is to know of a container beyond its being there: 1, its processes are held still;
ALTER TABLE containers ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
-- 1: the kernel has killed its program for want of memory;
ALTER TABLE containers ADD COLUMN oom_killed INTEGER NOT NULL DEFAULT 0;
-- why its program could not be started the last time, empty if it could;
ALTER TABLE containers ADD COLUMN error TEXT NOT NULL DEFAULT '';
-- and the nanoseconds of the second in which it was made, because many may be.
ALTER TABLE containers ADD COLUMN created_nanos INTEGER NOT NULL DEFAULT 0;
