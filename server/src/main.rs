//! The `stratad` command: parse, build, serve, drain.
fn main() {}
