//! How fast one producer and one consumer go with nothing behind them. Not run by default: numbers need a quiet machine
//! and a release build: `cargo test --release -p waymark-client --test faked throughput -- --ignored --nocapture`.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use waymark_client::{ConsumerConfig, OffsetReset, ProducerConfig, ProducerRecord};

use crate::fake::{Fake, TOPIC};

const RECORDS: usize = 300_000;

async fn produce(fake: &Fake, bytes: usize) -> Duration {
    let client = fake.client().await;
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    let value = Bytes::from(vec![b'x'; bytes]);
    producer.partitions_for(TOPIC).await.unwrap();
    let start = Instant::now();
    for i in 0..RECORDS {
        let key = Bytes::copy_from_slice(&(i as u64).to_be_bytes());
        let record = ProducerRecord::new(TOPIC).key(key).value(value.clone());
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    start.elapsed()
}

#[tokio::test]
#[ignore = "a measurement"]
async fn records_a_second_on_one_thread() {
    for bytes in [100, 1024] {
        let fake = Fake::start(12);
        let took = produce(&fake, bytes).await;
        println!("sent {bytes} B: {:.0} records/s", RECORDS as f64 / took.as_secs_f64());
        let config = ConsumerConfig::default()
            .auto_offset_reset(OffsetReset::Earliest)
            .max_poll_records(10_000);
        let consumer = fake.client().await.consumer(config).unwrap();
        consumer.assign((0..12).map(|partition| (TOPIC, partition))).await.unwrap();
        let (start, mut read) = (Instant::now(), 0);
        while read < RECORDS {
            read += consumer.poll(Duration::from_secs(10)).await.unwrap().len();
        }
        let rate = RECORDS as f64 / start.elapsed().as_secs_f64();
        println!("read {bytes} B: {rate:.0} records/s");
    }
}
