//! The fake's coordinator: members in the order in which they joined, partitions dealt out in turn, one owner each under a
//! rising fencing epoch, hand-off by revoke, commits fenced per partition. Faults on demand. Only [`super::TOPIC`] exists.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use waymark_proto::v1 as wire;
use wire::{FailureCode as Code, RetryClass as Class};

use super::{Fake, Inner, TOPIC, TOPIC_ID, failure};

pub const GROUP: &str = "g";
/// How often members are to report.
pub const HEARTBEAT_MS: i32 = 500;

type Updates = mpsc::Sender<Result<wire::CoordinatorUpdate, Status>>;

/// Who holds a partition.
#[derive(Debug, Clone)]
pub struct Owner {
    pub member: String,
    pub fencing_epoch: i64,
    pub revoking: bool,
}

#[derive(Debug)]
pub struct Seat {
    pub instance: Option<String>,
    pub away: bool,
    pub session_timeout_ms: i32,
    pub drain_timeout_ms: i32,
    updates: Option<Updates>,
}

#[derive(Debug, Default)]
pub struct Group {
    pub generation: i32,
    /// In the order in which they joined.
    pub members: Vec<(String, Seat)>,
    pub owners: BTreeMap<i32, Owner>,
    /// The highest given out, by partition.
    pub fencing: BTreeMap<i32, i64>,
    /// Every message that arrived.
    pub heard: Vec<wire::MemberUpdate>,
    /// The next messages meet these.
    pub faults: VecDeque<wire::Failure>,
    /// Says nothing, and hears nothing.
    pub silent: bool,
    /// Hears nothing, and says on its own what there is to say.
    pub deaf: bool,
    /// Final offsets that were taken: partition, offset.
    pub finals: Vec<(i32, i64)>,
    /// How often the coordinator was looked for.
    pub finds: usize,
    /// Members that were told to be fenced, by this failure.
    pub fenced: BTreeMap<String, Code>,
    /// Partitions are dealt out only while set.
    pub dealing: bool,
}

impl Group {
    pub fn joins(&self) -> usize {
        let joins = self.heard.iter().filter(|message| message.member_epoch.is_none());
        joins.map(|message| &message.member_id).collect::<std::collections::BTreeSet<_>>().len()
    }

    pub fn member_ids(&self) -> Vec<String> {
        self.members.iter().map(|(id, _)| id.clone()).collect()
    }

    pub fn owned_by(&self, member: &str) -> Vec<i32> {
        let owned = self.owners.iter().filter(|(_, owner)| owner.member == member);
        owned.map(|(partition, _)| *partition).collect()
    }

    fn seat(&mut self, member: &str) -> Option<&mut Seat> {
        self.members.iter_mut().find(|(id, _)| id == member).map(|(_, seat)| seat)
    }
}

impl Fake {
    /// Takes a member out of the group, and tells it so.
    pub fn expel(&self, member: &str) {
        self.lock().remove(member);
        self.lock().group.fenced.insert(member.to_owned(), Code::MemberFenced);
        self.lock().deal();
    }

    /// Moves a committed offset under a running group.
    pub fn reset(&self, partition: i32, offset: i64) {
        let mut inner = self.lock();
        inner.committed.insert((GROUP.to_owned(), partition), offset);
        inner.group.generation += 1;
        let fencing_epoch = inner.next_fencing(partition);
        let owner = inner.group.owners.get_mut(&partition).unwrap();
        owner.fencing_epoch = fencing_epoch;
        let member = owner.member.clone();
        inner.push(&member);
    }

    /// Gives a partition to somebody who is not there, as after a drain deadline.
    pub fn take_away(&self, partition: i32) {
        let mut inner = self.lock();
        inner.group.generation += 1;
        inner.group.dealing = false;
        let owner = inner.group.owners.remove(&partition).unwrap();
        inner.push(&owner.member);
    }

    /// Tells a member what it may hold, unasked.
    pub fn remind(&self, member: &str) {
        self.lock().push(member);
    }

