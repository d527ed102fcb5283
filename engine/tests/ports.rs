//! The ports against the real kernel: namespaces, veth pairs, real frames.

mod lab;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::{
    NOT_SERVED, Net, Peer, SERVED, VIP, cases, ethernet, ifindex, ip, request, run, skip, udp,
    until,
};
use uvs_engine::link::{Forwards, Link, LinkId};
use uvs_engine::port::{
    AnyPort, BATCH, Endpoint, Frame, OpenError, Opened, Port, PortMode, Steered, open,
};

fn link(at: usize) -> Link {
    let name = format!("d{at}");
    Link {
        ifindex: ifindex(&name),
        name,
        mac: [2, 0, 0, 0, at as u8, 1],
        mtu: 1500,
        addresses: vec![[10, 90 + at as u8, 0, 1].into()],
        forwards: Forwards::ALL,
    }
}

fn links(count: usize) -> Vec<Link> {
    (0..count).map(link).collect()
}

fn steered() -> Steered {
    let endpoints = |all: Vec<(u8, IpAddr, u16)>| {
        let endpoint = |(protocol, address, port): (u8, IpAddr, u16)| Endpoint {
            protocol,
            address: address.into(),
            port,
        };
        all.into_iter().map(endpoint).collect()
    };
    let (services, servers) = (endpoints(lab::services()), endpoints(lab::servers()));
    let tunnels = endpoints(lab::tunnels());
    Steered { services, servers, tunnels, ..Steered::default() }
}

fn opened(count: usize, workers: usize, mode: PortMode) -> Opened {
    let mut opened = open(&links(count), workers, mode).unwrap();
    opened.steering.update(&steered()).unwrap();
    opened
}

/// What every port can tell about its frames: none is lost.
fn assert_none_lost(port: &AnyPort, out: u32) {
    match port {
        AnyPort::AfXdp(port) => {
            let now = port.census();
            assert_eq!(now.free + now.receiving + now.sending + now.out, now.chunks, "{now:?}");
            assert_eq!(now.out, out);
        }
        AnyPort::Raw(port) => assert_eq!(port.missing(), 0),
    }
}

/// Sends back what comes, with the addresses swapped, until `count` frames came.
fn echo(port: &mut AnyPort, to: LinkId, count: usize, change: impl Fn(&mut Frame)) -> usize {
    let mut done = 0;
    let mut frames = Vec::with_capacity(BATCH);
    until(|| {
        port.rx(BATCH, &mut frames);
        assert_none_lost(port, frames.len() as u32);
        for mut frame in frames.drain(..) {
            frame.bytes_mut()[..12].rotate_left(6);
            change(&mut frame);
            port.tx(to, frame).unwrap();
            done += 1;
        }
        port.flush();
        done >= count
    });
    done
}

