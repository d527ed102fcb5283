//! The lab itself, without the engine: what is made, what answers, and that nothing stays.
//!
//! These tests need root; without it each says so and does nothing.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SendFlags, SocketAddrV4 as RawAddress, SocketType, ipproto};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use uvs_lab::{
    Arms, ECHO_ALT_PORT, ECHO_PORT, HTTP_ALT_PORT, HTTP_PORT, Host, HttpJob, LabName, LabOptions,
    Load, Method, Network, Servers, UdpJob, open_tun, ready, remove, sweep,
};

/// One lab at a time: a sweep by one test must not do what another waits for.
static TURN: Mutex<()> = Mutex::new(());

/// The turn, or `None` with the reason on stderr where no lab can be made.
fn turn(test: &str) -> Option<MutexGuard<'static, ()>> {
    match ready() {
        Ok(()) => Some(TURN.lock().unwrap_or_else(PoisonError::into_inner)),
        Err(reason) => {
            eprintln!("skipped {test}: {reason}");
            None
        }
    }
}

macro_rules! turn_or_return {
    ($test:literal) => {
        match turn($test) {
            Some(turn) => turn,
            None => return,
        }
    };
}

fn options(arms: Arms, method: Method) -> LabOptions {
    let program = Some(PathBuf::from(env!("CARGO_BIN_EXE_uvs-lab")));
    LabOptions { arms, method, queues: 2, program, ..LabOptions::default() }
}

fn up(arms: Arms, method: Method) -> (Network, Servers) {
    let network = Network::up(&options(arms, method), &mut quiet).unwrap();
    let servers = Servers::start(&network, &mut quiet).unwrap();
    (network, servers)
}

fn quiet(_: &str) {}

/// What of a lab is there: its namespaces and its folder.
fn remains(name: LabName) -> Vec<String> {
    let listing = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = listing.filter_map(|entry| entry.file_name().into_string().ok());
    let mut remains: Vec<_> = names.filter(|each| each.starts_with(&format!("{name}-"))).collect();
    remains.extend(name.folder().exists().then(|| name.folder().display().to_string()));
    remains
}

fn received(network: &Network, host: Host, interface: &str) -> u64 {
    let file = format!("/sys/class/net/{interface}/statistics/rx_packets");
    network.run_in(host, "cat", &[&file]).unwrap().trim().parse().unwrap()
}

fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn every_layout_comes_up_and_goes() {
    let _turn = turn_or_return!("every_layout_comes_up_and_goes");
    for arms in [Arms::One, Arms::Two] {
        for method in [Method::Route, Method::Masq, Method::Tunnel] {
            let start = Instant::now();
            let network = Network::up(&options(arms, method), &mut quiet).unwrap();
            println!("{arms:?} {method:?}: up in {:?}", start.elapsed());
            assert_prepared(&network);
            let (name, start) = (network.name(), Instant::now());
            drop(network);
            println!("{arms:?} {method:?}: down in {:?}", start.elapsed());
            assert_eq!(remains(name), Vec::<String>::new());
        }
    }
}

/// Queues, offloads and sysctls as the engine needs them.
fn assert_prepared(network: &Network) {
    for interface in network.director_interfaces() {
        let queues = network
            .run_in(Host::Director, "ls", &[&format!("/sys/class/net/{interface}/queues")])
            .unwrap();
        assert_eq!(queues.split_whitespace().collect::<Vec<_>>(), ["rx-0", "rx-1", "tx-0", "tx-1"]);
    }
    for (host, interface) in [(Host::Client, "eth0"), (Host::Server(3), "eth0")] {
        let features = network.run_in(host, "ethtool", &["-k", interface]).unwrap();
        for off in [
            "tx-checksumming",
            "tcp-segmentation-offload",
            "generic-segmentation-offload",
            "generic-receive-offload",
        ] {
            assert!(features.contains(&format!("{off}: off")), "{host} {off}");
        }
    }
    let sysctl =
        |host, key: &str| network.run_in(host, "sysctl", &["-n", key]).unwrap().trim().to_owned();
    let masq = network.options().method == Method::Masq;
    let inside = network.inside();
    assert_eq!(sysctl(Host::Director, &format!("net.ipv4.conf.{inside}.rp_filter")), "0");
    assert_eq!(sysctl(Host::Director, "net.ipv4.ip_forward"), if masq { "1" } else { "0" });
    assert_eq!(
        sysctl(Host::Server(1), "net.ipv4.conf.eth0.arp_ignore"),
        if masq { "0" } else { "1" }
    );
    let local = network.run_in(Host::Director, "ip", &["addr", "show", "lo"]).unwrap();
    assert!(local.contains(&format!("{}/32", network.vip())));
    // Nobody listens on the director, so its own stack answers for the VIP, with a reset.
    let target = network.service(HTTP_PORT);
    let tally = Load::on(network).http(&three_requests(target)).unwrap();
    assert!(tally.complaint.unwrap().contains("refused"));
}

