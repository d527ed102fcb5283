//! The client over a stand-in for the kernel that plays back what the kernel once answered.

use std::collections::VecDeque;
use std::io;

use netlink_packet_core::NetlinkPayload;
use uvs_ipvs::wire::{
    Attributes, Command, CommandAttribute, Content, Message, ServiceAttribute, parse,
};
use uvs_ipvs::{
    Client, Daemon, Dest, Error, ListedDest, ListedService, Service, ServiceKey, Timeouts,
    Transport,
};

use uvs_conform::netlink::{self, Datagram, Record, identify};

#[path = "../examples/list/text.rs"]
mod text;

/// One conversation of ipvsadm with the kernel: from the look-up of the family on.
struct Replay {
    datagrams: VecDeque<Datagram>,
    sequence: u32,
    answer: Vec<u8>,
}

impl Replay {
    fn next(&mut self, request: bool) -> Vec<u8> {
        let next = self.datagrams.pop_front().expect("a longer conversation was recorded");
        assert_eq!(next.request, request, "out of turn: {:?}", parse(&next.bytes));
        next.bytes
    }
}

impl Transport for Replay {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let recorded = self.next(true);
        same_question(datagram, &recorded);
        self.sequence = u32::from_ne_bytes(datagram[8..12].try_into().unwrap());
        Ok(())
    }

    fn receive(&mut self) -> io::Result<&[u8]> {
        if self.datagrams.front().is_none_or(|next| next.request) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.answer = self.next(false);
        let mut rest = self.answer.as_mut_slice();
        while !rest.is_empty() {
            identify(rest, self.sequence, 0);
            let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
            rest = &mut rest[length.next_multiple_of(4)..];
        }
        Ok(&self.answer)
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        assert!(std::thread::panicking() || self.datagrams.is_empty(), "more was recorded");
    }
}

