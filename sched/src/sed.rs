//! sed, shortest expected delay (kernel: ip_vs_sed.c).
//!
//! The rule: of the available servers the one whose active connections, with the new one, are
//! fewest for its weight; of equals the first in the list. Inactive connections do not count.

use crate::least::{Burden, Least};
use crate::{Flags, Flow, Load, Schedule, Servers};

/// See the module.
#[derive(Debug)]
pub struct Sed(Least<Delay>);

/// The delay to expect: active connections and the new one, for the weight.
#[derive(Debug)]
struct Delay;

impl Burden for Delay {
    #[inline]
    fn over(load: &Load) -> u64 {
        u64::from(load.active()) + 1
    }

    fn under(weight: u32) -> u32 {
        weight
    }
}

impl Schedule for Sed {
    fn build(servers: Servers, _flags: Flags) -> Self {
        Self(Least::of(servers))
    }

    #[inline]
    fn pick(&self, _flow: &Flow) -> Option<usize> {
        self.0.pick()
    }

    #[inline]
    fn changed(&self, place: usize) {
        self.0.changed(place);
    }

    fn refresh(&self) {
        self.0.refresh();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::server::tests::servers;
    use crate::tests::{flow, open};

    #[test]
    fn the_new_connection_counts_already() {
        let list = servers(&[1, 3]);
        let sed = Sed::build(list.clone(), Flags::default());
        let mut picks = Vec::new();
        for _ in 0..4 {
            let at = sed.pick(&flow()).unwrap();
            open(&sed, &list, at, true);
            picks.push(at);
        }
        assert_eq!(picks, [1, 1, 0, 1], "1/3, 2/3, then 1/1 is 3/3: the first");
    }
}
