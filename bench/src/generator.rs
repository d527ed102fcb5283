//! Generator and sink of the packet-rate bench: the BPF programs of `generator.bpf.c`.

use std::sync::atomic::{AtomicBool, Ordering};

use libbpf_rs::{
    Link, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, ProgramInput, ProgramMut,
};

use crate::frames::{Flow, Kind, LEN, request};

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/generator.bpf.o"));

/// `BPF_F_TEST_XDP_LIVE_FRAMES` of linux/bpf.h: what the program returns is done.
const LIVE_FRAMES: u32 = 1 << 1;

/// Frames of one system call: some 30 ms, after which the generator looks whether to stop.
const BURST: u32 = 100_000;

/// Sends requests from an interface, and counts what comes back to it.
pub struct Generator {
    object: Object,
    ifindex: u32,
    _sink: Link,
}

impl Generator {
    /// On this interface, with requests of this many flows. Call it in the interface's namespace.
    ///
    /// # Errors
    ///
    /// The kernel refuses a program.
    pub fn new(ifindex: u32, flows: u32) -> libbpf_rs::Result<Self> {
        libbpf_rs::set_print(None);
        let object = ObjectBuilder::default().name("uvs_bench")?.open_memory(OBJECT)?.load()?;
        map(&object, "plans")?.update(&[0; 4], &plan(flows), MapFlags::ANY)?;
        let sink = program(&object, "sink")?.attach_xdp(ifindex as i32)?;
        Ok(Self { object, ifindex, _sink: sink })
    }

    /// Sends until `stop` is set. In the interface's namespace.
    ///
    /// # Errors
    ///
    /// The kernel cannot run programs on live frames (before 5.18).
    pub fn run(&self, stop: &AtomicBool) -> libbpf_rs::Result<()> {
        let generate = program(&self.object, "generate")?;
        let frame = [0; LEN];
        // Relaxed: the flag stands for itself.
        while !stop.load(Ordering::Relaxed) {
            let mut context = self.context();
            generate.test_run(ProgramInput {
                context_in: Some(&mut context),
                data_in: Some(&frame),
                flags: LIVE_FRAMES,
                repeat: BURST,
                ..ProgramInput::default()
            })?;
        }
        Ok(())
    }

    /// Where what comes back is counted.
    ///
    /// # Errors
    ///
    /// The kernel has no descriptor left.
    pub fn returned(&self) -> libbpf_rs::Result<Returned> {
        Ok(Returned(map(&self.object, "returned")?))
    }

    /// `struct xdp_md`: the frame is the whole data, on queue 0 of the interface.
    fn context(&self) -> [u8; 24] {
        let mut context = [0; 24];
        context[4..8].copy_from_slice(&(LEN as u32).to_ne_bytes());
        context[12..16].copy_from_slice(&self.ifindex.to_ne_bytes());
        context
    }
}

/// The count of the frames that came back.
#[derive(Debug)]
pub struct Returned(MapHandle);

impl Returned {
    /// How many there were so far.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub fn count(&self) -> libbpf_rs::Result<u64> {
        let counts = self.0.lookup_percpu(&[0; 4], MapFlags::ANY)?.unwrap_or_default();
        let number = |bytes: &Vec<u8>| bytes.first_chunk().map_or(0, |b| u64::from_ne_bytes(*b));
        Ok(counts.iter().map(number).sum())
    }
}

/// `struct plan` of the program.
fn plan(flows: u32) -> [u8; LEN + 4] {
    let mut plan = [0; LEN + 4];
    plan[..LEN].copy_from_slice(&request(Kind::Udp, Flow(0)));
    // No UDP checksum: ports change.
    plan[40..42].fill(0);
    plan[LEN..].copy_from_slice(&flows.to_ne_bytes());
    plan
}

fn map(object: &Object, name: &str) -> libbpf_rs::Result<MapHandle> {
    let found = object.maps().find(|map| map.name() == name);
    MapHandle::try_from(&found.expect("generator.bpf.c has every map that is asked for"))
}

fn program<'a>(object: &'a Object, name: &str) -> libbpf_rs::Result<ProgramMut<'a>> {
    let found = object.progs_mut().find(|program| program.name() == name);
    Ok(found.expect("generator.bpf.c has both programs"))
}
