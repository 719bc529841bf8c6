//! Owns moving a group's committed offsets: to a place, or back to where they stood at a time. Where a place is in the log
//! is the cluster's to find.

use waymark_proto::v1 as wire;

use super::{at, partition_ref, service, some};
use crate::admin::Admin;
use crate::answers::topic_ref;
use crate::error::{Error, Result};
use crate::record::TopicPartition;
use crate::refusal::check;
use crate::retry::Repeat;

/// Where a group's offsets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetTo {
    /// The first record that the log still has.
    Earliest,
    /// One beyond the last record.
    Latest,
    /// This offset.
    Offset(i64),
    /// The first record with this timestamp or a later one, Unix ms; the end where there is none.
    Time(i64),
    /// As many records on; negative: back.
    Shift(i64),
}

/// Which offsets go there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResetScope {
    /// Of every partition that the group has committed or owns.
    Everything,
    /// Of every partition of a topic.
    Topic(String),
    /// Of one partition.
    Partition(TopicPartition),
}

/// What to do to a group's offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupReset {
    /// A later target of the same partition wins.
    pub targets: Vec<(ResetScope, ResetTo)>,
    /// Tell what would happen, change nothing.
    pub dry_run: bool,
    /// Why; kept in the ledger.
    pub note: String,
}

impl GroupReset {
    /// All that the group reads, to one place.
    #[must_use]
    pub fn all(to: ResetTo) -> Self {
        Self { targets: vec![(ResetScope::Everything, to)], ..Self::default() }
    }

    /// Adds a target.
    #[must_use]
    pub fn and(mut self, scope: ResetScope, to: ResetTo) -> Self {
        self.targets.push((scope, to));
        self
    }

    /// Only tells what would happen.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Whether doing it twice is doing it once: a shift counts from where the offset is.
    fn repeat(&self) -> Repeat {
        let shifts = self.targets.iter().any(|(_, to)| matches!(to, ResetTo::Shift(_)));
        if shifts && !self.dry_run { Repeat::Harmful } else { Repeat::Harmless }
    }
}

/// What became, or would become, of one partition's offset.
#[derive(Debug, Clone)]
pub struct OffsetMove {
    /// Which partition.
    pub at: TopicPartition,
    /// `None`: nothing was committed.
    pub before: Option<i64>,
    /// `None`: nothing is committed any more.
    pub after: Option<i64>,
    /// Records that will be read again, as far as the log still has them.
    pub replayed: i64,
    /// Records that will not be read.
    pub skipped: i64,
    /// What was done instead of what was asked, where that was not possible.
    pub adjusted: Option<String>,
    /// Whether it was moved.
    pub outcome: Result<()>,
}

/// What became, or would become, of a group's offsets.
#[derive(Debug, Clone)]
pub struct OffsetMoves {
    /// One for each partition.
    pub moves: Vec<OffsetMove>,
    /// The generation that the group has from now on; `None` for a dry run.
    pub generation: Option<i32>,
    /// Members that go on from the new places.
    pub members: i32,
}

impl Admin {
    /// Moves committed offsets of a group. On a group with members too: they go on from the new places, and what they
    /// commit of before is refused.
    ///
    /// Repeated until it has an answer, but for a shift: there, an unknown outcome is [`crate::ErrorClass::Ambiguous`].
    ///
    /// # Errors
    /// When the group does not exist, a target is not legal, or no node answers in time; each partition has its own outcome.
    pub async fn reset_group_offsets(
        &self,
        group: &str,
        reset: &GroupReset,
    ) -> Result<OffsetMoves> {
        let request = &wire::ResetOffsetsRequest {
            group_id: group.to_owned(),
            targets: reset.targets.iter().map(target).collect(),
            dry_run: reset.dry_run,
            note: reset.note.clone(),
        };
        self.client
            .call("resetting offsets", reset.repeat(), |link, timeout| async move {
                let call = link.call(request.clone(), timeout);
                let answer = service(&link).reset_offsets(call).await;
                moves(answer.map_err(|s| link.failure(&s))?.into_inner())
            })
            .await
    }

