//! One interface: how the engine would run on it, and what is in the way.

use std::collections::BTreeMap;

use uvs_control::host::links::Interface;

use super::driver::{self, Driver, Jumbo};
use super::machine::{Machine, Version};
use super::report::{Finding, Mode, Section};
use super::root::Root;

/// Largest MTU whose frames fit the engine's largest buffers, 4096 bytes with what XDP keeps free
/// in front (256) and Ethernet header and tags (22).
const MTU: u32 = 4096 - 256 - 22;

/// Largest MTU for buffers of 2048 bytes, half the memory.
const SMALL_MTU: u32 = 2048 - 256 - 22;

/// The kernel from which on AF_XDP takes frames of several buffers.
const JUMBO: Version = (6, 6);

/// Looks at an interface; `features` is what `ethtool -k` prints of it.
pub fn examine(
    root: &Root,
    machine: Machine,
    interface: &Interface,
    features: Option<&str>,
) -> Section {
    let name = driver_name(root, interface);
    let driver = driver::known(&name);
    let largest = driver.mtu.unwrap_or(MTU).min(MTU);
    let mut findings = vec![of_driver(machine, driver, &name)];
    findings.extend(down(interface));
    findings.push(queues(root, interface));
    let jumbo = interface.mtu > MTU && machine.kernel >= JUMBO;
    findings.push(match jumbo {
        true => jumbo_mtu(interface, driver, &name),
        false => mtu(interface, largest),
    });
    findings.extend(program(interface));
    let features = features.map(offloads);
    match &features {
        Some(features) => findings.extend(of_offloads(interface, &name, features)),
        None => findings.push(
            Finding::note("offloads", "not seen: ethtool is not installed")
                .mend("apt install ethtool"),
        ),
    }
    let on = |key| features.as_ref().is_some_and(|f| f.get(key) == Some(&true));
    let blocked = (interface.mtu > largest && !jumbo)
        || interface.xdp.is_some()
        || (driver.native && on("large-receive-offload"));
    let driver = if jumbo { driver.with_jumbo() } else { driver };
    let mode = mode(machine, driver, interface, blocked);
    if !interface.ethernet {
        findings = vec![Finding::problem("kind", "not Ethernet; uvs needs an interface that is")];
    }
    Section { title: interface.name.clone(), mode: Some(mode), findings }
}

fn mode(machine: Machine, driver: Driver, interface: &Interface, blocked: bool) -> Mode {
    if !interface.ethernet || !interface.up {
        return Mode::No;
    }
    match machine.af_xdp && !blocked {
        true if driver.zero_copy.is_some_and(|since| machine.kernel >= since) => Mode::ZeroCopy,
        true if driver.native => Mode::Copy,
        true => Mode::Generic,
        false if machine.raw => Mode::Raw,
        false => Mode::No,
    }
}

/// The driver of a device, or what kind of interface the kernel made itself.
fn driver_name(root: &Root, interface: &Interface) -> String {
    let of_device = root.link_name(&format!("sys/class/net/{}/device/driver", interface.name));
    of_device.or_else(|| interface.kind.clone()).unwrap_or_else(|| "unknown".into())
}

fn of_driver(machine: Machine, driver: Driver, name: &str) -> Finding {
    let topic = "driver";
    match (driver.zero_copy, driver.native) {
        (Some(since), _) if machine.kernel >= since => {
            Finding::ok(topic, format!("{name} does AF_XDP zero-copy; uvs tries that first"))
        }
        (Some((major, minor)), _) => Finding::note(
            topic,
            format!("{name} does zero-copy from kernel {major}.{minor} on; here it copies"),
        ),
        (None, true) => Finding::ok(topic, format!("{name} runs XDP itself and copies frames")),
        (None, false) => Finding::note(
            topic,
            format!("{name} is not known to run XDP; the kernel's generic mode serves, slower"),
        ),
    }
}

fn down(interface: &Interface) -> Option<Finding> {
    let name = &interface.name;
    (!interface.up).then(|| {
        Finding::problem("state", "down: no frame comes in").mend(format!("ip link set {name} up"))
    })
}

fn queues(root: &Root, interface: &Interface) -> Finding {
    let name = &interface.name;
    let names = root.names(format!("sys/class/net/{name}/queues"));
    let count = names.iter().filter(|queue| queue.starts_with("rx-")).count();
    match count {
        0 | 1 => Finding::note(
            "queues",
            "one queue: one worker, whatever cores there are; if the NIC has more",
        )
        .mend(format!("ethtool -L {name} combined 2")),
        many => Finding::ok("queues", format!("{many} queues: up to {many} workers")),
    }
}

