//! `uvs compare`: the same services and the same frames to the kernel's IPVS and to uvs, and where
//! they differ.

mod decode;
mod rates;
mod report;
mod standard;
mod tables;
mod traffic;
mod twins;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use uvs_conform::masked;
use uvs_control::rules::{self, Targets};
use uvs_lab::server_mac;
use uvs_uvsadm::api::{ServiceKey, TunnelKind};

use self::report::{Frames, Pick, Report};
use self::traffic::{Flow, Side, Step};
use self::twins::{Left, Twins};
use crate::Failure;
use crate::mirror::Kernel;

/// The command line of `uvs compare`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("frames").args(["pcap", "generate"])))]
pub struct Options {
    /// The services, as ipvsadm-save writes them; left out, one for each scheduler and method.
    #[arg(long, value_name = "FILE")]
    services: Option<PathBuf>,
    /// The frames of a capture that go to a virtual address or come from a server.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Conversations with every service, made up; the default.
    #[arg(long)]
    generate: bool,
    /// How many conversations with each service.
    #[arg(long, value_name = "N", default_value_t = 9, conflicts_with = "pcap")]
    flows: usize,
    /// How long each rate is measured; 0 leaves the rates out.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// uvs's port: auto, afxdp or raw.
    #[arg(long, value_name = "PORT", default_value = "auto")]
    port: String,
    /// How many differences of each kind are shown.
    #[arg(long, value_name = "N", default_value_t = 10)]
    show: usize,
    /// Print JSON, with all differences.
    #[arg(long)]
    json: bool,
}

/// What both directors serve.
pub struct Services {
    targets: Targets,
    vips: Vec<IpAddr>,
    servers: Vec<IpAddr>,
    /// The ports of GUE, whose packets are drawn in part at random.
    gue: Vec<u16>,
}

