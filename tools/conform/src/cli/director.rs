//! An engine without ports, and its API on a socket: what the command lines are run against.

use std::fs::{Permissions, set_permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tokio::sync::oneshot;
use uvs_control::access::Access;
use uvs_control::api::Socket;
use uvs_control::client::Client;
use uvs_control::config::Config;
use uvs_control::control::Control;
use uvs_control::director;
use uvs_engine::clock::{Clock, Ticks};
use uvs_engine::table::{NewConn, Owner, Table};

/// The size of the recorded kernel's table, which its listings show.
const TABLE_SIZE: u64 = 4096;

/// How far the first tick of the statistics is from the first look.
const TO_FIRST_TICK: Ticks = Ticks(50);

const HALF_A_SECOND: Ticks = Ticks(50);

/// The statistics' tick.
const TICK: Ticks = Ticks(200);

/// Who is nobody.
const NOBODY: u32 = 65534;

/// See the module; dropped, its socket is gone.
pub(crate) struct Director {
    pub(crate) control: Control,
    owner: Mutex<Owner>,
    clock: Clock,
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Director {
    /// A director without services.
    pub(crate) fn start() -> io::Result<Self> {
        // Each of several in one process has a socket of its own.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("uvs-conform-{}-{number}", std::process::id()));
        let clock = Clock::manual(Ticks(0));
        let (table, mut owners) =
            Table::new(TABLE_SIZE, 1, clock.now()).map_err(io::Error::other)?;
        let owner = owners.pop().ok_or(io::ErrorKind::OutOfMemory)?;
        let config = Config::parse("outside = \"c1\"", "uvs.toml").map_err(io::Error::other)?;
        let control =
            Control::without_ports(director::Director::idle(), table, clock.clone(), config);
        let socket = Socket::open(&path, &Access::default()).map_err(io::Error::other)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let served = control.clone();
        let server = std::thread::spawn(move || {
            let stopped = async { drop(stopped.await) };
            // Its end is noticed by who asks it.
            drop(runtime.block_on(socket.serve(served, stopped)));
        });
        let (stop, server, owner) = (Some(stop), Some(server), Mutex::new(owner));
        Ok(Self { control, owner, clock, path, stop, server })
    }

    /// Who asks it.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.path)
    }

    /// Opens a connection.
    pub(crate) fn open(&self, new: &NewConn) {
        let mut owner = self.owner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let hash = owner.table().hash_of(&new.in_key());
        let _ = owner.insert(hash, new, self.clock.now());
    }

    /// Lets half a second pass.
    pub(crate) fn pass_half_a_second(&self) {
        self.clock.advance(HALF_A_SECOND);
        if self.clock.now().0 % TICK.0 == TO_FIRST_TICK.0 {
            self.control.tick();
        }
    }

    /// Runs `work` as somebody who may not use the socket.
    pub(crate) fn as_nobody<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let mode = |mode| drop(set_permissions(&self.path, Permissions::from_mode(mode)));
        // For who is not root it is the mode that forbids it, and nobody else can be become.
        mode(0);
        let result = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let (group, user) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
                let _ = set_thread_groups(&[]);
                let _ = set_thread_res_gid(group, group, group);
                let _ = set_thread_res_uid(user, user, user);
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        mode(Access::default().mode);
        result
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A server that panicked has said so.
        drop(self.server.take().map(JoinHandle::join));
    }
}
