//! The words of ipvsadm 1.31's command line: commands, options, and which go together.

use std::fmt;

use crate::api::{Method, Protocol};

/// A command; the first option of a line has to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    AddService,
    EditService,
    DeleteService,
    Clear,
    AddServer,
    EditServer,
    DeleteServer,
    Restore,
    Save,
    List,
    Zero,
    Set,
    StartDaemon,
    StopDaemon,
    Help,
    Version,
}

/// The command's name in ipvsadm's messages.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddService => "add-service",
            Self::EditService => "edit-service",
            Self::DeleteService => "delete-service",
            Self::Clear => "flush",
            Self::AddServer => "add-server",
            Self::EditServer => "edit-server",
            Self::DeleteServer => "delete-server",
            Self::Restore => "restore",
            Self::Save => "save",
            Self::List => "list",
            Self::Zero => "zero",
            Self::Set => "set",
            Self::StartDaemon => "start-daemon",
            Self::StopDaemon => "stop-daemon",
            Self::Help => "help",
            Self::Version => "version",
        })
    }
}

/// An option, in the order in which ipvsadm checks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Opt {
    Numeric,
    Connection,
    ServiceAddress,
    Scheduler,
    Persistent,
    Netmask,
    RealServer,
    ForwardingMethod,
    Weight,
    UThreshold,
    LThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    Nosort,
    Syncid,
    Exact,
    Ops,
    Pe,
    SchedFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    ConnTimeout,
    MssClamp,
    TunInfo,
    TunType,
    TunPort,
    TunNocsum,
    TunCsum,
    TunRemcsum,
    Json,
    DryRun,
}

use Opt::*;

impl Opt {
    /// Every option, in the order of the checks.
    pub(crate) const ALL: [Self; 38] = [
        Numeric,
        Connection,
        ServiceAddress,
        Scheduler,
        Persistent,
        Netmask,
        RealServer,
        ForwardingMethod,
        Weight,
        UThreshold,
        LThreshold,
        McastInterface,
        Timeout,
        Daemon,
        Stats,
        Rate,
        Thresholds,
        PersistentConn,
        Nosort,
        Syncid,
        Exact,
        Ops,
        Pe,
        SchedFlags,
        McastGroup,
        McastPort,
        McastTtl,
        SyncMaxlen,
        ConnTimeout,
        MssClamp,
        TunInfo,
        TunType,
        TunPort,
        TunNocsum,
        TunCsum,
        TunRemcsum,
        Json,
        DryRun,
    ];
}

/// The option's name in ipvsadm's messages.
impl fmt::Display for Opt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            ServiceAddress => "service-address",
            ForwardingMethod => "forwarding-method",
            option => WORDS
                .iter()
                .find(|word| word.meaning == Meaning::Option(*option))
                .map_or("?", |word| word.long),
        };
        f.write_str(name)
    }
}

/// What a word of the command line stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A command.
    Command(Op),
    /// A service by protocol and address.
    Service(Protocol),
    /// A service by firewall mark.
    Fwmark,
    /// The service of a firewall mark is IPv6.
    Ipv6,
    /// How frames reach the server.
    Method(Method),
    /// Any other option.
    Option(Opt),
    /// Read and forgotten.
    Nothing,
}

/// Whether a word has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    No,
    Yes,
    /// It takes the next argument unless that begins with `-`.
    Optional,
}

/// One word of the grammar.
#[derive(Debug)]
pub(crate) struct Word {
    /// Without its two dashes.
    pub(crate) long: &'static str,
    /// The letter after one dash.
    pub(crate) short: Option<char>,
    pub(crate) value: Value,
    pub(crate) meaning: Meaning,
}

const fn word(long: &'static str, short: Option<char>, value: Value, meaning: Meaning) -> Word {
    Word { long, short, value, meaning }
}

const fn command(long: &'static str, short: char, op: Op) -> Word {
    word(long, Some(short), Value::No, Meaning::Command(op))
}

const fn flag(long: &'static str, option: Opt) -> Word {
    word(long, None, Value::No, Meaning::Option(option))
}

const fn short_flag(long: &'static str, short: char, option: Opt) -> Word {
    word(long, Some(short), Value::No, Meaning::Option(option))
}

const fn valued(long: &'static str, option: Opt) -> Word {
    word(long, None, Value::Yes, Meaning::Option(option))
}

const fn short_valued(long: &'static str, short: char, option: Opt) -> Word {
    word(long, Some(short), Value::Yes, Meaning::Option(option))
}