    /// Breaks every session.
    pub fn break_sessions(&self) {
        for (_, seat) in &mut self.lock().group.members {
            seat.updates = None;
        }
    }
}

impl Inner {
    fn next_fencing(&mut self, partition: i32) -> i64 {
        let last = self.group.fencing.entry(partition).or_insert(1 << 32);
        *last += 1;
        *last
    }

    /// Moves every partition towards the member whose turn it is.
    pub fn deal(&mut self) {
        let members = self.group.member_ids();
        if members.is_empty() || !self.group.dealing {
            return;
        }
        for partition in 0..self.partitions {
            let turn = usize::try_from(partition).unwrap() % members.len();
            let wanted = &members[turn];
            match self.group.owners.get_mut(&partition) {
                Some(owner) if owner.member == *wanted || owner.revoking => {}
                Some(owner) => {
                    owner.revoking = true;
                    self.group.generation += 1;
                }
                None => {
                    self.group.generation += 1;
                    let fencing_epoch = self.next_fencing(partition);
                    let owner = Owner { member: wanted.clone(), fencing_epoch, revoking: false };
                    self.group.owners.insert(partition, owner);
                }
            }
        }
        members.iter().for_each(|member| self.push(member));
    }

    fn remove(&mut self, member: &str) {
        self.group.generation += 1;
        self.group.owners.retain(|_, owner| owner.member != member);
        self.group.members.retain(|(id, _)| id != member);
    }

    fn push(&mut self, member: &str) {
        let update = self.update(member);
        if self.group.silent {
            return;
        }
        if let Some(updates) = self.group.seat(member).and_then(|seat| seat.updates.clone()) {
            let _ = updates.try_send(Ok(update));
        }
    }

    fn update(&mut self, member: &str) -> wire::CoordinatorUpdate {
        let (topic_id, group) = (bytes::Bytes::copy_from_slice(&TOPIC_ID), &self.group);
        let seat = group.members.iter().find(|(id, _)| id == member).map(|(_, seat)| seat);
        let owned = || group.owners.iter().filter(|(_, owner)| owner.member == member);
        let partitions = owned().map(|(partition, owner)| wire::AssignedPartition {
            topic_id: topic_id.clone(),
            topic: TOPIC.to_owned(),
            partition: Some(*partition),
            fencing_epoch: owner.fencing_epoch,
            committed_offset: self.committed.get(&(GROUP.to_owned(), *partition)).copied(),
            ..Default::default()
        });
        let revoke =
            owned().filter(|(_, owner)| owner.revoking).map(|(partition, _)| wire::Revoke {
                topic_id: topic_id.clone(),
                partition: Some(*partition),
                deadline_ms: seat.map_or(30_000, |seat| seat.drain_timeout_ms),
                reason: "planned".to_owned(),
            });
        wire::CoordinatorUpdate {
            generation: group.generation,
            member_epoch: group.generation,
            heartbeat_interval_ms: HEARTBEAT_MS,
            assignment: Some(wire::Assignment { partitions: partitions.collect() }),
            revoke: revoke.collect(),
            session_timeout_ms: seat.map_or(0, |seat| seat.session_timeout_ms),
            ..Default::default()
        }
    }

