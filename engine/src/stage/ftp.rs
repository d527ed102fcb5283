//! Follows FTP's control connections in NAT (kernel: ip_vs_ftp.c, ip_vs_app.c).
//!
//! What a passive server announces is rewritten to the virtual address, and the connection that
//! the client will then open is put into the table before it comes; so is the one that the server
//! opens to an active client. A reply whose length changes shifts the sequence numbers behind it:
//! by how much is kept in the connection's first extra word.
//!
//! ```text
//! word 0   from sequence number 32 | shift 16 | shift before 16
//! word 1   1: the client asked for a passive server
//! ```

use uvs_forward::checksum::{Sum, update};
use uvs_forward::ftp;
use uvs_forward::wire::{Ipv4, Tcp, protocol};
use uvs_sched::ServerId;

use super::Context;
use crate::address::Address;
use crate::batch::Slot;
use crate::clock::Ticks;
use crate::proto::{Direction, tcp};
use crate::service::FTP;
use crate::table::{Conn, InKey, Inserted, NewConn, flag};

/// Extra words of a connection that is FTP's control connection in NAT, when it is opened.
pub(super) fn extra(new: &NewConn) -> Option<[u64; 2]> {
    let nat = new.flags & flag::FWD_MASK == flag::MASQ;
    (new.proto == protocol::TCP && new.vport == FTP && nat).then_some([0; 2])
}

/// By how much the server's sequence numbers are shifted, and from where on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shift {
    from: u32,
    by: i16,
    before: i16,
}

impl Shift {
    fn of(word: u64) -> Self {
        Self { from: (word >> 32) as u32, by: (word >> 16) as i16, before: word as i16 }
    }

    fn word(self) -> u64 {
        u64::from(self.from) << 32 | u64::from(self.by as u16) << 16 | u64::from(self.before as u16)
    }

    /// The shift of what is at `seq`, after what was resized last or before it.
    fn at(self, seq: u32, from: u32) -> i16 {
        if (seq.wrapping_sub(from) as i32) > 0 { self.by } else { self.before }
    }

    /// The client sees this sequence number of the server's.
    fn seq(self, seq: u32) -> u32 {
        seq.wrapping_add_signed(self.at(seq, self.from).into())
    }

    /// The server expects this acknowledgement of the client's.
    fn ack(self, ack: u32) -> u32 {
        let from = self.from.wrapping_add_signed(self.by.into());
        ack.wrapping_add_signed(-i32::from(self.at(ack, from)))
    }

    /// The shift once the segment at `seq` has grown by `more`.
    fn grown(self, seq: u32, more: i16) -> Self {
        if self.by != 0 && (seq.wrapping_sub(self.from) as i32) <= 0 {
            // Sent again: it was counted before.
            return self;
        }
        Self { from: seq, by: self.by.wrapping_add(more), before: self.by }
    }
}

/// Rewrites a packet of a control connection, and notes the data connection that it announces.
pub(super) fn follow(slot: &mut Slot, conn: &Conn, context: &mut Context<'_>) {
    let Some([word, asked]) = context.owner.table().extra(conn.id) else { return };
    slot.finish_checksum();
    let Some(segment) = Segment::of(slot) else { return };
    let shift = Shift::of(word);
    match slot.direction {
        Direction::In => {
            let command = &slot.frame.bytes()[segment.payload..segment.end];
            if ftp::asks_passive(command) {
                context.owner.table().set_extra(conn.id, 1, asked, 1);
            } else if let Some(to) = ftp::active(command) {
                let data = Data { client: (to.ip().into(), to.port()), port: FTP - 1 };
                expect(conn, data, context);
            }
            if word != 0 {
                segment.set_ack(slot, shift.ack(segment.ack));
            }
        }
        Direction::Out => {
            let reply = &slot.frame.bytes()[segment.payload..segment.end];
            if asked != 0
                && let Some(passive) = ftp::passive(reply)
            {
                let more = announce(slot, &segment, &passive, conn, context);
                if more != 0 {
                    let grown = shift.grown(segment.seq, more);
                    context.owner.table().set_extra(conn.id, 0, word, grown.word());
                }
            }
            if word != 0 {
                segment.set_seq(slot, shift.seq(segment.seq));
            }
        }
    }
}

/// Puts the virtual address into a passive server's reply; says by how much it has grown.
fn announce(
    slot: &mut Slot,
    segment: &Segment,
    passive: &ftp::Passive,
    conn: &Conn,
    context: &mut Context<'_>,
) -> i16 {
    let data = Data { client: (conn.caddr, 0), port: passive.port };
    if !expect(conn, data, context) {
        return 0;
    }
    let (Some(numbers), Some(vaddr)) = (&passive.numbers, conn.vaddr.to_v4()) else { return 0 };
    let (text, len) = ftp::numbers(vaddr, passive.port);
    let at = segment.payload + numbers.start..segment.payload + numbers.end;
    segment.replace(slot, at, &text[..len])
}

/// A data connection: its client's end, and the port that both the virtual and the real server
/// have for it.
struct Data {
    client: (Address, u16),
    port: u16,
}

/// Puts a data connection into the table before its first packet comes; true when it is there.
fn expect(control: &Conn, data: Data, context: &mut Context<'_>) -> bool {
    let (caddr, cport) = data.client;
    let new = NewConn {
        proto: protocol::TCP,
        caddr,
        cport,
        vaddr: control.vaddr,
        vport: data.port,
        daddr: control.daddr,
        dport: data.port,
        dest: control.dest,
        mark: control.mark,
        flags: flag::MASQ | flag::INACTIVE | if cport == 0 { flag::NO_CPORT } else { 0 },
        state: tcp::LISTEN,
        timeout: listen(control, context),
        control: Some(control.id),
        extra: None,
    };
    let hash = context.owner.table().hash_of(&new.in_key());
    let inserted = context.owner.insert(hash, &new, context.now);
    if matches!(inserted, Ok(Inserted::New(_)))
        && let Some(dest) = context.snapshot.dest(ServerId(control.dest))
    {
        context.snapshot.bind(dest);
    }
    inserted.is_ok()
}

