//! Connections as they are listed, one after another: the table may hold more than memory has
//! room for as text.

use std::net::{IpAddr, Ipv6Addr};

use uvs_engine::calls::Calls;
use uvs_engine::clock::Ticks;
use uvs_engine::proto::{state_name, template};
use uvs_engine::table::{Conn, Table, flag};
use uvs_forward::wire::protocol;
use uvs_uvsadm::api::{self, Endpoint, Pe, Protocol};

/// Bytes of text that are handed on at a time.
const CHUNK: usize = 64 << 10;

/// The virtual and the server's port of a template that serves no new connection (ip_vs_conn.c,
/// ip_vs_check_template).
const STALE: u16 = 65535;

/// A connection or template as it is listed at the moment `now`; `None` of a protocol that is not
/// balanced.
pub fn listed(conn: &Conn, now: Ticks, calls: &Calls) -> Option<api::Conn> {
    let port = |port| if conn.flags & flag::STALE != 0 { STALE } else { port };
    let end = |address: IpAddr, port| Endpoint { address, port };
    Some(api::Conn {
        protocol: match conn.proto {
            0 => None,
            number => Some(Protocol::ALL.into_iter().find(|known| known.number() == number)?),
        },
        client: end(conn.caddr.into(), conn.cport),
        vip: end(virtual_address(conn), port(conn.vport)),
        dest: end(conn.daddr.into(), port(conn.dport)),
        state: state(conn).to_owned(),
        expires: conn.expires().since(now).to_duration().as_secs() as u32,
        pe: name(conn, calls),
    })
}

/// The mark of an IPv6 mark's template stands where the kernel shows it: in the first word.
fn virtual_address(conn: &Conn) -> IpAddr {
    match conn.vaddr.to_ip() {
        IpAddr::V4(mark) if !conn.caddr.is_v4() => {
            IpAddr::V6(Ipv6Addr::from_bits(u128::from(mark.to_bits()) << 96))
        }
        address => address,
    }
}

/// As the kernel names it (ip_vs_proto.c, ip_vs_state_name).
fn state(conn: &Conn) -> &'static str {
    match conn.is_template() {
        true if conn.state & template::ASSURED != 0 => "ASSURED",
        true => "NONE",
        false => state_name(conn.proto, conn.state),
    }
}

fn name(conn: &Conn, calls: &Calls) -> Option<Pe> {
    if conn.name == 0 || conn.proto != protocol::UDP {
        return None;
    }
    let data = String::from_utf8_lossy(&calls.name(conn.id)?).into_owned();
    Some(Pe { name: "sip".into(), data })
}

