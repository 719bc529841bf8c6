//! Owns the whole state of one shard and the one way to change it: an entry, applied. One line per command; what a
//! command means stands with the part that it changes. Never fails: whatever an entry holds gets a verdict (S17).

use bytes::Bytes;
use waymark_proto::ids::{PartitionId, ReplicaId, ShardId, TopicPartition};

use super::batch::BatchSequence;
use super::catalog::Catalog;
use super::command::{CatalogCommand, Command, Produce};
use super::deleted::Deleted;
use super::groups::{Group, GroupEntry, Groups};
use super::offsets::CommittedOffset;
use super::partition::{AppendAt, EpochEnd, PartitionView};
use super::partitions::Partitions;
use super::producer::{SequenceVerdict, check};
use super::reply::{Effect, Receipt, Refusal, Reply};
use crate::mutants;

/// Where an entry stands in the shard's Raft log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryAt {
    /// Raft index.
    pub index: u64,
    /// Raft term.
    pub term: u64,
    /// The leader that wrote it.
    pub leader: ReplicaId,
}

/// The outcome of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// For the proposer.
    pub reply: Reply,
    /// For storage and the waiters.
    pub effects: Vec<Effect>,
}

/// The state of one shard. Equal logs give equal states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardState {
    pub(super) shard: ShardId,
    pub(super) leaders: Leaders,
    pub(super) partitions: Partitions,
    pub(super) groups: Groups,
    pub(super) deleted: Deleted,
    /// Shard 0 has one, and no other.
    pub(super) catalog: Option<Catalog>,
}

/// Who leads, and how many led before: the base of leader epochs (CONTRACT §5.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Leaders {
    /// Term and leader of the last applied entry.
    pub(super) last: Option<(u64, ReplicaId)>,
    pub(super) seen: i64,
    pub(super) dirty: bool,
}

impl ShardState {
    /// An unborn shard's state.
    #[must_use]
    pub fn new(shard: ShardId) -> Self {
        Self {
            shard,
            leaders: Leaders::default(),
            partitions: Partitions::default(),
            groups: Groups::default(),
            deleted: Deleted::default(),
            catalog: (shard == ShardId::CATALOG).then(Catalog::default),
        }
    }

    /// Applies one command. Total: no content makes it fail (S17).
    pub fn apply(&mut self, at: EntryAt, command: Command) -> Applied {
        let mut effects = self.count_leader(at);
        let reply = self.change(at, command, &mut effects);
        Applied { reply, effects }
    }

    /// Applies the bytes of a command. Bytes that are none are refused, and count as applied like any entry.
    pub fn apply_encoded(&mut self, at: EntryAt, command: Bytes) -> Applied {
        match Command::decode(command) {
            Ok(command) => self.apply(at, command),
            Err(error) => {
                let reply = Reply::Refused(Refusal::Invalid(error.to_string()));
                Applied { reply, effects: self.count_leader(at) }
            }
        }
    }

    /// A blank or membership entry: only counts leaders.
    pub fn observe(&mut self, at: EntryAt) -> Applied {
        Applied { reply: Reply::Done, effects: self.count_leader(at) }
    }

    /// openraft may elect several leaders in one term, so term and leader together name a leadership.
    fn count_leader(&mut self, at: EntryAt) -> Vec<Effect> {
        let now = Some((at.term, at.leader));
        if self.leaders.last == now {
            return Vec::new();
        }
        self.leaders.last = now;
        self.leaders.seen = self.leaders.seen.saturating_add(1);
        self.leaders.dirty = true;
        vec![Effect::LeaderChanged]
    }

    fn change(&mut self, at: EntryAt, command: Command, effects: &mut Vec<Effect>) -> Reply {
        match command {
            Command::Produce(produce) => self.produce(at, &produce, effects),
            // The topic was deleted while the command was on its way.
            Command::OpenPartitions { topic, .. }
                if self.deleted.contains(topic) && !mutants::planted!("late-open-reopens") =>
            {
                Reply::Done
            }
            Command::OpenPartitions { topic, settings, partitions } => {
                let seen = self.leaders.seen;
                let at = |partition| TopicPartition { topic, partition: PartitionId(partition) };
                let open = |partition| self.partitions.open(at(partition), &settings, seen);
                effects.extend(partitions.into_iter().filter_map(open));
                Reply::Done
            }
            Command::AlterPartitions { topic, settings } => {
                self.partitions.alter(topic, &settings);
                Reply::Done
            }
            Command::ClosePartitions { topic } => {
                self.deleted.note(topic, at.index);
                self.partitions.close(topic, effects);
                Reply::Done
            }
            Command::AdvanceLogStart { items } => {
                let advance = |rise| self.partitions.advance_log_start(rise, effects);
                Reply::LogStarts(items.into_iter().map(advance).collect())
            }
            Command::SetHolds { items, lower } => {
                let set = |hold| self.partitions.set_floor(hold, lower);
                Reply::LogStarts(items.iter().map(set).collect())
            }
            Command::ExpireProducers { last_append_before_ms } => {
                self.partitions.expire_producers(last_append_before_ms);
                Reply::Done
            }
            Command::CommitOffsets(commit) => {
                let is_gone = |topic| self.deleted.contains(topic);
                let outcome = self.groups.commit((at.term, at.leader), commit, is_gone);
                outcome.map_or_else(Reply::Refused, Reply::Committed)
            }
            Command::DeleteOffsets { group, partitions, time_ms, actor } => {
                let outcome = self.groups.delete_offsets(&group, &partitions, (time_ms, actor));
                outcome.map_or_else(Reply::Refused, Reply::OffsetsDeleted)
            }
            Command::Group(entry) => self.change_group(at, entry, effects),
            Command::ForgetTopic { topic } => {
                self.deleted.note(topic, at.index);
                self.groups.forget_topic(topic);
                Reply::Done
            }
            Command::Catalog(command) => self.change_catalog(at, command, effects),
        }
    }