fn kernel_socket(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddrV4::new(VIP, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

fn hears(socket: &UdpSocket) -> bool {
    socket.recv(&mut [0; 64]).is_ok()
}

fn forwards_and_shares_with_the_kernel(mode: PortMode) {
    const COUNT: u32 = 1000;
    let net = Net::new(1, 1);
    let peer = net.peer(0);
    net.in_director(|| {
        let (ours, theirs) = (kernel_socket(SERVED), kernel_socket(NOT_SERVED));
        let mut opened = opened(1, 1, mode);
        let port = &mut opened.ports[0];
        for mark in 0..COUNT {
            peer.send(&request(SERVED, mark));
            if mark % 100 == 99 {
                assert_eq!(echo(port, LinkId(0), 100, |_| {}), 100, "{:?}", port.stats());
            }
        }
        let mut back = Vec::new();
        let all = until(|| {
            back.extend(peer.seen(|frame| frame[..6] == [2, 0, 0, 0, 0, 2] && frame[12] == 8));
            back.len() as u32 >= COUNT
        });
        assert!(all, "{} of {COUNT} came back: {:?}", back.len(), port.stats());
        let marks: Vec<u32> =
            back.iter().map(|f| u32::from_be_bytes(f[42..46].try_into().unwrap())).collect();
        assert!(marks.iter().copied().eq(0..COUNT), "order is kept (INV-1)");
        assert!(!hears(&ours), "the kernel saw a frame of uvs");

        peer.send(&request(NOT_SERVED, 7));
        assert!(hears(&theirs), "the kernel did not see a frame that is its own");
        assert_eq!(port.rx(BATCH, &mut Vec::new()), 0);

        opened.steering.update(&Steered::default()).unwrap();
        peer.send(&request(SERVED, 8));
        assert!(hears(&ours), "a service that is gone is the kernel's again");
        let wake = File::open("/dev/null").unwrap();
        opened.ports[0].wait(&wake, Duration::from_millis(1)).unwrap();
        assert_none_lost(&opened.ports[0], 0);
        drop(opened);
        assert_nothing_left(&net.director);
    });
}

fn assert_nothing_left(space: &str) {
    let links = run(&format!("ip -d -n {space} link show"));
    assert!(!links.contains("xdp"), "{links}");
    let qdiscs = run(&format!("tc -n {space} qdisc show"));
    assert!(!qdiscs.contains("clsact"), "{qdiscs}");
}

#[test]
fn afxdp_forwards_and_shares_with_the_kernel() {
    if !skip() {
        forwards_and_shares_with_the_kernel(PortMode::AfXdp);
    }
}

#[test]
fn raw_forwards_and_shares_with_the_kernel() {
    if !skip() {
        forwards_and_shares_with_the_kernel(PortMode::Raw);
    }
}

fn crosses_with_a_header_in_front(mode: PortMode) {
    let net = Net::new(2, 1);
    let (near, far) = (net.peer(0), net.peer(1));
    net.in_director(|| {
        let mut opened = opened(2, 1, mode);
        let port = &mut opened.ports[0];
        for mark in 0..50 {
            near.send(&request(SERVED, mark));
        }
        let grow = |frame: &mut Frame| {
            assert!(frame.prepend(20));
            frame.bytes_mut()[..20].fill(0xee);
        };
        assert_eq!(echo(port, LinkId(1), 50, grow), 50);
        let mut crossed = Vec::new();
        until(|| {
            crossed.extend(far.seen(|frame| frame[..20] == [0xee; 20]));
            crossed.len() >= 50
        });
        assert_eq!(crossed.len(), 50, "{:?}", port.stats());
        for (mark, frame) in (0u32..).zip(crossed) {
            assert_eq!(frame[26..32], [2, 0, 0, 0, 0, 1]);
            assert_eq!(frame[62..66], mark.to_be_bytes());
        }
    });
}

#[test]
fn afxdp_links_share_their_memory() {
    if !skip() {
        crosses_with_a_header_in_front(PortMode::AfXdp);
    }
}

#[test]
fn raw_links_share_their_memory() {
    if !skip() {
        crosses_with_a_header_in_front(PortMode::Raw);
    }
}

/// Sends each case and looks whether it comes, with its tags.
fn steers_as_said(net: &Net, open: impl FnOnce() -> Opened + Send) {
    let peer = net.peer(0);
    net.in_director(|| {
        let mut opened = open();
        let port = &mut opened.ports[0];
        for (name, frame, ours) in cases() {
            peer.send(&frame);
            // A frame that is ours for certain, behind it: when that is here, the other was.
            peer.send(&request(SERVED, 0xfeed));
            let mut came = Vec::new();
            until(|| {
                port.rx(BATCH, &mut came);
                came.last().is_some_and(|last| last.bytes()[42..] == 0xfeedu32.to_be_bytes())
            });
            assert_eq!(came.len(), 1 + usize::from(ours), "{name}");
            if ours {
                assert_eq!(came[0].bytes(), frame, "{name}");
            }
            came.into_iter().for_each(|frame| port.free(frame));
            port.flush();
        }
        assert_none_lost(port, 0);
    });
}

#[test]
fn afxdp_steers_as_said() {
    if !skip() {
        steers_as_said(&Net::new(1, 1), || opened(1, 1, PortMode::AfXdp));
        steers_as_said(&jumbo_net(1), || opened_jumbo(1));
    }
}

#[test]
fn raw_steers_as_said() {
    if !skip() {
        steers_as_said(&Net::new(1, 1), || opened(1, 1, PortMode::Raw));
    }
}

fn two_workers_get_each_frame_once(mode: PortMode) {
    let net = Net::new(1, 2);
    let peer = net.peer(0);
    net.in_director(|| {
        let mut opened = opened(1, 2, mode);
        for flow in 0..400u16 {
            let packet = ip(17, lab::CLIENT, VIP, 0, &udp(1000 + flow, SERVED, flow.into()));
            peer.send(&ethernet(&[], 0x0800, &packet));
        }
        let mut marks = Vec::new();
        let mut each = [0; 2];
        until(|| {
            for (worker, port) in opened.ports.iter_mut().enumerate() {
                let mut frames = Vec::new();
                each[worker] += port.rx(BATCH, &mut frames);
                for frame in frames {
                    marks.push(u32::from_be_bytes(frame.bytes()[42..46].try_into().unwrap()));
                    port.free(frame);
                }
                port.flush();
            }
            marks.len() >= 400
        });
        marks.sort_unstable();
        assert!(marks.iter().copied().eq(0..400), "{marks:?}");
        // A veth spreads frames over its queues by the sender's CPU; packet sockets by the flow.
        if mode == PortMode::Raw {
            assert!(each[0] > 0 && each[1] > 0, "{each:?}");
        }
    });
}

#[test]
fn afxdp_two_workers_get_each_frame_once() {
    if !skip() {
        two_workers_get_each_frame_once(PortMode::AfXdp);
    }
}

#[test]
fn raw_two_workers_get_each_frame_once() {
    if !skip() {
        two_workers_get_each_frame_once(PortMode::Raw);
    }
}

#[test]
fn one_worker_takes_every_queue() {
    if skip() {
        return;
    }
    let net = Net::new(1, 2);
    net.in_director(|| {
        let opened = opened(1, 1, PortMode::Auto);
        assert_eq!(opened.ports[0].mode(), "AF_XDP copy", "{:?}", opened.report);
        assert!(opened.report[0].contains("zero-copy: d0's driver (veth)"), "{:?}", opened.report);
        let AnyPort::AfXdp(port) = &opened.ports[0] else { panic!("not AF_XDP") };
        assert_eq!(port.census().receiving, 2 * 2048);
    });
}

#[test]
fn a_full_ring_gives_the_frame_back() {
    if skip() {
        return;
    }
    for mode in [PortMode::AfXdp, PortMode::Raw] {
        let net = Net::new(1, 1);
        net.in_director(|| {
            let mut opened = opened(1, 1, mode);
            let port = &mut opened.ports[0];
            let mut sent = 0;
            while send_one(port, 0) {
                sent += 1;
            }
            assert_eq!(sent, 2048, "{mode:?}");
            assert!(until(|| {
                port.flush();
                send_one(port, 0)
            }));
            assert!(!send_one(port, 3), "there is no such link");
            assert_none_lost(port, 0);
        });
    }
}

/// Sends a frame of zeroes; one that comes back is freed.
fn send_one(port: &mut AnyPort, link: u8) -> bool {
    let mut frame = port.alloc().unwrap();
    assert!(frame.set_len(60));
    frame.bytes_mut().fill(0);
    match port.tx(LinkId(link), frame) {
        Ok(()) => true,
        Err(frame) => {
            port.free(frame);
            false
        }
    }
}

#[test]
fn what_cannot_be_opened_is_told_and_leaves_nothing() {
    if skip() {
        return;
    }
    let net = Net::new(1, 1);
    net.in_director(|| {
        let said = |links: &[Link], workers, mode| match open(links, workers, mode) {
            Ok(_) => panic!("it was opened"),
            Err(error) => error.to_string(),
        };
        let absent = Link { name: "absent0".into(), ..link(0) };
        assert!(said(&[absent], 1, PortMode::Auto).starts_with("there is no interface absent0"));
        let queues = said(&links(1), 2, PortMode::AfXdp);
        assert!(queues.contains("d0 has 1 queue(s) for 2 workers"), "{queues}");
        assert_nothing_left(&net.director);

        let first = opened(1, 1, PortMode::AfXdp);
        let second = open(&links(1), 1, PortMode::Auto).unwrap_err();
        assert!(matches!(second, OpenError::HasProgram { .. }), "{second}");
        assert!(second.to_string().contains("(uvs_xdp, id "), "{second}");
        drop(first);
        // At once again: the kernel frees a closed queue a moment later.
        drop(opened(1, 1, PortMode::AfXdp));
        let raw = open(&links(1), 2, PortMode::Auto).unwrap();
        assert_eq!(raw.ports[0].mode(), "raw packet sockets");
        assert!(raw.report[0].contains("ethtool -L d0 combined 2"), "{:?}", raw.report);
    });
}

#[test]
fn generic_xdp_serves_where_the_driver_has_none() {
    if skip() {
        return;
    }
    let net = Net::new(1, 1);
    let peer = net.peer(0);
    // A veth has native XDP only while a frame of its peer fits a page.
    run(&format!("ip -n {} link set p0 mtu 9000", net.peer));
    net.in_director(|| {
        let mut opened = opened(1, 1, PortMode::Auto);
        let port = &mut opened.ports[0];
        assert_eq!(port.mode(), "AF_XDP copy (generic XDP)", "{:?}", opened.report);
        peer.send(&request(SERVED, 1));
        assert_eq!(echo(port, LinkId(0), 1, |_| {}), 1);
    });
}

/// A frame back to its sender, as it is but for whom it is from and to.
fn turned(frame: &mut [u8]) {
    for (one, other, len) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        (0..len).for_each(|at| frame.swap(one + at, other + at));
    }
}

#[test]
fn raw_carries_frames_larger_than_the_link() {
    if skip() {
        return;
    }
    let net = Net::new(1, 1);
    run(&format!("ip -n {} link set p0 mtu 9000", net.peer));
    let peer = net.peer(0);
    net.in_director(|| {
        let mut opened = opened(1, 1, PortMode::Raw);
        let port = &mut opened.ports[0];
        // The director's end has to take them.
        run("ip link set d0 mtu 9000");
        let long = [udp(4000, SERVED, 0), vec![7; 4000]].concat();
        let long = ethernet(&[], 0x0800, &ip(17, lab::CLIENT, VIP, 0, &long));
        peer.send(&long);
        peer.send(&request(SERVED, 1));
        let mut frames = Vec::new();
        assert!(until(|| {
            port.rx(BATCH, &mut frames);
            frames.len() == 2
        }));
        assert_eq!(frames[0].bytes(), long);
        assert_eq!(frames[1].bytes()[..34], request(SERVED, 1)[..34]);
        frames.drain(..).for_each(|frame| port.tx(LinkId(0), frame).unwrap());
        port.flush();
        let mut back = Vec::new();
        assert!(until(|| {
            back.extend(peer.seen(|frame| frame[12..14] == [8, 0]));
            back.len() == 2
        }));
        assert_eq!(back[0], long, "in their order");
        assert_eq!((port.stats().rx_missed, port.stats().tx_failed), (0, 0));
        assert_none_lost(port, 0);
    });
}

#[test]
fn raw_leaves_open_what_senders_leave_to_the_network_card() {
    let each: libc::c_int = 1000;
    if skip() {
        return;
    }
    let net = Net::new(1, 1);
    net.in_director(|| {
        let mut opened = opened(1, 1, PortMode::Raw);
        let port = &mut opened.ports[0];
        // A real socket on a veth leaves the checksum, and segments, to its device.
        let socket = lab::inside(&net.peer, || {
            let socket = UdpSocket::bind(SocketAddrV4::new(lab::CLIENT, 4000)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket.connect(SocketAddrV4::new(VIP, SERVED)).unwrap();
            socket.send(b"finish me").unwrap();
            let (size, bytes) = ((&raw const each).cast(), size_of_val(&each) as u32);
            let (fd, level) = (socket.as_raw_fd(), libc::SOL_UDP);
            // SAFETY: the value outlives the call and has the size that is told.
            let set = unsafe { libc::setsockopt(fd, level, libc::UDP_SEGMENT, size, bytes) };
            assert_eq!(set, 0);
            socket.send(&[9; 4500]).unwrap();
            socket
        });
        let mut frames = Vec::new();
        assert!(until(|| {
            port.rx(BATCH, &mut frames);
            frames.len() == 2
        }));
        let sizes = frames.iter().map(|frame| frame.offload().segment_size());
        assert_eq!(sizes.collect::<Vec<_>>(), [0, 1000]);
        assert_eq!(frames.iter().map(|frame| frame.bytes().len()).max(), Some(42 + 4500));
        assert!(frames.iter().all(|frame| frame.offload().unfinished().is_some()));
        for mut frame in frames.drain(..) {
            turned(frame.bytes_mut());
            port.tx(LinkId(0), frame).unwrap();
        }
        port.flush();
        let mut bytes = [0; 2000];
        let heard: Vec<usize> = (0..6).map(|_| socket.recv(&mut bytes).unwrap()).collect();
        assert_eq!(heard, [9, 1000, 1000, 1000, 1000, 500]);
        assert_none_lost(port, 0);
    });
}

const JUMBO: u16 = 9000;

/// Links that carry jumbo frames.
fn jumbo_net(links: usize) -> Net {
    let net = Net::new(links, 1);
    for at in 0..links {
        widen(&net, at);
    }
    net
}

fn widen(net: &Net, at: usize) {
    run(&format!("ip -n {} link set d{at} mtu {JUMBO}", net.director));
    run(&format!("ip -n {} link set p{at} mtu {JUMBO}", net.peer));
}

/// The same without native XDP: for that a veth needs a receive queue for each from which its peer
/// sends.
fn generic_jumbo_net() -> Net {
    let net = Net::new(1, 2);
    widen(&net, 0);
    run(&format!("ip netns exec {} ethtool -L d0 rx 1", net.director));
    net
}

fn opened_jumbo(count: usize) -> Opened {
    let links: Vec<Link> = (0..count).map(|at| Link { mtu: JUMBO, ..link(at) }).collect();
    let mut opened = open(&links, 1, PortMode::AfXdp).unwrap();
    opened.steering.update(&steered()).unwrap();
    opened
}

/// A frame of the client's of this length in all; each byte of it tells where it stands.
fn request_of(length: usize, mark: u32) -> Vec<u8> {
    let body = (0..length - 46).map(|at| (at / 251 + at + mark as usize) as u8);
    let datagram: Vec<u8> = udp(4000, SERVED, mark).into_iter().chain(body).collect();
    ethernet(&[], 0x0800, &ip(17, lab::CLIENT, VIP, 0, &datagram))
}

/// Lengths around those of chunks: of a part's 3840 bytes, two, and the MTU's.
const LENGTHS: [usize; 9] = [60, 9014, 3840, 3841, 61, 7680, 7681, 9013, 1514];

/// Frames of all lengths go there and back; many at once, so that batches end inside of some.
fn carries_jumbo_frames(net: &Net, mode: &str) {
    let peer = net.peer(0);
    net.in_director(|| {
        let mut opened = opened_jumbo(1);
        let port = &mut opened.ports[0];
        assert_eq!(port.mode(), mode, "{:?}", opened.report);
        let mut back = Vec::new();
        for round in 0..8 {
            for mark in 100 * round..100 * (round + 1) {
                peer.send(&request_of(LENGTHS[mark as usize % LENGTHS.len()], mark));
            }
            assert_eq!(echo(port, LinkId(0), 100, |_| {}), 100, "{:?}", port.stats());
            until(|| {
                port.flush();
                back.extend(peer.seen(|frame| frame[12..14] == [8, 0]));
                back.len() as u32 == 100 * (round + 1)
            });
        }
        assert_eq!(back.len(), 800, "{:?}", port.stats());
        for (mark, mut frame) in (0u32..).zip(back) {
            let length = LENGTHS[mark as usize % LENGTHS.len()];
            frame[..12].rotate_left(6);
            assert!(frame == request_of(length, mark), "frame {mark} of {length} bytes");
        }
        assert_none_lost(port, 0);
        assert_eq!((port.stats().rx_missed, port.stats().tx_failed), (0, 0));

        let theirs = kernel_socket(NOT_SERVED);
        let mut not_served = request_of(9014, 0);
        not_served[36..38].copy_from_slice(&NOT_SERVED.to_be_bytes());
        peer.send(&not_served);
        assert!(hears(&theirs), "the kernel did not see a frame that is its own");
    });
}

#[test]
fn afxdp_carries_jumbo_frames() {
    if !skip() {
        carries_jumbo_frames(&jumbo_net(1), "AF_XDP copy");
    }
}

#[test]
fn afxdp_carries_jumbo_frames_by_generic_xdp() {
    if skip() {
        return;
    }
    carries_jumbo_frames(&generic_jumbo_net(), "AF_XDP copy (generic XDP)");
}

#[test]
fn afxdp_jumbo_frames_cross_with_a_header_in_front() {
    if skip() {
        return;
    }
    let net = jumbo_net(2);
    let (near, far) = (net.peer(0), net.peer(1));
    // The second is in one chunk when it comes, and not when it leaves.
    let lengths = [100, 3835, 3821, 8980];
    net.in_director(|| {
        let mut opened = opened_jumbo(2);
        let port = &mut opened.ports[0];
        for (mark, length) in (0..).zip(lengths) {
            near.send(&request_of(length, mark));
        }
        let grow = |frame: &mut Frame| {
            frame.bytes_mut()[..12].rotate_left(6);
            assert!(frame.prepend(20));
            frame.bytes_mut()[..20].fill(0xee);
        };
        assert_eq!(echo(port, LinkId(1), lengths.len(), grow), lengths.len());
        let mut crossed = Vec::new();
        until(|| {
            port.flush();
            crossed.extend(far.seen(|frame| frame[..20] == [0xee; 20]));
            crossed.len() == lengths.len()
        });
        assert_eq!(crossed.len(), lengths.len(), "{:?}", port.stats());
        for ((mark, length), frame) in (0..).zip(lengths).zip(crossed) {
            assert!(frame[20..] == request_of(length, mark), "{length} bytes");
        }
        assert_none_lost(port, 0);
    });
}

#[test]
fn afxdp_sends_all_of_a_jumbo_frame_or_nothing() {
    if skip() {
        return;
    }
    let net = jumbo_net(1);
    let peer = net.peer(0);
    net.in_director(|| {
        let mut opened = opened_jumbo(1);
        let port = &mut opened.ports[0];
        let mut send = |length: usize, mark: u32| {
            let mut frame = port.alloc().unwrap();
            assert!(frame.set_len(length));
            frame.bytes_mut().copy_from_slice(&request_of(length, mark));
            let sent = port.tx(LinkId(0), frame).map_err(|frame| port.free(frame)).is_ok();
            assert_none_lost(port, 0);
            sent
        };
        // Three descriptors each, of 2048.
        assert!((0..682).all(|mark| send(9014, mark)));
        assert!(!send(9014, 682), "two descriptors are left");
        assert!(send(3841, 682));
        assert!(!send(60, 683), "none is left");
        let mut came = Vec::new();
        until(|| {
            port.flush();
            came.extend(peer.seen(|frame| frame[12..14] == [8, 0]));
            came.len() == 683
        });
        assert_eq!(came.len(), 683);
        for (mark, frame) in (0..).zip(came) {
            let length = if mark < 682 { 9014 } else { 3841 };
            assert!(frame == request_of(length, mark), "frame {mark}");
        }
        assert_none_lost(port, 0);
    });
}

#[test]
fn afxdp_waits_for_the_rest_of_a_jumbo_frame() {
    if skip() {
        return;
    }
    let net = jumbo_net(1);
    let peer = net.peer(0);
    net.in_director(|| {
        let mut opened = opened_jumbo(1);
        let port = &mut opened.ports[0];
        let mut frames = Vec::new();
        // A descriptor at a time, of three.
        let mut took = |port: &mut AnyPort| {
            let count = port.rx(1, &mut frames);
            assert_none_lost(port, count as u32);
            frames.pop().map(|frame| {
                let bytes = frame.bytes().to_vec();
                port.free(frame);
                port.flush();
                bytes
            })
        };
        for mark in [1, 2] {
            peer.send(&request_of(9014, mark));
            assert!(took(port).is_none() && took(port).is_none());
            assert!(took(port) == Some(request_of(9014, mark)));
        }
        // Closing the port gives back what has begun: a frame that is dropped panics (INV-7).
        peer.send(&request_of(9014, 3));
        assert!(took(port).is_none());
        drop(opened);
    });
}

#[test]
fn afxdp_refuses_what_is_longer_than_the_link_and_counts_it() {
    let each: libc::c_int = 8000;
    if skip() {
        return;
    }
    // With native XDP a veth's peer would cut what it sends.
    let net = generic_jumbo_net();
    let peer = net.peer(0);
    net.in_director(|| {
        let mut opened = opened_jumbo(1);
        let port = &mut opened.ports[0];
        lab::inside(&net.peer, || {
            let socket = UdpSocket::bind(SocketAddrV4::new(lab::CLIENT, 4000)).unwrap();
            socket.connect(SocketAddrV4::new(VIP, SERVED)).unwrap();
            let (size, bytes) = ((&raw const each).cast(), size_of_val(&each) as u32);
            let (fd, level) = (socket.as_raw_fd(), libc::SOL_UDP);
            // SAFETY: the value outlives the call and has the size that is told.
            let set = unsafe { libc::setsockopt(fd, level, libc::UDP_SEGMENT, size, bytes) };
            assert_eq!(set, 0);
            // Seven segments, which a veth leaves in one frame.
            socket.send(&[9; 56000]).unwrap();
        });
        peer.send(&request_of(9014, 1));
        let mut frames = Vec::new();
        assert!(until(|| {
            port.rx(BATCH, &mut frames);
            !frames.is_empty()
        }));
        assert!(frames[0].bytes() == request_of(9014, 1));
        assert_none_lost(port, 1);
        port.free(frames.pop().unwrap());
        assert_eq!((port.stats().rx_missed, port.stats().rx_too_long), (1, 1));
        assert_none_lost(port, 0);
    });
}

const CHILD_MODE: &str = "UVS_TEST_CHILD_MODE";

/// Not a test: the process that the next test kills.
#[test]
#[ignore = "the child of a_killed_engine_leaves_nothing"]
fn child_that_is_killed() {
    let Ok(mode) = std::env::var(CHILD_MODE) else { return };
    let _opened = opened(1, 1, mode.parse().unwrap());
    println!("ready");
    std::thread::sleep(Duration::from_secs(20));
}

fn child(space: &str, mode: &str) -> Child {
    let mut child = Command::new("ip")
        .args(["netns", "exec", space])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_is_killed", "--ignored", "--nocapture"])
        .env(CHILD_MODE, mode)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("ready")), "the child opened nothing");
    child
}

fn served_is_heard(socket: &UdpSocket, peer: &Peer) -> bool {
    peer.send(&request(SERVED, 1));
    hears(socket)
}

#[test]
fn a_killed_engine_leaves_nothing() {
    if skip() {
        return;
    }
    for mode in ["afxdp", "raw"] {
        let net = Net::new(1, 1);
        let peer = net.peer(0);
        net.in_director(|| {
            let kernel = kernel_socket(SERVED);
            // `ip netns exec` becomes the child itself, so this is its process.
            let mut child = child(&net.director, mode);
            assert!(!served_is_heard(&kernel, &peer), "{mode}: the child steers nothing");
            child.kill().unwrap();
            child.wait().unwrap();
            let heard = until(|| served_is_heard(&kernel, &peer));
            assert!(heard, "{mode}: served frames do not come back to the kernel");
            assert_nothing_left(&net.director);
            drop(opened(1, 1, mode.parse().unwrap()));
        });
    }
}
