//! The userspace virtual server.
fn main() {}
