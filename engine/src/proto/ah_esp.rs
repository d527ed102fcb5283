//! AH and ESP: IPsec, as company of a key exchange (kernel: ip_vs_proto_ah_esp.c).
//!
//! Their packets have no ports, and no connections of their own. They belong to the UDP connection
//! of ISAKMP between the same two addresses, with port 500 on the client's, on the virtual and on
//! the server's side: they go where it goes, in every method, and start its timer anew with the
//! timeout that it has. They move no state and assure no template. One that finds no such
//! connection is the host's, whatever service or mark it meets: they open nothing.

use uvs_forward::wire::protocol;

/// IP protocol of the encapsulating security payload (RFC 4303).
pub const ESP: u8 = 50;
/// IP protocol of the authentication header (RFC 4302).
pub const AH: u8 = 51;

/// Both ports of the connection that such packets belong to: ISAKMP's.
pub const PORT: u16 = 500;

/// The protocol under which the connection of a packet of IP protocol `number` stands in the table:
/// UDP for AH and ESP, else its own.
#[inline]
pub fn carrier(number: u8) -> u8 {
    if is(number) { protocol::UDP } else { number }
}

/// Whether `number` is AH or ESP.
#[inline]
pub fn is(number: u8) -> bool {
    matches!(number, AH | ESP)
}
