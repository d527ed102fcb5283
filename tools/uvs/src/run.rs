//! `uvs run`: the engine in the foreground.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use uvs_control::api::Socket;
use uvs_control::config::Config;
use uvs_control::control::Control;
use uvs_control::engine::Engine;

use crate::Failure;
use crate::mirror::{Fallback, Kernel};

/// How often a running engine looks whether its workers still run.
const LOOK: Duration = Duration::from_secs(1);

/// Runs the engine of a uvs.toml until SIGTERM or Ctrl-C; SIGHUP reads the services again. With
/// `kernel_fallback` the kernel's IPVS holds the same services.
pub fn run(path: &Path, kernel_fallback: bool) -> Result<ExitCode, Failure> {
    // What goes wrong while the engine runs is told on stderr too.
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).init();
    let config = Config::read(path)?;
    // Asked before anything of the host is touched.
    let kernel = kernel_fallback.then(Kernel::open).transpose()?;
    let socket = Socket::open(&config.socket, &config.access)?;
    let mut engine = Engine::start(config)?;
    for line in engine.report() {
        eprintln!("uvs: {line}");
    }
    let control = engine.control();
    let links: Vec<String> = control.links().into_iter().map(|link| link.name).collect();
    eprintln!(
        "uvs: {} services on {}, API on {}",
        control.services().len(),
        links.join(" and "),
        control.config().socket.display()
    );
    let fallback = kernel.map(|kernel| Fallback::start(kernel, control.clone())).transpose()?;
    if fallback.is_some() {
        eprintln!("uvs: the kernel's IPVS has the same services, and serves them when uvs is gone");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(&socket, &engine));
    drop((runtime, fallback));
    let stopped = engine.stop();
    ended?;
    stopped?;
    eprintln!("uvs: stopped");
    Ok(ExitCode::SUCCESS)
}

/// Serves the API and the signals until it is time to stop.
async fn serve(socket: &Socket, engine: &Engine) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let api = socket.serve(engine.control().clone(), std::future::pending());
    tokio::pin!(api);
    loop {
        tokio::select! {
            ended = &mut api => return Ok(ended?),
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => reload(engine.control()),
            () = tokio::time::sleep(LOOK) => {
                if engine.failed() {
                    // `stop` has the worker's own reason.
                    return Ok(());
                }
            }
        }
    }
}

fn reload(control: &Control) {
    match control.reload() {
        Ok(0) => eprintln!("uvs: configuration read again; nothing has changed"),
        Ok(changes) => eprintln!("uvs: configuration read again; {changes} changes applied"),
        Err(sentence) => eprintln!("uvs: configuration read again, nothing applied: {sentence}"),
    }
}
