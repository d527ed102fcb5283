//! FTP's control connection (RFC 959, RFC 2428): which data connection it announces, and how the
//! announcement reads with another address (kernel: ip_vs_ftp.c).

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;

/// The longest list of numbers: `255,255,255,255,255,255`.
pub const NUMBERS_MAX: usize = 23;

/// What a passive server's reply announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passive {
    /// The server's port.
    pub port: u16,
    /// Where in the reply address and port stand as six numbers; the extended reply has no
    /// address.
    pub numbers: Option<Range<usize>>,
}

/// What a server's reply announces: `227 ... (h,h,h,h,p,p)` or `229 ... (|||port|)`.
pub fn passive(reply: &[u8]) -> Option<Passive> {
    let known = reply.starts_with(b"227 ") || reply.starts_with(b"229 ");
    let start = 1 + reply.iter().position(|byte| *byte == b'(').filter(|_| known)?;
    let told = &reply[start..];
    if reply.starts_with(b"227") {
        let (at, len) = six_numbers(told)?;
        return Some(Passive { port: at.port(), numbers: Some(start..start + len) });
    }
    let mut fields = fields(told)?;
    let none = [fields.next()?, fields.next()?];
    let port = number(fields.next()?)?;
    (none == [b"", b""]).then_some(Passive { port, numbers: None })
}

/// Where a client's command bids the server to connect to: `PORT h,h,h,h,p,p` or
/// `EPRT |1|address|port|`.
pub fn active(command: &[u8]) -> Option<SocketAddr> {
    if let Some(told) = argument(command, b"PORT ") {
        return Some(six_numbers(told)?.0);
    }
    let mut fields = fields(argument(command, b"EPRT ")?)?;
    let (family, address) = (fields.next()?, std::str::from_utf8(fields.next()?).ok()?);
    let port = number(fields.next()?)?;
    let address: IpAddr = match family {
        b"1" => address.parse::<Ipv4Addr>().ok()?.into(),
        b"2" => address.parse::<std::net::Ipv6Addr>().ok()?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// Whether a client's command asks the server to announce a port.
pub fn asks_passive(command: &[u8]) -> bool {
    let is = |name: &[u8]| command.get(..4).is_some_and(|head| head.eq_ignore_ascii_case(name));
    is(b"PASV") || is(b"EPSV")
}

/// Address and port as six numbers, and how many bytes they are.
pub fn numbers(address: Ipv4Addr, port: u16) -> ([u8; NUMBERS_MAX], usize) {
    let mut text = [0; NUMBERS_MAX];
    let ([a, b, c, d], [high, low]) = (address.octets(), port.to_be_bytes());
    let mut rest = &mut text[..];
    // It always fits.
    let _ = write!(rest, "{a},{b},{c},{d},{high},{low}");
    let left = rest.len();
    (text, NUMBERS_MAX - left)
}

fn argument<'a>(command: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = command.split_at_checked(name.len())?;
    head.eq_ignore_ascii_case(name).then(|| rest.trim_ascii_start())
}

/// Six numbers with commas between, at the front, and how many bytes they are.
fn six_numbers(text: &[u8]) -> Option<(SocketAddr, usize)> {
    let mut bytes = [0; 6];
    let mut at = 0;
    for (place, byte) in bytes.iter_mut().enumerate() {
        if place > 0 {
            (text.get(at) == Some(&b',')).then_some(())?;
            at += 1;
        }
        let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        *byte = number(&text[at..at + digits]).and_then(|number| u8::try_from(number).ok())?;
        at += digits;
    }
    let [a, b, c, d, high, low] = bytes;
    let port = u16::from_be_bytes([high, low]);
    Some((SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port), at))
}

/// What stands between the delimiters, the first byte being one.
fn fields(text: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let (delimiter, rest) = text.split_first()?;
    Some(rest.split(move |byte| byte == delimiter))
}

fn number(digits: &[u8]) -> Option<u16> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn replies_announce_where_the_server_waits() {
        let reply = b"227 Entering Passive Mode (10,0,1,1,200,10).\r\n";
        let told = passive(reply).unwrap();
        assert_eq!((told.port, &reply[told.numbers.unwrap()]), (51210, &b"10,0,1,1,200,10"[..]));
        let told = passive(b"229 Entering Extended Passive Mode (|||6446|)\r\n").unwrap();
        assert_eq!(told, Passive { port: 6446, numbers: None });
        for other in [
            "200 ok (1,2,3,4,5,6)",
            "227 no",
            "227 (1,2,3,4,5)",
            "227 (1,2,3,4,5,256)",
            "229 (|1|a|5|)",
        ] {
            assert_eq!(passive(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn commands_announce_where_the_client_waits() {
        let at = active(b"PORT 172,16,0,1,10,20\r\n").unwrap();
        assert_eq!(at.to_string(), "172.16.0.1:2580");
        assert_eq!(
            active(b"eprt |1|132.235.1.2|6275|\r\n").unwrap().to_string(),
            "132.235.1.2:6275"
        );
        assert_eq!(active(b"EPRT |2|1080::8|5282|\r\n").unwrap().to_string(), "[1080::8]:5282");
        assert_eq!(active(b"EPRT |3|1080::8|5282|\r\n"), None);
        assert!(asks_passive(b"PASV\r\n") && asks_passive(b"epsv\r\n") && !asks_passive(b"PAS"));
    }

    proptest! {
        #[test]
        fn numbers_are_read_back(address: u32, port: u16) {
            let address = Ipv4Addr::from_bits(address);
            let (text, len) = numbers(address, port);
            let told = [b"227 (", &text[..len], b")"].concat();
            prop_assert_eq!(passive(&told), Some(Passive { port, numbers: Some(5..5 + len) }));
            let command = [b"PORT ", &text[..len]].concat();
            prop_assert_eq!(active(&command), Some(SocketAddr::new(address.into(), port)));
        }

        #[test]
        fn anything_is_read_without_harm(mut text: Vec<u8>, kind in 0..4usize) {
            text.splice(0..0, [&b"227 ("[..], b"229 (", b"PORT ", b"EPRT "][kind].iter().copied());
            let _ = (passive(&text), active(&text), asks_passive(&text));
        }
    }
}
