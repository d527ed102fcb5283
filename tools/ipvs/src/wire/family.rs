//! The look-up of the family's number by its name (`nlctrl`, linux/genetlink.h).
//!
//! netlink-packet-generic has these messages too, but refuses attributes that it does not know, so
//! that a newer kernel's answer could not be read.

use netlink_packet_core::{DecodeError, Emitable, ParseableParametrized};
use netlink_packet_generic::constants::{CTRL_CMD_GETFAMILY, GENL_ID_CTRL};
use netlink_packet_generic::{GenlFamily, GenlHeader};

use super::attribute::{attributes, read_list};
use super::{FAMILY_NAME, ParseError};

attributes! {
    /// `CTRL_ATTR_*`; operations and groups are kept raw.
    FamilyAttribute {
        /// the number that the kernel gave the family: the type of its messages.
        Id(u16) = 1 CTRL_ATTR_FAMILY_ID,
        /// the family's name.
        Name(String) = 2 CTRL_ATTR_FAMILY_NAME,
        /// the family's version.
        Version(u32) = 3 CTRL_ATTR_VERSION,
        /// the size of the family's own header, in bytes.
        HeaderSize(u32) = 4 CTRL_ATTR_HDRSIZE,
        /// the highest attribute that it knows.
        MaxAttribute(u32) = 5 CTRL_ATTR_MAXATTR,
    }
}

/// A question about a family, or its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyMessage {
    /// `CTRL_CMD_*`.
    pub command: u8,
    /// What is asked or said.
    pub attributes: Vec<FamilyAttribute>,
}

impl FamilyMessage {
    /// The question for IPVS's number.
    pub fn question() -> Self {
        let attributes = vec![FamilyAttribute::Name(FAMILY_NAME.to_owned())];
        Self { command: CTRL_CMD_GETFAMILY, attributes }
    }

    /// Reads what follows the generic netlink header.
    ///
    /// # Errors
    ///
    /// [`ParseError::Attribute`] when the bytes are not a list of attributes.
    pub fn read(command: u8, bytes: &[u8]) -> Result<Self, ParseError> {
        Ok(Self { command, attributes: read_list(bytes)? })
    }
}

impl GenlFamily for FamilyMessage {
    fn family_name() -> &'static str {
        "nlctrl"
    }

    fn family_id(&self) -> u16 {
        GENL_ID_CTRL
    }

    fn command(&self) -> u8 {
        self.command
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for FamilyMessage {
    fn buffer_len(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.attributes.as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for FamilyMessage {
    fn parse_with_param(bytes: &[u8], header: GenlHeader) -> Result<Self, DecodeError> {
        Ok(Self::read(header.cmd, bytes)?)
    }
}
