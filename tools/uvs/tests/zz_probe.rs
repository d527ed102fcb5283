//! probe
mod lab;
use lab::Lab;
use uvs_lab::*;
use std::collections::HashSet;
fn probe() {
    let lab = Lab::up(Arms::One, Method::Tunnel).unwrap();
    for round in 0..6 {
        let engine = lab.engine("afxdp");
        let target = lab.network.service(HTTP_PORT);
        let ports: Vec<u16> = lab.inside(Host::Client, || {
            use std::io::*;
            (0..2000).map(|_| {
                let mut s = std::net::TcpStream::connect(target).unwrap();
                let p = s.local_addr().unwrap().port();
                s.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
                let mut v = Vec::new(); s.read_to_end(&mut v).unwrap();
                p
            }).collect()
        });
        let distinct = ports.iter().collect::<HashSet<_>>().len();
        let [http, _] = lab::services(&engine);
        eprintln!("round {round}: distinct ports {distinct} conns {}", http.stats.conns);
        engine.stop().unwrap();
    }
}
#[test]
fn a() { probe() }
#[test]
fn b() { probe() }
