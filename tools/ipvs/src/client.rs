//! A client of the kernel's IPVS: one question at a time, and its answer.

use std::io::ErrorKind;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader};

use crate::answer::{
    Answer, Failure, command_attributes, listed_daemon, listed_dest, listed_service, messages,
};
use crate::request;
use crate::wire::attribute::{need, well_formed};
use crate::wire::{
    Attributes, Command, CommandAttribute, Content, FamilyAttribute, InfoAttribute, Message,
    Packet, emit, parse,
};
use crate::{
    Daemon, DaemonState, Dest, DestKey, Error, Info, ListedDest, ListedService, Name,
    NetlinkSocket, Service, ServiceKey, Timeouts, Transport,
};

/// How often a list that changed while it was read is read again.
const TRIES: u32 = 8;

/// A conversation with IPVS. Every command needs CAP_NET_ADMIN in the user namespace of the network
/// namespace.
///
/// After [`Error::Socket`] or [`Error::Answer`] the kernel may be in the middle of a list: open a new
/// client then.
pub struct Client<T = NetlinkSocket> {
    transport: T,
    family: u16,
    sequence: u32,
}

impl Client {
    /// Opens a socket in this thread's network namespace and looks IPVS up.
    ///
    /// # Errors
    ///
    /// [`Error::NoIpvs`] when the kernel has no IPVS, [`Error::Socket`] when there is no netlink.
    pub fn open() -> Result<Self, Error> {
        Self::over(NetlinkSocket::open()?)
    }
}

impl<T: Transport> Client<T> {
    /// Looks IPVS up over a transport.
    ///
    /// # Errors
    ///
    /// [`Error::NoIpvs`] when the kernel has no IPVS.
    pub fn over(transport: T) -> Result<Self, Error> {
        let mut client = Self { transport, family: 0, sequence: 0 };
        client.family = client.look_up()?;
        Ok(client)
    }

    /// What IPVS is.
    ///
    /// # Errors
    ///
    /// [`Error`], as every command.
    pub fn info(&mut self) -> Result<Info, Error> {
        let answers = self.ask(Message::new(Command::GET_INFO, vec![]))?;
        let list = answers.into_iter().find_map(|answer| match answer.attributes {
            Attributes::Info(list) => Some(list),
            Attributes::Command(_) => None,
        });
        Ok(Info::read(&list.unwrap_or_else(Vec::<InfoAttribute>::new))?)
    }

    /// All services, in the order of the kernel's table.
    ///
    /// # Errors
    ///
    /// [`Error`], as every command.
    pub fn services(&mut self) -> Result<Vec<ListedService>, Error> {
        let answers = self.dump(Message::new(Command::GET_SERVICE, vec![]))?;
        answers.iter().map(|list| listed_service(list)).collect()
    }

    /// One service.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with ESRCH when there is none.
    pub fn service(&mut self, key: &ServiceKey) -> Result<ListedService, Error> {
        let answers = self.ask(request::service(Command::GET_SERVICE, key.attributes()))?;
        listed_service(&command_attributes(answers).concat())
    }

    /// A service's destinations in the kernel's own order, the newest first. There are none too
    /// when there is no such service: the kernel does not tell.
    ///
    /// # Errors
    ///
    /// [`Error`], as every command.
    pub fn dests(&mut self, key: &ServiceKey) -> Result<Vec<ListedDest>, Error> {
        let answers = self.dump(request::service(Command::GET_DEST, key.attributes()))?;
        answers.iter().map(|list| listed_dest(list, key)).collect()
    }

    /// Adds a service.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with EEXIST when it is there, with ENOENT when there is no such
    /// scheduler.
    pub fn add_service(&mut self, service: &Service) -> Result<(), Error> {
        self.tell(request::service(Command::NEW_SERVICE, service.attributes()))
    }

    /// Changes everything of a service but its key.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with ESRCH when there is none.
    pub fn set_service(&mut self, service: &Service) -> Result<(), Error> {
        self.tell(request::service(Command::SET_SERVICE, service.attributes()))
    }

    /// Removes a service with its destinations.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with ESRCH when there is none.
    pub fn del_service(&mut self, key: &ServiceKey) -> Result<(), Error> {
        self.tell(request::service(Command::DEL_SERVICE, key.attributes()))
    }

    /// Adds a destination to a service.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with ESRCH when there is no such service, with EEXIST when the
    /// destination is there, with ERANGE when weight or thresholds do not fit.
    pub fn add_dest(&mut self, service: &ServiceKey, dest: &Dest) -> Result<(), Error> {
        self.tell(request::dest(Command::NEW_DEST, service, dest.attributes()))
    }

    /// Changes everything of a destination but its key.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with ESRCH when there is no such service, with ENOENT when there is no
    /// such destination.
    pub fn set_dest(&mut self, service: &ServiceKey, dest: &Dest) -> Result<(), Error> {
        self.tell(request::dest(Command::SET_DEST, service, dest.attributes()))
    }