    /// Puts committed offsets of a group back to where they stood at a time, by the ledger. Live as
    /// [`Self::reset_group_offsets`]. No partition named means all that the ledger tells of.
    ///
    /// # Errors
    /// When the group does not exist or no node answers in time; each partition has its own outcome.
    pub async fn undo_group_offsets(
        &self,
        group: &str,
        to_time_ms: i64,
        partitions: &[TopicPartition],
        (dry_run, note): (bool, &str),
    ) -> Result<OffsetMoves> {
        let request = &wire::UndoOffsetsRequest {
            group_id: group.to_owned(),
            to_time_ms: Some(to_time_ms),
            partitions: partitions.iter().map(partition_ref).collect(),
            dry_run,
            note: note.to_owned(),
        };
        self.client
            .call("undoing offsets", Repeat::Harmless, |link, timeout| async move {
                let call = link.call(request.clone(), timeout);
                let answer = service(&link).undo_offsets(call).await;
                moves(answer.map_err(|s| link.failure(&s))?.into_inner())
            })
            .await
    }
}

fn target((scope, to): &(ResetScope, ResetTo)) -> wire::ResetTarget {
    let mut target = wire::ResetTarget::default();
    match scope {
        ResetScope::Everything => {}
        ResetScope::Topic(topic) => target.topic = Some(topic_ref(topic)),
        ResetScope::Partition(at) => target.partition = Some(partition_ref(at)),
    }
    match to {
        ResetTo::Earliest => target.set_to(wire::ResetTo::Earliest),
        ResetTo::Latest => target.set_to(wire::ResetTo::Latest),
        ResetTo::Offset(offset) => {
            target.set_to(wire::ResetTo::Offset);
            target.offset = Some(*offset);
        }
        ResetTo::Time(time_ms) => {
            target.set_to(wire::ResetTo::Time);
            target.time_ms = Some(*time_ms);
        }
        ResetTo::Shift(shift) => {
            target.set_to(wire::ResetTo::Shift);
            target.shift = Some(*shift);
        }
    }
    target
}

fn moves(answer: wire::ResetOffsetsResponse) -> Result<OffsetMoves> {
    check(answer.failure.as_ref())?;
    let one = |moved: wire::OffsetMove| {
        Ok(OffsetMove {
            at: at(moved.topic.as_ref(), moved.partition)?,
            before: moved.before,
            after: moved.after,
            replayed: moved.replayed,
            skipped: moved.skipped,
            adjusted: some(moved.adjusted),
            outcome: check(moved.failure.as_ref()),
        })
    };
    let mut moves = answer.moves.into_iter().map(one).collect::<Result<Vec<_>, Error>>()?;
    moves.sort_by(|a, b| a.at.cmp(&b.at));
    Ok(OffsetMoves { moves, generation: answer.generation, members: answer.members })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shift_must_not_be_done_twice() {
        let shift = GroupReset::all(ResetTo::Shift(-1));
        assert_eq!(shift.repeat(), Repeat::Harmful);
        assert_eq!(shift.dry_run().repeat(), Repeat::Harmless);
        assert_eq!(GroupReset::all(ResetTo::Earliest).repeat(), Repeat::Harmless);
    }

    #[test]
    fn each_place_says_only_what_belongs_to_it() {
        let told = target(&(ResetScope::Topic("t".to_owned()), ResetTo::Offset(0)));
        assert_eq!((told.offset, told.time_ms, told.shift), (Some(0), None, None));
        assert_eq!(told.topic.unwrap().name, "t");
        let at = ResetScope::Partition(TopicPartition::new("t", 0));
        let told = target(&(at, ResetTo::Shift(-5)));
        assert_eq!((told.to(), told.shift), (wire::ResetTo::Shift, Some(-5)));
        assert_eq!(told.partition.unwrap().partition, Some(0));
        assert!(told.topic.is_none());
    }

    #[test]
    fn a_partition_that_could_not_be_moved_does_not_hide_the_others() {
        let mut failure = wire::Failure::default();
        failure.set_code(wire::FailureCode::PartitionNotFound);
        failure.set_retry(wire::RetryClass::Fix);
        let item = |partition, failure| wire::OffsetMove {
            topic: Some(topic_ref("t")),
            partition: Some(partition),
            failure,
            ..Default::default()
        };
        let answer = wire::ResetOffsetsResponse {
            moves: vec![item(7, Some(failure)), item(0, None)],
            ..Default::default()
        };
        let told = moves(answer).unwrap();
        assert_eq!(told.moves[0].at.partition, 0);
        assert!(told.moves[0].outcome.is_ok() && told.moves[1].outcome.is_err());
    }
}
