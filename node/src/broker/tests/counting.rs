//! What the broker counts of itself agrees with what it did.

use tokio::time::{sleep, timeout};
use waymark_proto::batch::ProducerStamp;
use waymark_proto::failure::FailureCode;

use super::bed::{Bed, MOMENT, PATIENCE, TOPIC, at, batch, from, limits, sized, to};
use super::clean;
use crate::broker::BrokerOptions;
use crate::broker::admin::{Admin as _, Change, NamedTopic};
use crate::broker::logs::Logs as _;

#[tokio::test(start_paused = true)]
async fn appends_and_reads_are_counted_by_topic_and_repeats_once() {
    let _clean = clean();
    let bed = Bed::start().await;
    let first = batch(3, Some(ProducerStamp { id: 4, epoch: 0, base_sequence: 0 }));
    assert_eq!(bed.base_of(to(0, first.clone())).await, Ok(0));
    assert_eq!(bed.base_of(to(0, first.clone())).await, Ok(0), "a repeat");
    assert_eq!(bed.base_of(to(1, batch(2, None))).await, Ok(0));
    bed.read(from(0, 1)).await.expect("two of three records");
    bed.read(from(0, 3)).await.expect("nothing new");
    let numbers = bed.broker.numbers();
    let topic = &numbers.topics()[&TOPIC];
    assert_eq!(topic.produced_batches.get(), 2);
    assert_eq!(topic.produced_records.get(), 5);
    let bytes = first.len() + batch(2, None).len();
    assert_eq!(topic.produced_bytes.get(), bytes as u64);
    assert_eq!(numbers.produce.read().count, 3, "the repeat was answered too");
    assert_eq!((topic.fetches.get(), topic.fetched_records.get()), (2, 2));
    assert_eq!(topic.fetched_bytes.get(), first.len() as u64);
    assert_eq!(numbers.produce_failures.read(), []);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_counted_by_code() {
    let _clean = clean();
    let options = BrokerOptions { pending_bytes: 10_000, ..limits() };
    let bed = Bed::with(options, &[]).await;
    bed.disk.stall(true);
    let taken = bed.broker.append(to(0, sized(1, 9_000, None))).expect("taken");
    let refused = bed.broker.append(to(1, sized(1, 9_000, None)));
    assert_eq!(refused.err().map(|it| it.code), Some(FailureCode::Overloaded));
    let room = bed.broker.room();
    assert!((9_000..10_000).contains(&room.waiting) && room.limit == 10_000, "{room:?}");
    bed.disk.stall(false);
    taken.await.expect("appended");
    let missed = bed.read(from(0, 99)).await.err().map(|it| it.code);
    assert_eq!(missed, Some(FailureCode::OffsetOutOfRange));
    let numbers = bed.broker.numbers();
    assert_eq!(numbers.produce_failures.read(), [("overloaded".to_owned(), 1)]);
    assert_eq!(numbers.refused_for_room.get(), 1);
    assert_eq!(numbers.fetch_failures.read(), [("offset_out_of_range".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_is_counted_while_it_does_and_timed_when_it_ends() {
    let _clean = clean();
    let bed = Bed::start().await;
    let seen = bed.broker.marks(at(0)).expect("it leads");
    let numbers = bed.broker.numbers();
    let woken = tokio::spawn(bed.broker.changed(at(0), seen));
    let given_up = timeout(MOMENT, bed.broker.changed(at(0), seen));
    let (given_up, waiting) = futures::join!(given_up, async {
        sleep(MOMENT / 2).await;
        numbers.fetch_waiting()
    });
    assert!(given_up.is_err() && waiting == 2, "{waiting}");
    assert_eq!(bed.base_of(to(0, batch(1, None))).await, Ok(0));
    timeout(PATIENCE, woken).await.expect("woken").expect("no panic");
    assert_eq!(numbers.fetch_waiting(), 0);
    let waits = numbers.fetch_waits.read();
    assert!(waits.count == 2 && waits.sum >= MOMENT, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn the_census_tells_how_led_partitions_stand() {
    let _clean = clean();
    let bed = Bed::start().await;
    assert_eq!(bed.base_of(to(2, batch(3, None))).await, Ok(0));
    let census = bed.broker.census();
    assert_eq!((census.hosted.len(), census.offline), (4, 0));
    assert_eq!(census.under_replicated(), 0);
    let ends: Vec<i64> = census.led().map(|(_, led)| led.marks.high_watermark).collect();
    assert_eq!(ends.iter().sum::<i64>(), 3);
    let written = census.hosted.iter().find(|it| it.partition == at(2).partition);
    let written = written.expect("it lives here");
    assert!(&*written.topic == "orders" && written.bytes > 0, "{written:?}");
    let change = Change { validate_only: false, deadline: tokio::time::Instant::now() + PATIENCE };
    let named = NamedTopic { name: Some("orders".to_owned()), id: None };
    bed.broker.delete_topic(&named, change).await.expect("deleted");
    assert_eq!(bed.broker.census().hosted, []);
}
