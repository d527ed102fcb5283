//! Files in, files out: frames from pcap files, what is sent to pcap files.
//!
//! One input and one output for each link. Frames come in the order of their timestamps, across
//! links as well, so that two captures of one event are replayed as they were. What is sent
//! carries the timestamp of the last frame read: the same input gives the same files.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, PcapError, TsResolution};

use super::pool::Pool;
use super::{Frame, HEADROOM, Port, PortStats};
use crate::link::LinkId;

/// The longest frame that is read, with its headroom, in bytes.
const CHUNK: usize = 1 << 14;
const CHUNKS: u32 = 512;

/// The files of one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Read from; `None` for a link on which nothing comes.
    pub input: Option<PathBuf>,
    /// Written to; what is there is overwritten. `None` to forget what is sent.
    pub output: Option<PathBuf>,
}

/// A pcap file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PcapPortError {
    /// The file cannot be opened, created or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file is not a pcap file, or broken.
    #[error("{}: not a pcap file that can be read: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: PcapError,
    },
    /// The file's frames are not Ethernet frames.
    #[error("{}: its frames are {found:?}, only Ethernet is read", path.display())]
    NotEthernet {
        /// The file.
        path: PathBuf,
        /// What they are.
        found: DataLink,
    },
}

/// A port on files.
pub struct PcapPort {
    inputs: Vec<Option<Input>>,
    outputs: Vec<Option<Output>>,
    pool: Pool,
    now: Duration,
    missed: u64,
    too_long: u64,
    failed: u64,
    error: Option<PcapPortError>,
}

impl PcapPort {
    /// Opens the files of each link, in the links' order.
    ///
    /// # Errors
    ///
    /// See [`PcapPortError`].
    pub fn open(links: &[Files]) -> Result<Self, PcapPortError> {
        let inputs = links.iter().map(|files| files.input.as_deref().map(Input::open).transpose());
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let outputs =
            links.iter().map(|files| files.output.as_deref().map(Output::create).transpose());
        Ok(Self {
            outputs: outputs.collect::<Result<_, _>>()?,
            now: inputs.iter().flatten().filter_map(Input::when).min().unwrap_or_default(),
            inputs,
            pool: Pool::new(CHUNKS, CHUNK),
            missed: 0,
            too_long: 0,
            failed: 0,
            error: None,
        })
    }

    /// Whether every input has been read to its end. A broken one ends where it breaks.
    pub fn done(&self) -> bool {
        self.inputs.iter().flatten().all(|input| input.next.is_none())
    }

    /// The timestamp of the last frame read: what time it is in the capture.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Closes the files.
    ///
    /// # Errors
    ///
    /// The first error since the port was opened: a broken input, or a full disk.
    pub fn finish(mut self) -> Result<(), PcapPortError> {
        for output in self.outputs.drain(..).flatten() {
            let Output { path, writer } = output;
            let closed = writer.into_writer().flush();
            self.error =
                self.error.or(closed.err().map(|source| PcapPortError::Io { path, source }));
        }
        self.error.map_or(Ok(()), Err)
    }

    /// The link whose next frame is the oldest.
    fn oldest(&self) -> Option<usize> {
        let waiting = self.inputs.iter().enumerate();
        let times = waiting.filter_map(|(at, input)| Some((input.as_ref()?.when()?, at)));
        times.min().map(|(_, at)| at)
    }

    fn note(&mut self, error: Option<PcapPortError>) {
        if self.error.is_none() {
            self.error = error;
        }
    }
}

