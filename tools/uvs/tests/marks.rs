//! A service of a firewall mark, whose rule has a wide network and a range of ports: what it
//! matches comes to the engine, and everything beside it stays with the kernel.

mod lab;

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use lab::{Lab, PORTS, eventually};
use uvs_lab::{Arms, Director, ECHO_ALT_PORT, Host, Method, Signal, UdpJob};

const FLOWS: usize = 30;
const DATAGRAMS: u64 = 300;

/// The ports of the rule; the servers' echo listens on one of them.
const RANGE: std::ops::RangeInclusive<u16> = ECHO_ALT_PORT - 7..=ECHO_ALT_PORT + 3;

/// The rule, for what comes from the clients' side, behind one for the servers' side.
fn rules(lab: &Lab) -> String {
    let rule = |mark: u32, interface| {
        let ports = format!("{}-{}", RANGE.start(), RANGE.end());
        let udp = format!("protocol = \"udp\"\nports = \"{ports}\"");
        let at = format!("destination = \"10.0.0.0/8\"\ninterface = \"{interface}\"");
        format!("[[marks]]\nmark = {mark}\n{at}\n{udp}\n")
    };
    let (outside, inside) = (lab.network.outside(), lab.network.inside());
    match inside == outside {
        true => rule(7, outside),
        false => rule(8, inside) + &rule(7, outside),
    }
}

/// Gives the running engine these rules, by SIGHUP.
fn set_rules(lab: &Lab, engine: &mut Director, rules: &str) {
    let file = lab.network.folder().join("uvs.toml");
    let text = fs::read_to_string(&file).unwrap();
    let without = text.split("[[marks]]").next().unwrap();
    fs::write(&file, format!("{without}{rules}")).unwrap();
    let said = engine.log().len();
    engine.process().signal(Signal::HUP).unwrap();
    eventually("SIGHUP was not answered", || engine.log()[said..].ends_with('\n'));
    let said = engine.log()[said..].to_owned();
    assert!(said.contains("changes applied") || said.contains("change applied"), "{said}");
}

/// Whether a datagram of the client to this port of the VIP comes to a socket of the director.
fn kernel_hears(lab: &Lab, port: u16) -> bool {
    let to = SocketAddrV4::new(lab.network.vip(), port);
    let socket = lab.inside(Host::Director, || UdpSocket::bind(to).unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    lab.inside(Host::Client, || {
        let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        client.send_to(b"?", to).unwrap();
    });
    socket.recv(&mut [0; 16]).is_ok()
}

/// Every datagram to an address is answered, by all three servers.
#[track_caller]
fn assert_served(lab: &Lab, address: Ipv4Addr) {
    let target = SocketAddrV4::new(address, ECHO_ALT_PORT);
    let job = UdpJob { flows: FLOWS, datagrams: DATAGRAMS, ..UdpJob::to(target) };
    let tally = lab.load().udp(&job).unwrap();
    assert!(tally.is_clean() && tally.answers.len() == 3, "{target}: {tally:?}");
}

fn add_service(lab: &Lab, option: &str) {
    lab.adm("-A -f 7 -s rr");
    for rip in lab.network.rips() {
        lab.adm(&format!("-a -f 7 -r {rip} {option}"));
    }
}

fn is_steered_by_network_and_ports(arms: Arms, method: Method) {
    let Some(lab) = Lab::up(arms, method) else { return };
    let (inside, below, above) = (*RANGE.start(), RANGE.start() - 1, RANGE.end() + 1);
    for port in PORTS {
        let mut engine = lab.engine(port);
        set_rules(&lab, &mut engine, &rules(&lab));
        assert!(kernel_hears(&lab, inside), "nothing is served by a mark yet");
        assert_eq!(engine.counters().unwrap().rx, 0, "{port}");

        // The other services would have the servers' replies steered too.
        lab.adm("-C");
        let masq = method == Method::Masq;
        add_service(&lab, if masq { "-m" } else { "-g" });
        // With NAT any address of the network; where servers have the VIP, it alone. Not both: of a
        // client's port that is used again, a reply may be of either.
        let anywhere = Ipv4Addr::new(10, 77, 200, 9);
        assert_served(&lab, if masq { anywhere } else { lab.network.vip() });
        let counters = engine.counters().unwrap();
        lab::assert_nothing_dropped(&counters);
        assert_eq!(counters.host_frames(), 0, "{counters:?}");
        assert!(kernel_hears(&lab, below) && kernel_hears(&lab, above));
        assert_eq!(engine.counters().unwrap().rx, counters.rx, "a port beside the range came");
        assert!(!kernel_hears(&lab, inside), "the kernel saw a frame of uvs");

        // The file of services has not got this one, so that it goes; its connections are left.
        set_rules(&lab, &mut engine, &rules(&lab));
        assert!(!lab.adm("-S -n").contains("-f 7"));
        let before = engine.counters().unwrap().rx;
        kernel_hears(&lab, inside);
        assert!(engine.counters().unwrap().rx > before, "connections are left");

        set_rules(&lab, &mut engine, "");
        assert!(kernel_hears(&lab, inside), "no rule gives the mark any more");
        engine.stop().unwrap();
    }
}

#[test]
fn a_mark_is_steered_by_network_and_ports_in_dr() {
    is_steered_by_network_and_ports(Arms::One, Method::Route);
}

#[test]
fn a_mark_is_steered_by_network_and_ports_in_nat() {
    is_steered_by_network_and_ports(Arms::Two, Method::Masq);
}