    /// Removes a destination.
    ///
    /// # Errors
    ///
    /// Like [`Client::set_dest`].
    pub fn del_dest(&mut self, service: &ServiceKey, dest: &DestKey) -> Result<(), Error> {
        self.tell(request::dest(Command::DEL_DEST, service, dest.attributes()))
    }

    /// The timeouts.
    ///
    /// # Errors
    ///
    /// [`Error`], as every command.
    pub fn timeouts(&mut self) -> Result<Timeouts, Error> {
        let answers = self.ask(Message::new(Command::GET_CONFIG, vec![]))?;
        Ok(Timeouts::read(&command_attributes(answers).concat())?)
    }

    /// Sets the timeouts that are not 0.
    ///
    /// # Errors
    ///
    /// [`Error`], as every command.
    pub fn set_timeouts(&mut self, timeouts: &Timeouts) -> Result<(), Error> {
        self.tell(Message::new(Command::SET_CONFIG, timeouts.attributes()))
    }

    /// The synchronisation daemons that run: none, one or two.
    ///
    /// # Errors
    ///
    /// [`Error`], as every command.
    pub fn daemons(&mut self) -> Result<Vec<Daemon>, Error> {
        let answers = self.dump(Message::new(Command::GET_DAEMON, vec![]))?;
        answers.iter().map(|list| listed_daemon(list)).collect()
    }

    /// Starts a daemon.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with EEXIST when it runs, with ENODEV when there is no such interface,
    /// with EINVAL when a destination is of another family than its service.
    pub fn start_daemon(&mut self, daemon: &Daemon) -> Result<(), Error> {
        self.tell(request::daemon(Command::NEW_DAEMON, daemon))
    }

    /// Stops a daemon.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with ESRCH when it does not run.
    pub fn stop_daemon(&mut self, state: DaemonState) -> Result<(), Error> {
        // Like ipvsadm, without a name: the kernel does not look at it.
        let told =
            self.tell(request::daemon(Command::DEL_DAEMON, &Daemon::new(state, Name::default())));
        match told {
            // The kernel acknowledges nothing when the daemon's thread had not run yet.
            Err(Error::Silent(_)) if !self.runs(state)? => Ok(()),
            told => told,
        }
    }

    /// Sets the counters of a service and its destinations to zero, or with none those of all.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with ESRCH when there is no such service.
    pub fn zero(&mut self, key: Option<&ServiceKey>) -> Result<(), Error> {
        self.tell(match key {
            Some(key) => request::service(Command::ZERO, key.attributes()),
            None => Message::new(Command::ZERO, vec![]),
        })
    }

    /// Removes all services.
    ///
    /// # Errors
    ///
    /// [`Error`], as every command.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.tell(Message::new(Command::FLUSH, vec![]))
    }

    fn runs(&mut self, state: DaemonState) -> Result<bool, Error> {
        Ok(self.daemons()?.iter().any(|daemon| daemon.state == state))
    }

    fn look_up(&mut self) -> Result<u16, Error> {
        let content = Content::look_up();
        let answer = self.exchange(content, NLM_F_REQUEST | NLM_F_ACK).map_err(|no| match no {
            Failure::Errno(libc::ENOENT) => Error::NoIpvs,
            no => no.of(Command::GET_INFO),
        })?;
        let list = answer.contents.into_iter().find_map(|content| match content {
            Content::Family(message) => Some(message.payload.attributes),
            Content::Ipvs(_) => None,
        });
        let list = list.unwrap_or_default();
        well_formed(&list)?;
        Ok(*need!(list, FamilyAttribute::Id, "CTRL_ATTR_FAMILY_ID")?)
    }

    fn tell(&mut self, message: Message) -> Result<(), Error> {
        self.ask(message).map(|_| ())
    }

    fn ask(&mut self, message: Message) -> Result<Vec<Message>, Error> {
        let command = message.command;
        let content = Content::ipvs(message, self.family);
        let answer = self.exchange(content, NLM_F_REQUEST | NLM_F_ACK);
        Ok(messages(answer.map_err(|failure| failure.of(command))?))
    }

    fn dump(&mut self, message: Message) -> Result<Vec<Vec<CommandAttribute>>, Error> {
        let command = message.command;
        let content = Content::ipvs(message, self.family);
        for _ in 0..TRIES {
            let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_DUMP;
            let answer = self.exchange(content.clone(), flags);
            let answer = answer.map_err(|failure| failure.of(command))?;
            if answer.consistent {
                return Ok(command_attributes(messages(answer)));
            }
        }
        Err(Error::Unstable)
    }

    /// Sends a question and reads its answer to the end.
    fn exchange(&mut self, content: Content, flags: u16) -> Result<Answer, Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        self.transport.send(&emit(&[Packet::new(header, content.into())]))?;
        let mut answer = Answer { contents: Vec::new(), consistent: true };
        loop {
            let datagram = match self.transport.receive() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(Failure::Silent),
                datagram => datagram?,
            };
            for packet in parse(datagram)? {
                // What is left of a question that failed half-way.
                if packet.header.sequence_number == self.sequence && answer.take(packet)? {
                    return Ok(answer);
                }
            }
        }
    }
}
