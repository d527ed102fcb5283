//! A message of the family: a command and its attributes, after the generic netlink header.

use netlink_packet_core::{DecodeError, Emitable, ParseableParametrized};
use netlink_packet_generic::{GenlFamily, GenlHeader};

use super::attribute::read_list;
use super::{Command, CommandAttribute, InfoAttribute, ParseError};

/// `IPVS_GENL_NAME`.
pub const FAMILY_NAME: &str = "IPVS";

/// `IPVS_GENL_VERSION`.
pub const FAMILY_VERSION: u8 = 1;

/// What is asked of IPVS, or what it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What to do; in an answer, what the attributes are.
    pub command: Command,
    /// What it is done to.
    pub attributes: Attributes,
}

/// The attributes of a message. Their numbers mean something else in the answer to `GET_INFO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attributes {
    /// Of every command but the next one.
    Command(Vec<CommandAttribute>),
    /// Of [`Command::SET_INFO`].
    Info(Vec<InfoAttribute>),
}

impl Message {
    /// A message of any command but [`Command::SET_INFO`].
    pub fn new(command: Command, attributes: Vec<CommandAttribute>) -> Self {
        Self { command, attributes: Attributes::Command(attributes) }
    }

    /// The answer to [`Command::GET_INFO`].
    pub fn info(attributes: Vec<InfoAttribute>) -> Self {
        Self { command: Command::SET_INFO, attributes: Attributes::Info(attributes) }
    }

    /// Reads what follows the generic netlink header.
    ///
    /// # Errors
    ///
    /// [`ParseError::Attribute`] when the bytes are not a list of attributes.
    pub fn read(command: Command, bytes: &[u8]) -> Result<Self, ParseError> {
        let attributes = match command {
            Command::SET_INFO => Attributes::Info(read_list(bytes)?),
            _ => Attributes::Command(read_list(bytes)?),
        };
        Ok(Self { command, attributes })
    }
}

impl GenlFamily for Message {
    fn family_name() -> &'static str {
        FAMILY_NAME
    }

    fn command(&self) -> u8 {
        self.command.0
    }

    fn version(&self) -> u8 {
        FAMILY_VERSION
    }
}

impl Emitable for Message {
    fn buffer_len(&self) -> usize {
        match &self.attributes {
            Attributes::Command(list) => list.as_slice().buffer_len(),
            Attributes::Info(list) => list.as_slice().buffer_len(),
        }
    }

    fn emit(&self, buffer: &mut [u8]) {
        match &self.attributes {
            Attributes::Command(list) => list.as_slice().emit(buffer),
            Attributes::Info(list) => list.as_slice().emit(buffer),
        }
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Message {
    fn parse_with_param(bytes: &[u8], header: GenlHeader) -> Result<Self, DecodeError> {
        Ok(Self::read(Command(header.cmd), bytes)?)
    }
}