fn three_requests(target: SocketAddrV4) -> HttpJob {
    HttpJob { requests: 3, ..HttpJob::to(target) }
}

#[test]
fn servers_answer_through_a_routing_director() {
    let _turn = turn_or_return!("servers_answer_through_a_routing_director");
    for arms in [Arms::One, Arms::Two] {
        let (network, servers) = up(arms, Method::Masq);
        let load = Load::on(&network);
        let before = received(&network, Host::Director, network.inside());
        for (n, port) in [(1, HTTP_PORT), (2, HTTP_ALT_PORT)] {
            let target = SocketAddrV4::new(network.rip(n), port);
            let tally = load.curl(target, 500).unwrap();
            assert_eq!(tally.answers, [(format!("server {n}"), 500)].into(), "{tally:?}");
            assert!(tally.is_clean());
        }
        let seen = received(&network, Host::Director, network.inside()) - before;
        assert!(seen >= 2 * 500 * 4, "the director forwarded only {seen} frames");
        for (n, port) in [(3, ECHO_PORT), (1, ECHO_ALT_PORT)] {
            let target = SocketAddrV4::new(network.rip(n), port);
            let job = UdpJob { datagrams: 500, ..UdpJob::to(target) };
            let tally = load.udp(&job).unwrap();
            assert_eq!(tally.answers, [(format!("server {n}"), 500)].into(), "{tally:?}");
        }
        assert_eq!(servers.decap(), None);
    }
}

#[test]
fn a_load_counts_what_does_not_answer() {
    let _turn = turn_or_return!("a_load_counts_what_does_not_answer");
    let (network, mut servers) = up(Arms::One, Method::Masq);
    let load = Load::on(&network);
    servers.kill(1);
    let http = SocketAddrV4::new(network.rip(1), HTTP_PORT);
    let tally = load.curl(http, 3).unwrap();
    assert_eq!((tally.lost, tally.answered()), (3, 0));
    assert_eq!(load.http(&three_requests(http)).unwrap().lost, 3);
    let target = SocketAddrV4::new(network.rip(1), ECHO_PORT);
    let job = UdpJob { datagrams: 3, patience: 100, ..UdpJob::to(target) };
    assert_eq!(load.udp(&job).unwrap().lost, 3);
}

/// What a director does in DR, done by the client itself: the frame for the VIP goes to a server.
#[test]
fn servers_answer_for_the_vip_and_past_the_director() {
    let _turn = turn_or_return!("servers_answer_for_the_vip_and_past_the_director");
    for arms in [Arms::One, Arms::Two] {
        let (network, _servers) = up(arms, Method::Route);
        let load = Load::on(&network);
        let leg = "192.168.77.102";
        network.ip(Host::Client, &format!("route add {}/32 via {leg}", network.vip())).unwrap();
        let before = received(&network, Host::Director, network.outside());
        let tally = load.curl(network.service(HTTP_PORT), 500).unwrap();
        assert_eq!(tally.answers, [("server 2".to_owned(), 500)].into(), "{tally:?}");
        let target = network.service(ECHO_PORT);
        let job = UdpJob { datagrams: 200, ..UdpJob::to(target) };
        let tally = load.udp(&job).unwrap();
        assert_eq!(tally.answers, [("server 2".to_owned(), 200)].into(), "{tally:?}");
        let tally = load.download(network.service(HTTP_PORT), Duration::from_millis(500)).unwrap();
        assert!(tally.is_clean() && tally.bytes > 1 << 20, "{tally:?}");
        println!("{arms:?}: {:.0} Mbit/s", tally.megabits_per_second());
        // ARP for the director's own address may pass; nothing else does.
        let seen = received(&network, Host::Director, network.outside()) - before;
        assert!(seen < 50, "{seen} frames came to the director");
    }
}

