//! uvs.toml: what the engine runs on.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use uvs_engine::marks::{MarkRule, Marks};
use uvs_engine::port::open::PortMode;
use uvs_engine::proto;
use uvs_engine::settings::{SettingError, Settings};
use uvs_engine::snapshot::Rules;
use uvs_uvsadm::api::Timeouts;

use crate::access::{Access, ApiFile};
use crate::desired::MAX_TIMEOUT;
use crate::entry::set_timeouts;
use crate::marks::{self, MarkFile};

/// Workers that an engine may have; more queues than any NIC has.
const MAX_WORKERS: usize = 64;

/// Connections when the file does not say: 64 bytes each and as much again for the index.
const DEFAULT_CONNECTIONS: u64 = 1 << 20;

/// Where the API listens when the file does not say.
pub const DEFAULT_SOCKET: &str = "/run/uvs.sock";

/// A uvs.toml that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The interfaces: one (one-arm), or the outside and the inside (two-arm).
    pub interfaces: Vec<String>,
    /// The core of each worker; a worker serves the queue of its own number on every interface.
    pub cores: Vec<usize>,
    /// Which port to use.
    pub mode: PortMode,
    /// Whether idle workers spin instead of sleeping.
    pub busy: bool,
    /// Capacity of the connection table.
    pub connections: u64,
    /// The file of services, in ipvsadm-save's format.
    pub services: Option<PathBuf>,
    /// The API's socket.
    pub socket: PathBuf,
    /// Whose it is.
    pub access: Access,
    /// The settings at start; what the file leaves out has its default.
    pub settings: Settings,
    /// Timeouts at start, in seconds; 0 is the kernel's.
    pub timeouts: Timeouts,
    /// Which packets have which firewall mark; the first rule that matches decides.
    pub marks: Vec<MarkRule>,
    /// The file that it was read from.
    pub file: Option<PathBuf>,
    /// Where the file says `connections`, for messages: `uvs.toml, line 7`.
    pub connections_at: Option<String>,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    outside: Spanned<String>,
    inside: Option<Spanned<String>>,
    queues: Option<Spanned<usize>>,
    cores: Option<Spanned<Vec<usize>>>,
    mode: Option<Spanned<String>>,
    #[serde(default)]
    busy: bool,
    connections: Option<Spanned<u64>>,
    services: Option<PathBuf>,
    socket: Option<PathBuf>,
    #[serde(default)]
    api: ApiFile,
    #[serde(default)]
    settings: BTreeMap<Spanned<String>, Spanned<i64>>,
    #[serde(default)]
    timeouts: TimeoutsFile,
    #[serde(default)]
    marks: Vec<Spanned<MarkFile>>,
}

/// `[timeouts]`, in seconds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeoutsFile {
    tcp: Option<Spanned<i64>>,
    tcpfin: Option<Spanned<i64>>,
    udp: Option<Spanned<i64>>,
}

/// What is wrong with uvs.toml.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// A line of it is wrong.
    #[error("{path}, line {line}: {message}")]
    Line {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what is allowed.
        message: String,
    },
}

impl Config {
    /// Reads and checks a file. Paths in it are relative to its folder.
    ///
    /// # Errors
    ///
    /// One sentence with the line, see [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        let mut config = Self::parse(&text, &path.display().to_string())?;
        if let (Some(folder), Some(services)) = (path.parent(), &mut config.services) {
            *services = folder.join(&*services);
        }
        config.file = Some(path.to_owned());
        Ok(config)
    }

    /// Checks the text of a file that is called `path` in messages.
    ///
    /// # Errors
    ///
    /// See [`ConfigError::Line`].
    pub fn parse(text: &str, path: &str) -> Result<Self, ConfigError> {
        let at = |span: Range<usize>, message: String| ConfigError::Line {
            path: path.to_owned(),
            line: line(text, &span),
            message,
        };
        let file: File = toml::from_str(text).map_err(|error| {
            at(error.span().unwrap_or(0..0), error.message().replace('\n', "; "))
        })?;
        let connections = file.connections.as_ref().map(Spanned::span);
        let mut config = file.check(text).map_err(|(span, message)| at(span, message))?;
        config.connections_at = connections.map(|at| format!("{path}, line {}", line(text, &at)));
        Ok(config)
    }

    /// Timeouts, settings and marks as the engine takes them.
    pub fn rules(&self) -> Rules {
        let mut timeouts = proto::Timeouts::default();
        set_timeouts(&mut timeouts, &self.timeouts);
        let marks = Arc::new(Marks::new(self.marks.clone()));
        Rules { timeouts, settings: self.settings, marks }
    }
}

