//! Who talks to whom: what IPVS finds a connection by.

use crate::wire::protocol;
use crate::{Address, End, Offsets, Refused};

/// The port of ISAKMP, by whose UDP connection IPVS forwards AH and ESP (ip_vs_proto_ah_esp.c).
const ISAKMP: u16 = 500;

/// A packet's protocol and its two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple<A> {
    /// TCP, UDP or SCTP.
    pub protocol: u8,
    /// Who sends.
    pub src: End<A>,
    /// Who is to get it.
    pub dst: End<A>,
}

impl<A: Address> Tuple<A> {
    /// The tuple of a frame.
    ///
    /// Only the ports are needed of the transport header, so a packet that an ICMP error cites has
    /// one too. AH and ESP are found by the connection over which their keys were agreed.
    ///
    /// # Errors
    ///
    /// [`Refused::Protocol`], [`Refused::Fragment`], and [`Refused::Family`] or
    /// [`Refused::Truncated`] when `at` is not of this frame.
    #[inline]
    pub fn of(frame: &[u8], at: Offsets) -> Result<Self, Refused> {
        let ip = at.header::<A>(frame)?;
        if at.fragment {
            return Err(Refused::Fragment);
        }
        let transport = at.transport(frame).ok_or(Refused::Truncated)?;
        let (protocol, src, dst) = ports(at.protocol, transport)?;
        let (src, dst) =
            (End { address: A::src(ip), port: src }, End { address: A::dst(ip), port: dst });
        Ok(Self { protocol, src, dst })
    }

    /// The tuple of what goes the other way.
    #[inline]
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, ..self }
    }
}

/// The protocol by which the connection is found, and both ports.
#[inline]
pub(crate) fn ports(protocol: u8, transport: &[u8]) -> Result<(u8, u16, u16), Refused> {
    match protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => {
            // All three begin with them.
            let [s0, s1, d0, d1] = *transport.first_chunk().ok_or(Refused::Truncated)?;
            Ok((protocol, u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])))
        }
        protocol::AH | protocol::ESP => Ok((protocol::UDP, ISAKMP, ISAKMP)),
        _ => Err(Refused::Protocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    const UDP: &str = "0200000000c10200000000c0080045000021004e00003d11c466ac1003070a000001\
                       9c400050000d5a437175657279";

    #[test]
    fn of_a_frame_and_back() {
        let frame = hex(UDP);
        let at = Offsets::of(&frame).unwrap();
        let tuple = Tuple::<[u8; 4]>::of(&frame, at).unwrap();
        let client = End { address: [172, 16, 3, 7], port: 40000 };
        let vip = End { address: [10, 0, 0, 1], port: 80 };
        assert_eq!(tuple, Tuple { protocol: 17, src: client, dst: vip });
        assert_eq!(tuple.reversed(), Tuple { protocol: 17, src: vip, dst: client });
        assert_eq!(Tuple::<[u8; 16]>::of(&frame, at), Err(Refused::Family));
        let fragment = Offsets { fragment: true, ..at };
        assert_eq!(Tuple::<[u8; 4]>::of(&frame, fragment), Err(Refused::Fragment));
        let icmp = Offsets { protocol: 1, ..at };
        assert_eq!(Tuple::<[u8; 4]>::of(&frame, icmp), Err(Refused::Protocol));
    }

    #[test]
    fn ah_and_esp_go_with_their_key_exchange() {
        for protocol in [50, 51] {
            assert_eq!(ports(protocol, &[]), Ok((17, 500, 500)));
        }
        assert_eq!(ports(6, &[0, 1, 2]), Err(Refused::Truncated));
    }
}
