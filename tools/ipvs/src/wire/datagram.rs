//! Datagrams: what one `send` or `recv` carries, one netlink message after the other.

use netlink_packet_core::{
    Emitable, NLMSG_ALIGNTO, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable, Parseable,
};
use netlink_packet_generic::constants::{GENL_HDRLEN, GENL_ID_CTRL};
use netlink_packet_generic::{GenlHeader, GenlMessage};

use super::{Command, FamilyMessage, Message, ParseError};

/// A netlink message: header, and content, acknowledgement, error or end of a list.
pub type Packet = NetlinkMessage<Content>;

/// What a socket that speaks with IPVS carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// IPVS's messages: every type but the next one.
    Ipvs(GenlMessage<Message>),
    /// The look-up of the family: type 16.
    Family(GenlMessage<FamilyMessage>),
}

impl Content {
    /// A message for IPVS, whose number is `family`.
    pub fn ipvs(message: Message, family: u16) -> Self {
        let mut message = GenlMessage::from_payload(message);
        message.set_resolved_family_id(family);
        Self::Ipvs(message)
    }

    /// The question for IPVS's number.
    pub fn look_up() -> Self {
        Self::Family(GenlMessage::from_payload(FamilyMessage::question()))
    }
}

impl NetlinkSerializable for Content {
    fn message_type(&self) -> u16 {
        match self {
            Self::Ipvs(message) => message.message_type(),
            Self::Family(message) => message.message_type(),
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Self::Ipvs(message) => Emitable::buffer_len(message),
            Self::Family(message) => Emitable::buffer_len(message),
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            Self::Ipvs(message) => message.emit(buffer),
            Self::Family(message) => message.emit(buffer),
        }
    }
}

impl NetlinkDeserializable for Content {
    type Error = ParseError;

    fn deserialize(netlink: &NetlinkHeader, payload: &[u8]) -> Result<Self, ParseError> {
        let header = GenlHeader::parse(payload)?;
        let (family, bytes) = (netlink.message_type, &payload[GENL_HDRLEN..]);
        Ok(if family == GENL_ID_CTRL {
            let message = FamilyMessage::read(header.cmd, bytes)?;
            Self::Family(GenlMessage::new(header, message, family))
        } else {
            let message = Message::read(Command(header.cmd), bytes)?;
            Self::Ipvs(GenlMessage::new(header, message, family))
        })
    }
}

impl From<Content> for NetlinkPayload<Content> {
    fn from(content: Content) -> Self {
        Self::InnerMessage(content)
    }
}

/// The messages of a datagram, in either direction.
///
/// # Errors
///
/// [`ParseError`] when the bytes are not whole netlink messages, or when a message is not a list
/// of attributes. Attributes that are not known are no error.
pub fn parse(mut bytes: &[u8]) -> Result<Vec<Packet>, ParseError> {
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        let buffer = NetlinkBuffer::new_checked(bytes)?;
        let length = buffer.length() as usize;
        packets.push(packet(&buffer, &bytes[..length])?);
        let next = length.next_multiple_of(usize::from(NLMSG_ALIGNTO));
        bytes = bytes.get(next..).unwrap_or_default();
    }
    Ok(packets)
}

fn packet(buffer: &NetlinkBuffer<&[u8]>, bytes: &[u8]) -> Result<Packet, ParseError> {
    // The first types are netlink's own: acknowledgement, error, end of a list.
    if buffer.message_type() < GENL_ID_CTRL {
        return Ok(Packet::deserialize(bytes)?);
    }
    let header = NetlinkHeader::parse(buffer)?;
    let content = Content::deserialize(&header, buffer.payload())?;
    Ok(Packet::new(header, content.into()))
}

/// The datagram that carries the messages; their lengths and types are filled in.
///
/// # Panics
///
/// When an attribute is longer than its 16-bit length can say. No attribute that was read is, and
/// none that is made of this crate's plain values.
pub fn emit(packets: &[Packet]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for packet in packets {
        let mut packet = packet.clone();
        packet.finalize();
        let (start, length) = (bytes.len(), packet.buffer_len());
        bytes.resize(start + length.next_multiple_of(usize::from(NLMSG_ALIGNTO)), 0);
        packet.emit(&mut bytes[start..start + length]);
    }
    bytes
}