impl Port for PcapPort {
    fn rx(&mut self, room: usize, into: &mut Vec<Frame>) -> usize {
        let mut count = 0;
        while count < room && !self.pool.is_empty() {
            let Some(at) = self.oldest() else {
                break;
            };
            let Some((packet, error)) = self.inputs[at].as_mut().and_then(Input::advance) else {
                break;
            };
            self.note(error);
            self.now = packet.when;
            let too_long = packet.bytes.len() > CHUNK - HEADROOM;
            // One that the capture cut short is not what was on the wire.
            if packet.cut || too_long {
                self.missed += 1;
                self.too_long += u64::from(too_long);
                continue;
            }
            if let Some(mut frame) = self.pool.take(packet.bytes.len(), LinkId(at as u8)) {
                frame.bytes_mut().copy_from_slice(&packet.bytes);
                into.push(frame);
                count += 1;
            }
        }
        count
    }

    fn alloc(&mut self) -> Option<Frame> {
        self.pool.take(0, LinkId(0))
    }

    fn tx(&mut self, link: LinkId, frame: Frame) -> Result<(), Frame> {
        let Some(output) = self.outputs.get_mut(usize::from(link.0)) else {
            return Err(frame);
        };
        let result = output.as_mut().map_or(Ok(()), |output| output.write(self.now, frame.bytes()));
        if let Err(error) = result {
            self.failed += 1;
            self.note(Some(error));
        }
        self.free(frame);
        Ok(())
    }

    fn free(&mut self, frame: Frame) {
        self.pool.give_back(frame);
    }

    fn flush(&mut self) {}

    fn wait(&mut self, _wake: &dyn AsRawFd, _limit: Duration) -> io::Result<()> {
        Ok(())
    }

    fn mode(&self) -> &str {
        "pcap files"
    }

    fn stats(&self) -> PortStats {
        PortStats { rx_missed: self.missed, rx_too_long: self.too_long, tx_failed: self.failed }
    }
}

impl std::fmt::Debug for PcapPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PcapPort").field("now", &self.now).finish_non_exhaustive()
    }
}

struct Packet {
    when: Duration,
    bytes: Vec<u8>,
    cut: bool,
}

struct Input {
    path: PathBuf,
    reader: PcapReader<BufReader<File>>,
    next: Option<Packet>,
}

impl Input {
    fn open(path: &Path) -> Result<Self, PcapPortError> {
        let file = File::open(path).map_err(|source| io_error(path, source))?;
        let reader = PcapReader::new(BufReader::new(file)).map_err(|e| error(path, e))?;
        let found = reader.header().datalink;
        if found != DataLink::ETHERNET {
            return Err(PcapPortError::NotEthernet { path: path.to_owned(), found });
        }
        let mut input = Self { path: path.to_owned(), reader, next: None };
        match input.read() {
            None => Ok(input),
            Some(error) => Err(error),
        }
    }

    fn when(&self) -> Option<Duration> {
        self.next.as_ref().map(|packet| packet.when)
    }

    /// Hands out the next packet and reads the one after it.
    fn advance(&mut self) -> Option<(Packet, Option<PcapPortError>)> {
        let packet = self.next.take()?;
        Some((packet, self.read()))
    }

    fn read(&mut self) -> Option<PcapPortError> {
        match self.reader.next_packet()? {
            Ok(packet) => {
                let cut = (packet.orig_len as usize) > packet.data.len();
                let bytes = packet.data.into_owned();
                self.next = Some(Packet { when: packet.timestamp, bytes, cut });
                None
            }
            Err(source) => Some(error(&self.path, source)),
        }
    }
}

struct Output {
    path: PathBuf,
    writer: PcapWriter<BufWriter<File>>,
}

impl Output {
    fn create(path: &Path) -> Result<Self, PcapPortError> {
        let file = File::create(path).map_err(|source| io_error(path, source))?;
        let header =
            PcapHeader { ts_resolution: TsResolution::NanoSecond, ..PcapHeader::default() };
        let writer = PcapWriter::with_header(BufWriter::new(file), header);
        Ok(Self { path: path.to_owned(), writer: writer.map_err(|e| error(path, e))? })
    }

