//! Sends recordings of IPVS's netlink through the codec: `recorded FILE...`. Fails at the first
//! that is not read and written back byte for byte, or not understood.

use std::error::Error;

#[path = "../tests/recordings/mod.rs"]
mod recordings;

fn main() -> Result<(), Box<dyn Error>> {
    for path in std::env::args().skip(1) {
        let records = recordings::read(&std::fs::read_to_string(&path)?)?;
        let datagrams: usize = records.iter().map(|record| record.datagrams.len()).sum();
        for record in &records {
            recordings::check(record).map_err(|error| format!("{}: {error}", record.name))?;
        }
        println!("{path}: {} recordings, {datagrams} datagrams", records.len());
    }
    Ok(())
}
