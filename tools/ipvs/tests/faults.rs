//! The client against answers that go wrong.

use std::collections::VecDeque;
use std::io;

use netlink_packet_core::{
    DoneMessage, ErrorMessage, NLM_F_DUMP_INTR, NetlinkHeader, NetlinkPayload,
};
use netlink_packet_generic::GenlMessage;
use uvs_ipvs::wire::{
    Command, CommandAttribute, Content, FamilyAttribute, FamilyMessage, Message, Nested, Packet,
    emit,
};
use uvs_ipvs::{
    AddressFamily, Client, Daemon, DaemonState, Error, Name, ServiceKey, Timeouts, Transport,
    ValueError,
};

const FAMILY: u16 = 28;

/// One message of an answer.
enum Answer {
    Ipvs(Message),
    Family(FamilyMessage),
    /// The end of a list or an acknowledgement: 0, or a negative error number.
    Done(i32),
    Code(i32),
    /// The next message, of a list that changed.
    Changed(Message),
    /// A message of another question.
    Stale(Message),
}

/// Answers by the datagram.
struct Kernel {
    answers: VecDeque<Result<Vec<Answer>, io::Error>>,
    sequence: u32,
    bytes: Vec<u8>,
}

impl Kernel {
    fn packet(&self, answer: Answer) -> Packet {
        let mut header = NetlinkHeader::default();
        header.sequence_number = self.sequence;
        let payload = match answer {
            Answer::Ipvs(message) => Content::ipvs(message, FAMILY).into(),
            Answer::Family(message) => Content::Family(GenlMessage::from_payload(message)).into(),
            Answer::Done(code) => {
                let mut done = DoneMessage::default();
                done.code = code;
                NetlinkPayload::Done(done)
            }
            Answer::Code(code) => {
                let mut error = ErrorMessage::default();
                error.code = code.try_into().ok();
                NetlinkPayload::Error(error)
            }
            Answer::Changed(message) => {
                header.flags = NLM_F_DUMP_INTR;
                Content::ipvs(message, FAMILY).into()
            }
            Answer::Stale(message) => {
                header.sequence_number -= 1;
                Content::ipvs(message, FAMILY).into()
            }
        };
        Packet::new(header, payload)
    }
}

impl Transport for Kernel {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.sequence = u32::from_ne_bytes(datagram[8..12].try_into().unwrap());
        Ok(())
    }

    fn receive(&mut self) -> io::Result<&[u8]> {
        let answers = self.answers.pop_front().expect("it asks for more than there is")?;
        let packets: Vec<_> = answers.into_iter().map(|answer| self.packet(answer)).collect();
        self.bytes = emit(&packets);
        Ok(&self.bytes)
    }
}

type Datagrams = Vec<Result<Vec<Answer>, io::Error>>;

fn over(answers: Datagrams) -> Result<Client<Kernel>, Error> {
    Client::over(Kernel { answers: answers.into(), sequence: 0, bytes: vec![] })
}

/// A client that knows its family and then gets these datagrams.
fn client(answers: Datagrams) -> Client<Kernel> {
    let family = FamilyMessage { command: 1, attributes: vec![FamilyAttribute::Id(FAMILY)] };
    let mut all = vec![Ok(vec![Answer::Family(family)]), Ok(vec![Answer::Code(0)])];
    all.extend(answers);
    over(all).unwrap()
}

fn daemon(state: DaemonState) -> Message {
    let list = Daemon::new(state, "eth0".parse().unwrap()).attributes();
    let list = vec![CommandAttribute::Daemon(Nested { flag: false, attributes: list })];
    Message::new(Command::NEW_DAEMON, list)
}

const MARK: ServiceKey = ServiceKey::Mark { family: AddressFamily::Inet, mark: 7 };

#[test]
fn a_kernel_without_ipvs_says_so() {
    let error = over(vec![Ok(vec![Answer::Code(-libc::ENOENT)])]).err().unwrap();
    assert!(matches!(error, Error::NoIpvs), "{error}");
}

#[test]
fn a_look_up_without_a_number_names_the_attribute() {
    let nothing = FamilyMessage { command: 1, attributes: vec![] };
    let answers = vec![Ok(vec![Answer::Family(nothing), Answer::Code(0)])];
    let error = over(answers).err().unwrap().to_string();
    assert!(error.contains("CTRL_ATTR_FAMILY_ID is missing"), "{error}");
}

#[test]
fn without_privilege_every_command_is_denied() {
    let mut client = client((0..3).map(|_| Ok(vec![Answer::Code(-libc::EPERM)])).collect());
    assert!(matches!(client.info(), Err(Error::Denied)));
    assert!(matches!(client.services(), Err(Error::Denied)));
    assert!(matches!(client.flush(), Err(Error::Denied)));
}

#[test]
fn a_list_may_take_several_datagrams() {
    let mut client = client(vec![
        Ok(vec![Answer::Ipvs(daemon(DaemonState::Master))]),
        Ok(vec![Answer::Ipvs(daemon(DaemonState::Backup))]),
        Ok(vec![Answer::Done(0)]),
    ]);
    let states: Vec<_> = client.daemons().unwrap().iter().map(|daemon| daemon.state).collect();
    assert_eq!(states, [DaemonState::Master, DaemonState::Backup]);
}

