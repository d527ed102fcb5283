//! Benchmarks of uvs.
