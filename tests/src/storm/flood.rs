//! Producers who send far more at once than a node admits, and now and then a record that no log takes. They write down what
//! they were told, as all do: what was acknowledged must be there, what was refused must not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::history::{Event, History};
use crate::subject::{Appended, FIRST_LARGE_PRODUCER, Subject};

/// Producers; together they send several times what a node admits.
const PRODUCERS: u32 = 3;
/// Records of one burst.
const BURST: u64 = 160;
/// Bursts of a run: what is sent has to be read back, too.
const MOST: u64 = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The producers of a run. A clone is the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Flood {
    /// Bursts that each producer is to have sent by now.
    wanted: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    /// Producers that have not come to their end.
    running: Arc<AtomicU32>,
}

impl Flood {
    pub(super) fn begin(
        cluster: &mut Cluster,
        subject: &Arc<dyn Subject>,
        history: &History,
    ) -> Self {
        let flood = Self::default();
        flood.running.store(PRODUCERS, Ordering::SeqCst);
        for number in 0..PRODUCERS {
            let mut client = subject.client(cluster.draw(0, u64::MAX));
            let first = cluster.draw(0, subject.partitions().into());
            let (own, history, all) = (flood.clone(), history.clone(), subject.partitions());
            cluster.client(async move {
                let producer = FIRST_LARGE_PRODUCER + number;
                let mut sent = 0;
                while !own.over.load(Ordering::SeqCst) {
                    if sent == own.wanted.load(Ordering::SeqCst) {
                        sleep(LOOK_AGAIN).await;
                        continue;
                    }
                    let turn = u32::try_from((first + sent) % u64::from(all)).unwrap_or(0);
                    let from = (u64::from(producer) << 32) | (sent * BURST);
                    let values: Vec<u64> = (from..from + BURST).collect();
                    for value in values.iter().copied() {
                        history.note(Event::AppendInvoked { partition: turn, producer, value });
                    }
                    let outcomes = client.append(turn, &values).await;
                    for (value, outcome) in values.into_iter().zip(outcomes) {
                        history.note(match outcome {
                            Appended::At(offset) => {
                                Event::AppendOk { partition: turn, offset, value }
                            }
                            Appended::Refused => Event::AppendFailed { partition: turn, value },
                            Appended::Unknown => Event::AppendUnknown { partition: turn, value },
                        });
                    }
                    sent += 1;
                }
                own.running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        flood
    }

    /// One more burst of each; whether there may be one.
    pub(super) fn swell(&self) -> bool {
        let more = |wanted: u64| (wanted < MOST).then_some(wanted + 1);
        self.wanted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// They end with what they do.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Whether they have: until then records arrive that nobody who reads back has seen.
    pub(super) fn has_ended(&self) -> bool {
        self.running.load(Ordering::SeqCst) == 0
    }
}
