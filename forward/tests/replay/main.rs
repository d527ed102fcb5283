//! The crate against frames that the real kernel's IPVS forwarded, all of them.
//!
//! A small director finds the connections; what leaves it is compared byte for byte with what left
//! the kernel. With `--nocapture` the rules that each case shows are listed.

mod director;
mod draws;
mod recording;
mod service;

use std::collections::BTreeMap;

use director::{Director, Outcome};
use draws::Draws;
use recording::{Case, Step};

/// Frames in whose fate was the kernel's, and frames out that were the kernel's. They only grow.
const FLOOR: (usize, usize) = (3059, 3254);

#[derive(Default)]
struct Count {
    /// Frames in whose outcome was compared.
    came: usize,
    /// Frames out that are the kernel's to the byte.
    left: usize,
    /// Frames in that nobody answered, as in the kernel.
    dropped: usize,
    /// Frames in that were for the host's own stack.
    host: usize,
    /// Errors of IPv6 NAT servers, which the kernel loses and we translate.
    better: usize,
}

#[test]
fn what_left_the_kernel_leaves_here() {
    let (mut count, mut wrong) = (Count::default(), Vec::new());
    let cases = recording::all();
    for case in &cases {
        let mut director = Director::new(case);
        for step in &case.steps {
            if let Err(what) = replay(&mut director, case, step, &mut count) {
                wrong.push(format!("{}, {}: {what}", case.name, step.label));
            }
        }
        println!("{}: {}", case.name, listed(&director.rules));
    }
    let Count { came, left, dropped, host, better } = count;
    println!(
        "{} cases: {came} frames in compared ({dropped} of them dropped), {left} frames out the \
         same; {host} frames for the host, {better} that the kernel loses",
        cases.len()
    );
    assert!(wrong.is_empty(), "{} steps differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(came >= FLOOR.0 && left >= FLOOR.1, "fewer frames than {FLOOR:?}");
}

fn replay(
    director: &mut Director,
    case: &Case,
    step: &Step,
    count: &mut Count,
) -> Result<(), String> {
    let mut sent = Vec::new();
    for came in &step.came {
        let draws = Draws::of(step.left.first().map(|(_, frame)| frame), came);
        count.came += 1;
        match director.frame(step.dev, came.clone(), draws) {
            Outcome::Sent(frames) => sent.extend(frames),
            Outcome::Dropped => count.dropped += 1,
            Outcome::Kept => {}
            Outcome::Host => {
                count.came -= 1;
                count.host += 1;
                return Ok(());
            }
        }
    }
    if sent == step.left {
        count.left += sent.len();
        return Ok(());
    }
    if is_the_kernels_fault(case, step) && !sent.is_empty() {
        count.better += 1;
        return Ok(());
    }
    let hex = |frame: &[u8]| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines = |frames: &[(recording::Dev, Vec<u8>)]| {
        frames
            .iter()
            .map(|(dev, frame)| format!("\n    {dev:?} {}", hex(frame)))
            .collect::<String>()
    };
    Err(format!("expected{}\n  came{}", lines(&step.left), lines(&sent)))
}

/// The kernel checks these errors' checksum without the pseudo header, and so drops them.
fn is_the_kernels_fault(case: &Case, step: &Step) -> bool {
    let from_server = step.label.starts_with("rs_") || step.label == "router_unreach";
    case.name.starts_with("icmp_nat_v6") && from_server && step.left.is_empty()
}

/// Each rule once, with how often it took part.
fn listed(rules: &[&'static str]) -> String {
    let mut times = BTreeMap::new();
    for rule in rules {
        *times.entry(*rule).or_insert(0) += 1;
    }
    let words: Vec<_> = times.iter().map(|(rule, times)| format!("{rule} x{times}")).collect();
    words.join(", ")
}