/// To the kernel both say the same. ipvsadm sends whole services where it needs but their keys, so
/// there ours is a part of it, in the same order; everywhere else ours is the same, byte for byte.
fn same_question(ours: &[u8], recorded: &[u8]) {
    let (ours, recorded) = (anonymous(ours), anonymous(recorded));
    if ours == recorded {
        return;
    }
    let (ours, recorded) = (message(&ours), message(&recorded));
    assert_eq!(ours.command, recorded.command);
    let keys = [
        Command::GET_SERVICE,
        Command::DEL_SERVICE,
        Command::ZERO,
        Command::NEW_DEST,
        Command::SET_DEST,
        Command::DEL_DEST,
    ];
    assert!(keys.contains(&ours.command), "{ours:?}\n{recorded:?}");
    for (ours, recorded) in attributes(&ours).iter().zip(attributes(&recorded)) {
        match (ours, recorded) {
            (CommandAttribute::Service(ours), CommandAttribute::Service(recorded)) => {
                assert_eq!(ours.attributes, recorded.attributes[..ours.attributes.len()]);
            }
            (CommandAttribute::Dest(ours), CommandAttribute::Dest(recorded)) => {
                let recorded = netlink::clean(&recorded.attributes);
                assert_eq!(ours.attributes, recorded[..ours.attributes.len()]);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Without the sequence number and the port.
fn anonymous(datagram: &[u8]) -> Vec<u8> {
    let mut bytes = datagram.to_vec();
    identify(&mut bytes, 0, 0);
    bytes
}

fn message(datagram: &[u8]) -> Message {
    match &parse(datagram).unwrap()[0].payload {
        NetlinkPayload::InnerMessage(Content::Ipvs(message)) => message.payload.clone(),
        other => panic!("{other:?}"),
    }
}

fn attributes(message: &Message) -> &[CommandAttribute] {
    match &message.attributes {
        Attributes::Command(list) => list,
        Attributes::Info(_) => panic!("{message:?}"),
    }
}

fn service(message: &Message) -> Option<&[ServiceAttribute]> {
    match attributes(message).first() {
        Some(CommandAttribute::Service(service)) => Some(&service.attributes),
        _ => None,
    }
}

/// The conversations of a command: ipvsadm opens several sockets, and looks the family up on each.
fn conversations(record: &Record) -> Vec<VecDeque<Datagram>> {
    let mut all: Vec<VecDeque<Datagram>> = Vec::new();
    for datagram in &record.datagrams {
        if datagram.request && datagram.bytes[4] == 16 {
            all.push(VecDeque::new());
        }
        all.last_mut().unwrap().push_back(datagram.clone());
    }
    all
}

/// What a command's conversations said.
#[derive(Default)]
struct Said {
    services: Vec<ListedService>,
    dests: Vec<(ServiceKey, Vec<ListedDest>)>,
    daemons: Vec<Daemon>,
    timeouts: Option<Timeouts>,
    info: Option<String>,
}

impl Said {
    /// Asks through the client what was asked in the recorded conversation.
    fn converse(&mut self, datagrams: VecDeque<Datagram>) -> Result<(), Error> {
        let questions = datagrams.iter().filter(|datagram| datagram.request).skip(1);
        let questions: Vec<_> = questions.map(|question| message(&question.bytes)).collect();
        let mut client = Client::over(Replay { datagrams, sequence: 0, answer: vec![] })?;
        questions.iter().try_for_each(|question| self.ask(&mut client, question))
    }

    fn ask(&mut self, client: &mut Client<Replay>, question: &Message) -> Result<(), Error> {
        let key = service(question).map(|list| ServiceKey::read(list).unwrap());
        let whole = || Service::read(service(question).unwrap()).unwrap();
        match question.command {
            Command::GET_INFO => self.info = Some(client.info()?.to_string()),
            Command::GET_CONFIG => self.timeouts = Some(client.timeouts()?),
            Command::GET_DAEMON => self.daemons = client.daemons()?,
            Command::GET_SERVICE => match key {
                Some(key) => self.services.push(client.service(&key)?),
                None => self.services = client.services()?,
            },
            Command::GET_DEST => self.dests.push((key.unwrap(), client.dests(&key.unwrap())?)),
            Command::NEW_SERVICE => client.add_service(&whole())?,
            Command::SET_SERVICE => client.set_service(&whole())?,
            Command::DEL_SERVICE => client.del_service(&key.unwrap())?,
            Command::ZERO => client.zero(key.as_ref())?,
            Command::FLUSH => client.flush()?,
            Command::SET_CONFIG => client.set_timeouts(&read_timeouts(question))?,
            Command::NEW_DAEMON => client.start_daemon(&daemon(question))?,
            Command::DEL_DAEMON => client.stop_daemon(daemon(question).state)?,
            _ => self.change_dest(client, question, &key.unwrap())?,
        }
        Ok(())
    }

    fn change_dest(
        &mut self,
        client: &mut Client<Replay>,
        question: &Message,
        key: &ServiceKey,
    ) -> Result<(), Error> {
        let Some(CommandAttribute::Dest(list)) = attributes(question).get(1) else {
            panic!("{question:?}")
        };
        let dest = Dest::read(&list.attributes, key.family()).unwrap();
        match question.command {
            Command::NEW_DEST => client.add_dest(key, &dest),
            Command::SET_DEST => client.set_dest(key, &dest),
            Command::DEL_DEST => client.del_dest(key, &dest.key),
            other => panic!("{other}"),
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> =
            self.services.iter().map(|listed| text::service(&listed.service)).collect();
        lines.extend(self.dests.iter().flat_map(|(_, dests)| dests.iter().map(text::dest)));
        lines.sort();
        lines
    }
}

fn read_timeouts(question: &Message) -> Timeouts {
    Timeouts::read(attributes(question)).unwrap()
}

fn daemon(question: &Message) -> Daemon {
    match attributes(question) {
        [CommandAttribute::Daemon(list)] => Daemon::read(&list.attributes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn replay(record: &Record) -> (Said, Result<(), Error>) {
    let mut said = Said::default();
    for conversation in conversations(record) {
        if let Err(error) = said.converse(conversation) {
            return (said, Err(error));
        }
    }
    (said, Ok(()))
}

fn commands() -> impl Iterator<Item = Record> {
    let text = include_str!("../../conform/cases/netlink/ipvs_genl.json");
    let records = netlink::read(&serde_json::from_str(text).unwrap()).unwrap();
    records.into_iter().filter(|record| record.ipvsadm)
}

/// What ipvsadm asked, the client asks; what the kernel refused, it refuses in ipvsadm's words.
#[test]
fn the_client_asks_what_ipvsadm_asked_and_says_what_it_said() {
    let mut refused = 0;
    for record in commands() {
        println!("{}", record.name);
        match replay(&record).1 {
            Err(error) => {
                assert_eq!(error.to_string(), record.stderr.trim_end());
                refused += 1;
            }
            // ipvsadm itself refused it before it asked.
            Ok(()) if !record.stderr.is_empty() => assert_eq!(conversations(&record).len(), 2),
            Ok(()) => {}
        }
    }
    assert_eq!(refused, 19);
}

/// The values say all that ipvsadm printed.
#[test]
fn what_is_listed_is_what_ipvsadm_listed() {
    let mut lists = 0;
    for record in commands().filter(|record| record.stdout.contains("Forward Weight ActiveConn")) {
        let mut printed: Vec<_> = record.stdout.lines().map(str::to_owned).collect();
        printed.retain(|line| !line.is_empty() && !line.contains("Address:Port"));
        let (said, result) = replay(&record);
        result.unwrap();
        let mut lines = said.lines();
        if record.name == "ipvsadm -Ln" || record.name == "ipvsadm -Ln --sort" {
            lines.extend(said.info);
        }
        lines.sort();
        printed.sort();
        assert_eq!(lines, printed, "{}", record.name);
        lists += 1;
    }
    assert_eq!(lists, 3);
}

#[test]
fn daemons_and_timeouts_are_those_that_ipvsadm_printed() {
    for record in commands() {
        let (said, _) = replay(&record);
        for daemon in &said.daemons {
            let line = format!(
                "{} sync daemon (mcast={}, syncid={}, maxlen={}, group={}, port={}, ttl={})\n",
                daemon.state,
                daemon.interface,
                daemon.sync_id,
                daemon.max_length,
                daemon.group.unwrap(),
                daemon.port,
                daemon.ttl
            );
            assert!(record.stdout.contains(&line), "{line}{}", record.stdout);
        }
        if let Some(Timeouts { tcp, tcp_fin, udp }) = said.timeouts {
            let line = format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n");
            assert_eq!(record.stdout, line);
        }
    }
}
