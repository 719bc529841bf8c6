//! Offsets: where a partition begins and ends, where a time stands, what a group has committed.

use tokio::time::Instant;
use waymark_proto::batch;
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::TopicPartition;

use super::Core;
use super::admin::{Committed, EpochEnd, Found, Spot};
use super::place::moved_coordinator;
use super::refusal::{failure, no_leader, refused, unexpected, unproposed, unread};
use crate::consensus::Shard;
use crate::mutants;
use crate::state::command::{CommitOffsets, LogStartRise};
use crate::state::groups::Actor;
use crate::state::{Command, Reply};

impl Core {
    pub(super) async fn find_offset(
        &self,
        at: TopicPartition,
        spot: Spot,
        leader_epoch: Option<i32>,
    ) -> Result<Found, Failure> {
        let shard = self.serving_known(at).await?;
        if !matches!(spot, Spot::Earliest) && !mutants::planted!("end-as-it-is-here") {
            self.confirm_leader(&shard).await?;
        }
        let view = shard.read(|state| {
            let view = state.partition(at)?;
            Some((view.log_start, view.next_offset, view.leader_epoch, view.max_timestamp))
        });
        let Some((start, end, epoch, newest)) = view else {
            return Err(no_leader("the partition is not open yet"));
        };
        self.check_epoch(leader_epoch, epoch)?;
        let found =
            |offset| Found { offset: Some(offset), timestamp_ms: None, leader_epoch: Some(epoch) };
        match spot {
            Spot::Earliest => Ok(found(start)),
            Spot::Latest => Ok(found(end)),
            Spot::AtTime(time) => first_at(&shard, at, time, (start, end)).await,
            Spot::MaxTimestamp if start == end => Ok(Found::default()),
            Spot::MaxTimestamp => first_at(&shard, at, newest, (start, end)).await,
        }
    }

    pub(super) async fn epoch_end(
        &self,
        at: TopicPartition,
        epoch: i32,
        leader_epoch: Option<i32>,
    ) -> Result<Option<EpochEnd>, Failure> {
        let shard = self.serving_known(at).await?;
        // A deposed leader would tell an epoch that has ended as the newest, and its own end as the end (S14).
        self.confirm_leader(&shard).await?;
        let (now, end) = shard.read(|state| {
            let now = state.partition(at).map(|view| view.leader_epoch);
            (now, state.epoch_end_offset(at, epoch))
        });
        let now = now.ok_or_else(|| no_leader("the partition is not open yet"))?;
        self.check_epoch(leader_epoch, now)?;
        Ok(end.map(|it| EpochEnd { epoch: it.leader_epoch, end_offset: it.end_offset }))
    }

    pub(super) async fn delete_records(
        &self,
        at: TopicPartition,
        before: Option<i64>,
        deadline: Instant,
    ) -> Result<i64, Failure> {
        let shard = self.serving_known(at).await?;
        let end = shard.read(|state| state.partition(at).map(|view| view.next_offset));
        let end = end.ok_or_else(|| no_leader("the partition is not open yet"))?;
        let rise = LogStartRise { at, to: before.unwrap_or(end), floor_seen: None };
        let items = vec![rise];
        let done = shard.propose(Command::AdvanceLogStart { items }, deadline).await;
        match done.map_err(|error| unproposed(&error))?.reply {
            Reply::LogStarts(starts) => match starts.into_iter().next() {
                Some(Ok(start)) => Ok(start),
                Some(Err(refusal)) => Err(refused(&refusal)),
                None => Err(unexpected()),
            },
            _ => Err(unexpected()),
        }
    }

    pub(super) async fn commit_offsets(
        &self,
        mut commit: CommitOffsets,
        deadline: Instant,
    ) -> Result<Vec<Result<(), Failure>>, Failure> {
        let shard = self.coordinating(&commit.group)?;
        commit.commit_time_ms = self.env.clock.now_ms();
        let done = shard.propose(Command::CommitOffsets(commit), deadline).await;
        match done.map_err(|error| moved_coordinator(self.unwritten(&error)))?.reply {
            Reply::Committed(verdicts) => {
                let verdict = |it: Result<(), _>| it.map_err(|refusal| refused(&refusal));
                Ok(verdicts.into_iter().map(verdict).collect())
            }
            Reply::Refused(refusal) => Err(refused(&refusal)),
            _ => Err(unexpected()),
        }
    }

    pub(super) async fn fetch_offsets(
        &self,
        group: &str,
        wanted: Option<&[TopicPartition]>,
        deadline: Instant,
    ) -> Result<Vec<Committed>, Failure> {
        let shard = self.coordinating(group)?;
        if !mutants::planted!("offsets-as-they-are-here") {
            self.confirm_coordinator(&shard, deadline).await?;
        }
        Ok(shard.read(|state| {
            let all = state.group_offsets(group);
            let asked = all.filter(|(at, _)| wanted.is_none_or(|wanted| wanted.contains(at)));
            let told = asked.map(|(at, stored)| Committed {
                at,
                offset: stored.offset,
                leader_epoch: stored.leader_epoch,
                metadata: stored.metadata.clone(),
                commit_time_ms: stored.commit_time_ms,
                fencing_epoch: stored.fencing_epoch,
            });
            told.collect()
        }))
    }

    pub(super) async fn delete_offsets(
        &self,
        group: &str,
        at: Option<Vec<TopicPartition>>,
        actor: Actor,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let shard = self.coordinating(group)?;
        let partitions = at.unwrap_or_default();
        let time_ms = self.env.clock.now_ms();
        let group = group.to_owned();
        let command = Command::DeleteOffsets { group, partitions, time_ms, actor };
        let done = shard.propose(command, deadline).await;
        match done.map_err(|error| moved_coordinator(self.unwritten(&error)))?.reply {
            Reply::OffsetsDeleted(_) => Ok(()),
            Reply::Refused(refusal) => Err(refused(&refusal)),
            _ => Err(unexpected()),
        }
    }
}

/// The first record in offset order that is at least as new.
async fn first_at(
    shard: &Shard,
    at: TopicPartition,
    time_ms: i64,
    (start, end): (i64, i64),
) -> Result<Found, Failure> {
    let batch = shard.store().batch_at_time(at, time_ms, end).await;
    let Some(batch) = batch.map_err(|error| unread(&error))? else { return Ok(Found::default()) };
    let epoch = batch.get(12..16).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
    let unreadable = |_| failure(FailureCode::Internal, "a stored batch cannot be decoded");
    let records = batch::decode(batch).map_err(unreadable)?;
    let first = records.iter().find(|it| it.timestamp_ms >= time_ms && it.offset >= start);
    Ok(first.map_or_else(Found::default, |record| Found {
        offset: Some(record.offset),
        timestamp_ms: Some(record.timestamp_ms),
        leader_epoch: epoch,
    }))
}