/// Walks the table and hands its connections on as lines of JSON, some at a time, until all are
/// told or `send` returns false. Keeps no more than one chunk.
pub(crate) fn walk(
    table: &Table,
    now: Ticks,
    calls: &Calls,
    mut send: impl FnMut(Vec<u8>) -> bool,
) {
    let mut chunk = Vec::with_capacity(CHUNK + 1024);
    for conn in table.iter() {
        let Some(conn) = listed(&conn, now, calls) else { continue };
        if serde_json::to_writer(&mut chunk, &conn).is_err() {
            return;
        }
        chunk.push(b'\n');
        if chunk.len() >= CHUNK {
            if !send(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK + 1024))) {
                return;
            }
            std::thread::yield_now();
        }
    }
    if !chunk.is_empty() {
        send(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_engine::address::Address;
    use uvs_engine::proto::tcp;
    use uvs_engine::table::NewConn;

    fn v6(text: &str) -> Address {
        text.parse::<Ipv6Addr>().unwrap().into()
    }

    /// A connection of 172.16.0.1:1000 to 10.0.0.1:80 on 10.0.1.1:8080.
    fn conn() -> NewConn {
        NewConn {
            proto: protocol::TCP,
            caddr: [172, 16, 0, 1].into(),
            cport: 1000,
            vaddr: [10, 0, 0, 1].into(),
            vport: 80,
            daddr: [10, 0, 1, 1].into(),
            dport: 8080,
            dest: 0,
            mark: 0,
            flags: 0,
            state: tcp::ESTABLISHED,
            timeout: Ticks::from_secs(900),
            control: None,
            extra: None,
        }
    }

    fn template(proto: u8, caddr: Address, vaddr: Address) -> NewConn {
        let (cport, state, flags) = (0, 0, flag::TEMPLATE);
        NewConn { proto, caddr, cport, vaddr, state, flags, ..conn() }
    }

    /// The line of a connection as ipvsadm prints it, once `also` was done to it.
    fn line(
        new: &NewConn,
        calls: &Calls,
        also: impl Fn(&Table, uvs_engine::table::ConnId),
    ) -> String {
        let (table, mut owners) = Table::new(16, 1, Ticks(0)).unwrap();
        owners[0].insert(table.hash_of(&new.in_key()), new, Ticks(0)).unwrap();
        let id = table.iter().next().unwrap().id;
        also(&table, id);
        let conn = listed(&table.iter().next().unwrap(), Ticks::from_secs(2), calls).unwrap();
        let Pe { name, data } =
            conn.pe.unwrap_or_else(|| Pe { name: String::new(), data: String::new() });
        let protocol = conn.protocol.map_or("IP".to_owned(), |p| p.to_string());
        let ends = [conn.client, conn.vip, conn.dest].map(|end| end.to_string()).join(" ");
        format!("{protocol} {} {} {ends} {name} {data}", conn.expires, conn.state).trim().to_owned()
    }

    #[test]
    fn connections_and_templates_are_listed_as_by_the_kernel() {
        let none = |_: &Table, _| {};
        let calls = Calls::default();
        let client: Address = [172, 16, 0, 1].into();
        let plain = line(&conn(), &calls, none);
        assert_eq!(plain, "TCP 898 ESTABLISHED 172.16.0.1:1000 10.0.0.1:80 10.0.1.1:8080");
        let of_service = template(protocol::TCP, client, conn().vaddr);
        let fresh = "TCP 898 NONE 172.16.0.1:0 10.0.0.1:80 10.0.1.1:8080";
        assert_eq!(line(&of_service, &calls, none), fresh);
        let assure = |table: &Table, id| assert!(table.mark_state(id, template::ASSURED));
        assert_eq!(line(&of_service, &calls, assure), fresh.replace("NONE", "ASSURED"));
        let retire = |table: &Table, id| assert!(table.retire(id));
        let stale = "TCP 898 NONE 172.16.0.1:0 10.0.0.1:65535 10.0.1.1:65535";
        assert_eq!(line(&of_service, &calls, retire), stale);
        let of_mark = NewConn { vport: 0, dport: 0, ..template(0, client, [0, 0, 0, 7].into()) };
        let mark = "IP 898 NONE 172.16.0.1:0 0.0.0.7:0 10.0.1.1:0";
        assert_eq!(line(&of_mark, &calls, none), mark);
        let of_mark = template(0, v6("fd00:c::9"), [0, 0, 0, 8].into());
        let of_mark = NewConn { vport: 0, daddr: v6("fd00:2::1"), dport: 0, ..of_mark };
        let mark = "IP 898 NONE [fd00:c::9]:0 [0:8::]:0 [fd00:2::1]:0";
        assert_eq!(line(&of_mark, &calls, none), mark);
    }

    #[test]
    fn a_call_is_listed_by_its_name() {
        let calls = Calls::default();
        let client = [172, 16, 0, 1].into();
        let call = template(protocol::UDP, client, conn().vaddr);
        let call = NewConn { extra: Some([77, 0]), ..call };
        let note = |_: &Table, id| calls.note(id, b"aaa@x");
        let listed = line(&call, &calls, note);
        assert_eq!(listed, "UDP 898 NONE 172.16.0.1:0 10.0.0.1:80 10.0.1.1:8080 sip aaa@x");
        let nameless = line(&call, &Calls::default(), |_, _| {});
        assert_eq!(nameless, "UDP 898 NONE 172.16.0.1:0 10.0.0.1:80 10.0.1.1:8080");
    }

    #[test]
    fn a_walk_comes_in_chunks_and_ends_when_nobody_listens() {
        let (table, mut owners) = Table::new(4096, 1, Ticks(0)).unwrap();
        for port in 0..4000 {
            let new = NewConn { cport: port, ..conn() };
            owners[0].insert(table.hash_of(&new.in_key()), &new, Ticks(0)).unwrap();
        }
        let (mut lines, mut chunks) = (0, 0);
        walk(&table, Ticks(0), &Calls::default(), |chunk| {
            assert!(chunk.len() < CHUNK + 1024 && chunk.ends_with(b"\n"));
            lines += chunk.iter().filter(|byte| **byte == b'\n').count();
            chunks += 1;
            true
        });
        assert!(lines == 4000 && chunks > 5, "{lines} {chunks}");
        let mut sent = 0;
        walk(&table, Ticks(0), &Calls::default(), |_| {
            sent += 1;
            sent < 3
        });
        assert_eq!(sent, 3);
    }
}