    /// `None`: silence.
    fn answer(
        &mut self,
        message: &wire::MemberUpdate,
        updates: Option<&Updates>,
    ) -> Option<wire::CoordinatorUpdate> {
        if self.group.deaf
            && let (Some(seat), Some(updates)) = (self.group.seat(&message.member_id), updates)
        {
            seat.updates = Some(updates.clone());
        }
        if self.group.silent || self.group.deaf {
            return None;
        }
        self.group.heard.push(message.clone());
        let answers = message.message_number;
        let refuse = |failure| {
            let failure = Some(failure);
            Some(wire::CoordinatorUpdate { failure, answers, ..Default::default() })
        };
        if let Some(fault) = self.group.faults.pop_front() {
            return refuse(fault);
        }
        let member = &message.member_id;
        if let Some(code) = self.group.fenced.get(member) {
            return refuse(failure(*code, Class::Fenced));
        }
        if message.member_epoch.is_none()
            && let Err(failure) = self.join(message)
        {
            return refuse(failure);
        }
        let Some(seat) = self.group.seat(member) else {
            return refuse(failure(Code::UnknownMember, Class::Fenced));
        };
        if let Some(updates) = updates {
            seat.updates = Some(updates.clone());
        }
        let final_offsets = message.final_offsets.iter().map(|last| self.take(member, last));
        let final_offsets = final_offsets.collect();
        self.release(message);
        self.bid_farewell(message);
        self.deal();
        let mut update = self.update(member);
        (update.final_offsets, update.answers) = (final_offsets, answers);
        Some(update)
    }

    fn join(&mut self, message: &wire::MemberUpdate) -> Result<(), wire::Failure> {
        let id = message.member_id.clone();
        if self.group.seat(&id).is_some() {
            return Ok(());
        }
        let seat = Seat {
            instance: message.instance_id.clone(),
            away: false,
            session_timeout_ms: message.session_timeout_ms,
            drain_timeout_ms: message.drain_timeout_ms,
            updates: None,
        };
        let same =
            self.group.members.iter_mut().find(|(_, other)| {
                other.instance.is_some() && other.instance == message.instance_id
            });
        match same {
            Some((_, other)) if !other.away => {
                return Err(failure(Code::InstanceInUse, Class::Retry));
            }
            Some((old, other)) => {
                let old = std::mem::replace(old, id.clone());
                *other = seat;
                let held: Vec<i32> = self.group.owned_by(&old);
                for partition in held {
                    let fencing_epoch = self.next_fencing(partition);
                    let owner = Owner { member: id.clone(), fencing_epoch, revoking: false };
                    self.group.owners.insert(partition, owner);
                }
            }
            None => {
                self.group.generation += 1;
                self.group.members.push((id, seat));
            }
        }
        Ok(())
    }

    fn take(&mut self, member: &str, last: &wire::OffsetCommit) -> wire::OffsetResult {
        let (partition, offset) = (last.partition.unwrap(), last.offset.unwrap());
        let owner = self.group.owners.get(&partition);
        let owns = owner.is_some_and(|owner| {
            owner.member == member && Some(owner.fencing_epoch) == last.fencing_epoch
        });
        if owns {
            self.committed.insert((GROUP.to_owned(), partition), offset);
            self.group.finals.push((partition, offset));
        }
        let refused = (!owns).then(|| failure(Code::NotOwner, Class::Fenced));
        wire::OffsetResult {
            topic: last.topic.clone(),
            partition: last.partition,
            failure: refused,
        }
    }

    fn release(&mut self, message: &wire::MemberUpdate) {
        let Some(owned) = &message.owned else { return };
        let kept: Vec<i32> = owned.partitions.iter().map(|p| p.partition.unwrap()).collect();
        self.group.owners.retain(|partition, owner| {
            owner.member != message.member_id || !owner.revoking || kept.contains(partition)
        });
    }

    fn bid_farewell(&mut self, message: &wire::MemberUpdate) {
        match message.leave() {
            wire::Leave::ForGood => self.remove(&message.member_id),
            wire::Leave::WillReturn => {
                if let Some(seat) = self.group.seat(&message.member_id) {
                    seat.away = true;
                }
            }
            wire::Leave::Unspecified => {}
        }
    }

    fn behind(&self, request: &wire::CommitOffsetsRequest) -> Vec<wire::OffsetResult> {
        let actual = Some(self.highest_seq);
        let refused = wire::Failure { actual, ..failure(Code::CommitSeqBehind, Class::Fix) };
        let result = |commit: &wire::OffsetCommit| {
            let (topic, partition) = (commit.topic.clone(), commit.partition);
            wire::OffsetResult { topic, partition, failure: Some(refused.clone()) }
        };
        request.offsets.iter().map(result).collect()
    }

