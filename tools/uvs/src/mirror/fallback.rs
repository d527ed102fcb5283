//! `uvs run --kernel-fallback`: the kernel's IPVS holds what the engine holds, at all times. When
//! the engine dies, its programs leave the interfaces, and the kernel serves what comes.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use uvs_control::control::Control;
use uvs_engine::proto::tcp;
use uvs_engine::snapshot::Snapshot;
use uvs_uvsadm::api::{Service, Timeouts};

use super::side::{Configuration, Kernel, Side, SideError};
use super::{Outcome, complaint};

/// How often the engine's services are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// How often the kernel's are, for they are nobody else's to change.
const LOOK_AT_KERNEL: Duration = Duration::from_secs(30);

/// The thread that keeps the kernel's services as the engine's; dropped, it ends and leaves them.
pub struct Fallback {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Fallback {
    /// Makes the kernel hold what the engine holds, and keeps doing it.
    pub fn start(mut kernel: Kernel, control: Control) -> Result<Self, SideError> {
        let seen = Arc::downgrade(&control.snapshot());
        let mut told = String::new();
        tell(&mut told, &write(&mut kernel, &configuration(&control))?);
        let (stop, stopped) = mpsc::channel();
        let run = move || {
            let mut keeper = Keeper { kernel: Some(kernel), seen, looked: Instant::now(), told };
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                keeper.look(&control);
            }
        };
        let thread = std::thread::Builder::new().name("uvs-fallback".into()).spawn(run);
        let thread = thread.map_err(|error: io::Error| uvs_ipvs::Error::Socket(error))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Fallback {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Keeper {
    kernel: Option<Kernel>,
    /// What the workers used when the kernel was last looked at. Not held: it would never be
    /// freed.
    seen: Weak<Snapshot>,
    /// When.
    looked: Instant,
    /// The last complaint, which is not said twice.
    told: String,
}

impl Keeper {
    fn look(&mut self, control: &Control) {
        let newest = Arc::downgrade(&control.snapshot());
        if newest.ptr_eq(&self.seen) && self.looked.elapsed() < LOOK_AT_KERNEL {
            return;
        }
        (self.seen, self.looked) = (newest, Instant::now());
        match self.write(&configuration(control)) {
            Ok(outcome) => tell(&mut self.told, &outcome),
            Err(error) => {
                // The next look is over a new socket, and whatever the engine holds then.
                (self.kernel, self.seen) = (None, Weak::new());
                say(&mut self.told, error.to_string());
            }
        }
    }

    fn write(&mut self, held: &Configuration) -> Result<Outcome, SideError> {
        let mut kernel = match self.kernel.take() {
            Some(kernel) => kernel,
            None => Kernel::open()?,
        };
        let outcome = write(&mut kernel, held);
        self.kernel = Some(kernel);
        outcome
    }
}

fn write(kernel: &mut Kernel, held: &Configuration) -> Result<Outcome, SideError> {
    let plan = kernel.read()?.plan(held);
    Ok(kernel.make(plan))
}

fn tell(told: &mut String, outcome: &Outcome) {
    say(told, complaint(outcome));
}

fn say(told: &mut String, complaint: String) {
    if *told != complaint && !complaint.is_empty() {
        tracing::warn!("the kernel would not serve all that uvs serves: {complaint}");
    }
    *told = complaint;
}

/// What a running engine holds.
fn configuration(control: &Control) -> Configuration {
    let rules = control.rules();
    let seconds = |ticks: uvs_engine::clock::Ticks| ticks.to_duration().as_secs() as u32;
    let timeouts = Timeouts {
        tcp: seconds(rules.timeouts.tcp[usize::from(tcp::ESTABLISHED)]),
        tcp_fin: seconds(rules.timeouts.tcp[usize::from(tcp::FIN_WAIT)]),
        udp: seconds(rules.timeouts.udp),
    };
    Configuration::of(timeouts, control.services().iter().map(Service::from))
}
