//! Owns how committed offsets change, and that each change leaves a fact: commits of members, final offsets of a hand-off,
//! resets, undo, deletion, expiry. Whether a commit's own conditions hold is `offsets`' to judge; whether the member may
//! commit at all is judged here, before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waymark_proto::ids::{ReplicaId, TopicId, TopicPartition};

use super::command::Release;
use super::events::{Event, EventKind};
use super::group::{Actor, Group};
use super::handoff::Change;
use super::ledger::{ChangeKind, Fact, PastOffset};
use super::{Groups, MemberId};
use crate::state::command::{CommitOffsets, Committer, OffsetCommit};
use crate::state::offsets::Offsets;
use crate::state::reply::Refusal;

/// What made a member commit with a hand-off, as on the wire.
const CAUSE_REVOKE: i32 = 4;

/// What a fact says beside from and to: what it was, when, and by whom.
struct Deed<'a> {
    kind: ChangeKind,
    cause: i32,
    note: &'a str,
    change: &'a Change,
}

impl Groups {
    /// Records a group's progress. A verdict per position; refused as a whole when the committer has no right at all.
    pub(in crate::state) fn commit(
        &mut self,
        leader: (u64, ReplicaId),
        commit: CommitOffsets,
        is_gone: impl Fn(TopicId) -> bool,
    ) -> Result<Vec<Result<(), Refusal>>, Refusal> {
        let name = commit.group.clone();
        let made = !self.by_name.contains_key(&name);
        let mut group = match self.by_name.remove(&name) {
            Some(group) => group,
            None => Group::new(self.made.saturating_add(1), commit.commit_time_ms),
        };
        let change =
            Change { time_ms: commit.commit_time_ms, actor: Arc::new(commit.actor.clone()) };
        let from = group.events.next_number();
        let before = group.last_leader;
        group.note_leader(leader, &change, made);
        let revived = group.expires_ms.take().is_some();
        group.events.stamp(from, group.generation);
        let outcome = group.commit((commit, &is_gone), &change, &mut self.offsets);
        let stored = outcome.iter().flatten().any(Result::is_ok);
        let header = made || revived || before != Some(leader);
        match (made && !stored, header) {
            (true, _) => {}
            (false, true) => self.put(name, group, made),
            // An ordinary commit leaves the group's own row as it is.
            (false, false) => {
                self.dirty.history_of(&name, &mut group);
                self.by_name.insert(name, group);
            }
        }
        outcome
    }

    /// Forgets positions of a group, all of them when none is named. Returns how many there were.
    pub(in crate::state) fn delete_offsets(
        &mut self,
        name: &str,
        partitions: &[TopicPartition],
        (time_ms, actor): (i64, Actor),
    ) -> Result<u64, Refusal> {
        let all = self.offsets.places_of(name);
        let named: BTreeSet<&TopicPartition> = partitions.iter().collect();
        let gone: Vec<TopicPartition> =
            all.into_iter().filter(|at| named.is_empty() || named.contains(at)).collect();
        // Its members would commit again what was deleted, or start where nobody expects.
        let in_use = |group: &Group| gone.iter().any(|at| group.holdings.contains_key(at));
        if self.by_name.get(name).is_some_and(in_use) {
            return Err(Refusal::TopicInUse);
        }
        let Some(mut group) = self.by_name.remove(name) else { return Ok(0) };
        let change = Change { time_ms, actor: Arc::new(actor) };
        let deed = Deed { kind: ChangeKind::Delete, cause: 0, note: "", change: &change };
        group.remove_offsets(name, &gone, &deed, &mut self.offsets);
        let from = group.events.next_number();
        if !gone.is_empty() {
            let event = Event::new(EventKind::Deleted, time_ms, &change.actor);
            group.events.push(event.about(&gone));
        }
        group.events.stamp(from, group.generation);
        self.put(name.to_owned(), group, false);
        Ok(gone.len() as u64)
    }
}