    fn produce(&mut self, at: EntryAt, produce: &Produce, effects: &mut Vec<Effect>) -> Reply {
        let entry = AppendAt {
            index: at.index,
            term: at.term,
            append_time_ms: produce.append_time_ms,
            leaders_seen: self.leaders.seen,
        };
        effects.reserve(produce.items.len());
        let append = |item| self.partitions.append(item, &entry, effects);
        Reply::Produced(produce.items.iter().map(append).collect())
    }

    fn change_group(
        &mut self,
        at: EntryAt,
        mut entry: GroupEntry,
        effects: &mut Vec<Effect>,
    ) -> Reply {
        // Proposed where the deletion was not known yet: nobody would ever take them away again.
        if !mutants::planted!("deleted-topic-comes-back") {
            entry.change.forget_topics(|topic| self.deleted.contains(topic));
        }
        let group = entry.group.clone();
        match self.groups.change((at.term, at.leader), entry) {
            Ok(changed) => {
                effects.extend(changed.news.then_some(Effect::GroupChanged(group)));
                Reply::Group(changed)
            }
            Err(refusal) => Reply::Refused(refusal),
        }
    }

    fn change_catalog(
        &mut self,
        at: EntryAt,
        command: CatalogCommand,
        effects: &mut Vec<Effect>,
    ) -> Reply {
        let Some(catalog) = &mut self.catalog else {
            return Reply::Refused(Refusal::Misplaced("only shard 0 has a catalog"));
        };
        let before = catalog.metadata_version();
        let goes = match &command {
            // Its partitions would stay closed: the shards remember the id.
            CatalogCommand::CreateTopic { topic, .. }
                if self.deleted.contains(*topic) && catalog.topic(*topic).is_none() =>
            {
                let why = "a topic of this id was deleted, and ids are never used again".to_owned();
                return Reply::Refused(Refusal::Invalid(why));
            }
            CatalogCommand::DeleteTopic { topic } => Some(*topic),
            _ => None,
        };
        let reply = catalog.apply(command).unwrap_or_else(Reply::Refused);
        if let (Some(topic), Reply::Topic { .. }) = (goes, &reply) {
            self.deleted.note(topic, at.index);
        }
        if catalog.metadata_version() != before {
            effects.push(Effect::CatalogChanged);
        }
        reply
    }
}

/// What readers may know.
impl ShardState {
    /// Which shard this is.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Term and replica of the leader whose entry was applied last: the leader that leader epochs count up to.
    #[must_use]
    pub fn last_leader(&self) -> Option<(u64, ReplicaId)> {
        self.leaders.last
    }

    /// One partition.
    #[must_use]
    pub fn partition(&self, at: TopicPartition) -> Option<PartitionView<'_>> {
        self.partitions.by_id.get(&at).map(|partition| partition.view(self.leaders.seen))
    }

    /// All partitions, in the order of their ids.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, PartitionView<'_>)> {
        let seen = self.leaders.seen;
        self.partitions.by_id.iter().map(move |(at, partition)| (*at, partition.view(seen)))
    }

    /// Where a leader epoch of a partition ended; `None` for an epoch that has not begun, or no such partition.
    #[must_use]
    pub fn epoch_end_offset(&self, at: TopicPartition, leader_epoch: i32) -> Option<EpochEnd> {
        self.partitions.by_id.get(&at)?.epoch_end(leader_epoch, self.leaders.seen)
    }

    /// What apply would say of a batch's sequence now: the receipt of an earlier attempt, or `None` when it comes next.
    /// It saves the door work and decides nothing: batches in flight are not known here (S17).
    ///
    /// # Errors
    /// As apply would refuse it.
    pub fn check_producer(
        &self,
        at: TopicPartition,
        batch: BatchSequence,
    ) -> Result<Option<Receipt>, Refusal> {
        let partition = self.partitions.by_id.get(&at).ok_or(Refusal::NoPartition(at))?;
        let verdict = check(partition.producers.get(&batch.producer_id), batch)?;
        Ok(match verdict {
            SequenceVerdict::Append => None,
            SequenceVerdict::Duplicate(original) => Some(partition.receipt_of(&original)),
        })
    }

    /// A group's progress in one partition; `None`: never committed.
    #[must_use]
    pub fn committed(&self, group: &str, at: TopicPartition) -> Option<&CommittedOffset> {
        self.groups.offsets.groups.get(group)?.get(&at)
    }

    /// All of a group's progress, in the order of partitions.
    pub fn group_offsets(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (TopicPartition, &CommittedOffset)> {
        let offsets = &self.groups.offsets.groups;
        offsets.get(group).into_iter().flatten().map(|(at, offset)| (*at, offset))
    }

    /// Groups of this shard, in the order of their names.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.by_name.iter().map(|(name, group)| (name.as_str(), group))
    }

    /// One group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.by_name.get(name)
    }

    /// The catalog; only shard 0 has one.
    #[must_use]
    pub fn catalog(&self) -> Option<&Catalog> {
        self.catalog.as_ref()
    }
}
