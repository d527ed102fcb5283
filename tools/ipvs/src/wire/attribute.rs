//! Attributes (`struct nlattr`): a length, a kind, a value, padded to four bytes.

use netlink_packet_core::{
    DefaultNla, NLA_ALIGNTO, NLA_F_NESTED, NLA_F_NET_BYTEORDER, Nla, NlaBuffer,
};

use super::ParseError;
use crate::ValueError;

/// One kind of attribute list.
pub(crate) trait Attribute: Nla + Sized {
    /// Takes any attribute: what this crate does not know is kept as it came.
    fn parse(buffer: &NlaBuffer<&[u8]>) -> Self;

    /// The kernel's name, and the length, of an attribute whose kind is known but whose value is
    /// not of that kind.
    fn malformed(&self) -> Option<ValueError>;
}

/// The attributes that fill `bytes`. What cannot be written back byte for byte is refused.
pub(crate) fn read_list<A: Attribute>(mut bytes: &[u8]) -> Result<Vec<A>, ParseError> {
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let broken = || ParseError::Attribute { after: list.len(), left: bytes.len() };
        let buffer = NlaBuffer::new_checked(bytes).map_err(|_| broken())?;
        let end = usize::from(buffer.length());
        let next = end.next_multiple_of(NLA_ALIGNTO);
        let padding = bytes.get(end..next).ok_or_else(broken)?;
        // The flags exclude each other (linux/netlink.h), and could not be written both.
        let both = buffer.nested_flag() && buffer.network_byte_order_flag();
        if both || padding.iter().any(|byte| *byte != 0) {
            return Err(broken());
        }
        list.push(A::parse(&buffer));
        bytes = &bytes[next..];
    }
    Ok(list)
}

/// An attribute as it came, flags of its kind included.
pub(crate) fn raw(buffer: &NlaBuffer<&[u8]>) -> DefaultNla {
    let nested = if buffer.nested_flag() { NLA_F_NESTED } else { 0 };
    let order = if buffer.network_byte_order_flag() { NLA_F_NET_BYTEORDER } else { 0 };
    DefaultNla::new(buffer.kind() | nested | order, buffer.value().to_vec())
}

/// Refuses a list that has an attribute which cannot be read.
pub(crate) fn well_formed<A: Attribute>(list: &[A]) -> Result<(), ValueError> {
    list.iter().find_map(Attribute::malformed).map_or(Ok(()), Err)
}

/// The value of the last attribute of a kind, as the kernel takes it (`nla_parse`).
macro_rules! last {
    ($list:expr, $attribute:path) => {
        $list.iter().rev().find_map(|attribute| match attribute {
            $attribute(value) => Some(value),
            _ => None,
        })
    };
}
pub(crate) use last;

/// Like [`last!`], for an attribute that must be there.
macro_rules! need {
    ($list:expr, $attribute:path, $name:literal) => {
        $crate::wire::attribute::last!($list, $attribute)
            .ok_or($crate::ValueError::Missing { attribute: $name })
    };
}
pub(crate) use need;

/// Declares a list's attributes: a line each, with its value, number and name in the kernel.
macro_rules! attributes {
    ($(#[$doc:meta])* $list:ident {
        $($(#[$note:meta])* $variant:ident($value:ty) = $kind:literal $name:ident,)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $list {
            $(
                #[doc = concat!("`", stringify!($name), "` (", $kind, "):")]
                $(#[$note])*
                $variant($value),
            )+
            /// An attribute that this crate does not know, or one whose value is not of its kind;
            /// kept as it came.
            Other(netlink_packet_core::DefaultNla),
        }

        impl netlink_packet_core::Nla for $list {
            fn value_len(&self) -> usize {
                match self {
                    $(Self::$variant(value) => $crate::wire::value::Value::length(value),)+
                    Self::Other(other) => other.value_len(),
                }
            }

            fn kind(&self) -> u16 {
                let (kind, nested) = match self {
                    $(Self::$variant(value) => {
                        ($kind, $crate::wire::value::Value::nested(value))
                    })+
                    Self::Other(other) => return other.kind(),
                };
                if nested { kind | netlink_packet_core::NLA_F_NESTED } else { kind }
            }

            fn emit_value(&self, buffer: &mut [u8]) {
                match self {
                    $(Self::$variant(value) => $crate::wire::value::Value::write(value, buffer),)+
                    Self::Other(other) => other.emit_value(buffer),
                }
            }
        }

        impl $crate::wire::attribute::Attribute for $list {
            fn parse(buffer: &netlink_packet_core::NlaBuffer<&[u8]>) -> Self {
                use $crate::wire::value::Value;
                let (bytes, nested) = (buffer.value(), buffer.nested_flag());
                let known = match buffer.kind() {
                    _ if buffer.network_byte_order_flag() => None,
                    $($kind => <$value>::read(bytes, nested)
                        .filter(|value| value.nested() == nested)
                        .map(Self::$variant),)+
                    _ => None,
                };
                known.unwrap_or_else(|| Self::Other($crate::wire::attribute::raw(buffer)))
            }

            fn malformed(&self) -> Option<$crate::ValueError> {
                use netlink_packet_core::Nla;
                let Self::Other(other) = self else { return None };
                let attribute = match other.kind() & netlink_packet_core::NLA_TYPE_MASK {
                    $($kind => stringify!($name),)+
                    _ => return None,
                };
                Some($crate::ValueError::Malformed { attribute, length: other.value_len() })
            }
        }
    };
}
pub(crate) use attributes;