fn mtu(interface: &Interface, largest: u32) -> Finding {
    let Interface { name, mtu, .. } = interface;
    if *mtu > largest {
        Finding::problem("mtu", format!("{mtu} is more than the {largest} that AF_XDP takes here"))
            .mend(format!("ip link set dev {name} mtu {largest}"))
    } else if *mtu > SMALL_MTU {
        Finding::ok("mtu", format!("{mtu} fits; above {SMALL_MTU} frames take 4096 bytes each"))
    } else {
        Finding::ok("mtu", format!("{mtu} fits"))
    }
}

fn jumbo_mtu(interface: &Interface, driver: Driver, driver_name: &str) -> Finding {
    let Interface { name, mtu, .. } = interface;
    match driver.jumbo {
        Jumbo::ZeroCopy | Jumbo::Native => {
            Finding::ok("mtu", format!("{mtu} fits; frames above {MTU} come in several buffers"))
        }
        Jumbo::Generic => Finding::note(
            "mtu",
            format!(
                "above {MTU} {driver_name} is not known to run XDP; the kernel's generic mode \
                 serves, slower"
            ),
        )
        .mend(format!("ip link set dev {name} mtu {MTU}")),
    }
}

fn program(interface: &Interface) -> Option<Finding> {
    let name = &interface.name;
    interface.xdp.map(|id| {
        let text = format!(
            "program {id} is attached already, perhaps a running uvs's; uvs then starts in mode \
             \"raw\" only"
        );
        Finding::problem("xdp", text).mend(format!("ip link set dev {name} xdp off"))
    })
}

/// The features that `ethtool -k` lists, and whether each is on.
fn offloads(text: &str) -> BTreeMap<String, bool> {
    let one = |line: &str| {
        let (feature, state) = line.trim().split_once(": ")?;
        Some((feature.to_owned(), state.starts_with("on")))
    };
    text.lines().filter_map(one).collect()
}

