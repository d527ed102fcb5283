//! UDP: one state (kernel: ip_vs_proto_udp.c).

/// The only state.
pub const NORMAL: u8 = 0;

/// Its name as ipvsadm prints it.
pub const NAMES: [&str; 1] = ["UDP"];

/// Its timeout in seconds.
pub const TIMEOUT: u32 = 300;
