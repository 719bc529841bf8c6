//! Owns the choice of a partition for a record that does not name one. Never knows batches: the producer says when a
//! sticky choice has been used up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use crate::environment::Random;
use crate::record::ProducerRecord;

/// A closure that maps a record and a topic's number of partitions (at least 1) to a partition.
pub type CustomPartitioner = Arc<dyn Fn(&ProducerRecord, i32) -> i32 + Send + Sync>;

/// How a record without an explicit partition finds its own.
#[derive(Clone, Default)]
pub enum Partitioner {
    /// murmur2 of the key, exactly as Kafka's default; without a key, one random partition until its batch is sent.
    #[default]
    Keyed,
    /// Each partition in turn, whatever the key.
    RoundRobin,
    /// The application's own.
    Custom(CustomPartitioner),
}

impl Partitioner {
    /// Wraps a closure.
    pub fn custom(choose: impl Fn(&ProducerRecord, i32) -> i32 + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(choose))
    }
}

impl fmt::Debug for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyed => "Keyed",
            Self::RoundRobin => "RoundRobin",
            Self::Custom(_) => "Custom",
        })
    }
}

/// One topic's share of the choice.
#[derive(Debug)]
pub(crate) struct Spread {
    /// Where records without a key go now; −1: not chosen yet. Any sender may set it, the last wins.
    sticky: AtomicI32,
    /// Round robin's turn.
    turn: AtomicU32,
}

impl Spread {
    pub(crate) fn new() -> Self {
        Self { sticky: AtomicI32::new(-1), turn: AtomicU32::new(0) }
    }

    /// The partition for a record; outside `0..partitions` only if a custom partitioner says so.
    pub(crate) fn choose(
        &self,
        partitioner: &Partitioner,
        record: &ProducerRecord,
        ignore_keys: bool,
        (partitions, random): (i32, &Random),
    ) -> i32 {
        if let Some(partition) = record.partition {
            return partition;
        }
        match partitioner {
            Partitioner::Keyed => match record.key.as_deref() {
                Some(key) if !ignore_keys => {
                    waymark_proto::partitioner::partition_for_key(key, partitions)
                }
                _ => self.stuck_to(partitions, random),
            },
            Partitioner::RoundRobin => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                i32::try_from(u64::from(turn) % u64::from(partitions.unsigned_abs().max(1)))
                    .unwrap_or(0)
            }
            Partitioner::Custom(choose) => choose(record, partitions),
        }
    }

    fn stuck_to(&self, partitions: i32, random: &Random) -> i32 {
        let now = self.sticky.load(Ordering::Relaxed);
        if (0..partitions).contains(&now) {
            return now;
        }
        let drawn = draw(partitions, random);
        self.sticky.store(drawn, Ordering::Relaxed);
        drawn
    }

    /// A batch of this partition was sent: if records stick to it, they stick to another from now on.
    pub(crate) fn used_up(&self, partition: i32, partitions: i32, random: &Random) {
        if partitions > 1 && self.sticky.load(Ordering::Relaxed) == partition {
            let step = 1 + draw(partitions - 1, random);
            self.sticky.store((partition + step) % partitions, Ordering::Relaxed);
        }
    }
}

fn draw(below: i32, random: &Random) -> i32 {
    i32::try_from(random.below(u64::from(below.max(0).unsigned_abs()))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MURMUR2: &str = include_str!("../tests/data/murmur2.tsv");

    fn choose(spread: &Spread, how: &Partitioner, record: &ProducerRecord, of: i32) -> i32 {
        spread.choose(how, record, false, (of, &Random::seeded(1)))
    }

    #[test]
    fn a_key_goes_where_kafkas_default_partitioner_sends_it() {
        let mut rows = 0;
        for row in MURMUR2.lines().filter(|row| !row.starts_with('#')) {
            let columns: Vec<&str> = row.split('\t').collect();
            let key: Vec<u8> = (0..columns[0].len() / 2)
                .map(|i| u8::from_str_radix(&columns[0][2 * i..2 * i + 2], 16).unwrap())
                .collect();
            let record = ProducerRecord::new("t").key(key);
            for (of, column) in [(3, 2), (12, 3), (50, 4)] {
                let got = choose(&Spread::new(), &Partitioner::Keyed, &record, of);
                assert_eq!(got.to_string(), columns[column], "{row}");
            }
            rows += 1;
        }
        assert!(rows > 50);
    }

    #[test]
    fn records_without_a_key_stick_until_their_batch_is_sent_and_then_move() {
        let (spread, record) = (Spread::new(), ProducerRecord::new("t"));
        let first = choose(&spread, &Partitioner::Keyed, &record, 12);
        assert_eq!(choose(&spread, &Partitioner::Keyed, &record, 12), first);
        spread.used_up(first, 12, &Random::seeded(2));
        assert_ne!(choose(&spread, &Partitioner::Keyed, &record, 12), first);
    }

    #[test]
    fn round_robin_visits_every_partition_in_turn() {
        let (spread, record) = (Spread::new(), ProducerRecord::new("t").key("same"));
        let visited: Vec<i32> =
            (0..4).map(|_| choose(&spread, &Partitioner::RoundRobin, &record, 3)).collect();
        assert_eq!(visited, [0, 1, 2, 0]);
    }

    #[test]
    fn an_explicit_partition_goes_past_a_custom_partitioner() {
        let last = Partitioner::custom(|_, partitions| partitions - 1);
        let record = ProducerRecord::new("t");
        assert_eq!(choose(&Spread::new(), &last, &record, 3), 2);
        assert_eq!(choose(&Spread::new(), &last, &record.partition(1), 3), 1);
    }
}
