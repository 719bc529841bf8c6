//! Moving a group's offsets: what "earliest", a time or a shift means for each partition is asked of its leader, then all of
//! it goes into the group's log at once. Owns that arithmetic. An undo is a reset to where the ledger says things stood.

use std::collections::BTreeMap;

use futures::future::join_all;
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::TopicPartition;
use waymark_proto::v1;
use waymark_proto::v1::offset_service_client::OffsetServiceClient;

use super::super::Api;
use super::super::admin::Topic;
use super::super::call::Call;
use super::super::convert::fields::{count, group, known, optional};
use super::super::convert::groups::{inside, offset_move};
use super::super::convert::offsets::MAX_NOTE;
use super::super::convert::topics::topic_ref;
use super::super::refusal::{invalid, missing, refuse, too_large};
use super::super::spread::ask_other_leaders;
use crate::broker::groups::seam::{ChangeKind, Move, Order, PastOffset};

/// Partitions of one reset.
const MAX_PARTITIONS: usize = 10_000;

/// Where one partition goes, before its leader was asked.
#[derive(Debug, Clone, Copy)]
enum Aim {
    Earliest,
    Latest,
    Offset(i64),
    Time(i64),
    Shift(i64),
    /// Where the ledger says; `false`: not exactly.
    Past(Option<i64>, bool),
}

/// One partition of a reset.
struct Target {
    topic: Topic,
    at: TopicPartition,
    aim: Aim,
}

/// What a partition's leader says of its log.
struct Log {
    start: i64,
    end: i64,
    at_time: Option<i64>,
}

/// What a reset is asked for beside its targets.
pub(super) struct Asked {
    pub(super) group: String,
    pub(super) dry_run: bool,
    pub(super) note: String,
    pub(super) kind: ChangeKind,
    pub(super) seen: Option<i32>,
}

impl Api {
    pub(super) async fn reset(
        &self,
        call: &Call,
        request: v1::ResetOffsetsRequest,
    ) -> Result<v1::ResetOffsetsResponse, Failure> {
        group(&request.group_id)?;
        if request.targets.is_empty() {
            return Err(missing("targets"));
        }
        let committed = self.committed_by(&request.group_id, call).await?;
        let mut targets: BTreeMap<TopicPartition, Target> = BTreeMap::new();
        for given in &request.targets {
            let aim = aim(given)?;
            for (topic, at) in self.meant(given, &request.group_id, &committed, call).await? {
                targets.insert(at, Target { topic, at, aim });
            }
        }
        let asked = Asked {
            group: request.group_id,
            dry_run: request.dry_run,
            note: request.note,
            kind: ChangeKind::Reset,
            seen: optional("seen_generation", request.seen_generation)?,
        };
        self.move_offsets(call, asked, targets.into_values().collect(), &committed).await
    }

    pub(super) async fn undo(
        &self,
        call: &Call,
        request: v1::UndoOffsetsRequest,
    ) -> Result<v1::ResetOffsetsResponse, Failure> {
        group(&request.group_id)?;
        let to_ms = count("to_time_ms", request.to_time_ms)?;
        let committed = self.committed_by(&request.group_id, call).await?;
        let past = self.groups().past(&request.group_id, to_ms, call.deadline).await?;
        let mut wanted = Vec::new();
        for given in &request.partitions {
            wanted.push(self.named_partition(given.topic.as_ref(), given.partition).await?.1);
        }
        let mut targets = Vec::new();
        for (at, stood) in past {
            if !wanted.is_empty() && !wanted.contains(&at) {
                continue;
            }
            let aim = match stood {
                PastOffset::Exact(offset) => Aim::Past(offset, true),
                PastOffset::NotAfter(offset) => Aim::Past(offset, false),
                PastOffset::Unknown => continue,
            };
            let named = super::super::admin::NamedTopic { name: None, id: Some(at.topic) };
            let topic = self.admin().topic(&named).await?;
            targets.push(Target { topic, at, aim });
        }
        if targets.is_empty() {
            let message = "the ledger does not reach back to that time: see the group's history";
            return Err(refuse(FailureCode::InvalidArgument, message));
        }
        let asked = Asked {
            group: request.group_id,
            dry_run: request.dry_run,
            note: request.note,
            kind: ChangeKind::Undo,
            seen: optional("seen_generation", request.seen_generation)?,
        };
        self.move_offsets(call, asked, targets, &committed).await
    }

