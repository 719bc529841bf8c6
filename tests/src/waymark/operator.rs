//! The product's admin client as the operator of a group. It says in the harness's words what a coordinator answers, and
//! never retries by itself.

use std::collections::BTreeMap;
use std::io;

use async_trait::async_trait;
use waymark_client::{
    Admin, ExpelCause, GroupEventKind, GroupReset, GroupState, OffsetChange, OffsetChangeKind,
    OffsetMoves, ResetScope, ResetTo, TopicPartition,
};

use super::TOPIC;
use super::client::WaymarkClient;
use super::translation::{failed, number, unsigned};
use crate::group::seam::{Description, GroupOperator, Moved};
use crate::group_history::{ExpelledFor, Fact};

/// The group of the members.
pub(super) const GROUP: &str = "members";

#[derive(Debug)]
pub(super) struct Operator {
    client: WaymarkClient,
}

impl Operator {
    pub(super) fn new(client: WaymarkClient) -> Self {
        Self { client }
    }

    async fn admin(&mut self) -> io::Result<Admin> {
        Ok(self.client.client().await.map_err(failed)?.admin())
    }
}

fn partition(at: &TopicPartition) -> u32 {
    u32::try_from(at.partition).unwrap_or(u32::MAX)
}

fn generation(told: i32) -> u32 {
    u32::try_from(told).unwrap_or(u32::MAX)
}

fn fact(change: &OffsetChange) -> Fact {
    let by_member = matches!(change.kind, OffsetChangeKind::Commit | OffsetChangeKind::Handoff);
    Fact {
        before: change.before.map(unsigned),
        after: change.after.map(unsigned),
        asked: !by_member,
        time_ms: (change.first_time_ms, change.time_ms),
    }
}

/// Every one of them moved, or it is an error.
fn moved(moves: OffsetMoves) -> io::Result<Moved> {
    let given = moves.generation.ok_or_else(|| failed("a reset without a generation"))?;
    let mut offsets = Vec::with_capacity(moves.moves.len());
    for one in moves.moves {
        one.outcome.map_err(failed)?;
        offsets.push((partition(&one.at), one.after.map_or(0, unsigned)));
    }
    Ok(Moved { generation: generation(given), offsets })
}

#[async_trait]
impl GroupOperator for Operator {
    async fn describe(&mut self) -> io::Result<Description> {
        let seen = self.admin().await?.describe_group(GROUP).await.map_err(failed)?;
        let mut members: Vec<String> = seen.members.into_iter().map(|it| it.member_id).collect();
        members.sort();
        let stable = seen.state == GroupState::Stable;
        Ok(Description { generation: generation(seen.generation), members, stable })
    }

    async fn expelled(&mut self) -> io::Result<Vec<(String, ExpelledFor)>> {
        let events = self.admin().await?.group_events(GROUP, None).await.map_err(failed)?;
        let expelled = events.into_iter().filter_map(|event| {
            let GroupEventKind::Expelled(cause) = event.kind else { return None };
            let cause = match cause {
                ExpelCause::Heartbeat => ExpelledFor::Silence,
                ExpelCause::Crash => ExpelledFor::Crash,
                ExpelCause::Progress => ExpelledFor::Work,
                _ => ExpelledFor::Other,
            };
            Some((event.member_id.unwrap_or_default(), cause))
        });
        Ok(expelled.collect())
    }

    async fn ledger(&mut self) -> io::Result<Vec<(u32, Vec<Fact>)>> {
        let ledger = self.admin().await?.group_offset_history(GROUP, &[], None).await;
        let mut changes = ledger.map_err(failed)?.changes;
        changes.sort_by_key(|change| change.sequence);
        let mut partitions: BTreeMap<u32, Vec<Fact>> = BTreeMap::new();
        for change in &changes {
            partitions.entry(partition(&change.at)).or_default().push(fact(change));
        }
        Ok(partitions.into_iter().collect())
    }

    async fn committed(&mut self) -> io::Result<Vec<(u32, u64)>> {
        let offsets = self.admin().await?.list_group_offsets(GROUP).await.map_err(failed)?;
        Ok(offsets.iter().map(|it| (partition(&it.at), unsigned(it.position.offset))).collect())
    }

    async fn reset(&mut self, targets: &[(u32, u64)]) -> io::Result<Moved> {
        let reset = targets.iter().fold(GroupReset::default(), |reset, (partition, to)| {
            let at = TopicPartition::new(TOPIC, number(*partition));
            let to = i64::try_from(*to).unwrap_or(i64::MAX);
            reset.and(ResetScope::Partition(at), ResetTo::Offset(to))
        });
        moved(self.admin().await?.reset_group_offsets(GROUP, &reset).await.map_err(failed)?)
    }

    async fn undo(&mut self, at_ms: i64, targets: &[(u32, u64)]) -> io::Result<Moved> {
        let at: Vec<TopicPartition> =
            targets.iter().map(|(at, _)| TopicPartition::new(TOPIC, number(*at))).collect();
        let undone = self.admin().await?.undo_group_offsets(GROUP, at_ms, &at, (false, "")).await;
        moved(undone.map_err(failed)?)
    }
}
