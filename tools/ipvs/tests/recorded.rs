//! All recorded requests of ipvsadm and answers of the kernel, through the codec.

use netlink_packet_core::NetlinkPayload;
use uvs_ipvs::wire::parse;

mod recordings;

#[test]
fn every_recorded_datagram_is_read_and_written_back() {
    let records = recordings::load();
    assert_eq!(records.len(), 155);
    assert_eq!(records.iter().map(|record| record.datagrams.len()).sum::<usize>(), 1608);
    for record in records {
        recordings::check(&record).unwrap_or_else(|error| panic!("{}: {error}", record.name));
    }
}

/// The error number that was seen when a request was made by hand is the one in the answer.
#[test]
fn error_numbers_are_the_recorded_ones() {
    let mut seen = 0;
    for record in recordings::load() {
        let Some(errno) = record.errno else { continue };
        let last = record.datagrams.last().unwrap();
        let packets = parse(&last.bytes).unwrap();
        let code = match &packets.last().unwrap().payload {
            NetlinkPayload::Error(error) => error.raw_code(),
            NetlinkPayload::Done(done) => done.code,
            other => panic!("{}: {other:?}", record.name),
        };
        assert_eq!(i64::from(code), errno, "{}", record.name);
        seen += 1;
    }
    assert_eq!(seen, 72);
}
