//! Time as the engine counts it: ticks of a hundredth of a second.
//!
//! A worker reads the clock once a batch and hands the tick down (INV-5), so that no stage has a
//! clock of its own and a test can let a day pass in a millisecond.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Ticks of a second.
pub const TICKS_PER_SECOND: u32 = 100;

/// A moment, or a span of time, in 1/100 s.
///
/// Moments wrap after 497 days; two of them compare rightly while they are less than half of that
/// apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ticks(pub u32);

impl Ticks {
    /// A span of whole seconds; the longest span there is when they are too many.
    #[inline]
    pub const fn from_secs(secs: u32) -> Self {
        Self(secs.saturating_mul(TICKS_PER_SECOND))
    }

    /// A span, cut to whole ticks; the longest span there is when it is too long.
    pub fn from_duration(span: Duration) -> Self {
        let ticks = span.as_millis() * u128::from(TICKS_PER_SECOND) / 1000;
        Self(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// This span as a [`Duration`].
    pub fn to_duration(self) -> Duration {
        Duration::from_millis(u64::from(self.0) * 1000 / u64::from(TICKS_PER_SECOND))
    }

    /// The moment `span` after this one.
    #[inline]
    #[must_use]
    pub const fn after(self, span: Ticks) -> Self {
        Self(self.0.wrapping_add(span.0))
    }

    /// The span from `earlier` to this moment; zero when `earlier` is in fact the later one.
    #[inline]
    pub const fn since(self, earlier: Ticks) -> Ticks {
        let span = self.0.wrapping_sub(earlier.0);
        if (span as i32) < 0 { Ticks(0) } else { Ticks(span) }
    }

    /// Whether this moment is `now` or before it.
    #[inline]
    pub const fn is_past(self, now: Ticks) -> bool {
        now.0.wrapping_sub(self.0) as i32 >= 0
    }
}

impl fmt::Display for Ticks {
    /// In seconds, as in `1.25s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}s", self.0 / TICKS_PER_SECOND, self.0 % TICKS_PER_SECOND)
    }
}

/// Milliseconds of a day.
const DAY: u64 = 86_400_000;

/// Where the current tick comes from; clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// Tick 0, and how many milliseconds after midnight UT it was.
    System(Instant, u32),
    Manual(Arc<Manual>),
}

#[derive(Debug, Default)]
struct Manual {
    at: AtomicU32,
    /// Milliseconds after midnight UT at tick 0.
    start: AtomicU32,
}

impl Clock {
    /// The machine's monotonic clock; tick 0 is now.
    pub fn system() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Less than a day.
        Self(Source::System(Instant::now(), (since.as_millis() % u128::from(DAY)) as u32))
    }

    /// A clock that stands at `at` until it is told to [`advance`](Self::advance).
    pub fn manual(at: Ticks) -> Self {
        Self(Source::Manual(Arc::new(Manual { at: AtomicU32::new(at.0), ..Manual::default() })))
    }

    /// The current tick.
    #[inline]
    pub fn now(&self) -> Ticks {
        match &self.0 {
            // The cut to 32 bits is the wrap that `Ticks` describes.
            Source::System(start, _) => Ticks((start.elapsed().as_millis() / 10) as u32),
            // Relaxed: a number by itself, no other memory is ordered by it.
            Source::Manual(manual) => Ticks(manual.at.load(Ordering::Relaxed)),
        }
    }

    /// Milliseconds since midnight UT at a tick, as IP timestamps have them. A manual clock begins
    /// at midnight.
    pub fn time_of_day(&self, now: Ticks) -> u32 {
        let start = match &self.0 {
            Source::System(_, start) => *start,
            // Relaxed: a number by itself.
            Source::Manual(manual) => manual.start.load(Ordering::Relaxed),
        };
        // Less than a day.
        ((u64::from(start) + u64::from(now.0) * 10) % DAY) as u32
    }

    /// Makes it this time of day on a manual clock; the tick stays.
    ///
    /// # Panics
    ///
    /// On the machine's clock.
    pub fn set_time_of_day(&self, milliseconds: u32) {
        let Source::Manual(manual) = &self.0 else { panic!("the machine's clock cannot be set") };
        let since = u64::from(self.now().0) * 10 % DAY;
        let start = (DAY + u64::from(milliseconds) - since) % DAY;
        // Relaxed: a number by itself.
        manual.start.store(start as u32, Ordering::Relaxed);
    }

    /// Moves a manual clock on by `span`.
    ///
    /// # Panics
    ///
    /// On the machine's clock, which nobody can move.
    pub fn advance(&self, span: Ticks) {
        match &self.0 {
            Source::System(..) => panic!("the machine's clock cannot be advanced"),
            // Relaxed: as in `now`; adding wraps, as ticks do.
            Source::Manual(manual) => manual.at.fetch_add(span.0, Ordering::Relaxed),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_compare_across_the_wrap() {
        let before = Ticks(u32::MAX - 1);
        let later = before.after(Ticks(5));
        assert_eq!(later, Ticks(3));
        assert_eq!(later.since(before), Ticks(5));
        assert_eq!(before.since(later), Ticks(0), "a span is never negative");
        assert!(before.is_past(later) && later.is_past(later) && !later.is_past(before));
    }

    #[test]
    fn spans_convert() {
        assert_eq!(Ticks::from_secs(900), Ticks(90_000));
        assert_eq!(Ticks::from_secs(u32::MAX), Ticks(u32::MAX));
        assert_eq!(Ticks::from_duration(Duration::from_millis(1259)), Ticks(125));
        assert_eq!(Ticks(125).to_duration(), Duration::from_millis(1250));
        assert_eq!(Ticks(125).to_string(), "1.25s");
    }

    #[test]
    fn the_time_of_day_begins_anew_at_midnight() {
        let clock = Clock::manual(Ticks(0));
        assert_eq!(clock.time_of_day(Ticks(150)), 1500);
        assert_eq!(clock.time_of_day(Ticks(8_640_000 + 2)), 20);
        clock.advance(Ticks(100));
        clock.set_time_of_day(7);
        assert_eq!(clock.time_of_day(clock.now()), 7);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 % DAY;
        let clock = Clock::system();
        let apart = u64::from(clock.time_of_day(clock.now())).abs_diff(now);
        assert!(apart.min(DAY - apart) < 60_000, "{apart} ms apart");
    }

    #[test]
    fn a_manual_clock_stands_until_it_is_advanced() {
        let clock = Clock::manual(Ticks(7));
        let other = clock.clone();
        clock.advance(Ticks::from_secs(1));
        assert_eq!(other.now(), Ticks(107));
        assert!(Clock::system().now().0 < 100);
    }
}