/// A wrong value: where, and what is allowed.
pub(crate) type Wrong = (Range<usize>, String);

/// The line, from 1, in which a place begins.
pub(crate) fn line(text: &str, place: &Range<usize>) -> usize {
    text[..place.start.min(text.len())].matches('\n').count() + 1
}

impl File {
    fn check(self, text: &str) -> Result<Config, Wrong> {
        let cores = self.cores()?;
        let (settings, timeouts) = (self.settings()?, self.timeouts.check()?);
        let (socket, access) = (self.socket()?, self.api.access()?);
        let mut interfaces = vec![self.outside.get_ref().clone()];
        if let Some(inside) = self.inside {
            if inside.get_ref() == self.outside.get_ref() {
                let message = "`inside` is the same interface as `outside`; leave it out for a \
                               one-arm director";
                return Err((inside.span(), message.into()));
            }
            interfaces.push(inside.into_inner());
        }
        let marks = marks::check(&self.marks, &interfaces, text)?;
        let mode = match self.mode {
            None => PortMode::Auto,
            Some(mode) => mode.get_ref().parse().map_err(|_| {
                let message =
                    format!("`mode` is {:?}; it may be auto, afxdp or raw", mode.get_ref());
                (mode.span(), message)
            })?,
        };
        let connections = match self.connections {
            None => DEFAULT_CONNECTIONS,
            Some(n) if *n.get_ref() == 0 => {
                return Err((n.span(), "`connections` is 0; it must be at least 1".into()));
            }
            Some(n) => n.into_inner(),
        };
        Ok(Config {
            interfaces,
            cores,
            mode,
            busy: self.busy,
            connections,
            services: self.services,
            socket,
            access,
            settings,
            timeouts,
            marks,
            file: None,
            connections_at: None,
        })
    }

    /// At the top, where it stood before there was `[api]`, or there.
    fn socket(&self) -> Result<PathBuf, Wrong> {
        match (&self.socket, &self.api.socket) {
            (Some(_), Some(again)) => {
                Err((again.span(), "`socket` is given twice; leave it out above".into()))
            }
            (Some(socket), None) => Ok(socket.clone()),
            (None, Some(socket)) => Ok(socket.get_ref().clone()),
            (None, None) => Ok(DEFAULT_SOCKET.into()),
        }
    }

    fn settings(&self) -> Result<Settings, Wrong> {
        let mut settings = Settings::default();
        for (name, value) in &self.settings {
            settings.set(name.get_ref(), *value.get_ref()).map_err(|error| {
                let at = match error {
                    SettingError::Unknown(_) => name.span(),
                    SettingError::Range { .. } => value.span(),
                };
                (at, error.to_string())
            })?;
        }
        Ok(settings)
    }

    /// A core for each queue: as given, or the first ones there are.
    fn cores(&self) -> Result<Vec<usize>, Wrong> {
        let allowed = 1..=MAX_WORKERS;
        if let Some(queues) = &self.queues
            && !allowed.contains(queues.get_ref())
        {
            let message = format!("`queues` is {}; it may be 1 to {MAX_WORKERS}", queues.get_ref());
            return Err((queues.span(), message));
        }
        let queues = self.queues.as_ref().map(|queues| *queues.get_ref());
        let Some(cores) = &self.cores else {
            return Ok((0..queues.unwrap_or(1)).collect());
        };
        let (span, cores) = (cores.span(), cores.get_ref());
        if !allowed.contains(&cores.len()) {
            return Err((span, format!("`cores` must name 1 to {MAX_WORKERS} cores")));
        }
        if queues.is_some_and(|queues| queues != cores.len()) {
            let message = format!(
                "`cores` names {} cores for {} queues; each queue has one worker on one core",
                cores.len(),
                queues.unwrap_or_default()
            );
            return Err((span, message));
        }
        Ok(cores.clone())
    }
}

