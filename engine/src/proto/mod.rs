//! What a packet does to its connection: the state machines of IPVS, as data.
//!
//! A state is the kernel's number for it (ip_vs.h), so that it stands in the table, in listings
//! and in sync messages without translation. Every machine is a table `[event][state] -> state`;
//! the timeout of a state stands beside it, and [`Timeouts`] holds those in force.

pub mod ah_esp;
mod reuse;
pub mod sctp;
pub mod tcp;
pub mod template;
mod timeouts;
pub mod udp;

use uvs_forward::wire::protocol;

pub use reuse::{ConnReuseMode, Old, reusable};
pub use timeouts::{ConnTimeout, Timeouts, TooLong};

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the virtual service.
    In,
    /// From a NAT server back to the client.
    Out,
}

/// Which table of a machine serves; the tables stand in this order.
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

/// The state after `event`; `secure`: by the tables of secure_tcp.
#[inline]
pub fn next(number: u8, view: View, state: u8, event: Event, secure: bool) -> u8 {
    match number {
        protocol::TCP => tcp::next(view, state, event, secure),
        protocol::SCTP => sctp::next(view, state, event),
        _ => udp::NORMAL,
    }
}

/// Whether a connection in `state` counts as active on its server. It is asked when the state
/// changes; UDP's never does, so that it stays inactive as it began.
#[inline]
pub fn active(number: u8, state: u8) -> bool {
    match number {
        protocol::TCP => tcp::active(state),
        protocol::SCTP => state == sctp::ESTABLISHED,
        _ => false,
    }
}

/// The settings `sloppy_tcp` and `sloppy_sctp`: a connection may begin in the middle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sloppy {
    /// Any TCP packet without RST opens a connection.
    pub tcp: bool,
    /// Any SCTP packet that does not begin with ABORT opens one.
    pub sctp: bool,
}

/// Whether a packet with `event` may begin a connection.
#[inline]
pub fn opens(number: u8, event: Event, sloppy: &Sloppy) -> bool {
    match number {
        protocol::TCP if sloppy.tcp => event != tcp::RST && event != tcp::RST_SYN,
        protocol::TCP => event == tcp::SYN,
        protocol::SCTP if sloppy.sctp => event != sctp::ABORT_CHUNK && event != sctp::NO_CHUNK,
        protocol::SCTP => event == sctp::INIT_CHUNK,
        _ => !ah_esp::is(number),
    }
}

/// Whether a packet with `event` asks for a new connection, which may end the old one
/// ([`reusable`]). More than what [`opens`] one: a SYN with RST does not (ip_vs_core.c,
/// is_new_conn).
#[inline]
pub fn asks_for_new(number: u8, event: Event) -> bool {
    match number {
        protocol::TCP => event == tcp::SYN || event == tcp::RST_SYN,
        protocol::SCTP => event == sctp::INIT_CHUNK,
        _ => false,
    }
}

/// What a listing shows for a state without a name, as for a connection of AH's or ESP's, which
/// only a sync message can make.
const NO_NAME: &str = "ERR!";

/// The state's name as in `ipvsadm -Lc`. A template's is [`template::state_name`].
pub fn state_name(number: u8, state: u8) -> &'static str {
    let names: &[&str] = match number {
        protocol::TCP => &tcp::NAMES,
        protocol::SCTP => &sctp::NAMES,
        protocol::UDP => &udp::NAMES,
        _ => &[],
    };
    names.get(usize::from(state)).copied().unwrap_or(NO_NAME)
}