    fn write(&mut self, when: Duration, bytes: &[u8]) -> Result<(), PcapPortError> {
        let packet = PcapPacket::new(when, bytes.len() as u32, bytes);
        self.writer.write_packet(&packet).map_err(|source| error(&self.path, source))?;
        Ok(())
    }
}

fn io_error(path: &Path, source: io::Error) -> PcapPortError {
    PcapPortError::Io { path: path.to_owned(), source }
}

fn error(path: &Path, source: PcapError) -> PcapPortError {
    match source {
        PcapError::IoError(source) => io_error(path, source),
        source => PcapPortError::Format { path: path.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("uvs-pcap-{}-{name}", std::process::id()))
    }

    fn capture(name: &str, packets: &[(u64, &[u8])]) -> PathBuf {
        let path = scratch(name);
        let mut output = Output::create(&path).unwrap();
        for (nanoseconds, bytes) in packets {
            output.write(Duration::from_nanos(*nanoseconds), bytes).unwrap();
        }
        path
    }

    fn contents(path: &Path) -> Vec<(u64, Vec<u8>)> {
        let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
        let mut packets = Vec::new();
        while let Some(packet) = reader.next_packet() {
            let packet = packet.unwrap();
            packets.push((packet.timestamp.as_nanos() as u64, packet.data.into_owned()));
        }
        packets
    }

    #[test]
    fn frames_cross_from_file_to_file_in_time_order() {
        let (left, right) =
            (capture("l", &[(10, b"one"), (30, b"three")]), capture("r", &[(20, b"two")]));
        let (out, none) = (scratch("out"), None);
        let mut port = PcapPort::open(&[
            Files { input: Some(left.clone()), output: none },
            Files { input: Some(right.clone()), output: Some(out.clone()) },
        ])
        .unwrap();
        let mut frames = Vec::new();
        while !port.done() {
            assert_eq!(port.rx(1, &mut frames), 1);
            port.tx(LinkId(1), frames.pop().unwrap()).unwrap();
        }
        assert_eq!((port.pool.out(), port.pool.missing()), (0, 0));
        port.finish().unwrap();
        let expected = [(10, b"one".to_vec()), (20, b"two".to_vec()), (30, b"three".to_vec())];
        assert_eq!(contents(&out), expected);
        for path in [left, right, out] {
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn both_byte_orders_and_clocks_are_read_and_a_broken_end_is_told() {
        let header = |magic: u32, big: bool| {
            let word = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
            let version = if big { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
            let parts = [word(magic), version, word(0), word(0), word(65535), word(1)];
            let packet = [word(1), word(5), word(2), word(2)];
            [parts.concat(), packet.concat(), b"hi".to_vec()].concat()
        };
        for (magic, tick) in [(0xa1b2c3d4, 1000), (0xa1b23c4d, 1)] {
            for big in [false, true] {
                let path = scratch(&format!("{magic:x}{big}"));
                let mut bytes = header(magic, big);
                bytes.extend([0; 10]);
                std::fs::write(&path, bytes).unwrap();
                let files = Files { input: Some(path.clone()), output: None };
                let mut port = PcapPort::open(&[files]).unwrap();
                let mut frames = Vec::new();
                assert_eq!(port.rx(64, &mut frames), 1);
                assert_eq!(frames[0].bytes(), b"hi");
                assert_eq!(port.now(), Duration::new(1, 5 * tick));
                assert!(port.done());
                port.free(frames.pop().unwrap());
                let error = port.finish().unwrap_err().to_string();
                assert!(error.contains("uvs-pcap"), "{error}");
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    #[test]
    fn what_is_not_pcap_is_refused_with_its_name() {
        let path = scratch("text");
        std::fs::write(&path, "this is a text file, not a capture").unwrap();
        let files = Files { input: Some(path.clone()), output: None };
        let error = PcapPort::open(&[files]).unwrap_err().to_string();
        assert!(error.contains("text: not a pcap file"), "{error}");
        std::fs::remove_file(path).unwrap();
    }
}
