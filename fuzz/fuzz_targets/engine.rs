//! The whole engine: every frame is accounted for (INV-4), none of the port's memory is lost
//! (INV-7), and what leaves is right as long as all that came was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uvs_engine::clock::Ticks;
use uvs_engine::link::LinkId;
use uvs_forward::Offsets;
use uvs_forward::wire::Malformed;
use uvs_fuzz::input::Tagged;
use uvs_fuzz::judge;
use uvs_fuzz::rig::{MACS, OWN, Rig};

/// Frames of one input at most.
const MOST: usize = 96;

/// Between frames: nothing, a tick, and what ends connections, fragments and asking.
const SPANS: [Ticks; 8] = [
    Ticks(0),
    Ticks(0),
    Ticks(1),
    Ticks::from_secs(1),
    Ticks::from_secs(4),
    Ticks::from_secs(31),
    Ticks::from_secs(121),
    Ticks::from_secs(1000),
];

fuzz_target!(|data: &[u8]| {
    let Some((config, data)) = data.split_first_chunk() else { return };
    let mut rig = Rig::new(*config);
    let mut came = Came::default();
    for tagged in Tagged::list(data).iter().take(MOST) {
        if tagged.is_alone() {
            check(&mut rig, &came);
        }
        if let span @ Ticks(1..) = SPANS[tagged.span()] {
            check(&mut rig, &came);
            rig.pass(span);
        }
        came.note(&tagged.frame);
        came.frames += u64::from(rig.put(LinkId(tagged.tag & 1), &tagged.frame));
    }
    check(&mut rig, &came);
    rig.stop();
    let totals = rig.totals();
    assert!(totals.balanced() && totals.waiting == 0 && rig.missing() == 0, "{totals:?}");
});

/// What came so far.
struct Came {
    frames: u64,
    /// Whether all of it had right checksums, as far as one can see: not of parts of packets.
    right: bool,
}

impl Default for Came {
    fn default() -> Self {
        Self { frames: 0, right: true }
    }
}

impl Came {
    fn note(&mut self, frame: &[u8]) {
        // What is no packet goes nowhere.
        let Ok(at) = Offsets::of(frame) else { return };
        self.right &= !at.fragment && judge::fault(&frame[..at.end as usize], &[]).is_none();
    }
}

/// Runs what has come, and looks at what left.
fn check(rig: &mut Rig, came: &Came) {
    let sent = rig.run();
    let totals = rig.totals();
    assert!(totals.balanced() && totals.rx == came.frames, "INV-4: {totals:?}");
    assert_eq!(rig.missing() as u64, totals.waiting, "INV-7: frames are lost");
    for (link, frame) in &sent {
        assert_eq!(frame[6..12], MACS[usize::from(link.0)], "from an address of the director's");
        match Offsets::of(frame) {
            Ok(at) => assert_eq!(at.end as usize, frame.len(), "nothing behind it"),
            // A first fragment's extension headers may be cut, as the kernel cuts them.
            Err(malformed) => assert_eq!(malformed, Malformed::Extension, "a right packet"),
        }
        if came.right {
            assert_eq!(judge::fault(frame, &OWN), None, "{frame:02x?}");
        }
    }
}
