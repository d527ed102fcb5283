//! What stands in an attribute: numbers, names, addresses, lists of attributes.

use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_packet_core::Emitable;

use super::attribute::{Attribute, read_list};

/// A value that says exactly the bytes it was read from.
pub(crate) trait Value: Sized {
    /// None when the bytes are not such a value, or when writing it would give other bytes.
    fn read(bytes: &[u8], nested: bool) -> Option<Self>;

    /// How many bytes it takes.
    fn length(&self) -> usize;

    /// Writes it into as many bytes as it takes.
    fn write(&self, into: &mut [u8]);

    /// Whether the attribute's kind carries `NLA_F_NESTED`.
    fn nested(&self) -> bool {
        false
    }
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl Value for $number {
            fn read(bytes: &[u8], _: bool) -> Option<Self> {
                Some(Self::from_ne_bytes(bytes.try_into().ok()?))
            }

            fn length(&self) -> usize {
                size_of::<Self>()
            }

            fn write(&self, into: &mut [u8]) {
                into.copy_from_slice(&self.to_ne_bytes());
            }
        }
    )+};
}

numbers!(u8, u16, u32, u64);

/// Nothing: what aligns the next attribute to eight bytes.
impl Value for () {
    fn read(bytes: &[u8], _: bool) -> Option<Self> {
        bytes.is_empty().then_some(())
    }

    fn length(&self) -> usize {
        0
    }

    fn write(&self, _: &mut [u8]) {}
}

/// Raw bytes of a fixed number.
impl<const N: usize> Value for [u8; N] {
    fn read(bytes: &[u8], _: bool) -> Option<Self> {
        bytes.try_into().ok()
    }

    fn length(&self) -> usize {
        N
    }

    fn write(&self, into: &mut [u8]) {
        into.copy_from_slice(self);
    }
}

impl Value for Ipv4Addr {
    fn read(bytes: &[u8], nested: bool) -> Option<Self> {
        <[u8; 4]>::read(bytes, nested).map(Self::from)
    }

    fn length(&self) -> usize {
        4
    }

    fn write(&self, into: &mut [u8]) {
        self.octets().write(into);
    }
}

impl Value for Ipv6Addr {
    fn read(bytes: &[u8], nested: bool) -> Option<Self> {
        <[u8; 16]>::read(bytes, nested).map(Self::from)
    }

    fn length(&self) -> usize {
        16
    }

    fn write(&self, into: &mut [u8]) {
        self.octets().write(into);
    }
}

/// A name, with one zero byte at its end on the wire and none before.
impl Value for String {
    fn read(bytes: &[u8], _: bool) -> Option<Self> {
        let (end, name) = bytes.split_last()?;
        let text = str::from_utf8(name).ok()?;
        (*end == 0 && !name.contains(&0)).then(|| text.to_owned())
    }

    fn length(&self) -> usize {
        self.len() + 1
    }

    fn write(&self, into: &mut [u8]) {
        let (end, name) = into.split_at_mut(self.len());
        end.copy_from_slice(self.as_bytes());
        name.fill(0);
    }
}

/// A port; in network byte order on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Port(pub u16);

impl Value for Port {
    fn read(bytes: &[u8], _: bool) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(u16::from_be_bytes(bytes)))
    }

    fn length(&self) -> usize {
        2
    }

    fn write(&self, into: &mut [u8]) {
        into.copy_from_slice(&self.0.to_be_bytes());
    }
}

/// `struct ip_vs_flags`: the bits, and which of them a request changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct MaskedFlags {
    /// The bits (`IP_VS_SVC_F_*`).
    pub flags: u32,
    /// Which bits are meant; ipvsadm and the kernel say all.
    pub mask: u32,
}

impl Value for MaskedFlags {
    fn read(bytes: &[u8], nested: bool) -> Option<Self> {
        let (flags, mask) = bytes.split_at_checked(4)?;
        Some(Self { flags: u32::read(flags, nested)?, mask: u32::read(mask, nested)? })
    }

    fn length(&self) -> usize {
        8
    }

    fn write(&self, into: &mut [u8]) {
        let (flags, mask) = into.split_at_mut(4);
        self.flags.write(flags);
        self.mask.write(mask);
    }
}

/// A list of attributes inside an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Nested<A> {
    /// `NLA_F_NESTED` on the outer attribute: ipvsadm sets it, the kernel's answers do not.
    pub flag: bool,
    /// The list, in the order of the wire.
    pub attributes: Vec<A>,
}

impl<A> Nested<A> {
    /// A list as a request has it.
    pub fn flagged(attributes: Vec<A>) -> Self {
        Self { flag: true, attributes }
    }
}

impl<A: Attribute> Value for Nested<A> {
    fn read(bytes: &[u8], nested: bool) -> Option<Self> {
        Some(Self { flag: nested, attributes: read_list(bytes).ok()? })
    }

    fn length(&self) -> usize {
        self.attributes.as_slice().buffer_len()
    }

    fn write(&self, into: &mut [u8]) {
        self.attributes.as_slice().emit(into);
    }

    fn nested(&self) -> bool {
        self.flag
    }
}
