//! What the group service asks of the layer below, in domain types: the seam to the broker. Every call is answered by the
//! group's coordinator. Never a generated type.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;
use waymark_proto::failure::Failure;
use waymark_proto::ids::{NodeId, TopicPartition};

use crate::state::command::OffsetCommit;
pub use crate::state::groups::{
    Actor, Assignor, ChangeKind, Event, EventKind, ExpelCause, Fact, Limits, MemberId, PastOffset,
    Reason, Subscription,
};

/// One message of a member: all that it wants and holds.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// The group.
    pub group: String,
    /// The member, made by the client.
    pub member: String,
    /// The generation that it has taken on; `None`: it joins.
    pub member_epoch: Option<i32>,
    /// Its seat, where membership is static.
    pub instance: Option<String>,
    /// Its rack, may be empty.
    pub rack: String,
    /// What it wants to read; `None`: as before.
    pub subscription: Option<Subscription>,
    /// How it wants partitions shared out; `None`: as the group does.
    pub assignor: Option<Assignor>,
    /// Its limits; needed to join.
    pub limits: Option<Limits>,
    /// What it holds, with fencing epochs; `None`: as before.
    pub owned: Option<BTreeMap<TopicPartition, i64>>,
    /// Where it stopped, of what it gives up.
    pub final_offsets: Vec<OffsetCommit>,
    /// Orders `final_offsets` among its commits.
    pub commit_seq: i64,
    /// It leaves; `true`: to return.
    pub leave: Option<bool>,
    /// A number that differs each time the application came back for more; `None`: it waits for records.
    pub working_on: Option<i64>,
    /// Who calls.
    pub actor: Actor,
}

/// What a member may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub at: TopicPartition,
    /// The topic's name.
    pub topic: String,
    /// Monotone per group and partition for ever.
    pub fencing_epoch: i64,
    /// Where to start, and the leader epoch of the record before; `None`: nothing is committed.
    pub committed: Option<(i64, Option<i32>)>,
    /// It was asked back.
    pub revoked: Option<Revoked>,
}

/// A partition that was asked back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// Left of the time to give it up, ms.
    pub left_ms: i32,
    /// Why.
    pub reason: Reason,
}

/// What a member is told.
#[derive(Debug, Clone)]
pub struct Told {
    /// The group's generation; the member takes it on.
    pub generation: i32,
    /// Why it rose last.
    pub reason: Reason,
    /// All that it may hold, by partition.
    pub assigned: Vec<Assigned>,
    /// Its limits.
    pub limits: Limits,
    /// Time between its heartbeats, ms.
    pub heartbeat_ms: i32,
    /// Outcome of each final offset of the message that this answers.
    pub final_offsets: Vec<Result<(), Failure>>,
}

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No members.
    Empty,
    /// Every partition is where it should be.
    Stable,
    /// Some partitions are on their way.
    Moving,
}

/// A line of a list of groups.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The group.
    pub group: String,
    /// Where it stands.
    pub phase: Phase,
    /// Its generation.
    pub generation: i32,
    /// How many members it has.
    pub members: usize,
    /// How many partitions it has committed.
    pub committed: usize,
    /// How it shares partitions out.
    pub assignor: Assignor,
    /// Who coordinates it.
    pub coordinator: NodeId,
}

/// A member, as an operator sees it.
#[derive(Debug, Clone)]
pub struct MemberState {
    /// Its id.
    pub member: String,
    /// Its seat; empty: none.
    pub instance: String,
    /// Who it is.
    pub actor: Actor,
    /// Its rack.
    pub rack: String,
    /// What it wants to read.
    pub subscription: Subscription,
    /// When it joined, Unix ms.
    pub joined_ms: i64,
    /// Since its last sign of life, ms; `None`: none since this coordinator began.
    pub silent_ms: Option<i64>,
    /// At work on the same records, ms; `None`: it waits.
    pub working_ms: Option<i64>,
    /// Its limits.
    pub limits: Limits,
    /// What it holds.
    pub assigned: Vec<Assigned>,
    /// It left to return.
    pub away: bool,
    /// Has a session open.
    pub connected: bool,
}

/// A group, as an operator sees it.
#[derive(Debug, Clone)]
pub struct Description {
    /// The line of the list.
    pub summary: Summary,
    /// Its members, by id.
    pub members: Vec<MemberState>,
    /// When it was made, Unix ms.
    pub created_ms: i64,
    /// Since when it has no members.
    pub empty_since_ms: Option<i64>,
    /// When its offsets will go.
    pub expires_ms: Option<i64>,
    /// Partitions of its topics that nobody holds.
    pub unowned: Vec<TopicPartition>,
}

