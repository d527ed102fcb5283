//! The states of a persistence template, which are not those of its protocol
//! (kernel: ip_vs.h, IP_VS_CTPL_S_*).

use uvs_forward::wire::protocol;

use super::{View, sctp, tcp};

/// No connection under it was established.
pub const NONE: u8 = 0;
/// One was. It stays so, whatever becomes of the connection.
pub const ASSURED: u8 = 1;

/// The state's name as in `ipvsadm -Lc`.
pub fn state_name(state: u8) -> &'static str {
    match state {
        NONE => "NONE",
        ASSURED => "ASSURED",
        _ => super::NO_NAME,
    }
}

/// Whether a packet of `view` that brought its connection to `state` makes the connection's
/// template [`ASSURED`].
///
/// TCP and SCTP do it with ESTABLISHED, whoever brings it about. UDP does it with the server's
/// answer, so only in NAT. AH and ESP never do.
#[inline]
pub fn assures(number: u8, view: View, state: u8) -> bool {
    match number {
        protocol::TCP => state == tcp::ESTABLISHED,
        protocol::SCTP => state == sctp::ESTABLISHED,
        protocol::UDP => view == View::Output,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{ah_esp, udp};

    // Each line was seen in the kernel, with persistent services of DR and NAT.
    #[test]
    fn what_assures_a_template() {
        use View::{Input, InputOnly, Output};
        for view in [Input, InputOnly, Output] {
            assert!(assures(protocol::TCP, view, tcp::ESTABLISHED));
            assert!(!assures(protocol::TCP, view, tcp::SYN_RECV));
            assert!(!assures(protocol::TCP, view, tcp::TIME_WAIT));
            assert!(assures(protocol::SCTP, view, sctp::ESTABLISHED));
            assert!(!assures(protocol::SCTP, view, sctp::REJECTED));
            assert!(!assures(ah_esp::ESP, view, udp::NORMAL));
            assert_eq!(assures(protocol::UDP, view, udp::NORMAL), view == Output);
        }
    }

    #[test]
    fn names() {
        assert_eq!([0, 1, 2].map(state_name), ["NONE", "ASSURED", "ERR!"]);
    }
}