impl TimeoutsFile {
    fn check(&self) -> Result<Timeouts, Wrong> {
        let seconds = |name: &str, value: &Option<Spanned<i64>>| {
            let Some(value) = value else { return Ok(0) };
            let given = u32::try_from(*value.get_ref()).ok();
            given.filter(|given| *given <= MAX_TIMEOUT).ok_or_else(|| {
                let given = value.get_ref();
                let message = format!("`{name}` is {given}; it may be 0 to {MAX_TIMEOUT} seconds");
                (value.span(), message)
            })
        };
        Ok(Timeouts {
            tcp: seconds("tcp", &self.tcp)?,
            tcp_fin: seconds("tcpfin", &self.tcpfin)?,
            udp: seconds("udp", &self.udp)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        Config::parse(text, "uvs.toml").unwrap_err().to_string()
    }

    #[test]
    fn one_interface_is_enough() {
        let config = Config::parse("outside = \"eth0\"\n", "uvs.toml").unwrap();
        assert_eq!(config.interfaces, ["eth0"]);
        assert_eq!((config.cores, config.mode), (vec![0], PortMode::Auto));
        assert_eq!(config.socket, Path::new(DEFAULT_SOCKET));
    }

    #[test]
    fn two_arms_and_all_settings() {
        let text = "outside = \"a\"\ninside = \"b\"\nqueues = 2\ncores = [3, 1]\nmode = \"raw\"\n\
                    busy = true\nconnections = 5\nservices = \"s.rules\"\nsocket = \"/tmp/s\"\n";
        let config = Config::parse(text, "uvs.toml").unwrap();
        assert_eq!(config.interfaces, ["a", "b"]);
        assert_eq!((config.cores, config.mode, config.busy), (vec![3, 1], PortMode::Raw, true));
        assert_eq!((config.connections, config.services), (5, Some("s.rules".into())));
    }

    #[test]
    fn settings_and_timeouts_are_the_kernels_where_nothing_is_said() {
        let text = "outside = \"a\"\n[settings]\nconn_reuse_mode = 3\ndrop_packet = 1\n\
                    [timeouts]\ntcp = 60\nudp = 5\n";
        let config = Config::parse(text, "uvs.toml").unwrap();
        let expected = Settings { conn_reuse_mode: 3, drop_packet: 1, ..Settings::default() };
        assert_eq!(config.settings, expected);
        let rules = config.rules();
        let seconds = |state: u8| rules.timeouts.tcp[usize::from(state)].to_duration().as_secs();
        assert_eq!((seconds(proto::tcp::ESTABLISHED), seconds(proto::tcp::FIN_WAIT)), (60, 120));
        assert_eq!(rules.timeouts.udp.to_duration().as_secs(), 5);
        for (text, expected) in [
            ("[settings]\ncolour = 1\n", "line 3: there is no setting 'colour'"),
            ("[settings]\nsloppy_tcp = 2\n", "line 3: sloppy_tcp is 2; it may be 0 to 1"),
            ("[settings]\ndrop_entry = -1\n", "line 3: drop_entry is -1; it may be 0 to 3"),
            ("[timeouts]\ntcp = -1\n", "line 3: `tcp` is -1; it may be 0 to 21474836 seconds"),
            ("[timeouts]\nsctp = 1\n", "line 3: unknown field `sctp`"),
        ] {
            let error = wrong(&format!("outside = \"a\"\n{text}"));
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn every_mistake_has_its_line_and_what_is_allowed() {
        let unknown = wrong("outside = \"a\"\ncolour = 1\n");
        assert!(unknown.starts_with("uvs.toml, line 2: unknown field `colour`, expected one of"));
        assert_eq!(
            wrong("outside = \"a\"\nmode = \"dpdk\"\n"),
            "uvs.toml, line 2: `mode` is \"dpdk\"; it may be auto, afxdp or raw"
        );
        assert!(wrong("mode = \"raw\"\n").contains("missing field `outside`"));
        assert!(wrong("outside = \"a\"\n\nqueues = 0\n").contains("line 3: `queues` is 0; it may"));
        assert!(wrong("outside = \"a\"\nqueues = 2\ncores = [0]\n").contains("line 3: `cores`"));
        assert!(wrong("outside = \"a\"\ninside = \"a\"\n").contains("one-arm"));
        assert!(wrong("outside = \"a\"\nconnections = 0\n").contains("at least 1"));
        assert!(wrong("outside = \"a\"\nqueues = \"x\"\n").contains("line 2: invalid type"));
        assert!(wrong("outside = \n").contains("line 1"));
    }
}