    async fn committed_by(
        &self,
        group: &str,
        call: &Call,
    ) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
        let stored = self.admin().fetch_offsets(group, None, call.deadline).await?;
        Ok(stored.into_iter().map(|it| (it.at, it.offset)).collect())
    }

    /// Partitions that a target means.
    async fn meant(
        &self,
        given: &v1::ResetTarget,
        group: &str,
        committed: &BTreeMap<TopicPartition, i64>,
        call: &Call,
    ) -> Result<Vec<(Topic, TopicPartition)>, Failure> {
        if let Some(partition) = &given.partition {
            let (topic, at) =
                self.named_partition(partition.topic.as_ref(), partition.partition).await?;
            if at.partition.0 >= topic.partitions {
                let message = format!("{} has {} partitions", topic.name, topic.partitions);
                return Err(refuse(FailureCode::PartitionNotFound, message));
            }
            return Ok(vec![(topic, at)]);
        }
        if given.topic.is_some() {
            let topic = self.named(given.topic.as_ref()).await?;
            let each = (0..topic.partitions).map(|number| {
                let partition = waymark_proto::ids::PartitionId(number);
                (topic.clone(), TopicPartition { topic: topic.id, partition })
            });
            return Ok(each.collect());
        }
        let mut all: Vec<TopicPartition> = committed.keys().copied().collect();
        if let Ok(described) = self.groups().describe(group, call.deadline).await {
            let held = described.members.iter().flat_map(|it| &it.assigned).map(|it| it.at);
            all.extend(held);
        }
        all.sort_unstable();
        all.dedup();
        let mut named = Vec::with_capacity(all.len());
        for at in all {
            let id = super::super::admin::NamedTopic { name: None, id: Some(at.topic) };
            named.push((self.admin().topic(&id).await?, at));
        }
        Ok(named)
    }

    async fn move_offsets(
        &self,
        call: &Call,
        asked: Asked,
        targets: Vec<Target>,
        committed: &BTreeMap<TopicPartition, i64>,
    ) -> Result<v1::ResetOffsetsResponse, Failure> {
        if targets.len() > MAX_PARTITIONS {
            return Err(too_large("partitions of a reset", MAX_PARTITIONS as i64));
        }
        if asked.note.len() > MAX_NOTE {
            return Err(invalid("note", "at most 1024 bytes"));
        }
        let logs = self.logs_of(call, &targets).await;
        let mut moves = Vec::with_capacity(targets.len());
        let mut starts = Vec::with_capacity(targets.len());
        let mut apply = Vec::with_capacity(targets.len());
        for (target, log) in targets.iter().zip(logs) {
            let before = committed.get(&target.at).copied();
            match log {
                Ok(log) => {
                    let (after, adjusted) = land(target.aim, before, &log);
                    let parts = (log.start, adjusted);
                    moves.push(offset_move(&target.topic, target.at, (before, after), parts));
                    starts.push(log.start);
                    apply.push(Move { at: target.at, to: after });
                }
                // All or nothing: a group half moved is worse than one not moved.
                Err(failure) if !asked.dry_run => return Err(failure),
                Err(failure) => moves.push(v1::OffsetMove {
                    topic: Some(topic_ref(&target.topic)),
                    partition: Some(target.at.partition.0),
                    before,
                    failure: Some(failure.into()),
                    ..v1::OffsetMove::default()
                }),
            }
        }
        if asked.dry_run {
            return Ok(v1::ResetOffsetsResponse { moves, ..Default::default() });
        }
        let Asked { group, kind, note, seen, .. } = asked;
        let order = Order { kind, actor: call.actor(""), note, seen };
        let moved = self.groups().reset(&group, apply, order, call.deadline).await?;
        let ends = moved.before.iter().copied().zip(moved.after.iter().copied());
        let told = moves.into_iter().zip(targets.iter().zip(starts));
        let told = told.zip(ends).map(|((told, of), ends)| as_moved(told, of, ends));
        Ok(v1::ResetOffsetsResponse {
            moves: told.collect(),
            generation: Some(moved.generation),
            members: i32::try_from(moved.members).unwrap_or(i32::MAX),
            ..v1::ResetOffsetsResponse::default()
        })
    }

    /// What the leaders of the partitions say.
    async fn logs_of(&self, call: &Call, targets: &[Target]) -> Vec<Result<Log, Failure>> {
        let mut queries = Vec::new();
        for target in targets {
            queries.push(query(target, v1::OffsetSpec::Earliest, None));
            queries.push(query(target, v1::OffsetSpec::Latest, None));
            if let Aim::Time(time_ms) = target.aim {
                queries.push(query(target, v1::OffsetSpec::AtTime, Some(time_ms)));
            }
        }
        let mut answers = join_all(queries.iter().map(|query| self.found(query))).await;
        ask_other_leaders(self, call, &queries, &mut answers, |channel, part| {
            Box::pin(async move {
                let part = part.map(|queries| v1::ListOffsetsRequest { queries });
                let answer = OffsetServiceClient::new(channel).list_offsets(part).await?;
                Ok(answer.into_inner().answers)
            })
        })
        .await;
        let mut answers = answers.into_iter().map(offset_of);
        let mut next = || answers.next().unwrap_or(Ok(None));
        let logs = targets.iter().map(|target| {
            let (start, end) = (next(), next());
            let at_time = matches!(target.aim, Aim::Time(_)).then(&mut next);
            Ok(Log {
                start: start?.unwrap_or_default(),
                end: end?.unwrap_or_default(),
                at_time: at_time.transpose()?.flatten(),
            })
        });
        logs.collect()
    }
}

