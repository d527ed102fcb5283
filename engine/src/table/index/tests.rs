use super::*;
use crate::address::Address;

const END: (Address, u16) = (Address::UNSPECIFIED, 1);

fn put(index: &Index, hash: u64, entry: u32) -> Option<Spot> {
    let content = Content::pending(hash, entry, END, END);
    let spot = index.place(hash, content)?;
    assert!(index.commit(spot, content));
    Some(spot)
}

fn found(index: &Index, hash: u64) -> Vec<u32> {
    let mut all = Vec::new();
    index.find(hash, Wanted::inward(hash, END), |entry| {
        all.push(entry);
        None::<()>
    });
    all
}

fn passed(index: &Index) -> u64 {
    index.buckets.iter().map(|b| b.slots[0].load(Ordering::Relaxed) >> PASSED_SHIFT).sum()
}

#[test]
fn overflow_is_found_counted_and_uncounted() {
    let index = Index::new(48).unwrap();
    assert_eq!(index.len(), 10);
    // Home is the last bucket, so that the way goes round the end.
    let hash = u64::MAX - 5;
    for entry in 0..20 {
        let spot = put(&index, hash, entry).unwrap();
        assert_eq!((spot.bucket, spot.passed), ((9 + entry as usize / 8) % 10, spot.passed));
    }
    assert_eq!(found(&index, hash), (0..20).collect::<Vec<_>>());
    assert_eq!(passed(&index), 8 + 2 * 4);
    index.clear(hash, 0);
    assert_eq!(put(&index, hash, 20).unwrap().passed, 0, "a free slot nearer home is taken");
    for entry in 1..21 {
        assert!(found(&index, hash).contains(&entry));
        index.clear(hash, entry);
    }
    assert_eq!((passed(&index), found(&index, hash)), (0, vec![]));
    assert!(index.buckets.iter().flat_map(|b| &b.slots).all(|s| s.load(Ordering::Relaxed) == 0));
}

#[test]
fn no_room_in_reach_leaves_no_trace() {
    let index = Index::new(4).unwrap();
    assert_eq!(index.len(), 1);
    for entry in 0..8 {
        assert!(put(&index, 7, entry).is_some());
    }
    assert!(put(&index, 7, 8).is_none());
    assert_eq!(passed(&index), 0);
}

#[test]
fn pending_is_not_found_and_can_be_killed_once() {
    let index = Index::new(4).unwrap();
    let content = Content::pending(7, 3, END, END);
    let spot = index.place(7, content).unwrap();
    assert!(found(&index, 7).is_empty());
    assert!(index.kill(spot, content) && !index.kill(spot, content));
    assert!(!index.commit(spot, content));
    index.withdraw(7, spot, content);
    assert_eq!(passed(&index), 0);
}
