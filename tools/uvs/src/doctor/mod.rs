//! `uvs doctor`: whether the engine can run here, how, and what mends what is in the way.

mod driver;
mod interface;
mod lvs;
mod machine;
mod report;
mod root;

use std::path::PathBuf;
use std::process::Command;

use uvs_control::host::links::{self, Interface};

pub use report::Report;

use report::{Finding, Mode, Section};
use root::Root;

/// Kinds of Ethernet interfaces that carry no traffic of their own from outside.
const INNER: [&str; 12] = [
    "bridge", "dummy", "ifb", "tun", "vlan", "macvlan", "ipvlan", "vxlan", "geneve", "vrf", "team",
    "gretap",
];

/// What to look at.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// The interface to look at [default: all that reach other machines]
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Examines the machine; changes nothing.
pub fn run(options: &Options) -> Report {
    let root = Root(PathBuf::from("/"));
    let (machine, findings) = machine::examine(&root);
    let mut sections = vec![Section { title: "This machine".into(), mode: None, findings }];
    let interfaces = match links::all() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            sections[0].findings.push(Finding::problem("interfaces", error.to_string()));
            return Report::new(sections);
        }
    };
    for chosen in choose(options.interface.as_deref(), &interfaces) {
        sections.push(match chosen {
            Ok(one) => interface::examine(&root, machine, one, features(&one.name).as_deref()),
            Err(absent) => absent,
        });
    }
    sections.push(lvs::here(&root, &interfaces));
    sections.push(lvs::elsewhere());
    Report::new(sections)
}

/// The interfaces to look at, or what to say instead.
fn choose<'a>(name: Option<&str>, all: &'a [Interface]) -> Vec<Result<&'a Interface, Section>> {
    let chosen: Vec<_> = match name {
        Some(name) => all.iter().filter(|interface| interface.name == name).collect(),
        None => all.iter().filter(|interface| is_outer(interface)).collect(),
    };
    if !chosen.is_empty() {
        return chosen.into_iter().map(Ok).collect();
    }
    let names: Vec<&str> = all.iter().map(|interface| interface.name.as_str()).collect();
    let text = match name {
        Some(name) => format!("no interface {name:?}; there are: {}", names.join(", ")),
        None => format!("none that reaches other machines; there are: {}", names.join(", ")),
    };
    let findings = vec![Finding::problem("interface", text).mend("ip link")];
    vec![Err(Section {
        title: name.unwrap_or("Interfaces").into(),
        mode: Some(Mode::No),
        findings,
    })]
}

fn is_outer(interface: &Interface) -> bool {
    let inner = interface.kind.as_deref().is_some_and(|kind| INNER.contains(&kind));
    interface.ethernet && !inner
}

/// What `ethtool -k` says; `None` without ethtool.
fn features(interface: &str) -> Option<String> {
    // Where it is on Debian, which is not on every user's path.
    let run = |program| Command::new(program).args(["-k", interface]).output().ok();
    let output = run("ethtool").or_else(|| run("/usr/sbin/ethtool"))?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, kind: Option<&str>, ethernet: bool) -> Interface {
        Interface {
            name: name.into(),
            kind: kind.map(str::to_owned),
            ethernet,
            up: true,
            mtu: 1500,
            xdp: None,
            addresses: vec![],
        }
    }

    #[test]
    fn without_a_name_it_looks_at_what_reaches_other_machines() {
        let all = [
            interface("lo", None, false),
            interface("eth0", None, true),
            interface("veth1", Some("veth"), true),
            interface("br0", Some("bridge"), true),
        ];
        let names = |name| -> Vec<&str> {
            choose(name, &all).into_iter().flatten().map(|i| i.name.as_str()).collect()
        };
        assert_eq!(names(None), ["eth0", "veth1"]);
        assert_eq!(names(Some("br0")), ["br0"]);
    }

    #[test]
    fn an_unknown_interface_is_one_clear_sentence_and_exit_code_1() {
        let absent = choose(Some("eth9"), &[interface("eth0", None, true)]).remove(0).unwrap_err();
        assert_eq!(absent.findings[0].text, r#"no interface "eth9"; there are: eth0"#);
        assert_eq!(Report::new(vec![absent]).exit_code(), 1);
    }

    #[test]
    fn it_says_something_about_this_very_machine() {
        let report = run(&Options::default());
        assert!(report.sections.len() >= 4);
        assert!(report.to_string().lines().all(|line| line.chars().count() < 240));
    }
}
