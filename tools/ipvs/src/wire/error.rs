//! Why bytes are not IPVS's messages.

use netlink_packet_core::DecodeError;

/// Bytes that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A header does not fit.
    #[error("not a netlink message: {0}")]
    Header(String),
    /// An attribute's length or padding does not fit.
    #[error("after {after} attributes, {left} bytes are not an attribute")]
    Attribute {
        /// How many attributes of the list were read.
        after: usize,
        /// How many bytes of the list were left.
        left: usize,
    },
}

impl From<DecodeError> for ParseError {
    fn from(error: DecodeError) -> Self {
        Self::Header(error.to_string())
    }
}

impl From<ParseError> for DecodeError {
    fn from(error: ParseError) -> Self {
        error.to_string().into()
    }
}
