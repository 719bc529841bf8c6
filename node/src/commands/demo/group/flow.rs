//! Owns the records that flow while members come and go: at a steady pace, each acknowledged. Never stops by itself.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use waymark_client::{Client, ProducerRecord};

use super::super::super::Failure;
use super::super::input::TOPIC;
use super::super::produce::producer;

const CLOSE_WITHIN: Duration = Duration::from_secs(10);
/// Records leave in portions, this often: 500 a second.
const PORTION: Duration = Duration::from_millis(10);
const RECORDS: u64 = 5;
const KEYS: u64 = 50;

/// A producer that is at work.
#[derive(Debug)]
pub(super) struct Flow {
    sending: JoinHandle<Result<u64, Failure>>,
    stop: oneshot::Sender<()>,
}

impl Flow {
    pub(super) fn start(client: Client) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { sending: tokio::spawn(send(client, stopped)), stop }
    }

    /// How many records were acknowledged: all that were sent.
    pub(super) async fn stop(self) -> Result<u64, Failure> {
        // It may have stopped by itself, with an error that comes next.
        let _ = self.stop.send(());
        self.sending.await.map_err(|error| Failure::because("produce", error))?
    }
}

async fn send(client: Client, mut stopped: oneshot::Receiver<()>) -> Result<u64, Failure> {
    let failed = |error| Failure::because("produce", error);
    let producer = producer(&client).await?;
    let mut ticks = interval(PORTION);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = Vec::new();
    let mut number = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut stopped => break,
        }
        for _ in 0..RECORDS {
            let key = format!("key{}", number % KEYS);
            let record = ProducerRecord::new(TOPIC).key(key).value(format!("shared{number}"));
            sent.push(producer.send(record).await.map_err(failed)?);
            number += 1;
        }
    }
    for acknowledgement in sent {
        acknowledgement.await.map_err(failed)?;
    }
    producer.close(CLOSE_WITHIN).await.map_err(failed)?;
    Ok(number)
}