fn query(target: &Target, spec: v1::OffsetSpec, time_ms: Option<i64>) -> v1::OffsetQuery {
    v1::OffsetQuery {
        topic: Some(topic_ref(&target.topic)),
        partition: Some(target.at.partition.0),
        spec: spec.into(),
        time_ms,
        ..v1::OffsetQuery::default()
    }
}

fn offset_of(answer: v1::OffsetAnswer) -> Result<Option<i64>, Failure> {
    match answer.failure {
        // Which node leads is nothing to the caller, who asks again and lets this node find out.
        Some(failure) => {
            let code = match failure.code() {
                FailureCode::NotLeader => FailureCode::NoLeader,
                other => other,
            };
            Err(refuse(code, failure.message))
        }
        None => Ok(answer.offset),
    }
}

fn aim(given: &v1::ResetTarget) -> Result<Aim, Failure> {
    Ok(match known("targets.to", given.to)? {
        v1::ResetTo::Unspecified => return Err(missing("targets.to")),
        v1::ResetTo::Earliest => Aim::Earliest,
        v1::ResetTo::Latest => Aim::Latest,
        v1::ResetTo::Offset => Aim::Offset(count("targets.offset", given.offset)?),
        v1::ResetTo::Time => Aim::Time(count("targets.time_ms", given.time_ms)?),
        v1::ResetTo::Shift => {
            let _: Option<i64> = optional("targets.offset", given.offset)?;
            Aim::Shift(given.shift.ok_or_else(|| missing("targets.shift"))?)
        }
    })
}

/// A move as it happened: since it was planned, members may have committed, and the beginning of the log may be gone.
fn as_moved(
    planned: v1::OffsetMove,
    (target, start): (&Target, i64),
    (before, after): (Option<i64>, Option<i64>),
) -> v1::OffsetMove {
    let parts = match (planned.after, after) {
        (Some(planned), Some(after)) if planned < after => {
            let asked = if let Aim::Offset(asked) = target.aim { asked } else { planned };
            (after, inside(asked, after, after).1)
        }
        _ => (start, planned.adjusted),
    };
    offset_move(&target.topic, target.at, (before, after), parts)
}

/// Where a partition goes, inside of its log.
fn land(aim: Aim, before: Option<i64>, log: &Log) -> (Option<i64>, String) {
    let (offset, words) = match aim {
        Aim::Earliest => (log.start, String::new()),
        Aim::Latest => (log.end, String::new()),
        Aim::Time(_) => (log.at_time.unwrap_or(log.end), String::new()),
        Aim::Offset(offset) => inside(offset, log.start, log.end),
        Aim::Shift(shift) => {
            inside(before.unwrap_or(log.start).saturating_add(shift), log.start, log.end)
        }
        // Where it stood is put back as it was, out of range or not: that is what undo means.
        Aim::Past(offset, true) => return (offset, String::new()),
        Aim::Past(offset, false) => {
            let words = "commits of that time are folded in the ledger: back to before them";
            return (offset, words.to_owned());
        }
    };
    (Some(offset), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_tells_where_the_log_began_when_it_happened() {
        let topic = Topic {
            id: waymark_proto::ids::TopicId([1; 16]),
            name: "orders".to_owned(),
            partitions: 1,
            replication: 3,
            version: 1,
            configs: BTreeMap::default(),
        };
        let at = TopicPartition { topic: topic.id, ..TopicPartition::default() };
        let target = Target { topic, at, aim: Aim::Offset(10) };
        let plan = || offset_move(&target.topic, at, (Some(600), Some(10)), (0, String::new()));
        let told = as_moved(plan(), (&target, 0), (Some(640), Some(500)));
        assert_eq!((told.before, told.after, told.replayed), (Some(640), Some(500), 140));
        assert!(told.adjusted.contains("10 is before the log"), "{told:?}");
        let early = Target { topic: target.topic.clone(), aim: Aim::Offset(5), ..target };
        let told = as_moved(plan(), (&early, 0), (Some(640), Some(500)));
        assert!(told.adjusted.contains("5 is before the log"), "{told:?}");
        let told = as_moved(plan(), (&target, 0), (Some(640), Some(10)));
        assert_eq!((told.replayed, told.adjusted.as_str()), (630, ""));
    }

    #[test]
    fn no_target_of_a_reset_makes_a_node_panic() {
        let log = Log { start: 3, end: i64::MAX, at_time: None };
        bolero::check!().for_each(|bytes: &[u8]| {
            if let Ok(target) = <v1::ResetTarget as prost::Message>::decode(bytes)
                && let Ok(aim) = aim(&target)
            {
                let _ = land(aim, Some(i64::MAX), &log);
            }
        });
    }
}
