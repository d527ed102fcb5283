//! What a packet does to its connection: the state machines of IPVS, as data.
//!
//! A state is the kernel's number for it (ip_vs.h), so that it stands in the table, in listings
//! and in sync messages without translation. Every machine is a table `[event][state] -> state`;
//! the timeout of a state stands beside it in [`Timeouts`].

pub mod sctp;
pub mod tcp;
pub mod udp;

use uvs_forward::wire::protocol;

use crate::clock::Ticks;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the virtual service.
    In,
    /// From a NAT server back to the client.
    Out,
}

/// Which table of a machine serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// A packet of the client; replies are seen too (NAT).
    Input,
    /// A packet of the server.
    Output,
    /// A packet of the client, and replies pass elsewhere (DR, TUN).
    InputOnly,
}

/// What the parse stage noted of the transport header, as the machine's event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event(pub u8);

/// The timeout of every state of every protocol.
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
    /// How long a connection of IP protocol `number` may stay in `state` without a packet.
    #[inline]
    pub fn of(&self, number: u8, state: u8) -> Ticks {
        let states: &[Ticks] = match number {
            protocol::TCP => &self.tcp,
            protocol::SCTP => &self.sctp,
            _ => return self.udp,
        };
        states.get(usize::from(state)).copied().unwrap_or(self.udp)
    }
}

/// The state after `event`.
#[inline]
pub fn next(number: u8, view: View, state: u8, event: Event) -> u8 {
    match number {
        protocol::TCP => tcp::next(view, state, event),
        protocol::SCTP => sctp::next(view, state, event),
        _ => udp::NORMAL,
    }
}

/// Whether a connection in `state` counts as active on its server.
#[inline]
pub fn active(number: u8, state: u8) -> bool {
    match number {
        protocol::TCP => tcp::active(state),
        protocol::SCTP => state == sctp::ESTABLISHED,
        _ => false,
    }
}

/// Whether a packet with `event` may begin a connection.
#[inline]
pub fn opens(number: u8, event: Event) -> bool {
    match number {
        protocol::TCP => event == tcp::SYN,
        protocol::SCTP => event == sctp::INIT_CHUNK,
        _ => true,
    }
}

/// Whether a packet with `event` asks for a new connection, which ends one that is over. More
/// than what [`opens`] one: a SYN with RST does not (ip_vs_core.c, is_new_conn).
#[inline]
pub fn asks_for_new(number: u8, event: Event) -> bool {
    match number {
        protocol::TCP => event == tcp::SYN || event == tcp::RST_SYN,
        protocol::SCTP => event == sctp::INIT_CHUNK,
        _ => false,
    }
}

/// Whether a packet that asks for a new connection may take the place of one in `state`
/// (ip_vs_core.c, is_new_conn_expected, with conn_reuse_mode at its default of 1).
#[inline]
pub fn reusable(number: u8, state: u8) -> bool {
    match number {
        protocol::TCP => state == tcp::TIME_WAIT || state == tcp::CLOSE,
        protocol::SCTP => state == sctp::CLOSED,
        _ => false,
    }
}

/// The state's name as in `ipvsadm -Lc`.
pub fn state_name(number: u8, state: u8) -> &'static str {
    let names: &[&str] = match number {
        protocol::TCP => &tcp::NAMES,
        protocol::SCTP => &sctp::NAMES,
        _ => &["UDP"],
    };
    names.get(usize::from(state)).copied().unwrap_or("NONE")
}