/// The verb.
pub fn compare(options: &Options) -> Result<ExitCode, Failure> {
    // Asked before anything is made.
    Kernel::open().map_err(elsewhere)?;
    let time = Duration::try_from_secs_f64(options.seconds);
    let time = time.map_err(|_| Failure("--seconds is a number of seconds".into()))?;
    let services = Services::read(options)?;
    let captured = options.pcap.as_deref().map(|path| traffic::captured(path, &services));
    let captured = captured.transpose()?;
    let mut twins = Twins::up(options, &services)?;
    let mut report = Report { notes: services.notes(), ..Report::default() };
    match captured {
        Some(frames) => {
            for (side, frame) in frames {
                let what = decode::line(&frame);
                judge(&mut report, &services, &mut twins, side, &frame, &what)?;
            }
        }
        None => converse(options, &mut report, &services, &mut twins)?,
    }
    let rest = twins.rest();
    differ(&mut report, &services, "after the last frame", &rest);
    report.tables = Some(tables::compare(&twins)?);
    if !time.is_zero() {
        report.rates = rates::measure(&twins, &services, time)?;
    }
    drop(twins);
    let text = match options.json {
        true => serde_json::to_string_pretty(&report)?,
        false => report.text(options.show),
    };
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    Ok(if report.differs() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Where there is a kernel to compare with, if this one has no IPVS.
fn elsewhere(error: uvs_ipvs::Error) -> Failure {
    match error {
        uvs_ipvs::Error::NoIpvs => {
            Failure(format!("{error}; `uvs lab uml -- uvs compare` runs in one that has it"))
        }
        error => error.into(),
    }
}

/// Conversations; servers answer what came to them from the kernel, so that both get the same.
fn converse(
    options: &Options,
    report: &mut Report,
    services: &Services,
    twins: &mut Twins,
) -> Result<(), Failure> {
    let (flows, steps) = traffic::conversations(services, options.flows);
    let mut came: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    for Step { flow: number, word } in steps {
        let flow = &flows[number];
        let said = match word.from {
            Side::Clients => Some(flow.frame(&word)),
            Side::Servers => came.get(&number).and_then(|came| flow.answer(came, &word)),
        };
        // Nobody answers what did not come.
        let Some(frame) = said else { continue };
        let what = format!("{} {}", describe(flow), word.name(flow.protocol));
        let [kernel, uvs] = judge(report, services, twins, word.from, &frame, &what)?;
        if word.from == Side::Clients && !came.contains_key(&number) {
            pick(report, services, describe(flow), &kernel, &uvs);
        }
        if let (Side::Clients, Some(last)) = (word.from, kernel.servers.into_iter().next_back()) {
            came.insert(number, last);
        }
    }
    Ok(())
}

fn describe(flow: &Flow) -> String {
    format!("{} {} to {}", flow.protocol, flow.client, flow.vip)
}

/// Gives a frame to both, and notes where what leaves them differs.
fn judge(
    report: &mut Report,
    services: &Services,
    twins: &mut Twins,
    side: Side,
    frame: &[u8],
    what: &str,
) -> Result<[Left; 2], Failure> {
    report.sent += 1;
    let left = twins.send(side, frame)?;
    differ(report, services, what, &left);
    Ok(left)
}

fn differ(report: &mut Report, services: &Services, what: &str, left: &[Left; 2]) {
    let [kernel, uvs] = left;
    report.kernel_frames += kernel.frames();
    report.uvs_frames += uvs.frames();
    let sides =
        [("clients", &kernel.clients, &uvs.clients), ("servers", &kernel.servers, &uvs.servers)];
    for (side, kernel, uvs) in sides {
        let plain = |frame: &Vec<u8>| masked(frame, &services.gue);
        let theirs: Vec<_> = kernel.iter().map(plain).collect();
        let ours: Vec<_> = uvs.iter().map(plain).collect();
        if theirs == ours {
            continue;
        }
        let first = theirs.iter().zip(&ours).find(|(theirs, ours)| theirs != ours);
        report.frames_differ.push(Frames {
            step: report.sent,
            what: what.to_owned(),
            side,
            fields: first.map_or(Vec::new(), |(theirs, ours)| decode::differences(theirs, ours)),
            kernel: kernel.iter().map(|frame| decode::hex(frame)).collect(),
            uvs: uvs.iter().map(|frame| decode::hex(frame)).collect(),
        });
    }
}

/// Notes to which server each of the two sent the first packet of a connection.
fn pick(report: &mut Report, services: &Services, flow: String, kernel: &Left, uvs: &Left) {
    let server = |left: &Left| {
        let to = left.servers.first()?.first_chunk::<6>()?;
        let place = (0..services.servers.len()).find(|place| server_mac(*place) == *to)?;
        Some(services.servers[place].to_string())
    };
    let (kernel, uvs) = (server(kernel), server(uvs));
    report.picks += 1;
    if kernel != uvs {
        report.picks_differ.push(Pick { flow, kernel, uvs });
    }
}

impl Services {
    fn read(options: &Options) -> Result<Self, Failure> {
        let (rules, path) = match &options.services {
            None => (standard::rules(), "the standard services".to_owned()),
            Some(path) => {
                let about = |error| Failure(format!("cannot read {}: {error}", path.display()));
                (fs::read_to_string(path).map_err(about)?, path.display().to_string())
            }
        };
        Self::of(&rules, &path)
    }

    /// The services of a file's text, which is called `path` in messages.
    fn of(rules: &str, path: &str) -> Result<Self, Failure> {
        let targets = rules::parse(rules, path)?;
        let mut vips: Vec<IpAddr> =
            targets.keys().filter_map(|key| key.endpoint()).map(|end| end.address).collect();
        vips.sort_unstable();
        vips.dedup();
        let dests = || targets.values().flat_map(|target| &target.dests);
        let mut servers: Vec<IpAddr> =
            dests().map(|dest| dest.address).filter(|server| !vips.contains(server)).collect();
        servers.sort_unstable();
        servers.dedup();
        let tunnels = dests().map(|dest| dest.tunnel);
        let gue = tunnels.filter(|it| it.kind == TunnelKind::Gue).map(|it| it.port).collect();
        Ok(Self { targets, vips, servers, gue })
    }

    /// What of them cannot be compared.
    fn notes(&self) -> Vec<String> {
        let marks = self.targets.keys().filter(|key| matches!(key, ServiceKey::Mark { .. }));
        let marks = marks.map(|key| format!("{key}: nothing sets marks here; not compared"));
        let random = self.targets.values().filter(|target| target.service.scheduler == "twos");
        let random = random.map(|target| {
            format!("{}: twos draws its servers at random; they will differ", target.service.key)
        });
        marks.chain(random).collect()
    }
}
