//! How long a connection may stay in a state without a packet.

use uvs_forward::wire::protocol;

use super::{sctp, tcp, udp};
use crate::clock::{TICKS_PER_SECOND, Ticks};

/// The timeout of every state of every protocol.
///
/// A connection has the one that was in force at its last packet: a change leaves live connections
/// alone until then, as in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// By TCP state.
    pub tcp: [Ticks; tcp::STATES],
    /// UDP has one state.
    pub udp: Ticks,
    /// By SCTP state.
    pub sctp: [Ticks; sctp::STATES],
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp: tcp::TIMEOUTS.map(Ticks::from_secs),
            udp: Ticks::from_secs(udp::TIMEOUT),
            sctp: sctp::TIMEOUTS.map(Ticks::from_secs),
        }
    }
}

impl Timeouts {
    /// The timeout of `state` for packets of IP protocol `number`. Those of AH and ESP have UDP's,
    /// because their connections are UDP's ([`ah_esp`](super::ah_esp)).
    #[inline]
    pub fn of(&self, number: u8, state: u8) -> Ticks {
        let states: &[Ticks] = match number {
            protocol::TCP => &self.tcp,
            protocol::SCTP => &self.sctp,
            _ => return self.udp,
        };
        states.get(usize::from(state)).copied().unwrap_or(self.udp)
    }

    /// Changes what `ipvsadm --set` changes: TCP's ESTABLISHED and FIN_WAIT, and UDP.
    pub fn set(&mut self, new: ConnTimeout) {
        let change = |timeout: &mut Ticks, secs| {
            if secs != 0 {
                *timeout = Ticks::from_secs(secs);
            }
        };
        change(&mut self.tcp[usize::from(tcp::ESTABLISHED)], new.tcp);
        change(&mut self.tcp[usize::from(tcp::FIN_WAIT)], new.tcp_fin);
        change(&mut self.udp, new.udp);
    }

    /// These timeouts for a service that has some of its own (`--conn-timeout`; the kernel's IPVS
    /// has no such option).
    #[must_use]
    pub fn with(&self, own: ConnTimeout) -> Self {
        let mut timeouts = self.clone();
        timeouts.set(own);
        timeouts
    }
}

/// The three timeouts that a user can change, in seconds; 0 leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnTimeout {
    tcp: u32,
    tcp_fin: u32,
    udp: u32,
}

/// A timeout is out of range. The kernel's word for it is EINVAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {name} timeout of {secs} s is too long: give {} s or less", ConnTimeout::MAX)]
pub struct TooLong {
    /// Which one, as `ipvsadm` names it: tcp, tcpfin or udp.
    pub name: &'static str,
    /// What was asked for.
    pub secs: u32,
}

impl ConnTimeout {
    /// The longest timeout, in seconds: what fits into a signed number of 32 bits as ticks. That is
    /// the kernel's rule, whose ticks were a hundredth of a second as well where it was asked; its
    /// negative numbers are above it here. (`ipvsadm` by itself takes a month at most.)
    pub const MAX: u32 = i32::MAX as u32 / TICKS_PER_SECOND;

    /// Timeouts of ESTABLISHED and FIN_WAIT for TCP, and of UDP, in seconds.
    ///
    /// # Errors
    ///
    /// [`TooLong`] when one is above [`MAX`](Self::MAX).
    pub fn new(tcp: u32, tcp_fin: u32, udp: u32) -> Result<Self, TooLong> {
        for (name, secs) in [("tcp", tcp), ("tcpfin", tcp_fin), ("udp", udp)] {
            if secs > Self::MAX {
                return Err(TooLong { name, secs });
            }
        }
        Ok(Self { tcp, tcp_fin, udp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three(timeouts: &Timeouts) -> [u32; 3] {
        [
            timeouts.of(protocol::TCP, tcp::ESTABLISHED),
            timeouts.of(protocol::TCP, tcp::FIN_WAIT),
            timeouts.of(protocol::UDP, udp::NORMAL),
        ]
        .map(|ticks| ticks.0 / TICKS_PER_SECOND)
    }

    #[test]
    fn a_set_changes_three_timeouts_and_zero_keeps_one() {
        let mut timeouts = Timeouts::default();
        assert_eq!(three(&timeouts), [900, 120, 300]);
        timeouts.set(ConnTimeout::new(100, 200, 300).unwrap());
        timeouts.set(ConnTimeout::new(0, 0, 301).unwrap());
        assert_eq!(three(&timeouts), [100, 200, 301]);
        let others = |timeouts: &Timeouts| {
            let mut others = timeouts.clone();
            others.set(ConnTimeout::new(900, 120, 300).unwrap());
            others
        };
        assert_eq!(others(&timeouts), Timeouts::default());
    }

    #[test]
    fn a_service_with_timeouts_of_its_own_leaves_the_others_alone() {
        let all = Timeouts::default();
        let own = all.with(ConnTimeout::new(7, 0, 9).unwrap());
        assert_eq!((three(&own), three(&all)), ([7, 120, 9], [900, 120, 300]));
        assert_eq!(all.with(ConnTimeout::default()), all);
    }

    #[test]
    fn a_timeout_has_the_kernels_limit() {
        let longest = 21_474_836;
        assert!(ConnTimeout::new(longest, longest, longest).is_ok());
        let refused = ConnTimeout::new(1, longest + 1, 1).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the tcpfin timeout of 21474837 s is too long: give 21474836 s or less"
        );
        assert!(ConnTimeout::new(1, 1, -5_i32 as u32).is_err());
    }
}
