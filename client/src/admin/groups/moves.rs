//! Owns moving a group's committed offsets: to a place, or back to where they stood at a time. Where a place is in the log
//! is the cluster's to find.
//!
//! Each call carries the generation in which the group was seen before, and moves nothing where the group was moved since. So
//! a copy that waited somewhere, and arrives after the call was repeated and answered, undoes nothing of what was read since.
//! That holds within one life of a group: of one that was deleted meanwhile, nobody knows any more how often it was moved.

use waymark_proto::failure::FailureCode;
use waymark_proto::v1 as wire;

use super::{at, partition_ref, service, some};
use crate::admin::Admin;
use crate::answers::topic_ref;
use crate::error::{Error, ErrorClass, Result};
use crate::record::TopicPartition;
use crate::refusal::check;
use crate::retry::Repeat;

/// How often a group is looked at that somebody else moves in between.
const LOOKS: u32 = 3;

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
        match (self.dry_run, shifts) {
            (true, _) => Repeat::Harmless,
            (false, true) => Repeat::Harmful,
            (false, false) => Repeat::Conditional,
        }
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
    /// Repeated until it has an answer, but for a shift: there, an unknown outcome is [`crate::ErrorClass::Ambiguous`]. A
    /// repetition after a lost answer moves the group again, over what was committed in between; after the answer, nothing
    /// does. Each look at the group, and each move of it, has the whole `api_timeout`.
    ///
    /// # Errors
    /// When the group does not exist, a target is not legal, or no node answers in time; each partition has its own outcome.
    /// [`crate::ErrorClass::Ambiguous`] where an attempt whose answer was lost may have moved it.
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
            seen_generation: None,
        };
        let send = |seen_generation| {
            let request = wire::ResetOffsetsRequest { seen_generation, ..request.clone() };
            self.client.call("resetting offsets", reset.repeat(), move |link, timeout| {
                let call = link.call(request.clone(), timeout);
                async move {
                    let answer = service(&link).reset_offsets(call).await;
                    moves(answer.map_err(|s| link.failure(&s))?.into_inner())
                }
            })
        };
        self.as_seen(group, reset.dry_run, send).await
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
            seen_generation: None,
        };
        let send = |seen_generation| {
            let request = wire::UndoOffsetsRequest { seen_generation, ..request.clone() };
            let repeat = if dry_run { Repeat::Harmless } else { Repeat::Conditional };
            self.client.call("undoing offsets", repeat, move |link, timeout| {
                let call = link.call(request.clone(), timeout);
                async move {
                    let answer = service(&link).undo_offsets(call).await;
                    moves(answer.map_err(|s| link.failure(&s))?.into_inner())
                }
            })
        };
        self.as_seen(group, dry_run, send).await
    }

    /// Looks at a group, and moves it if it was not moved since. If it was, by an earlier attempt whose answer was lost or by
    /// somebody else, it is looked at and moved again: the last one counts.
    async fn as_seen<F>(
        &self,
        group: &str,
        dry_run: bool,
        send: impl Fn(Option<i32>) -> F,
    ) -> Result<OffsetMoves>
    where
        F: Future<Output = Result<OffsetMoves>>,
    {
        if dry_run {
            return send(None).await;
        }
        let (mut left, mut perhaps_moved) = (LOOKS, false);
        loop {
            let told = |error: Error| if perhaps_moved { error.after_unknown() } else { error };
            let seen = self.seen(group).await.map_err(told)?;
            left -= 1;
            match send(Some(seen)).await {
                Err(error) if left > 0 && error.is(FailureCode::ConditionFailed) => {
                    perhaps_moved |= error.class() == ErrorClass::Ambiguous;
                }
                outcome => return outcome.map_err(told),
            }
        }
    }

    /// The generation of a group, 0 for one that a move would make.
    async fn seen(&self, group: &str) -> Result<i32> {
        match self.describe_group(group).await {
            Err(error) if error.is(FailureCode::GroupNotFound) => Ok(0),
            described => described.map(|group| group.generation),
        }
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
        assert_eq!(GroupReset::all(ResetTo::Earliest).repeat(), Repeat::Conditional);
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
        failure.set_code(FailureCode::PartitionNotFound);
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
