//! Questions to the kernel over rtnetlink, and its answers (man 7 rtnetlink).

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::HostError;

/// Bytes read at once; the kernel fills at most 32 KiB of it.
pub(super) const BUFFER: usize = 1 << 16;

/// How often a list that changed while it was read is read again.
const TRIES: u32 = 8;

/// A socket for questions. Notifications have a socket of their own, so that here an answer is
/// always an answer.
pub(super) struct Kernel {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Kernel {
    pub(super) fn open() -> Result<Self, HostError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| HostError::Kernel { what: "interfaces", source })?;
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER), sequence: 0 })
    }

    /// All interfaces.
    pub(super) fn links(&mut self) -> Result<Vec<LinkMessage>, HostError> {
        self.dump("interfaces", Message::GetLink(LinkMessage::default()), |message| match message {
            Message::NewLink(link) => Some(link),
            _ => None,
        })
    }

    /// The addresses of all interfaces, of both families.
    pub(super) fn addresses(&mut self) -> Result<Vec<AddressMessage>, HostError> {
        let ask = AddressMessage::default();
        self.dump("addresses", Message::GetAddress(ask), |message| match message {
            Message::NewAddress(address) => Some(address),
            _ => None,
        })
    }

    /// The routes of all tables, of both families.
    pub(super) fn routes(&mut self) -> Result<Vec<RouteMessage>, HostError> {
        let ask = RouteMessage::default();
        self.dump("routes", Message::GetRoute(ask), |message| match message {
            Message::NewRoute(route) => Some(route),
            _ => None,
        })
    }

    /// The neighbours of all interfaces, of both families.
    pub(super) fn neighbours(&mut self) -> Result<Vec<NeighbourMessage>, HostError> {
        let ask = NeighbourMessage::default();
        self.dump("neighbours", Message::GetNeighbour(ask), |message| match message {
            Message::NewNeighbour(neighbour) => Some(neighbour),
            _ => None,
        })
    }

    /// Has the kernel do what a neighbour message says.
    pub(super) fn set_neighbour(&mut self, message: NeighbourMessage) -> io::Result<()> {
        self.send(Message::NewNeighbour(message), NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE)?;
        let mut nothing = Vec::new();
        self.receive(&mut nothing).map(|_| ())
    }

    fn dump<T>(
        &mut self,
        what: &'static str,
        question: Message,
        pick: impl Fn(Message) -> Option<T>,
    ) -> Result<Vec<T>, HostError> {
        let failed = |source| HostError::Kernel { what, source };
        for _ in 0..TRIES {
            self.send(question.clone(), NLM_F_REQUEST | NLM_F_DUMP).map_err(failed)?;
            let mut answers = Vec::new();
            if self.receive(&mut answers).map_err(failed)? {
                return Ok(answers.into_iter().filter_map(pick).collect());
            }
        }
        Err(failed(io::Error::other("the list changed each time while it was read; try again")))
    }

    fn send(&mut self, message: Message, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(|_| ())
    }

    /// Reads the answer to the last question to its end; false when it is not consistent because
    /// the list changed meanwhile.
    fn receive(&mut self, into: &mut Vec<Message>) -> io::Result<bool> {
        let mut consistent = true;
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            for (header, payload) in parse(&self.buffer) {
                if header.sequence_number != self.sequence {
                    continue;
                }
                consistent &= header.flags & NLM_F_DUMP_INTR == 0;
                match payload {
                    NetlinkPayload::InnerMessage(message) => into.push(message),
                    NetlinkPayload::Done(_) => return Ok(consistent),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(consistent),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }
}

/// The messages of one datagram. One that cannot be read (a newer kernel, an odd driver) is left
/// out: it is better to lack one interface than all.
pub(super) fn parse(
    mut bytes: &[u8],
) -> impl Iterator<Item = (NetlinkHeader, NetlinkPayload<Message>)> {
    std::iter::from_fn(move || {
        loop {
            let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
            // A netlink header is 16 bytes.
            let message = bytes.get(..length).filter(|message| message.len() >= 16)?;
            // Each message starts at a multiple of four.
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
            match NetlinkMessage::<Message>::deserialize(message) {
                Ok(message) => return Some(message.into_parts()),
                Err(error) => tracing::debug!(%error, "a netlink message that cannot be read"),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(message: Message) -> Vec<u8> {
        let payload = NetlinkPayload::InnerMessage(message);
        let mut packet = NetlinkMessage::new(NetlinkHeader::default(), payload);
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let good = bytes(Message::NewNeighbour(NeighbourMessage::default()));
        let mut bad = good.clone();
        bad.truncate(20);
        bad[0] = 20;
        let all = [good.clone(), bad, good.clone()].concat();
        assert_eq!(parse(&all).count(), 2);
        assert_eq!(parse(&all[..good.len() - 1]).count(), 0);
        assert_eq!(parse(&[0; 64]).count(), 0, "a length of nothing ends it");
    }
}