/// A director in a few lines: VIP packets from a TUN device, into IPIP, to a server by source port.
fn tunnel_director(network: &Network) {
    network.ip(Host::Director, "addr del 10.77.0.1/32 dev lo").unwrap();
    network.run_in(Host::Director, "sysctl", &["-qw", "net.ipv4.ip_forward=1"]).unwrap();
    let rips = network.rips();
    let namespace =
        File::open(format!("/run/netns/{}", network.namespace(Host::Director))).unwrap();
    let (opened, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        use std::os::fd::AsFd;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let mut tun = open_tun("encap0").unwrap();
        let socket =
            rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::IPIP)).unwrap();
        opened.send(()).unwrap();
        let mut packet = [0; 2048];
        // The thread ends with the tests.
        while let Ok(len) = tun.read(&mut packet) {
            let port = u16::from_be_bytes([packet[20], packet[21]]);
            let rip: Ipv4Addr = rips[usize::from(port) % rips.len()];
            let to = RawAddress::new(rip, 0);
            let _ = rustix::net::sendto(&socket, &packet[..len], SendFlags::empty(), &to);
        }
    });
    wait.recv().unwrap();
    network.ip(Host::Director, "link set encap0 up").unwrap();
    network.ip(Host::Director, "route add 10.77.0.1/32 dev encap0").unwrap();
}

#[test]
fn servers_unpack_tunnels() {
    let _turn = turn_or_return!("servers_unpack_tunnels");
    for arms in [Arms::One, Arms::Two] {
        let (network, servers) = up(arms, Method::Tunnel);
        println!("{arms:?}: unpacked by {:?}", servers.decap().unwrap());
        tunnel_director(&network);
        let load = Load::on(&network);
        let before = received(&network, Host::Client, "eth0");
        let tally = load.curl(network.service(HTTP_PORT), 2000).unwrap();
        println!("{arms:?}: 2000 requests in {:?}", tally.elapsed);
        assert!(tally.is_clean(), "{tally:?}");
        assert_eq!(tally.answers.len(), 3);
        assert!(received(&network, Host::Client, "eth0") > before);
        let target = network.service(ECHO_PORT);
        let job = UdpJob::to(target);
        let tally = load.udp(&job).unwrap();
        assert!(tally.is_clean(), "{tally:?}");
        assert_eq!(tally.answers.len(), 3);
    }
}

/// Not a test: the process that `a_killed_maker_leaves_nothing` and its like kill.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn hold_a_lab() {
    let (network, _servers) = up(Arms::One, Method::Tunnel);
    println!("\nlab {}", network.name());
    std::thread::sleep(Duration::from_secs(60));
}

fn holder_process() -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "hold_a_lab", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Starts a process that holds a lab, and gives it with the lab's name.
fn holder() -> (Child, LabName) {
    let mut child = holder_process();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let name = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("lab ")?.parse().ok());
    (child, name.expect("the holder made its lab"))
}

