//! How many ICMP answers may leave, as the kernel's defaults have it: a bucket of tokens for all
//! (`icmp_msgs_per_sec`, `icmp_msgs_burst`), and one for each receiver (`icmp_ratelimit`; net/ipv4/icmp.c,
//! net/ipv4/inetpeer.c).

use ahash::RandomState;

use crate::address::Address;
use crate::batch::Answer;
use crate::clock::{TICKS_PER_SECOND, Ticks};

/// Answers a second; the kernel's default of icmp_msgs_per_sec.
pub const ANSWERS_PER_SECOND: u32 = 1000;
/// Answers at once; the kernel's default of icmp_msgs_burst.
pub const BURST: u32 = 50;

/// Answers at once to one receiver (XRLIM_BURST_FACTOR).
const PEER_BURST: u32 = 6;
/// Ticks that a further one takes. With IPv6 the kernel goes by the receiver's route; this is the
/// time for a network of 64 bits.
const PEER_TICKS: u32 = TICKS_PER_SECOND;
const PEER_TICKS_V6: u32 = TICKS_PER_SECOND / 4;

/// Receivers that are known at a time, a power of two. One that takes another's place begins anew:
/// then the bucket for all is the limit.
const PEERS: usize = 1024;

/// The buckets of one worker.
#[derive(Debug)]
pub struct Limiter {
    /// Tokens a second; `None` is no limit of any kind.
    rate: Option<u32>,
    /// Hundredths of a token, so that a tick's share is whole.
    tokens: u32,
    last: Ticks,
    hasher: RandomState,
    peers: Box<[Peer]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    hash: u64,
    /// Ticks saved up.
    saved: u32,
    last: Ticks,
}

impl Limiter {
    /// Full buckets, of which that for all gets `rate` tokens a second; `None` is no limit.
    pub fn new(rate: Option<u32>) -> Self {
        let peers = if rate.is_some() { PEERS } else { 0 };
        Self {
            rate,
            tokens: BURST * TICKS_PER_SECOND,
            last: Ticks(0),
            hasher: RandomState::new(),
            peers: vec![Peer::default(); peers].into_boxed_slice(),
        }
    }

    /// Whether this answer may go to this receiver now.
    pub fn allows(&mut self, answer: Answer, to: Address, now: Ticks) -> bool {
        match answer {
            // Without it a connection stands still: the kernel limits it nowhere.
            Answer::FragNeeded(_) => true,
            Answer::Reset(..) | Answer::Relay(_) => self.take(now),
            _ => self.take(now) && self.take_of(to, now),
        }
    }

    fn take(&mut self, now: Ticks) -> bool {
        let Some(rate) = self.rate else { return true };
        let gained = now.since(self.last).0.saturating_mul(rate);
        self.last = now;
        self.tokens = self.tokens.saturating_add(gained).min(BURST * TICKS_PER_SECOND);
        let enough = self.tokens >= TICKS_PER_SECOND;
        if enough {
            self.tokens -= TICKS_PER_SECOND;
        }
        enough
    }

    fn take_of(&mut self, to: Address, now: Ticks) -> bool {
        // Not 0, which a peer has that is nobody's.
        let hash = self.hasher.hash_one(to) | 1;
        let last = self.peers.len().wrapping_sub(1);
        let Some(peer) = self.peers.get_mut((hash >> 32) as usize & last) else { return true };
        let each = if to.is_v4() { PEER_TICKS } else { PEER_TICKS_V6 };
        let most = PEER_BURST * each;
        if peer.hash != hash {
            *peer = Peer { hash, saved: most, last: now };
        }
        peer.saved = peer.saved.saturating_add(now.since(peer.last).0).min(most);
        peer.last = now;
        let enough = peer.saved >= each;
        if enough {
            peer.saved -= each;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNREACHABLE: Answer = Answer::PortUnreachable;

    /// How many of `tries` answers leave, each to another receiver.
    fn to_many(limiter: &mut Limiter, answer: Answer, now: Ticks, tries: u32) -> usize {
        let to = |n: u32| Address::v4((n + now.0 * tries).into());
        (0..tries).filter(|n| limiter.allows(answer, to(*n), now)).count()
    }

    fn to_one(limiter: &mut Limiter, to: Address, now: Ticks) -> usize {
        (0..20).filter(|_| limiter.allows(UNREACHABLE, to, now)).count()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut limiter = Limiter::new(Some(1000));
        let mut count = |now| to_many(&mut limiter, UNREACHABLE, Ticks(now), 500);
        assert_eq!([count(1), count(2), count(1000)], [50, 10, 50]);
        assert_eq!(to_many(&mut Limiter::new(None), UNREACHABLE, Ticks(1), 500), 500);
    }

    #[test]
    fn one_receiver_gets_six_and_then_one_a_second() {
        let mut limiter = Limiter::new(Some(1000));
        let v4 = Address::v4([10, 0, 0, 1].into());
        let seen = [0, 99, 100, 400, 5000].map(|now| to_one(&mut limiter, v4, Ticks(now)));
        assert_eq!(seen, [6, 0, 1, 3, 6]);
        let other = Address::v4([10, 0, 0, 2].into());
        assert_eq!(to_one(&mut limiter, other, Ticks(5000)), 6);
        let v6 = Address::from([0xfd; 16]);
        let seen = [5000, 5025].map(|now| to_one(&mut limiter, v6, Ticks(now)));
        assert_eq!(seen, [6, 1]);
        assert_eq!(to_one(&mut Limiter::new(None), v4, Ticks(0)), 20);
    }

    #[test]
    fn path_mtus_are_always_told() {
        let mut limiter = Limiter::new(Some(1000));
        assert_eq!(to_many(&mut limiter, Answer::FragNeeded(1400), Ticks(1), 500), 500);
        assert_eq!(to_many(&mut limiter, Answer::Reset(0, 0, 0), Ticks(1), 500), 50);
    }
}
