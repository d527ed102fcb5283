//! What an engine without traffic costs.

mod lab;

use std::fs;
use std::time::{Duration, Instant};

use lab::{Lab, PORTS};
use uvs_lab::{Arms, Director, DirectorOptions, LabOptions, Method};

const TIME: Duration = Duration::from_secs(3);

/// The share of one core that the engine uses over [`TIME`].
fn share_of_a_core(engine: &mut Director) -> f64 {
    let pid = engine.process().pid();
    let (before, start) = (cpu_time(pid), Instant::now());
    std::thread::sleep(TIME);
    (cpu_time(pid) - before).as_secs_f64() / start.elapsed().as_secs_f64()
}

/// The processor time of a process, all its threads together, to the nanosecond
/// (/proc/PID/task/TID/schedstat).
fn cpu_time(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let time = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    };
    threads.map(|thread| time(thread.unwrap())).sum()
}

#[test]
fn an_idle_engine_sleeps() {
    let Some(lab) = Lab::with(LabOptions { queues: 2, ..LabOptions::default() }) else { return };
    for port in PORTS {
        let mut engine = lab.engine(port);
        let share = share_of_a_core(&mut engine);
        println!("{port}, two workers: {:.2} % of a core", share * 100.0);
        assert!(share < 0.02, "{port}: {:.2} % of a core", share * 100.0);
        engine.stop().unwrap();
    }
}

#[test]
fn a_busy_engine_spins() {
    let Some(lab) = Lab::up(Arms::One, Method::Route) else { return };
    let options = DirectorOptions { busy: true, ..DirectorOptions::of("afxdp") };
    let mut engine = Director::start(&lab.network, &options).unwrap();
    let share = share_of_a_core(&mut engine);
    println!("busy: {:.0} % of a core", share * 100.0);
    // Others want the core too; a quarter of it is still far from the sleeper's share.
    assert!((0.25..1.2).contains(&share), "{:.0} % of a core", share * 100.0);
    engine.stop().unwrap();
}