fn listen(control: &Conn, context: &Context<'_>) -> Ticks {
    context.snapshot.timeouts(ServerId(control.dest)).of(protocol::TCP, tcp::LISTEN)
}

/// The data connection that was expected from any port of the client, now that the port is known.
pub(super) fn expected(slot: &Slot, context: &mut Context<'_>) -> Option<Conn> {
    let table = context.owner.table().clone();
    let key = InKey {
        proto: slot.protocol,
        caddr: slot.source,
        cport: 0,
        vaddr: slot.destination,
        vport: slot.destination_port,
        template: false,
        name: 0,
    };
    let waiting = table.lookup_in(table.hash_of(&key), &key)?;
    if waiting.flags & flag::NO_CPORT == 0 {
        return None;
    }
    let gone = context.owner.remove(waiting.id)?;
    let new = NewConn {
        proto: gone.proto,
        caddr: gone.caddr,
        cport: slot.source_port,
        vaddr: gone.vaddr,
        vport: gone.vport,
        daddr: gone.daddr,
        dport: gone.dport,
        dest: gone.dest,
        mark: gone.mark,
        flags: gone.flags & !flag::NO_CPORT,
        state: gone.state,
        timeout: gone.timeout,
        control: gone.control,
        extra: None,
    };
    match context.owner.insert(slot.hash, &new, context.now) {
        // It stays counted as the one that it takes the place of.
        Ok(Inserted::New(id)) => table.get(id),
        Ok(Inserted::Existing(id)) => {
            context.snapshot.unbind(&gone);
            table.get(id)
        }
        Err(_) => {
            context.snapshot.unbind(&gone);
            None
        }
    }
}

/// Where things are in a TCP segment.
struct Segment {
    tcp: usize,
    payload: usize,
    end: usize,
    seq: u32,
    ack: u32,
}

/// Where in the TCP header its numbers stand.
const SEQ: usize = 4;
const ACK: usize = 8;

impl Segment {
    fn of(slot: &Slot) -> Option<Self> {
        let frame = slot.frame.bytes();
        let (tcp, end) = (usize::from(slot.at.l4), frame.len());
        let header: &[u8; 20] = frame.get(tcp..)?.first_chunk()?;
        let number = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
        let payload = tcp + usize::from(header[12] >> 4) * 4;
        let (seq, ack) = (number(SEQ), number(ACK));
        (payload <= end && payload >= tcp + 20).then_some(Self { tcp, payload, end, seq, ack })
    }

    fn set_seq(&self, slot: &mut Slot, seq: u32) {
        self.set(slot, SEQ, (self.seq, seq));
    }

    fn set_ack(&self, slot: &mut Slot, ack: u32) {
        self.set(slot, ACK, (self.ack, ack));
    }

    fn set(&self, slot: &mut Slot, at: usize, (old, new): (u32, u32)) {
        let segment = &mut slot.frame.bytes_mut()[self.tcp..];
        segment[at..at + 4].copy_from_slice(&new.to_be_bytes());
        change_checksum(segment, Sum::change32(old, new));
    }

    /// Puts `text` in the place of these bytes of the payload; says by how much it has grown.
    /// Nothing is changed when the frame's buffer has no room.
    fn replace(&self, slot: &mut Slot, at: std::ops::Range<usize>, text: &[u8]) -> i16 {
        let frame = slot.frame.bytes();
        let tail = at.end..self.end;
        let (old, len) =
            (Sum::of(&frame[self.payload..self.end]), self.end - at.len() + text.len());
        let more = text.len() as i16 - at.len() as i16;
        let moved = tail.start + text.len() - at.len();
        if len > self.end && !slot.frame.set_len(len) {
            return 0;
        }
        let frame = slot.frame.bytes_mut();
        frame.copy_within(tail, moved);
        frame[at.start..at.start + text.len()].copy_from_slice(text);
        let new = Sum::of(&frame[self.payload..len]);
        let length = Sum::change16((self.end - self.tcp) as u16, (len - self.tcp) as u16);
        change_checksum(&mut frame[self.tcp..], old.removed() + new + length);
        let mut ip = Ipv4::new_unchecked(&mut frame[slot.at.l3.into()..]);
        ip.grow(more);
        slot.ip_len = slot.ip_len.wrapping_add_signed(more);
        let _ = slot.frame.set_len(len);
        more
    }
}

fn change_checksum(segment: &mut [u8], change: Sum) {
    let mut tcp = Tcp::new_unchecked(segment);
    let check = update(tcp.checksum(), change);
    tcp.set_checksum(check);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_shift_behind_what_was_resized_and_not_before() {
        let none = Shift::default();
        assert_eq!(Shift::of(none.word()), none);
        let first = none.grown(1000, 2);
        assert_eq!((first.seq(1000), first.seq(1001)), (1000, 1003));
        assert_eq!((first.ack(1000), first.ack(1050)), (1000, 1048));
        assert_eq!(first.grown(1000, 2), first, "sent again");
        let second = first.grown(2000, -3);
        assert_eq!(second, Shift { from: 2000, by: -1, before: 2 });
        assert_eq!(Shift::of(second.word()), second);
        assert_eq!((second.seq(1500), second.seq(2000), second.seq(2001)), (1502, 2002, 2000));
    }
}
