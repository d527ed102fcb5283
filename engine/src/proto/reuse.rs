//! When a packet that asks for a new connection ends the old one of the same ports
//! (kernel: ip_vs_core.c; what it did in every state is in tests/data/reuse.txt).

use uvs_forward::wire::protocol;

use super::{sctp, tcp};

/// The setting `conn_reuse_mode`, a set of bits.
///
/// 0: a connection is never replaced. Any other value: one that is over is. Value 2 beside: also
/// one in FIN_WAIT whose server's packets are not seen (DR, TUN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnReuseMode(pub i32);

impl Default for ConnReuseMode {
    fn default() -> Self {
        Self(1)
    }
}

/// The connection that a packet found, when that packet asks for a new one
/// ([`asks_for_new`](super::asks_for_new)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Old {
    /// Its IP protocol.
    pub number: u8,
    /// Its state.
    pub state: u8,
    /// Its server's packets are not seen.
    pub no_output: bool,
    /// It belongs to a persistence template, or to the connection that announced it (FTP's data).
    pub controlled: bool,
    /// Its server has weight 0, and `expire_nodest_conn` is set.
    pub nodest: bool,
}

/// Whether a new connection takes the place of `old`.
#[inline]
pub fn reusable(old: &Old, mode: ConnReuseMode) -> bool {
    old.nodest || (mode.0 != 0 && !old.controlled && over(old, mode))
}

fn over(old: &Old, mode: ConnReuseMode) -> bool {
    match (old.number, old.state) {
        (protocol::TCP, tcp::TIME_WAIT | tcp::CLOSE) => true,
        (protocol::TCP, tcp::FIN_WAIT) => mode.0 & 2 != 0 && old.no_output,
        (protocol::SCTP, sctp::CLOSED) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Old = Old {
        number: protocol::TCP,
        state: tcp::FIN_WAIT,
        no_output: true,
        controlled: false,
        nodest: false,
    };

    #[test]
    fn fin_wait_is_over_in_mode_2_where_replies_are_not_seen() {
        assert!(reusable(&OLD, ConnReuseMode(3)) && reusable(&OLD, ConnReuseMode(-1)));
        assert!(!reusable(&OLD, ConnReuseMode(1)));
        assert!(!reusable(&Old { no_output: false, ..OLD }, ConnReuseMode(3)));
    }

    // The kernel went on with such a connection in CLOSE, TIME_WAIT and CLOSED at mode 3, and
    // replaced it when its server had weight 0 and expire_nodest_conn was set.
    #[test]
    fn a_controlled_connection_goes_only_with_its_server() {
        let old = Old { state: tcp::CLOSE, controlled: true, ..OLD };
        assert!(!reusable(&old, ConnReuseMode(3)));
        assert!(reusable(&Old { controlled: false, ..old }, ConnReuseMode(3)));
        assert!(reusable(&Old { nodest: true, ..old }, ConnReuseMode(0)));
    }
}
