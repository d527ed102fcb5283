//! `uvs run --kernel-fallback`: an engine that dies under load leaves its services to the kernel.

mod uml;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use uml::{UVS, eventually, inside};
use uvs_lab::{
    Director, DirectorOptions, HTTP_ALT_PORT, HTTP_PORT, Host, HttpJob, LabOptions, Load, Network,
    Servers, Signal, inside as step_into, ready,
};
use uvs_uvsadm::api::{Change, DestConfig, Protocol, ServiceConfig, ServiceKey};
use uvs_uvsadm::names::Numeric;
use uvs_uvsadm::save;

/// The clients' ports by which the servers are told apart.
const PORTS: std::ops::Range<u16> = 20_000..20_030;

/// Who answers a request from this port.
fn who_answers(from: u16, target: SocketAddrV4) -> io::Result<String> {
    let client = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    // A connection that was given up may linger.
    set_socket_reuseaddr(&client, true)?;
    bind(&client, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, from))?;
    let seconds = Some(Duration::from_secs(1));
    let mut stream = TcpStream::from(client);
    // Of a connection's beginning, too.
    stream.set_write_timeout(seconds)?;
    stream.set_read_timeout(seconds)?;
    connect(&stream, &target)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().last().unwrap_or_default().to_owned())
}

/// Who answers each of the ports; all answer sooner or later.
fn servers_by_port(network: &Network) -> BTreeMap<u16, String> {
    let target = network.service(HTTP_PORT);
    let ask = || {
        let of = |port: u16| {
            let mut server = None;
            eventually(&format!("nobody answers port {port}"), || {
                server = who_answers(port, target).ok();
                server.is_some()
            });
            (port, server.unwrap_or_default())
        };
        PORTS.map(of).collect()
    };
    step_into(&network.namespace(Host::Client), ask).unwrap()
}

fn kernels(network: &Network) -> String {
    network.run_in(Host::Director, "ipvsadm", &["-S", "-n"]).unwrap()
}

#[test]
fn when_the_engine_dies_under_load_the_kernel_goes_on() {
    if let Err(reason) = ready() {
        let _ = writeln!(io::stderr(), "skipped: {reason}");
        return;
    }
    inside("when_the_engine_dies_under_load_the_kernel_goes_on", 240, || {
        let options = LabOptions { program: Some(UVS.into()), ..LabOptions::default() };
        let network = Network::up(&options, &mut |_| {}).unwrap();
        // The load shall not take the ports that are asked from.
        let reserved = format!("net.ipv4.ip_local_reserved_ports={}-{}", PORTS.start, PORTS.end);
        network.run_in(Host::Client, "sysctl", &["-qw", &reserved]).unwrap();
        let _servers = Servers::start(&network, &mut |_| {}).unwrap();
        let options = DirectorOptions {
            scheduler: "sh -b sh-port".to_owned(),
            kernel_fallback: true,
            ..DirectorOptions::of("raw")
        };
        let mut engine = Director::start(&network, &options).unwrap();
        assert!(kernels(&network).contains("-A -t 10.77.0.1:80 -s sh -b sh-port\n"));

        // What changes while it runs is carried over.
        let key = ServiceKey::new(Protocol::Tcp, network.vip(), HTTP_ALT_PORT);
        let mut changes = vec![Change::AddService { service: ServiceConfig::new(key, "rr") }];
        changes.extend(network.rips().into_iter().map(|rip| Change::AddDest {
            service: key,
            dest: DestConfig::new(rip, HTTP_ALT_PORT),
        }));
        engine.client().change(&changes).unwrap();
        let held = || save(&engine.client().services().unwrap(), &Numeric);
        eventually("the kernel does not follow", || kernels(&network) == held());

        let before = servers_by_port(&network);
        let names: std::collections::BTreeSet<_> = before.values().collect();
        assert!(names.len() > 1, "one server for all ports proves nothing: {before:?}");
        let target = network.service(HTTP_PORT).to_string();
        let endless = ["lab", "http", "--target", &target, "--requests", "1000000000"];
        let load = network.spawn_in(Host::Client, UVS, &endless).unwrap();
        let served = engine.client().counters().unwrap().rx;
        eventually("no load comes", || engine.client().counters().unwrap().rx > served + 500);
        engine.process().signal(Signal::KILL).unwrap();
        eventually("the engine did not die", || engine.process().ended().is_some());

        let dead = Instant::now();
        let target = network.service(HTTP_PORT);
        eventually("the kernel does not take over", || {
            let ask = || who_answers(PORTS.end, target);
            step_into(&network.namespace(Host::Client), ask).unwrap().is_ok()
        });
        println!("the kernel served {:?} after the engine's death", dead.elapsed());
        assert_eq!(servers_by_port(&network), before, "the same servers");
        drop(load);
        let job = HttpJob { requests: 60, ..HttpJob::to(network.service(HTTP_ALT_PORT)) };
        let tally = Load::on(&network).http(&job).unwrap();
        assert!(tally.is_clean() && tally.answers.len() == 3, "{tally:?}");
        let conns = network.run_in(Host::Director, "ipvsadm", &["-L", "-n", "-c"]).unwrap();
        let own = conns.lines().filter(|line| line.contains("10.77.0.1:8080")).count();
        assert!(own >= 60, "{own} connections of the kernel's own: {conns}");
    });
}

/// Outside: where the kernel has no IPVS, which is so on most hosts that tests run on.
#[test]
fn without_ipvs_there_is_no_fallback_and_no_engine() {
    if std::path::Path::new("/proc/sys/net/ipv4/vs").exists() {
        let _ = writeln!(io::stderr(), "skipped: this kernel has IPVS");
        return;
    }
    let config = std::env::temp_dir().join(format!("uvs-fallback-{}.toml", std::process::id()));
    std::fs::write(&config, "outside = \"lo\"\n").unwrap();
    let path = config.to_str().unwrap();
    let output = uml::run(UVS, &["run", "--config", path, "--kernel-fallback"]);
    std::fs::remove_file(&config).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("uvs: the kernel has no IPVS; ") && said.lines().count() == 1,
        "{said}"
    );
}