#[test]
fn a_list_that_changed_is_read_again() {
    let mut client = client(vec![
        Ok(vec![Answer::Changed(daemon(DaemonState::Master)), Answer::Done(0)]),
        Ok(vec![Answer::Ipvs(daemon(DaemonState::Backup)), Answer::Done(0)]),
    ]);
    let daemons = client.daemons().unwrap();
    assert_eq!(daemons, [Daemon::new(DaemonState::Backup, "eth0".parse().unwrap())]);
}

#[test]
fn a_list_that_never_rests_is_given_up() {
    let changed = || Ok(vec![Answer::Changed(daemon(DaemonState::Master)), Answer::Done(0)]);
    let mut client = client((0..8).map(|_| changed()).collect());
    assert!(matches!(client.daemons(), Err(Error::Unstable)));
}

#[test]
fn a_list_that_ends_with_an_error_is_an_error() {
    let mut client = client(vec![Ok(vec![Answer::Done(-libc::ENOMEM)])]);
    assert_eq!(client.services().unwrap_err().to_string(), "Memory allocation problem");
}

#[test]
fn what_is_left_of_another_question_is_passed_over() {
    let mut client = client(vec![
        Ok(vec![Answer::Stale(daemon(DaemonState::Master))]),
        Ok(vec![Answer::Ipvs(daemon(DaemonState::Backup)), Answer::Done(0)]),
    ]);
    assert_eq!(client.daemons().unwrap().len(), 1);
}

#[test]
fn an_answer_that_does_not_say_what_was_asked_names_the_attribute() {
    let timeouts = Timeouts { tcp: 1, tcp_fin: 2, udp: 3 }.attributes();
    let answer = || Message::new(Command::SET_CONFIG, timeouts[..2].to_vec());
    let missing = |error: Error| match error {
        Error::Value(ValueError::Missing { attribute }) => attribute,
        other => panic!("{other}"),
    };
    let twice = || Ok(vec![Answer::Ipvs(answer()), Answer::Code(0)]);
    let list = Ok(vec![Answer::Ipvs(answer()), Answer::Done(0)]);
    let mut client = client(vec![twice(), twice(), list, Ok(vec![Answer::Code(0)])]);
    assert_eq!(missing(client.timeouts().unwrap_err()), "IPVS_CMD_ATTR_TIMEOUT_UDP");
    assert_eq!(missing(client.service(&MARK).unwrap_err()), "IPVS_CMD_ATTR_SERVICE");
    assert_eq!(missing(client.dests(&MARK).unwrap_err()), "IPVS_CMD_ATTR_DEST");
    assert_eq!(missing(client.info().unwrap_err()), "IPVS_INFO_ATTR_VERSION");
}

#[test]
fn lost_answers_are_an_error_and_the_next_question_is_answered() {
    let lost = io::Error::from_raw_os_error(libc::ENOBUFS);
    let mut client = client(vec![Err(lost), Ok(vec![Answer::Code(0)])]);
    assert!(matches!(client.flush(), Err(Error::Socket(_))));
    client.zero(None).unwrap();
}

fn silence() -> Result<Vec<Answer>, io::Error> {
    Err(io::ErrorKind::WouldBlock.into())
}

#[test]
fn silence_is_an_error() {
    let mut client = client(vec![silence(), silence()]);
    assert!(matches!(client.flush(), Err(Error::Silent(Command::FLUSH))));
    assert!(matches!(client.daemons(), Err(Error::Silent(Command::GET_DAEMON))));
}

/// As the kernel does it when the daemon's thread had not run yet.
#[test]
fn a_daemon_that_stops_in_silence_is_stopped() {
    let other = || Ok(vec![Answer::Ipvs(daemon(DaemonState::Backup)), Answer::Done(0)]);
    let mut client = client(vec![silence(), other(), silence(), other()]);
    client.stop_daemon(DaemonState::Master).unwrap();
    let still = client.stop_daemon(DaemonState::Backup);
    assert!(matches!(still, Err(Error::Silent(Command::DEL_DAEMON))));
}

#[test]
fn errors_are_ipvsadms_words_for_what_was_asked() {
    let code = |errno: i32| Ok(vec![Answer::Code(-errno)]);
    let mut client = client(vec![
        code(libc::ESRCH),
        code(libc::EEXIST),
        code(libc::EAFNOSUPPORT),
        code(libc::ESRCH),
    ]);
    let daemon = Daemon::new(DaemonState::Master, Name::default());
    assert_eq!(client.zero(Some(&MARK)).unwrap_err().to_string(), "No such service");
    assert_eq!(client.start_daemon(&daemon).unwrap_err().to_string(), "Daemon has already run");
    let error = client.flush().unwrap_err();
    assert_eq!(error.to_string(), "Address family not supported by protocol");
    let error = client.stop_daemon(DaemonState::Master).unwrap_err();
    assert!(matches!(error, Error::Refused { command: Command::DEL_DAEMON, errno: libc::ESRCH }));
}
