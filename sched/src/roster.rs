//! Numbers for the servers of a service that outlast changes of its list.
//!
//! lblc and lblcr remember servers, not places. In the kernel an entry keeps a removed server
//! alive, and is good again when the server comes back; so a server is known here by its address
//! and port, for as long as it is in the list or remembered.

use crate::{Server, Servers};

/// See the module.
#[derive(Debug)]
pub(crate) struct Roster {
    /// The number of each place.
    numbers: Box<[u32]>,
    /// By number. None: free to be given away.
    known: Box<[Option<Known>]>,
}

#[derive(Clone, Debug)]
struct Known {
    server: Server,
    /// None once it was removed.
    place: Option<usize>,
}

impl Roster {
    pub(crate) fn of(servers: &Servers) -> Self {
        let known = servers.iter().enumerate();
        let known = known.map(|(at, s)| Some(Known { server: s.clone(), place: Some(at) }));
        Self { numbers: (0..servers.len() as u32).collect(), known: known.collect() }
    }

    /// With another list; servers that are neither in it nor `remembered` are forgotten.
    ///
    /// Their numbers are free only in the roster after this one: a worker that still uses the one
    /// before this may remember such a server meanwhile.
    pub(crate) fn after(&self, servers: &Servers, remembered: impl Fn(u32) -> bool) -> Self {
        let mut known: Vec<Option<Known>> = self.known.to_vec();
        let mut gone: Vec<u32> = Vec::new();
        let mut free: Vec<u32> = Vec::new();
        for (number, slot) in (0..).zip(&mut known) {
            let was_present = slot.as_mut().and_then(|known| known.place.take()).is_some();
            match slot {
                _ if was_present || remembered(number) => {}
                None => free.push(number),
                Some(_) => gone.push(number),
            }
        }
        let old = self.index();
        let mut number_of = |at: usize, server: &Server| {
            let found = old.get(&(server.address, server.port)).copied();
            let number = found.or_else(|| free.pop()).unwrap_or(known.len() as u32);
            if number as usize == known.len() {
                known.push(None);
            }
            known[number as usize] = Some(Known { server: server.clone(), place: Some(at) });
            number
        };
        let numbers = servers.iter().enumerate().map(|(at, server)| number_of(at, server));
        let numbers = numbers.collect();
        for number in gone {
            known[number as usize].take_if(|known| known.place.is_none());
        }
        Self { numbers, known: known.into() }
    }

    fn index(&self) -> std::collections::HashMap<(std::net::IpAddr, u16), u32> {
        let known = (0..).zip(&self.known);
        let named = known.filter_map(|(number, known)| Some((number, &known.as_ref()?.server)));
        named.map(|(number, server)| ((server.address, server.port), number)).collect()
    }

    /// The number of the server at a place of the list.
    #[inline]
    pub(crate) fn number(&self, place: usize) -> u32 {
        self.numbers[place]
    }

    /// The place of a server; none when it was removed.
    #[inline]
    pub(crate) fn place(&self, number: u32) -> Option<usize> {
        self.known.get(number as usize)?.as_ref()?.place
    }

    /// A server, also a removed one.
    #[inline]
    pub(crate) fn server(&self, number: u32) -> Option<&Server> {
        Some(&self.known.get(number as usize)?.as_ref()?.server)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::server::tests::servers;

    fn some(list: &Servers, places: &[usize]) -> Servers {
        places.iter().map(|at| list[*at].clone()).collect()
    }

    #[test]
    fn a_number_outlasts_changes_of_the_list() {
        let list = servers(&[1; 4]);
        let roster = Roster::of(&some(&list, &[0, 1, 2]));
        let later = roster.after(&some(&list, &[3, 2, 0]), |_| true);
        assert_eq!([0, 1, 2].map(|number| later.place(number)), [Some(2), None, Some(1)]);
        assert_eq!((later.number(0), later.place(3)), (3, Some(0)));
        let back = later.after(&list, |_| true);
        assert_eq!([0, 1, 2, 3].map(|place| back.number(place)), [0, 1, 2, 3]);
    }

    #[test]
    fn a_number_rests_before_it_is_given_away() {
        let list = servers(&[1; 6]);
        let roster = Roster::of(&some(&list, &[0, 1]));
        let removed = roster.after(&some(&list, &[1, 2]), |_| false);
        assert_eq!(removed.number(1), 2, "0 is of the roster before");
        assert!(removed.server(0).is_some());
        let forgotten = removed.after(&some(&list, &[1, 3]), |_| false);
        assert_eq!((forgotten.number(1), forgotten.server(0).is_none()), (3, true));
        let given = forgotten.after(&some(&list, &[1, 4]), |_| false);
        assert_eq!(given.number(1), 0);
        let remembered = forgotten.after(&some(&list, &[1, 4]), |number| number == 0);
        assert_eq!(remembered.number(1), 4);
    }
}
