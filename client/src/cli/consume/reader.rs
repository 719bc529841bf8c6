//! Owns printing records and committing what was printed, whoever chose the partitions. Never chooses any.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::super::Context;
use super::super::exit::{Exit, Failure};
use super::super::format::JsonRecord;
use super::ConsumeArguments;
use crate::consumer::Consumer;
use crate::error::Error;
use crate::record::{ConsumerRecord, OffsetAndMetadata, TopicPartition};

/// How long one look for records waits before it looks at the end and the clock.
const LOOK: Duration = Duration::from_millis(200);
/// How often offsets are committed while records come.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How long the last commit may take, and a member's leaving.
pub(super) const LAST_COMMIT: Duration = Duration::from_secs(10);

pub(super) type Offsets = BTreeMap<TopicPartition, OffsetAndMetadata>;

/// The places after the last printed records, of partitions with something to commit.
#[derive(Debug, Clone, Default)]
pub(super) struct Printed(Arc<Mutex<Offsets>>);

impl Printed {
    fn note(&self, offsets: Offsets) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(offsets);
    }

    fn take_all(&self) -> Offsets {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes out what is known of these partitions.
    pub(super) fn take<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Offsets {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        partitions.into_iter().filter_map(|at| all.remove_entry(at)).collect()
    }
}

/// One run of `consume`.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) consumer: Consumer,
    arguments: ConsumeArguments,
    /// Where to stop; used with --exit-at-end only.
    ends: Vec<(TopicPartition, i64)>,
    count: u64,
    pub(super) printed: Printed,
}

impl Reader {
    pub(super) fn new(
        consumer: Consumer,
        arguments: ConsumeArguments,
        ends: Vec<(TopicPartition, i64)>,
    ) -> Self {
        Self { consumer, arguments, ends, count: 0, printed: Printed::default() }
    }

    pub(super) async fn read(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        let mut committed_at = Instant::now();
        let mut text = Vec::new();
        while !self.is_finished() {
            let records = tokio::select! {
                records = self.consumer.poll(LOOK) => records?,
                () = context.interrupt.cancelled() => return Ok(()),
            };
            let idle = records.is_empty();
            let mut next = Offsets::new();
            for record in &records {
                if self.is_enough() || !self.wants(record) {
                    continue;
                }
                print(&self.arguments, record, &mut text, context)?;
                self.count += 1;
                next.insert(record.topic_partition(), record.next_position());
            }
            if idle || self.arguments.commits() {
                // Printed means handed on: what is still buffered here is not.
                context.out.flush()?;
            }
            if self.arguments.commits() {
                self.printed.note(next);
                if committed_at.elapsed() >= COMMIT_EVERY {
                    self.commit().await?;
                    committed_at = Instant::now();
                }
            }
        }
        Ok(())
    }

    /// The consumer hands out some more than --count asks for.
    fn is_enough(&self) -> bool {
        self.arguments.count.is_some_and(|count| self.count >= count)
    }

    /// And records past the end as it was.
    fn wants(&self, record: &ConsumerRecord) -> bool {
        let here =
            |at: &TopicPartition| at.partition == record.partition && *at.topic == *record.topic;
        !self.arguments.exit_at_end
            || self.ends.iter().any(|(at, end)| here(at) && record.offset < *end)
    }

    fn is_finished(&self) -> bool {
        self.is_enough() || (self.arguments.exit_at_end && self.is_at_end())
    }

    /// All partitions that are ours now have been read to their end. Before there are any, nothing is at its end.
    fn is_at_end(&self) -> bool {
        let mut ours = 0;
        for (at, end) in &self.ends {
            // What is not ours any more, or not yet, is for another member to read.
            let Ok(position) = self.consumer.position(at.clone()) else { continue };
            if position < *end {
                return false;
            }
            ours += 1;
        }
        ours > 0
    }

    async fn commit(&self) -> Result<(), Failure> {
        let offsets = self.printed.take_all();
        if offsets.is_empty() {
            return Ok(());
        }
        match self.consumer.commit_offsets(offsets).await {
            // Another member prints these records again; the others go on.
            Err(error @ (Error::PartitionLost { .. } | Error::MemberFenced { .. })) => {
                if !self.arguments.quiet {
                    eprintln!("not committed: {error}");
                }
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    pub(super) async fn commit_last(&self) -> Result<(), Failure> {
        match tokio::time::timeout(LAST_COMMIT, self.commit()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new(
                Exit::Unreachable,
                "offsets of the last records were not committed in time; they will be printed again",
            )),
        }
    }
}

fn print(
    arguments: &ConsumeArguments,
    record: &ConsumerRecord,
    text: &mut Vec<u8>,
    context: &mut Context<'_>,
) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.json(&JsonRecord::from(record));
    }
    text.clear();
    arguments.format.write(record, text);
    context.out.bytes(text)
}