/// Every word. `-X` for `--exact` stands in no manual, but ipvsadm takes it; `--conn-timeout`, `--mss-clamp`,
/// `--json` and `--dry-run` are uvs's own.
pub(crate) static WORDS: [Word; 62] = [
    command("add-service", 'A', Op::AddService),
    command("edit-service", 'E', Op::EditService),
    command("delete-service", 'D', Op::DeleteService),
    command("clear", 'C', Op::Clear),
    command("add-server", 'a', Op::AddServer),
    command("edit-server", 'e', Op::EditServer),
    command("delete-server", 'd', Op::DeleteServer),
    command("restore", 'R', Op::Restore),
    command("save", 'S', Op::Save),
    command("list", 'L', Op::List),
    command("list", 'l', Op::List),
    command("zero", 'Z', Op::Zero),
    word("set", None, Value::No, Meaning::Command(Op::Set)),
    word("start-daemon", None, Value::Yes, Meaning::Command(Op::StartDaemon)),
    word("stop-daemon", None, Value::Yes, Meaning::Command(Op::StopDaemon)),
    command("help", 'h', Op::Help),
    command("version", 'v', Op::Version),
    word("tcp-service", Some('t'), Value::Yes, Meaning::Service(Protocol::Tcp)),
    word("udp-service", Some('u'), Value::Yes, Meaning::Service(Protocol::Udp)),
    word("sctp-service", None, Value::Yes, Meaning::Service(Protocol::Sctp)),
    word("fwmark-service", Some('f'), Value::Yes, Meaning::Fwmark),
    word("ipv6", Some('6'), Value::No, Meaning::Ipv6),
    word("gatewaying", Some('g'), Value::No, Meaning::Method(Method::Route)),
    word("ipip", Some('i'), Value::No, Meaning::Method(Method::Tunnel)),
    word("masquerading", Some('m'), Value::No, Meaning::Method(Method::Masq)),
    word("persistent", Some('p'), Value::Optional, Meaning::Option(Persistent)),
    short_valued("scheduler", 's', Scheduler),
    short_valued("netmask", 'M', Netmask),
    short_valued("real-server", 'r', RealServer),
    short_valued("weight", 'w', Weight),
    short_valued("u-threshold", 'x', UThreshold),
    short_valued("l-threshold", 'y', LThreshold),
    short_valued("sched-flags", 'b', SchedFlags),
    valued("pe", Pe),
    valued("conn-timeout", ConnTimeout),
    valued("mss-clamp", MssClamp),
    valued("mcast-interface", McastInterface),
    valued("mcast-group", McastGroup),
    valued("mcast-port", McastPort),
    valued("mcast-ttl", McastTtl),
    valued("syncid", Syncid),
    valued("sync-maxlen", SyncMaxlen),
    valued("tun-type", TunType),
    valued("tun-port", TunPort),
    flag("tun-nocsum", TunNocsum),
    flag("tun-csum", TunCsum),
    flag("tun-remcsum", TunRemcsum),
    flag("tun-info", TunInfo),
    short_flag("numeric", 'n', Numeric),
    short_flag("connection", 'c', Connection),
    short_flag("exact", 'X', Exact),
    short_flag("ops", 'o', Ops),
    flag("timeout", Timeout),
    flag("daemon", Daemon),
    flag("stats", Stats),
    flag("rate", Rate),
    flag("thresholds", Thresholds),
    flag("persistent-conn", PersistentConn),
    flag("nosort", Nosort),
    word("sort", None, Value::No, Meaning::Nothing),
    flag("json", Json),
    flag("dry-run", DryRun),
];

/// Which options a command needs, which it takes besides, and which of those exclude each other.
pub(crate) struct Rules {
    pub(crate) required: &'static [Opt],
    pub(crate) allowed: &'static [Opt],
    pub(crate) exclusive: &'static [Opt],
}

impl Op {
    /// The options that go with the command.
    pub(crate) fn rules(self) -> Rules {
        const SERVICE: &[Opt] =
            &[Scheduler, Persistent, Netmask, Ops, Pe, SchedFlags, ConnTimeout, MssClamp, DryRun];
        const SERVER: &[Opt] = &[
            ForwardingMethod,
            Weight,
            UThreshold,
            LThreshold,
            TunType,
            TunPort,
            TunNocsum,
            TunCsum,
            TunRemcsum,
            DryRun,
        ];
        const LISTING: &[Opt] = &[
            Numeric,
            Stats,
            Rate,
            Thresholds,
            PersistentConn,
            Nosort,
            Syncid,
            Exact,
            TunInfo,
            Json,
        ];
        const TRIED: &[Opt] = &[DryRun];
        const DAEMON: &[Opt] =
            &[McastInterface, Syncid, McastGroup, McastPort, McastTtl, SyncMaxlen];
        let (required, allowed): (&[Opt], &[Opt]) = match self {
            Self::AddService | Self::EditService => (&[ServiceAddress], SERVICE),
            Self::DeleteService => (&[ServiceAddress], TRIED),
            Self::AddServer | Self::EditServer => (&[ServiceAddress, RealServer], SERVER),
            Self::DeleteServer => (&[ServiceAddress, RealServer], TRIED),
            Self::Save => (&[], &[Numeric]),
            Self::List => (&[], LISTING),
            Self::Zero => (&[], &[ServiceAddress, DryRun]),
            Self::StartDaemon => (&[], DAEMON),
            Self::StopDaemon => (&[], &[Syncid]),
            Self::Clear | Self::Restore | Self::Set => (&[], TRIED),
            Self::Help | Self::Version => (&[], &[]),
        };
        let exclusive: &[Opt] = match self {
            Self::List => &[Connection, ServiceAddress, Timeout, Daemon],
            _ => &[],
        };
        Rules { required, allowed, exclusive }
    }
}
