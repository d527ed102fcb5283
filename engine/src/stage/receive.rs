//! From the rings into the batch.

use crate::batch::{Batch, Slot};
use crate::counters::Counters;
use crate::port::{BATCH, Port};

/// Fills the empty batch with what has come; says how many frames.
pub fn receive(port: &mut impl Port, batch: &mut Batch, counters: &Counters) -> usize {
    let count = port.rx(BATCH, &mut batch.received);
    let bytes: u64 = batch.received.iter().map(|frame| frame.bytes().len() as u64).sum();
    batch.slots.extend(batch.received.drain(..).map(Slot::new));
    if count > 0 {
        counters.received(count as u64, bytes);
    }
    count
}
