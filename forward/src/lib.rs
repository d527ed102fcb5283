//! IPVS forwarding: how a frame leaves, as pure functions over bytes.
