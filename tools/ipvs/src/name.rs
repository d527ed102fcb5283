//! Names that the kernel gives room for: of schedulers, persistence engines and interfaces.

use std::fmt;
use std::str::FromStr;

use crate::ValueError;

/// A name of at most 15 bytes without a zero byte. Empty means none.
///
/// (`IP_VS_SCHEDNAME_MAXLEN`, `IP_VS_PENAME_MAXLEN` and `IP_VS_IFNAME_MAXLEN` are 16, with the zero
/// byte at the end.)
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Name([u8; Name::MOST]);

/// A name that the kernel has no room for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a scheduler, persistence engine or interface: at most 15 bytes")]
pub struct NameError(pub String);

impl Name {
    /// How many bytes a name has at most.
    pub const MOST: usize = 15;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(Self::MOST);
        // It was made from text.
        str::from_utf8(&self.0[..end]).unwrap_or_default()
    }

    pub(crate) fn read(text: &str, attribute: &'static str) -> Result<Self, ValueError> {
        text.parse().map_err(|NameError(name)| ValueError::Name { attribute, name })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > Self::MOST || text.contains('\0') {
            return Err(NameError(text.to_owned()));
        }
        let mut name = [0; Self::MOST];
        name[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self(name))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_fifteen_bytes_at_most() {
        for text in ["", "wlc", "fifteen-bytes-x"] {
            assert_eq!(text.parse::<Name>().unwrap().as_str(), text);
        }
        for text in ["sixteen-bytes-xx", "r\0r", "ä-ä-ä-ä-ä-ä"] {
            assert_eq!(text.parse::<Name>(), Err(NameError(text.to_owned())));
        }
    }
}