impl Group {
    fn commit(
        &mut self,
        (commit, is_gone): (CommitOffsets, &dyn Fn(TopicId) -> bool),
        change: &Change,
        offsets: &mut Offsets,
    ) -> Result<Vec<Result<(), Refusal>>, Refusal> {
        let mut forbidden = self.forbidden(&commit)?;
        // Sent before the deletion was known where it came from: nobody would ever take it away again.
        let gone = commit.items.iter().enumerate().filter(|(_, it)| is_gone(it.at.topic));
        forbidden.extend(gone.map(|(n, it)| (n, Refusal::NoTopic(it.at.topic))));
        let actor = match &commit.committer {
            Committer::Member { id, .. } => self.actor_of(id, &change.actor),
            _ => Arc::clone(&change.actor),
        };
        let change = Change { time_ms: change.time_ms, actor };
        let cause = commit.cause;
        let note = commit.note.clone();
        let deed = Deed { kind: ChangeKind::Commit, cause, note: &note, change: &change };
        Ok(self.record(commit, &forbidden, &deed, offsets))
    }

    /// Positions that the committer may not move, by their place in the commit.
    fn forbidden(&self, commit: &CommitOffsets) -> Result<BTreeMap<usize, Refusal>, Refusal> {
        let not_owner = |(n, it): (usize, &OffsetCommit)| (n, Refusal::NotOwner(it.at));
        let Committer::Member { id, epoch, instance } = &commit.committer else {
            // From outside: a program that was never told of the members would undo what they do.
            if !self.members.is_empty() {
                return Err(Refusal::GroupNotEmpty);
            }
            // An epoch that this group has not reached would fence every owner to come.
            let reached = (self.incarnation << 32) + i64::from(self.generation);
            let ahead = |it: &OffsetCommit| it.fencing_epoch.is_some_and(|epoch| epoch > reached);
            let items = commit.items.iter().enumerate();
            return Ok(items.filter(|(_, it)| ahead(it)).map(not_owner).collect());
        };
        self.check_member(id, instance.as_deref())?;
        let items = commit.items.iter().enumerate();
        Ok(items.filter(|(_, it)| !self.may_commit(it, id, *epoch)).map(not_owner).collect())
    }

    /// Stores what may be stored, with a fact for each position that moved.
    fn record(
        &mut self,
        commit: CommitOffsets,
        forbidden: &BTreeMap<usize, Refusal>,
        deed: &Deed<'_>,
        offsets: &mut Offsets,
    ) -> Vec<Result<(), Refusal>> {
        let group = commit.group.clone();
        // A partition that the commit names twice has moved once.
        let before: BTreeMap<TopicPartition, Option<i64>> =
            commit.items.iter().map(|it| (it.at, offsets.get(&group, it.at))).collect();
        let verdicts = offsets.commit(commit, forbidden);
        for (at, before) in before {
            let after = offsets.get(&group, at);
            self.note_move(at, (before, after), deed);
        }
        verdicts
    }

    fn note_move(
        &mut self,
        at: TopicPartition,
        (before, after): (Option<i64>, Option<i64>),
        deed: &Deed<'_>,
    ) {
        if before == after {
            return;
        }
        let Deed { kind, cause, note, change } = deed;
        let fact = Fact {
            sequence: 0,
            time_ms: change.time_ms,
            first_time_ms: change.time_ms,
            count: 1,
            before,
            after,
            kind: *kind,
            cause: *cause,
            actor: Arc::clone(&change.actor),
            generation: self.generation,
            note: (*note).to_owned(),
        };
        self.ledger.note(at, fact);
    }

    /// Where a member stopped, of partitions that it gives up.
    pub(super) fn final_offsets(
        &mut self,
        name: &str,
        release: &Release,
        change: &Change,
        offsets: &mut Offsets,
    ) -> Result<Vec<Result<(), Refusal>>, Refusal> {
        if !self.members.contains_key(&release.member) {
            return Err(Refusal::UnknownMember);
        }
        if crate::mutants::planted!("handoff-in-two-entries") {
            return Ok(vec![Ok(()); release.offsets.len()]);
        }
        let commit = CommitOffsets {
            group: name.to_owned(),
            committer: Committer::Member {
                id: release.member.to_string(),
                epoch: release.member_epoch,
                instance: None,
            },
            items: release.offsets.clone(),
            all_or_nothing: false,
            commit_seq: release.commit_seq,
            commit_time_ms: change.time_ms,
            cause: CAUSE_REVOKE,
            note: String::new(),
            actor: Actor::default(),
        };
        let forbidden = self.forbidden(&commit)?;
        let actor = self.actor_of(&release.member, &change.actor);
        let change = Change { time_ms: change.time_ms, actor };
        let (kind, cause) = (ChangeKind::Handoff, CAUSE_REVOKE);
        let deed = Deed { kind, cause, note: "", change: &change };
        Ok(self.record(commit, &forbidden, &deed, offsets))
    }

