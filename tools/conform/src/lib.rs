//! Replays recordings of the kernel's IPVS.
