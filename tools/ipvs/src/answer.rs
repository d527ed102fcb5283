//! What the kernel answers, up to the acknowledgement or the end of a list.

use netlink_packet_core::{NLM_F_DUMP_INTR, NetlinkPayload};

use crate::wire::attribute::{need, well_formed};
use crate::wire::{Attributes, Command, CommandAttribute, Content, Message, Packet};
use crate::{Daemon, Error, ListedDest, ListedService, ServiceKey};

/// What came before the acknowledgement or the list's end.
pub(crate) struct Answer {
    pub(crate) contents: Vec<Content>,
    /// False when the list changed while the kernel wrote it.
    pub(crate) consistent: bool,
}

impl Answer {
    /// Takes the next message; true when it is the last.
    pub(crate) fn take(&mut self, packet: Packet) -> Result<bool, Failure> {
        self.consistent &= packet.header.flags & NLM_F_DUMP_INTR == 0;
        let code = match packet.payload {
            NetlinkPayload::InnerMessage(content) => {
                self.contents.push(content);
                return Ok(false);
            }
            NetlinkPayload::Done(done) => done.code,
            NetlinkPayload::Error(error) => error.raw_code(),
            _ => return Ok(false),
        };
        match code {
            0 => Ok(true),
            code => Err(Failure::Errno(code.saturating_abs())),
        }
    }
}

/// Why there is no answer, before it is known to what.
pub(crate) enum Failure {
    Errno(i32),
    Silent,
    Other(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl Failure {
    pub(crate) fn of(self, command: Command) -> Error {
        match self {
            Self::Errno(libc::EPERM) => Error::Denied,
            Self::Errno(errno) => Error::Refused { command, errno },
            Self::Silent => Error::Silent(command),
            Self::Other(error) => error,
        }
    }
}

pub(crate) fn messages(answer: Answer) -> Vec<Message> {
    let ipvs = answer.contents.into_iter().filter_map(|content| match content {
        Content::Ipvs(message) => Some(message.payload),
        Content::Family(_) => None,
    });
    ipvs.collect()
}

/// The attributes of each message.
pub(crate) fn command_attributes(messages: Vec<Message>) -> Vec<Vec<CommandAttribute>> {
    let lists = messages.into_iter().filter_map(|message| match message.attributes {
        Attributes::Command(list) => Some(list),
        Attributes::Info(_) => None,
    });
    lists.collect()
}

pub(crate) fn listed_service(list: &[CommandAttribute]) -> Result<ListedService, Error> {
    well_formed(list)?;
    let service = need!(list, CommandAttribute::Service, "IPVS_CMD_ATTR_SERVICE")?;
    Ok(ListedService::read(&service.attributes)?)
}

pub(crate) fn listed_dest(
    list: &[CommandAttribute],
    service: &ServiceKey,
) -> Result<ListedDest, Error> {
    well_formed(list)?;
    let dest = need!(list, CommandAttribute::Dest, "IPVS_CMD_ATTR_DEST")?;
    Ok(ListedDest::read(&dest.attributes, service.family())?)
}

pub(crate) fn listed_daemon(list: &[CommandAttribute]) -> Result<Daemon, Error> {
    well_formed(list)?;
    let daemon = need!(list, CommandAttribute::Daemon, "IPVS_CMD_ATTR_DAEMON")?;
    Ok(Daemon::read(&daemon.attributes)?)
}