/// How far a group is behind.
#[derive(Debug, Clone)]
pub struct GroupLag {
    /// The group.
    pub group: String,
    /// Where it stands.
    pub phase: Phase,
    /// How many members it has.
    pub members: usize,
    /// Its generation.
    pub generation: i32,
    /// Partitions that it has committed or holds.
    pub partitions: Vec<PartitionLag>,
    /// When the leaders were asked, Unix ms.
    pub measured_ms: i64,
}

/// How far a group is behind in one partition.
#[derive(Debug, Clone)]
pub struct PartitionLag {
    /// The partition.
    pub at: TopicPartition,
    /// The next offset to read; `None`: never committed.
    pub committed: Option<i64>,
    /// Who holds it; empty: nobody.
    pub owner: String,
    /// The name that the owner's client gave itself.
    pub client_id: String,
    /// The log's first offset.
    pub log_start: i64,
    /// The log's end.
    pub high_watermark: i64,
    /// Records not committed as read; `None`: the leader did not say.
    pub records: Option<i64>,
    /// Age of the oldest of them, ms; 0: there is none.
    pub behind_ms: Option<i64>,
    /// Records a second by which the lag shrinks; `None`: not measured yet.
    pub catching_up: Option<f64>,
    /// Until retention removes the oldest of them, ms; `None`: it will not, or nobody can tell.
    pub loss_in_ms: Option<i64>,
    /// Unread records that retention has removed.
    pub lost_records: i64,
    /// Retention waits for this group here.
    pub held: bool,
}

/// Where a reset puts one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub at: TopicPartition,
    /// Where to; `None`: nothing is committed any more.
    pub to: Option<i64>,
}

/// What a reset is, and who wants it.
#[derive(Debug, Clone)]
pub struct Order {
    /// Reset or undo.
    pub kind: ChangeKind,
    /// Who.
    pub actor: Actor,
    /// Why, in their words.
    pub note: String,
    /// In which generation they saw the group, 0 before there was one: if it was moved since, nothing moves.
    pub seen: Option<i32>,
}

/// What a reset did.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The generation that it began.
    pub generation: i32,
    /// What was committed before, in order.
    pub before: Vec<Option<i64>>,
    /// Where each went: further on than was asked where the log begins only there.
    pub after: Vec<Option<i64>>,
    /// Members that go on from the new place.
    pub members: usize,
}

/// A part of a group's events.
pub type Events = Vec<(u64, Event)>;
/// A part of a group's ledger, and since when it is exact.
pub type History = (Vec<(TopicPartition, Fact)>, i64);

/// Consumer groups, at their coordinators.
#[async_trait]
pub trait Groups: Send + Sync + Debug + 'static {
    /// Takes a member's message, and says what the member may hold now.
    async fn update(&self, update: Update, deadline: Instant) -> Result<Told, Failure>;

    /// What a member may hold now.
    async fn look(&self, group: &str, member: &str) -> Result<Told, Failure>;

    /// Rises with each change of a group.
    fn changes(&self, group: &str) -> watch::Receiver<u64>;

    /// A session of a member began (`true`) or ended.
    fn connected(&self, group: &str, member: &str, begins: bool);

    /// The groups that this node coordinates.
    fn led(&self) -> Vec<Summary>;

    /// One group; linearizable.
    async fn describe(&self, group: &str, deadline: Instant) -> Result<Description, Failure>;

    /// Deletes a group without members.
    async fn delete(&self, group: &str, actor: Actor, deadline: Instant) -> Result<(), Failure>;

    /// Throws members out. Those that are none are told as such.
    async fn remove(
        &self,
        group: &str,
        members: Vec<MemberId>,
        (actor, note): (Actor, String),
        deadline: Instant,
    ) -> Result<(), Failure>;

    /// Moves committed offsets.
    async fn reset(
        &self,
        group: &str,
        moves: Vec<Move>,
        order: Order,
        deadline: Instant,
    ) -> Result<Moved, Failure>;

    /// Where each partition stood at a time.
    async fn past(
        &self,
        group: &str,
        at_ms: i64,
        deadline: Instant,
    ) -> Result<Vec<(TopicPartition, PastOffset)>, Failure>;

    /// How far groups are behind, in the order asked.
    async fn lags(&self, groups: &[String], deadline: Instant) -> Vec<Result<GroupLag, Failure>>;

    /// How far the groups were behind that this node coordinates, when it last looked.
    fn last_lags(&self) -> Vec<GroupLag>;

    /// The group's events from a number on, at most so many.
    async fn events(
        &self,
        group: &str,
        from: u64,
        limit: usize,
        deadline: Instant,
    ) -> Result<Events, Failure>;

    /// The group's ledger, in the order in which it was written, from a number on.
    async fn history(
        &self,
        group: &str,
        from: u64,
        limit: usize,
        deadline: Instant,
    ) -> Result<History, Failure>;
}

/// A shared handle to [`Groups`].
pub type SharedGroups = Arc<dyn Groups>;
