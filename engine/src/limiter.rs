//! How many ICMP answers may leave: a token bucket, as the kernel's icmp_msgs_per_sec.

use crate::clock::{TICKS_PER_SECOND, Ticks};

/// Answers a second; the kernel's default of icmp_msgs_per_sec.
pub const ANSWERS_PER_SECOND: u32 = 1000;
/// Answers at once; the kernel's default of icmp_msgs_burst.
pub const BURST: u32 = 50;

/// A token bucket of one worker.
#[derive(Debug)]
pub struct Limiter {
    /// Tokens a second; `None` is no limit.
    rate: Option<u32>,
    /// Hundredths of a token, so that a tick's share is whole.
    tokens: u32,
    last: Ticks,
}

impl Limiter {
    /// A full bucket that gets `rate` tokens a second; `None` is no limit.
    pub fn new(rate: Option<u32>) -> Self {
        Self { rate, tokens: BURST * TICKS_PER_SECOND, last: Ticks(0) }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Ticks) -> bool {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut limiter = Limiter::new(Some(1000));
        let count = |limiter: &mut Limiter, now| (0..500).filter(|_| limiter.take(now)).count();
        assert_eq!(count(&mut limiter, Ticks(1)), 50);
        assert_eq!(count(&mut limiter, Ticks(2)), 10);
        assert_eq!(count(&mut limiter, Ticks(1000)), 50);
        assert_eq!(count(&mut Limiter::new(None), Ticks(1)), 500);
    }
}
