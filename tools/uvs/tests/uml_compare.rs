//! `uvs compare` beside a real kernel: nothing differs but what docs/parity.md names.

mod uml;

use std::fs::File;
use std::time::Duration;

use etherparse::PacketBuilder;
use pcap_file::pcap::{PcapPacket, PcapWriter};
use serde_json::Value;
use uml::{UVS, inside, run};

/// Runs it; gives its report and its exit code.
fn compare(arguments: &[&str]) -> (Value, Option<i32>) {
    let arguments = [&["compare", "--port", "raw", "--json"], arguments].concat();
    let output = run(UVS, &arguments);
    let report = serde_json::from_slice(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (report.unwrap_or_else(|error| panic!("{error}: {said}")), output.status.code())
}

fn count(report: &Value, list: &str) -> usize {
    report[list].as_array().unwrap().len()
}

#[test]
fn every_scheduler_and_method_does_as_the_kernels() {
    inside("every_scheduler_and_method_does_as_the_kernels", 600, || {
        let (report, code) = compare(&["--generate", "--seconds", "0.2"]);
        let differ = ["picks_differ", "frames_differ"].map(|list| count(&report, list));
        assert_eq!(differ, [0, 0], "{report:#}");
        assert_eq!(count(&report["tables"], "differ"), 0, "{report:#}");
        assert_eq!(code, Some(0));
        // It compared something.
        let figure = |name: &str| report[name].as_u64().unwrap();
        assert!(figure("picks") > 1000 && figure("kernel_frames") > 4000, "{report:#}");
        assert!(report["tables"]["kernel"].as_u64().unwrap() > 900, "{report:#}");
        for twin in ["kernel", "uvs"] {
            let rates = &report["rates"][twin];
            assert!(rates["connections"].as_f64().unwrap() > 0.0, "{rates}");
            assert!(rates["packets"].as_f64().unwrap() > 0.0, "{rates}");
            println!("{twin}: {rates}");
        }
    });
}

const RULES: &str = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.1.1 -g\n\
                     -a -t 10.0.0.1:80 -r 10.0.1.2 -g\n";

/// A first packet to the service, from this port, as somebody's capture has it.
fn syn(port: u16) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2([6; 6], [7; 6]).ipv4([192, 0, 2, 1], [10, 0, 0, 1], 60);
    let mut frame = Vec::new();
    packet.tcp(port, 80, 1, 512).syn().write(&mut frame, &[]).unwrap();
    frame
}

/// The same in two fragments, the first without the whole of its header.
fn tiny_fragments(port: u16) -> [Vec<u8>; 2] {
    const L3: usize = 14;
    const L4: usize = L3 + 20;
    let whole = syn(port);
    let part = |from: usize, to: usize, more: bool| {
        let mut frame = [&whole[..L4], &whole[L4 + from..L4 + to]].concat();
        let length = (20 + to - from) as u16;
        let place = (from / 8) as u16 | u16::from(more) << 13;
        frame[L3 + 2..L3 + 4].copy_from_slice(&length.to_be_bytes());
        frame[L3 + 6..L3 + 8].copy_from_slice(&place.to_be_bytes());
        frame[L3 + 10..L3 + 12].fill(0);
        let words =
            frame[L3..L4].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        let sum = words.sum::<u32>();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        frame[L3 + 10..L3 + 12].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    [part(0, 8, true), part(8, 20, false)]
}

fn write(path: &str, frames: &[Vec<u8>]) {
    let mut file = PcapWriter::new(File::create(path).unwrap()).unwrap();
    for frame in frames {
        let packet = PcapPacket::new(Duration::ZERO, frame.len() as u32, frame);
        file.write_packet(&packet).unwrap();
    }
}

#[test]
fn a_capture_is_compared_and_a_known_difference_is_found() {
    inside("a_capture_is_compared_and_a_known_difference_is_found", 120, || {
        std::fs::write("/run/rules", RULES).unwrap();
        let arguments =
            ["--services", "/run/rules", "--seconds", "0", "--pcap", "/run/frames.pcap"];
        let stranger = {
            let mut frame = syn(1000);
            frame[14 + 16..14 + 20].copy_from_slice(&[10, 9, 9, 9]);
            frame
        };
        write("/run/frames.pcap", &[syn(1000), stranger, syn(1001), syn(1000)]);
        let (report, code) = compare(&arguments);
        assert_eq!((code, report["sent"].as_u64()), (Some(0), Some(3)), "{report:#}");
        assert_eq!(report["tables"]["uvs"], 2, "{report:#}");

        // As docs/parity.md has it: the kernel puts it together, uvs does not.
        let [first, second] = tiny_fragments(1002);
        write("/run/frames.pcap", &[syn(1000), first, second]);
        let (report, code) = compare(&arguments);
        assert_eq!((code, count(&report, "frames_differ")), (Some(1), 1), "{report:#}");
        let differs = &report["frames_differ"][0];
        let (kernel, uvs) = (count(differs, "kernel"), count(differs, "uvs"));
        assert_eq!((&differs["side"], kernel, uvs), (&"servers".into(), 2, 0), "{report:#}");
        assert_eq!(count(&report["tables"], "differ"), 1, "{report:#}");

        let missing = run(UVS, &["compare", "--pcap", "/run/nothing.pcap"]);
        assert_eq!(missing.status.code(), Some(2), "1 is for a difference");
        let said = String::from_utf8(missing.stderr).unwrap();
        assert_eq!(said, "uvs: /run/nothing.pcap: No such file or directory (os error 2)\n");
    });
}