fn of_offloads(
    interface: &Interface,
    driver: &str,
    features: &BTreeMap<String, bool>,
) -> Vec<Finding> {
    let name = &interface.name;
    let on = |feature: &str| features.get(feature) == Some(&true);
    let mut findings = Vec::new();
    if on("large-receive-offload") {
        findings.push(
            Finding::problem("lro", "on: no XDP program can be attached, and frames come merged")
                .mend(format!("ethtool -K {name} lro off")),
        );
    }
    if on("generic-receive-offload") {
        findings.push(
            Finding::note(
                "gro",
                "on: harmless to AF_XDP, but raw and generic mode get merged frames",
            )
            .mend(format!("ethtool -K {name} gro off")),
        );
    }
    if on("rx-vlan-offload") {
        findings.push(
            Finding::note(
                "rxvlan",
                "on: the NIC takes VLAN tags off; matters only if VLANs come in",
            )
            .mend(format!("ethtool -K {name} rxvlan off")),
        );
    }
    if driver == "veth" {
        findings.push(
            Finding::note(
                "checksums",
                "a veth's peer sends unfinished checksums and 64 KB frames; in its namespace",
            )
            .mend("ethtool -K PEER tx off gso off tso off"),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok("offloads", "none that merges frames or hides their tags"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::super::root::fake;
    use super::*;

    const ALL: Machine = Machine { kernel: (6, 18), af_xdp: true, raw: true };

    fn interface(kind: Option<&str>) -> Interface {
        Interface {
            name: "eth0".into(),
            kind: kind.map(str::to_owned),
            ethernet: true,
            up: true,
            mtu: 1500,
            xdp: None,
            addresses: vec![],
        }
    }

    /// eth0 with this driver and two queues.
    fn section(driver: &str, change: impl Fn(&mut Interface), features: &str) -> Section {
        let root = fake(
            &format!("if-{driver}-{:?}", std::thread::current().id()),
            &[
                ("sys/class/net/eth0/device/driver", &format!("-> ../../bus/pci/drivers/{driver}")),
                ("sys/class/net/eth0/queues/rx-0/x", ""),
                ("sys/class/net/eth0/queues/rx-1/x", ""),
                ("sys/class/net/eth0/queues/tx-0/x", ""),
            ],
        );
        let mut eth0 = interface(None);
        change(&mut eth0);
        examine(&root, ALL, &eth0, Some(features))
    }

    fn find<'a>(section: &'a Section, topic: &str) -> &'a Finding {
        section.findings.iter().find(|f| f.topic == topic).expect(topic)
    }

    #[test]
    fn the_driver_decides_on_the_mode() {
        let clean = section("ice", |_| {}, "");
        assert_eq!(clean.mode, Some(Mode::ZeroCopy));
        assert!(clean.findings.iter().all(|f| f.level == Level::Ok), "{clean:?}");
        assert_eq!(find(&clean, "queues").text, "2 queues: up to 2 workers");
        assert_eq!(section("ena", |_| {}, "").mode, Some(Mode::Copy));
        assert_eq!(section("e1000e", |_| {}, "").mode, Some(Mode::Generic));
    }

    #[test]
    fn a_kernel_without_the_drivers_zero_copy_copies() {
        let machine = Machine { kernel: (6, 12), ..ALL };
        let root = fake("igb", &[("sys/class/net/eth0/device/driver", "-> drivers/igb")]);
        let section = examine(&root, machine, &interface(None), Some(""));
        assert_eq!(section.mode, Some(Mode::Copy));
        assert!(find(&section, "driver").text.contains("6.14"));
    }

    #[test]
    fn what_blocks_af_xdp_falls_back_to_raw_with_the_command() {
        let large = section("virtio_net", |eth0| eth0.mtu = 3800, "");
        assert_eq!(large.mode, Some(Mode::Raw));
        assert_eq!(find(&large, "mtu").command.as_deref(), Some("ip link set dev eth0 mtu 3502"));
        let taken = section("ice", |eth0| eth0.xdp = Some(7), "");
        assert_eq!(taken.mode, Some(Mode::Raw));
        assert_eq!(find(&taken, "xdp").command.as_deref(), Some("ip link set dev eth0 xdp off"));
        let merged = section("ice", |_| {}, "Features for eth0:\nlarge-receive-offload: on\n");
        assert_eq!(merged.mode, Some(Mode::Raw));
        let off = section("ice", |_| {}, "large-receive-offload: off [fixed]\n");
        assert_eq!(off.mode, Some(Mode::ZeroCopy));
    }

    #[test]
    fn jumbo_frames_take_a_kernel_and_a_driver_that_have_them() {
        let jumbo = |driver| section(driver, |eth0| eth0.mtu = 9000, "");
        let modes = ["ice", "virtio_net", "ena"].map(|driver| jumbo(driver).mode.unwrap());
        assert_eq!(modes, [Mode::ZeroCopy, Mode::Copy, Mode::Generic]);
        assert_eq!(find(&jumbo("ice"), "mtu").level, Level::Ok);
        let slower = jumbo("ena");
        let command = find(&slower, "mtu").command.as_deref();
        assert_eq!(command, Some("ip link set dev eth0 mtu 3818"));

        let machine = Machine { kernel: (6, 5), ..ALL };
        let root = fake("jumbo", &[("sys/class/net/eth0/device/driver", "-> drivers/ice")]);
        let older = Interface { mtu: 9000, ..interface(None) };
        let section = examine(&root, machine, &older, Some(""));
        assert_eq!(section.mode, Some(Mode::Raw));
        let text = &find(&section, "mtu").text;
        assert_eq!(text, "9000 is more than the 3818 that AF_XDP takes here");
    }

    #[test]
    fn what_blocks_everything_says_so() {
        let down = section("ice", |eth0| eth0.up = false, "");
        assert_eq!(down.mode, Some(Mode::No));
        assert_eq!(find(&down, "state").command.as_deref(), Some("ip link set eth0 up"));
        let tunnel = section("ice", |eth0| eth0.ethernet = false, "");
        assert_eq!((tunnel.mode, tunnel.findings.len()), (Some(Mode::No), 1));
        let nothing = Machine { af_xdp: false, raw: false, ..ALL };
        let section = examine(&fake("none", &[]), nothing, &interface(None), None);
        assert_eq!(section.mode, Some(Mode::No));
        assert!(find(&section, "offloads").text.contains("ethtool"));
    }

    #[test]
    fn a_veth_is_known_by_its_kind_and_its_peer_is_warned_of() {
        let section =
            examine(&fake("veth", &[]), ALL, &interface(Some("veth")), Some("gro: off\n"));
        assert_eq!(section.mode, Some(Mode::Copy));
        assert!(find(&section, "checksums").command.as_deref().unwrap().contains("tx off"));
    }
}
