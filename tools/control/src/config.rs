//! uvs.toml: what the engine runs on.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use uvs_engine::port::open::PortMode;

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
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    outside: toml::Spanned<String>,
    inside: Option<toml::Spanned<String>>,
    queues: Option<toml::Spanned<usize>>,
    cores: Option<toml::Spanned<Vec<usize>>>,
    mode: Option<toml::Spanned<String>>,
    #[serde(default)]
    busy: bool,
    connections: Option<toml::Spanned<u64>>,
    services: Option<PathBuf>,
    socket: Option<PathBuf>,
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
            line: text[..span.start.min(text.len())].matches('\n').count() + 1,
            message,
        };
        let file: File = toml::from_str(text).map_err(|error| {
            at(error.span().unwrap_or(0..0), error.message().replace('\n', "; "))
        })?;
        file.check().map_err(|(span, message)| at(span, message))
    }
}

/// A wrong value: where, and what is allowed.
type Wrong = (Range<usize>, String);

impl File {
    fn check(self) -> Result<Config, Wrong> {
        let cores = self.cores()?;
        let mut interfaces = vec![self.outside.get_ref().clone()];
        if let Some(inside) = self.inside {
            if inside.get_ref() == self.outside.get_ref() {
                let message = "`inside` is the same interface as `outside`; leave it out for a \
                               one-arm director";
                return Err((inside.span(), message.into()));
            }
            interfaces.push(inside.into_inner());
        }
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
            socket: self.socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
        })
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
