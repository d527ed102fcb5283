//! The API's socket: where it is, whose it is, and who is at its other end.

use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::UnixListener;
use tokio::net::unix::UCred;

use super::router;
use crate::access::Access;
use crate::control::Control;

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another engine answers on it.
    #[error("another engine answers on {0}; stop it, or give this one another `socket`")]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{0} is there and is no socket; remove it, or give the engine another `socket`")]
    NoSocket(PathBuf),
    /// The system refused.
    #[error("cannot listen on {path}: {source}")]
    Refused {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The API's socket; dropped, its file is gone.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    listener: std::os::unix::net::UnixListener,
}

impl Socket {
    /// Listens on `path`. A socket that a dead engine left is replaced.
    ///
    /// # Errors
    ///
    /// See [`SocketError`].
    pub fn open(path: &Path, access: &Access) -> Result<Self, SocketError> {
        let refused = |source| SocketError::Refused { path: path.to_owned(), source };
        if let Ok(found) = path.symlink_metadata() {
            if !found.file_type().is_socket() {
                return Err(SocketError::NoSocket(path.to_owned()));
            }
            if UnixStream::connect(path).is_ok() {
                return Err(SocketError::InUse(path.to_owned()));
            }
            std::fs::remove_file(path).map_err(refused)?;
        }
        let listener = std::os::unix::net::UnixListener::bind(path).map_err(refused)?;
        let socket = Self { path: path.to_owned(), listener };
        let mode = |mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
        // Nobody else's before it is whose it shall be.
        mode(Access::default().mode).map_err(refused)?;
        if access.owner.is_some() || access.group.is_some() {
            std::os::unix::fs::chown(path, access.owner, access.group).map_err(refused)?;
        }
        mode(access.mode).map_err(refused)?;
        socket.listener.set_nonblocking(true).map_err(refused)?;
        Ok(socket)
    }

    /// Serves the API until `until` is ready.
    ///
    /// # Errors
    ///
    /// The listener's.
    pub async fn serve(
        &self,
        control: Control,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let listener = tokio::net::UnixListener::from_std(self.listener.try_clone()?)?;
        let service = router(control).into_make_service_with_connect_info::<Peer>();
        axum::serve(listener, service).with_graceful_shutdown(until).await
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Who is at the other end of a connection, as the kernel says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peer(Option<UCred>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok())
    }
}

/// `uid 0, gid 0, pid 4711`, for the log.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Some(peer)) = self else { return f.write_str("somebody unknown") };
        write!(f, "uid {}, gid {}", peer.uid(), peer.gid())?;
        peer.pid().map_or(Ok(()), |pid| write!(f, ", pid {pid}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("uvs-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_live_socket_is_left_alone_and_a_dead_one_replaced() {
        let path = path("socket");
        let first = Socket::open(&path, &Access::default()).unwrap();
        let second = Socket::open(&path, &Access::default()).unwrap_err();
        assert!(matches!(second, SocketError::InUse(_)), "{second}");
        std::mem::forget(Socket {
            path: path.clone(),
            listener: first.listener.try_clone().unwrap(),
        });
        drop(first);
        assert!(!path.exists());

        let dead = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(dead);
        assert!(path.exists(), "as a killed engine leaves it");
        drop(Socket::open(&path, &Access::default()).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn the_socket_is_for_whom_it_shall_be() {
        let path = path("mode");
        let access = Access { mode: 0o660, ..Access::default() };
        let socket = Socket::open(&path, &access).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
        drop(socket);
        let socket = Socket::open(&path, &Access::default()).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop(socket);
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let path = path("file");
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(Socket::open(&path, &Access::default()), Err(SocketError::NoSocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        std::fs::remove_file(&path).unwrap();
    }
}
