//! A flood of SYNs whose senders do not exist: the table stays as large as it is, and what was
//! connected before goes on as if nothing were.

mod lab;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lab::{Flood, Lab};
use uvs_lab::{Arms, Method};
use uvs_uvsadm::api::Conn;

const CONVERSATIONS: usize = 24;

/// How often the conversations are looked at: each has to have had answers since the last look.
const LOOK: Duration = Duration::from_secs(5);

/// What the conversations did over some time.
struct Span {
    answers_a_second: f64,
    /// Of all conversations, the fewest answers between two looks.
    fewest: u64,
}

/// Looks at the conversations for `time`.
fn watch(conversations: &lab::Conversations, time: Duration) -> Span {
    let (start, first) = (Instant::now(), conversations.answers());
    let (mut before, mut fewest) = (first.clone(), u64::MAX);
    while start.elapsed() < time {
        std::thread::sleep(LOOK);
        let now = conversations.answers();
        let least = now.iter().zip(&before).map(|(now, before)| now - before).min();
        fewest = fewest.min(least.unwrap());
        before = now;
    }
    let answers: u64 = before.iter().sum::<u64>() - first.iter().sum::<u64>();
    Span { answers_a_second: answers as f64 / start.elapsed().as_secs_f64(), fewest }
}

fn flooded(port: &str, time: Duration) {
    let Some(lab) = Lab::up(Arms::One, Method::Route) else { return };
    let engine = lab.engine(port);
    let conversations = lab.converse(CONVERSATIONS);
    let calm = watch(&conversations, LOOK);
    let known = engine.client().connections().unwrap();

    let flood = Flood::start(&lab);
    let storm = watch(&conversations, time);
    let table = engine.client().settings().unwrap();
    let sent = flood.end();

    let counters = engine.counters().unwrap();
    let listed = engine.client().connections().unwrap();
    let ended = conversations.end();
    let longest = ended.iter().map(|ended| ended.longest).max().unwrap();
    println!("{port}: {sent} SYNs in {time:?}");
    println!("  received {}, forwarded {}, dropped {:?}", counters.rx, counters.tx, counters.drops);
    println!("  table: {} entries, of them in use {}", table.table_size, listed.len());
    println!(
        "  {CONVERSATIONS} conversations: {:.0} answers/s before, {:.0} under the flood, \
         at least {} each in {LOOK:?}; longest wait {longest:?}",
        calm.answers_a_second, storm.answers_a_second, storm.fewest
    );
    for ended in &ended {
        assert_eq!(ended.broken, None, "{ended:?}");
        let same =
            |conn: &&Conn| SocketAddr::new(conn.client.address, conn.client.port) == ended.client;
        let (before, after) = (known.iter().find(same).unwrap(), listed.iter().find(same).unwrap());
        assert_eq!(before.dest, after.dest, "{ended:?}");
    }
    assert!(storm.fewest > 0, "a conversation stood still");
    assert!(counters.balanced(), "{counters:?}");
    assert!(counters.drops["table_full"] > 0, "a flood fills the table: {counters:?}");
    engine.stop().unwrap();
}

#[test]
fn a_minute_of_syns_does_not_touch_what_is_connected() {
    flooded("afxdp", Duration::from_secs(60));
}
