//! Groups that a test writes: what each member is told, and what was asked.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{NodeId, TopicPartition};

use crate::broker::groups::seam::{
    Actor, Assigned, Assignor, Description, Events, GroupLag, Groups, History, Limits, MemberId,
    Move, Moved, Order, PastOffset, Phase, Reason, Summary, Told, Update,
};

#[derive(Debug, Default)]
struct Contents {
    /// What each member holds, by member.
    held: BTreeMap<String, Vec<Assigned>>,
    generation: i32,
    sessions: i64,
    callers: Vec<Actor>,
    moves: Vec<Move>,
    /// In which generation whoever asked for the last reset saw the group.
    seen: Option<i32>,
}

#[derive(Debug)]
pub(super) struct FakeGroups {
    node: NodeId,
    contents: Mutex<Contents>,
    changes: watch::Sender<u64>,
}

impl FakeGroups {
    pub(super) fn new(node: NodeId) -> Self {
        Self { node, contents: Mutex::default(), changes: watch::Sender::new(0) }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a member holds this; its session hears of it.
    pub(super) fn give(&self, member: &str, held: Vec<Assigned>) {
        let mut contents = self.contents();
        contents.generation += 1;
        contents.held.insert(member.to_owned(), held);
        drop(contents);
        self.changes.send_modify(|count| *count += 1);
    }

    /// A member is none any more.
    pub(super) fn expel(&self, member: &str) {
        self.contents().held.remove(member);
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn seen(&self) -> Option<i32> {
        self.contents().seen
    }

    pub(super) fn sessions(&self) -> i64 {
        self.contents().sessions
    }

    pub(super) fn callers(&self) -> Vec<Actor> {
        self.contents().callers.clone()
    }

    pub(super) fn moves(&self) -> Vec<Move> {
        self.contents().moves.clone()
    }

    fn told(&self, member: &str) -> Result<Told, Failure> {
        let contents = self.contents();
        let Some(held) = contents.held.get(member) else {
            return Err(Failure::new(FailureCode::MemberFenced, "expelled"));
        };
        Ok(Told {
            generation: contents.generation,
            reason: Reason::Joined,
            assigned: held.clone(),
            limits: Limits { session_ms: 1, processing_ms: 2, drain_ms: 3 },
            heartbeat_ms: 4,
            final_offsets: Vec::new(),
        })
    }

    fn summary(&self, group: &str) -> Summary {
        let contents = self.contents();
        Summary {
            group: group.to_owned(),
            phase: if contents.held.is_empty() { Phase::Empty } else { Phase::Stable },
            generation: contents.generation,
            members: contents.held.len(),
            committed: 0,
            assignor: Assignor::Sticky,
            coordinator: self.node,
        }
    }
}

#[async_trait]
impl Groups for FakeGroups {
    async fn update(&self, update: Update, _: Instant) -> Result<Told, Failure> {
        let offsets = update.final_offsets.len();
        self.contents().callers.push(update.actor.clone());
        if update.member_epoch.is_none() {
            self.contents().held.entry(update.member.clone()).or_default();
        }
        Ok(Told { final_offsets: vec![Ok(()); offsets], ..self.told(&update.member)? })
    }

    async fn look(&self, _: &str, member: &str) -> Result<Told, Failure> {
        self.told(member)
    }

    fn changes(&self, _: &str) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn connected(&self, _: &str, _: &str, begins: bool) {
        self.contents().sessions += if begins { 1 } else { -1 };
    }

    fn led(&self) -> Vec<Summary> {
        vec![self.summary(&format!("group-{}", self.node.0))]
    }

    async fn describe(&self, group: &str, _: Instant) -> Result<Description, Failure> {
        let summary = self.summary(group);
        Ok(Description {
            summary,
            members: Vec::new(),
            created_ms: 1,
            empty_since_ms: None,
            expires_ms: None,
            unowned: Vec::new(),
        })
    }

    async fn delete(&self, _: &str, _: Actor, _: Instant) -> Result<(), Failure> {
        Ok(())
    }

    async fn remove(
        &self,
        _: &str,
        _: Vec<MemberId>,
        _: (Actor, String),
        _: Instant,
    ) -> Result<(), Failure> {
        Ok(())
    }

    async fn reset(
        &self,
        _: &str,
        moves: Vec<Move>,
        order: Order,
        _: Instant,
    ) -> Result<Moved, Failure> {
        let before = vec![None; moves.len()];
        let after = moves.iter().map(|it| it.to).collect();
        let mut contents = self.contents();
        (contents.moves, contents.seen) = (moves, order.seen);
        Ok(Moved { generation: 7, before, after, members: 2 })
    }

    async fn past(
        &self,
        _: &str,
        _: i64,
        _: Instant,
    ) -> Result<Vec<(TopicPartition, PastOffset)>, Failure> {
        Ok(Vec::new())
    }

    async fn lags(&self, groups: &[String], _: Instant) -> Vec<Result<GroupLag, Failure>> {
        let lag = |group: &String| GroupLag {
            group: group.clone(),
            phase: Phase::Empty,
            members: 0,
            generation: 1,
            partitions: Vec::new(),
            measured_ms: 5,
        };
        groups.iter().map(|group| Ok(lag(group))).collect()
    }

    fn last_lags(&self) -> Vec<GroupLag> {
        Vec::new()
    }

    async fn events(&self, _: &str, _: u64, _: usize, _: Instant) -> Result<Events, Failure> {
        Ok(Vec::new())
    }

    async fn history(&self, _: &str, _: u64, _: usize, _: Instant) -> Result<History, Failure> {
        Ok((Vec::new(), 0))
    }
}