fn pids_in(name: LabName) -> Vec<u32> {
    let listed = |n| {
        let output =
            Command::new("ip").args(["netns", "pids", &format!("{name}-server{n}")]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    (1..=3)
        .flat_map(|n| listed(n).lines().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn a_killed_maker_leaves_nothing() {
    let _turn = turn_or_return!("a_killed_maker_leaves_nothing");
    let (mut holder, name) = holder();
    let servers = pids_in(name);
    assert!(servers.len() >= 6, "{servers:?}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    eventually("the undertaker did not come", || {
        remains(name).is_empty() && !servers.iter().any(|pid| lives(*pid))
    });
}

/// The child of `maker` that keeps watch.
fn undertaker(maker: u32) -> Pid {
    let children =
        fs::read_dir(format!("/proc/{maker}/task")).unwrap().flatten().flat_map(|task| {
            let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            list.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()).collect::<Vec<_>>()
        });
    let watches = |pid: &i32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("undertaker")
    };
    Pid::from_raw(children.into_iter().find(watches).expect("a lab has an undertaker")).unwrap()
}

#[test]
fn a_sweep_finds_what_no_undertaker_buried() {
    let _turn = turn_or_return!("a_sweep_finds_what_no_undertaker_buried");
    let (mut holder, name) = holder();
    kill_process(undertaker(holder.id()), Signal::KILL).unwrap();
    let servers = pids_in(name);
    sweep().unwrap();
    assert!(!remains(name).is_empty(), "a living maker's lab was swept");
    holder.kill().unwrap();
    holder.wait().unwrap();
    sweep().unwrap();
    assert_eq!(remains(name), Vec::<String>::new());
    eventually("servers live on", || !servers.iter().any(|pid| lives(*pid)));
}

#[test]
fn a_kept_lab_stays_until_it_is_removed() {
    let _turn = turn_or_return!("a_kept_lab_stays_until_it_is_removed");
    let (network, servers) = up(Arms::One, Method::Masq);
    let name = network.name();
    let url = format!("http://{}/", network.rip(1));
    let curl = network.namespace(Host::Client);
    servers.keep();
    network.keep().unwrap();
    let swept = sweep().unwrap();
    let args = ["netns", "exec", &curl, "curl", "-sm2", &url];
    let page = Command::new("ip").args(args).output().unwrap();
    remove(name).unwrap();
    assert!(!swept.contains(&name));
    assert_eq!(String::from_utf8(page.stdout).unwrap(), "server 1\n");
    assert_eq!(remains(name), Vec::<String>::new());
}

#[test]
fn two_labs_stand_side_by_side() {
    let _turn = turn_or_return!("two_labs_stand_side_by_side");
    let (one, _one_servers) = up(Arms::One, Method::Masq);
    let (two, two_servers) = up(Arms::Two, Method::Masq);
    assert_ne!(one.name(), two.name());
    drop(two_servers);
    drop(two);
    let tally = Load::on(&one).curl(SocketAddrV4::new(one.rip(1), HTTP_PORT), 10).unwrap();
    assert!(tally.is_clean(), "{tally:?}");
}

/// Whenever it is killed, also while commands are under way.
#[test]
fn a_maker_killed_half_way_leaves_nothing() {
    let _turn = turn_or_return!("a_maker_killed_half_way_leaves_nothing");
    let mut prefixes = Vec::new();
    for milliseconds in [4, 6, 8, 20, 50, 90] {
        let mut maker = holder_process();
        std::thread::sleep(Duration::from_millis(milliseconds));
        prefixes.push(format!("uvs{}-", maker.id()));
        maker.kill().unwrap();
        maker.wait().unwrap();
    }
    // Not `eventually`: what a dead maker's last command makes could come after that.
    std::thread::sleep(Duration::from_millis(1500));
    let remains = ["/run/netns", "/run"].into_iter().flat_map(fs::read_dir).flatten();
    let names = remains.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let own = |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix));
    assert_eq!(names.filter(own).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn a_failing_command_is_shown() {
    let _turn = turn_or_return!("a_failing_command_is_shown");
    let (network, _servers) = up(Arms::One, Method::Masq);
    let text =
        network.ip(Host::Client, "route add 10.9.0.0/16 via 1.2.3.4").unwrap_err().to_string();
    assert!(text.contains("route add 10.9.0.0/16 via 1.2.3.4` failed"), "{text}");
    assert!(text.contains("Nexthop has invalid gateway"), "{text}");
    let text = network.run_in(Host::Client, "no-such-program", &[]).unwrap_err().to_string();
    assert!(text.contains("no-such-program"), "{text}");
}