    /// Moves positions, and whoever holds them starts again there. Returns what was committed before.
    pub(super) fn reset(
        &mut self,
        (name, offsets): (&str, &mut Offsets),
        items: &[(TopicPartition, Option<i64>)],
        (kind, note): (ChangeKind, &str),
        change: &Change,
    ) -> Vec<Option<i64>> {
        let deed = Deed { kind, cause: 0, note, change };
        let mut all_before = Vec::with_capacity(items.len());
        for (at, to) in items {
            let before = offsets.get(name, *at);
            if !crate::mutants::planted!("reset-moves-nobody") {
                offsets.put(name, *at, *to, change.time_ms);
            }
            self.note_move(*at, (before, *to), &deed);
            self.restart(*at);
            all_before.push(before);
        }
        let kind = if kind == ChangeKind::Undo { EventKind::Undone } else { EventKind::Reset };
        let places: Vec<TopicPartition> = items.iter().map(|(at, _)| *at).collect();
        let mut event = Event::new(kind, change.time_ms, &change.actor).about(&places);
        if !note.is_empty() {
            note.clone_into(&mut event.detail);
        }
        self.events.push(event);
        self.reason = super::Reason::Reset;
        // It was raised for this change.
        self.moved = self.generation;
        all_before
    }

    /// Where an undo puts each partition: back to where it stood at a time.
    #[must_use]
    pub fn undo_plan(&self, to_ms: i64) -> Vec<(TopicPartition, PastOffset)> {
        self.ledger.places().map(|at| (at, self.ledger.at_time(at, to_ms))).collect()
    }

    pub(super) fn announce_expiry(&mut self, at_ms: Option<i64>, change: &Change) {
        if !self.members.is_empty() || self.expires_ms == at_ms {
            return;
        }
        self.expires_ms = at_ms;
        if let Some(at_ms) = at_ms {
            let event = Event::new(EventKind::ExpiryAnnounced, change.time_ms, &change.actor);
            let left = at_ms.saturating_sub(change.time_ms);
            self.events.push(Event { took_ms: Some(left), ..event });
        }
    }

    /// Nothing expires that was not announced.
    pub(super) fn expire(&mut self, name: &str, change: &Change, offsets: &mut Offsets) {
        let due = self.expires_ms.is_some_and(|at_ms| at_ms <= change.time_ms);
        if !due || !self.members.is_empty() {
            return;
        }
        self.expires_ms = None;
        let gone = offsets.places_of(name);
        let deed = Deed { kind: ChangeKind::Expiry, cause: 0, note: "", change };
        self.remove_offsets(name, &gone, &deed, offsets);
        let event = Event::new(EventKind::Expired, change.time_ms, &change.actor);
        self.events.push(event.about(&gone));
    }

    fn remove_offsets(
        &mut self,
        name: &str,
        gone: &[TopicPartition],
        deed: &Deed<'_>,
        offsets: &mut Offsets,
    ) {
        for at in gone {
            let before = offsets.get(name, *at);
            self.note_move(*at, (before, None), deed);
        }
        if !gone.is_empty() {
            offsets.delete(name, gone);
        }
    }
}

impl Group {
    /// A member's claim to be one, and to sit on its seat.
    ///
    /// # Errors
    /// When it is none, or another process has its seat.
    pub fn check_member(&self, member: &str, instance: Option<&str>) -> Result<&MemberId, Refusal> {
        if let Some((id, _)) = self.members.get_key_value(member) {
            return Ok(id);
        }
        match instance.and_then(|it| self.seated(it)) {
            Some(_) => Err(Refusal::InstanceFenced),
            None => Err(Refusal::UnknownMember),
        }
    }
}