    /// The verdict on each offset of a commit; empty: all are taken.
    pub fn judge_commit(&self, request: &wire::CommitOffsetsRequest) -> Vec<wire::OffsetResult> {
        let member = request.member.clone().unwrap_or_default();
        if member.member_epoch.is_none() {
            let late = request.commit_seq_in_line && request.commit_seq <= self.highest_seq;
            return if late { self.behind(request) } else { Vec::new() };
        }
        let owns = |commit: &wire::OffsetCommit| {
            let owner = self.group.owners.get(&commit.partition.unwrap());
            owner.is_some_and(|owner| {
                owner.member == member.member_id
                    && Some(owner.fencing_epoch) == commit.fencing_epoch
            })
        };
        if request.offsets.iter().all(owns) {
            return Vec::new();
        }
        let result = |commit: &wire::OffsetCommit| {
            let refused = if owns(commit) {
                failure(Code::NotAttempted, Class::Retry)
            } else {
                failure(Code::NotOwner, Class::Fenced)
            };
            let (topic, partition) = (commit.topic.clone(), commit.partition);
            wire::OffsetResult { topic, partition, failure: Some(refused) }
        };
        request.offsets.iter().map(result).collect()
    }
}

macro_rules! not_in_the_box {
    ($($name:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl wire::group_service_server::GroupService for Fake {
            type SessionStream =
                Pin<Box<dyn Stream<Item = Result<wire::CoordinatorUpdate, Status>> + Send>>;

            async fn session(
                &self,
                request: Request<Streaming<wire::MemberUpdate>>,
            ) -> Result<Response<Self::SessionStream>, Status> {
                Ok(Response::new(self.serve(request.into_inner())))
            }

            async fn heartbeat(
                &self,
                request: Request<wire::MemberUpdate>,
            ) -> Result<Response<wire::CoordinatorUpdate>, Status> {
                let answer = self.lock().answer(&request.into_inner(), None);
                answer.map(Response::new).ok_or_else(|| Status::unavailable("silent"))
            }

            $(async fn $name(
                &self,
                _: Request<wire::$request>,
            ) -> Result<Response<wire::$response>, Status> {
                Err(Status::unimplemented("not in the box"))
            })*
        }
    };
}

not_in_the_box! {
    list_groups(ListGroupsRequest) -> ListGroupsResponse;
    describe_groups(DescribeGroupsRequest) -> DescribeGroupsResponse;
    delete_groups(DeleteGroupsRequest) -> DeleteGroupsResponse;
    remove_members(RemoveMembersRequest) -> RemoveMembersResponse;
    reset_offsets(ResetOffsetsRequest) -> ResetOffsetsResponse;
    undo_offsets(UndoOffsetsRequest) -> ResetOffsetsResponse;
    list_offset_history(ListOffsetHistoryRequest) -> ListOffsetHistoryResponse;
    list_group_events(ListGroupEventsRequest) -> ListGroupEventsResponse;
    get_lag(GetLagRequest) -> GetLagResponse;
}

impl Fake {
    fn serve(
        &self,
        mut messages: Streaming<wire::MemberUpdate>,
    ) -> Pin<Box<dyn Stream<Item = Result<wire::CoordinatorUpdate, Status>> + Send>> {
        let (updates, receiver) = mpsc::channel(64);
        let (fake, weak) = (self.clone(), updates.downgrade());
        // Held by the seat alone once the member is known, so that a test can end the stream.
        let mut first = Some(updates);
        tokio::spawn(async move {
            while let Ok(Some(message)) = messages.message().await {
                let Some(updates) = first.take().or_else(|| weak.upgrade()) else { return };
                let answer = fake.lock().answer(&message, Some(&updates));
                match answer {
                    Some(answer) => {
                        let failed = answer.failure.is_some();
                        let _ = updates.send(Ok(answer)).await;
                        first = failed.then_some(updates);
                    }
                    None => first = Some(updates),
                }
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}
