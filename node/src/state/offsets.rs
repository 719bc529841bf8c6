//! Owns the committed offsets of the shard's groups (CONTRACT §0.4–0.6). Never checks an offset against a partition:
//! that partition lives in another shard (S16), and a lower offset is legal after a seek.
//!
//! Who may commit is decided before, by `groups`: it says which positions of a command the committer has no right to.

use std::collections::{BTreeMap, BTreeSet};

use waymark_proto::ids::{TopicId, TopicPartition};

use super::command::{CommitOffsets, Committer, OffsetCommit};
use super::partitions::whole;
use super::reply::Refusal;
use crate::mutants;

/// A group's progress in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the record before it.
    pub leader_epoch: Option<i32>,
    /// The application's own words; `None` differs from empty.
    pub metadata: Option<String>,
    /// The leader's clock at the commit, Unix ms.
    pub commit_time_ms: i64,
    /// The highest sequence of the member that committed last; 0: not ordered.
    pub commit_seq: i64,
    /// The greatest fencing epoch that ever committed here.
    pub fencing_epoch: Option<i64>,
    /// The member that committed last; empty: from outside the group.
    pub member: String,
    /// The highest sequence of any commit in line, whoever made it, while the position is not deleted.
    pub highest_seq: i64,
}

/// The committed offsets of all groups of a shard. A group without any is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets {
    pub(in crate::state) groups: BTreeMap<String, BTreeMap<TopicPartition, CommittedOffset>>,
    /// Rows changed since the last drain.
    pub(in crate::state) dirty: BTreeMap<String, BTreeSet<TopicPartition>>,
}

impl Offsets {
    /// Records a group's positions: each is judged against what was stored before the command, then all that passed are
    /// written. Under `all_or_nothing` one refusal keeps all others out; a superseded item is no refusal in that sense,
    /// because what it asks for has been overtaken, not denied.
    ///
    /// `forbidden` are the items that the committer has no right to, by their place.
    pub(super) fn commit(
        &mut self,
        command: CommitOffsets,
        forbidden: &BTreeMap<usize, Refusal>,
    ) -> Vec<Result<(), Refusal>> {
        let stored = self.groups.get(&command.group);
        let judge = |(place, item): (usize, &OffsetCommit)| {
            if let Some(refusal) = forbidden.get(&place) {
                return Err(refusal.clone());
            }
            judge(stored.and_then(|group| group.get(&item.at)), item, &command)
        };
        let mut verdicts: Vec<Result<(), Refusal>> =
            command.items.iter().enumerate().map(judge).collect();
        if command.all_or_nothing && verdicts.iter().any(spoils) {
            verdicts
                .iter_mut()
                .filter(|it| it.is_ok())
                .for_each(|it| *it = Err(Refusal::NotAttempted));
        }
        if verdicts.iter().any(Result::is_ok) {
            self.write(command, &verdicts);
        }
        verdicts
    }

    fn write(&mut self, command: CommitOffsets, verdicts: &[Result<(), Refusal>]) {
        let member = command.committer.name().to_owned();
        // Who is not in line counts within itself: its numbers say nothing to others.
        let in_line = matches!(command.committer, Committer::Outside { in_line: true, .. });
        let line_seq = if in_line { command.commit_seq } else { 0 };
        let dirty = self.dirty.entry(command.group.clone()).or_default();
        let group = self.groups.entry(command.group).or_default();
        for (item, _) in command.items.into_iter().zip(verdicts).filter(|(_, it)| it.is_ok()) {
            let at = item.at;
            if mutants::planted!("commit-dropped") && item.offset % 3 == 0 {
                continue;
            }
            let before = group.get(&at);
            // A commit without a sequence must not make an older one with a sequence count as the newest again.
            let seq_before = before.filter(|it| it.member == member).map_or(0, |it| it.commit_seq);
            let fenced_before = before.and_then(|it| it.fencing_epoch);
            let highest_before = before.map_or(0, |it| it.highest_seq);
            let now = CommittedOffset {
                offset: item.offset,
                leader_epoch: item.leader_epoch,
                metadata: item.metadata,
                commit_time_ms: command.commit_time_ms,
                commit_seq: command.commit_seq.max(seq_before),
                fencing_epoch: item.fencing_epoch.max(fenced_before),
                member: member.clone(),
                highest_seq: line_seq.max(highest_before),
            };
            group.insert(at, now);
            dirty.insert(at);
        }
    }

    /// The offset of one partition, if it was ever committed.
    pub(super) fn get(&self, group: &str, at: TopicPartition) -> Option<i64> {
        self.groups.get(group)?.get(&at).map(|it| it.offset)
    }

    /// Partitions that a group has committed.
    pub(super) fn places_of(&self, group: &str) -> Vec<TopicPartition> {
        self.groups.get(group).into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    /// Puts a position where an operator wants it; `None`: nothing is committed any more. Whose commits were ordered before
    /// no longer counts, what was fenced stays fenced.
    pub(super) fn put(&mut self, group: &str, at: TopicPartition, to: Option<i64>, time_ms: i64) {
        let Some(offset) = to else {
            self.delete(group, &[at]);
            return;
        };
        let stored = self.groups.entry(group.to_owned()).or_default();
        let now = CommittedOffset {
            offset,
            leader_epoch: None,
            metadata: None,
            commit_time_ms: time_ms,
            commit_seq: 0,
            fencing_epoch: stored.get(&at).and_then(|it| it.fencing_epoch),
            member: String::new(),
            highest_seq: stored.get(&at).map_or(0, |it| it.highest_seq),
        };
        stored.insert(at, now);
        self.dirty.entry(group.to_owned()).or_default().insert(at);
    }

    /// Forgets positions of a group, all of them when none is named. Returns how many there were.
    pub(super) fn delete(&mut self, group: &str, partitions: &[TopicPartition]) -> u64 {
        let Some(stored) = self.groups.get_mut(group) else { return 0 };
        let mut gone: BTreeSet<TopicPartition> = if partitions.is_empty() {
            stored.keys().copied().collect()
        } else {
            partitions.iter().copied().collect()
        };
        gone.retain(|at| stored.remove(at).is_some());
        if stored.is_empty() {
            self.groups.remove(group);
        }
        let count = gone.len() as u64;
        if count > 0 {
            self.dirty.entry(group.to_owned()).or_default().append(&mut gone);
        }
        count
    }

    /// Forgets a topic in every group.
    pub(super) fn forget_topic(&mut self, topic: TopicId) {
        let dirty = &mut self.dirty;
        self.groups.retain(|name, stored| {
            let gone: Vec<TopicPartition> = stored.range(whole(topic)).map(|(at, _)| *at).collect();
            if !gone.is_empty() {
                gone.iter().for_each(|at| drop(stored.remove(at)));
                dirty.entry(name.clone()).or_default().extend(gone);
            }
            !stored.is_empty()
        });
    }
}

fn spoils(verdict: &Result<(), Refusal>) -> bool {
    matches!(verdict, Err(refusal) if *refusal != Refusal::Superseded)
}

fn judge(
    stored: Option<&CommittedOffset>,
    item: &OffsetCommit,
    command: &CommitOffsets,
) -> Result<(), Refusal> {
    if item.offset < 0 {
        return Err(Refusal::Invalid(format!("an offset must be at least 0, got {}", item.offset)));
    }
    let fenced = stored.and_then(|it| it.fencing_epoch);
    if let (Some(actual), Some(given)) = (fenced, item.fencing_epoch)
        && given < actual
    {
        return Err(Refusal::Fenced { actual });
    }
    if let Some(actual) =
        stored.map(|it| it.highest_seq).filter(|highest| is_behind(stored, command, *highest))
    {
        return Err(Refusal::SequenceBehind { actual });
    }
    let newest_seq = stored.filter(|it| is_same_member(it, command)).map_or(0, |it| it.commit_seq);
    let ordered = command.commit_seq > 0;
    if ordered && command.commit_seq < newest_seq && !mutants::planted!("superseded-ignored") {
        return Err(Refusal::Superseded);
    }
    let actual = stored.map(|it| it.offset);
    let is_repeat = ordered && command.commit_seq == newest_seq && actual == Some(item.offset);
    if item.expected_offset.is_some() && item.expected_offset != actual && !is_repeat {
        return Err(Refusal::ConditionFailed { actual });
    }
    Ok(())
}

/// A commit in line is late, or of a clock that is behind, unless it is above everything that others have committed. Only
/// its caller can tell which: it goes on above, and nobody does so for a repeat that was long on its way.
fn is_behind(stored: Option<&CommittedOffset>, command: &CommitOffsets, highest: i64) -> bool {
    let in_line = matches!(command.committer, Committer::Outside { in_line: true, .. });
    let of_another = stored.is_none_or(|it| !is_same_member(it, command));
    let ordered = in_line && command.commit_seq > 0 && !mutants::planted!("late-repeat-commits");
    ordered && of_another && command.commit_seq <= highest
}

/// Sequences order the commits of one named member. Who commits without a name may be another process each time, whose
/// sequence starts again: there the last arrival wins, or a restarted program could not commit at all.
fn is_same_member(stored: &CommittedOffset, command: &CommitOffsets) -> bool {
    let name = command.committer.name();
    !name.is_empty() && name == stored.member
}

#[cfg(test)]
mod tests {
    use waymark_proto::ids::PartitionId;

    use super::super::groups::Actor;
    use super::super::tests::arbitrary::without_bugs;
    use super::*;

    /// Every item is the committer's.
    const FREE: BTreeMap<usize, Refusal> = BTreeMap::new();

    fn at(partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(partition) }
    }

    fn item(partition: i32, offset: i64) -> OffsetCommit {
        OffsetCommit {
            at: at(partition),
            offset,
            leader_epoch: None,
            metadata: None,
            expected_offset: None,
            fencing_epoch: None,
        }
    }

    fn by(member: Option<&str>, commit_seq: i64, items: Vec<OffsetCommit>) -> CommitOffsets {
        CommitOffsets {
            group: "g".to_owned(),
            committer: Committer::Outside {
                name: member.unwrap_or_default().to_owned(),
                in_line: false,
            },
            items,
            all_or_nothing: true,
            commit_seq,
            commit_time_ms: 9,
            cause: 0,
            note: String::new(),
            actor: Actor::default(),
        }
    }

    fn stored(offsets: &Offsets, partition: i32) -> Option<i64> {
        offsets.groups.get("g").and_then(|group| group.get(&at(partition))).map(|it| it.offset)
    }

    #[test]
    fn a_late_commit_of_the_same_member_does_not_undo_a_newer_one() {
        let _alone = without_bugs();
        let mut offsets = Offsets::default();
        assert_eq!(offsets.commit(by(Some("m"), 2, vec![item(0, 20)]), &FREE), [Ok(())]);
        assert_eq!(
            offsets.commit(by(Some("m"), 1, vec![item(0, 10)]), &FREE),
            [Err(Refusal::Superseded)]
        );
        assert_eq!(stored(&offsets, 0), Some(20));
        assert_eq!(
            offsets.commit(by(Some("m"), 3, vec![item(0, 5)]), &FREE),
            [Ok(())],
            "a seek back"
        );
        assert_eq!(
            offsets.commit(by(Some("n"), 1, vec![item(0, 7)]), &FREE),
            [Ok(())],
            "another member"
        );
    }

    #[test]
    fn a_commit_without_sequence_does_not_reopen_older_sequences() {
        let _alone = without_bugs();
        let mut offsets = Offsets::default();
        offsets.commit(by(Some("m"), 5, vec![item(0, 50)]), &FREE);
        assert_eq!(offsets.commit(by(Some("m"), 0, vec![item(0, 60)]), &FREE), [Ok(())]);
        assert_eq!(
            offsets.commit(by(Some("m"), 4, vec![item(0, 40)]), &FREE),
            [Err(Refusal::Superseded)]
        );
    }

    fn in_line(member: &str, commit_seq: i64, offset: i64) -> CommitOffsets {
        let committer = Committer::Outside { name: member.to_owned(), in_line: true };
        CommitOffsets { committer, ..by(None, commit_seq, vec![item(0, offset)]) }
    }

    /// What is committed when a repeat of the first consumer's commit arrives after the second one's.
    fn after_a_late_repeat() -> Option<i64> {
        let mut offsets = Offsets::default();
        offsets.commit(in_line("m", 5, 50), &FREE);
        offsets.commit(in_line("n", 6, 20), &FREE);
        offsets.commit(in_line("m", 5, 50), &FREE);
        stored(&offsets, 0)
    }

    #[test]
    fn a_late_repeat_does_not_undo_the_commit_of_another_consumer() {
        let _alone = without_bugs();
        assert_eq!(after_a_late_repeat(), Some(20));
    }

    #[test]
    fn a_late_repeat_that_commits_is_caught() {
        let _bug = mutants::plant("late-repeat-commits");
        assert_eq!(after_a_late_repeat(), Some(50));
    }

    #[test]
    fn a_consumer_whose_clock_is_behind_is_told_what_to_be_above() {
        let _alone = without_bugs();
        let mut offsets = Offsets::default();
        assert_eq!(offsets.commit(in_line("m", 900, 1), &FREE), [Ok(())]);
        let behind = Err(Refusal::SequenceBehind { actual: 900 });
        assert_eq!(offsets.commit(in_line("n", 7, 2), &FREE), [behind]);
        assert_eq!(offsets.commit(in_line("n", 901, 2), &FREE), [Ok(())]);
        assert_eq!(offsets.commit(in_line("n", 901, 2), &FREE), [Ok(())], "its own repeat");
        assert_eq!(offsets.commit(in_line("n", 902, 3), &FREE), [Ok(())], "and its next one");
    }

    #[test]
    fn numbers_of_who_is_not_in_line_keep_nobody_out() {
        let _alone = without_bugs();
        let mut offsets = Offsets::default();
        offsets.commit(by(Some("m"), i64::MAX, vec![item(0, 1)]), &FREE);
        assert_eq!(offsets.commit(in_line("n", 7, 2), &FREE), [Ok(())]);
    }

    #[test]
    fn an_operators_word_is_not_undone_by_a_late_commit() {
        let _alone = without_bugs();
        let mut offsets = Offsets::default();
        offsets.commit(in_line("m", 5, 50), &FREE);
        offsets.put("g", at(0), Some(10), 1);
        let behind = Err(Refusal::SequenceBehind { actual: 5 });
        assert_eq!(offsets.commit(in_line("m", 5, 50), &FREE), [behind]);
    }

    #[test]
    fn commits_from_outside_are_not_ordered_by_sequence() {
        let _alone = without_bugs();
        let mut offsets = Offsets::default();
        offsets.commit(by(None, 100, vec![item(0, 50)]), &FREE);
        assert_eq!(offsets.commit(by(None, 1, vec![item(0, 60)]), &FREE), [Ok(())]);
    }

    #[test]
    fn one_refusal_keeps_all_others_out() {
        let _alone = without_bugs();
        let mut offsets = Offsets::default();
        let condition = OffsetCommit { expected_offset: Some(3), ..item(1, 4) };
        let items = vec![item(0, 1), condition];
        let refused = Refusal::ConditionFailed { actual: None };
        let all = by(None, 0, items.clone());
        assert_eq!(offsets.commit(all, &FREE), [Err(Refusal::NotAttempted), Err(refused.clone())]);
        assert_eq!(offsets, Offsets::default());
        let each = CommitOffsets { all_or_nothing: false, ..by(None, 0, items) };
        assert_eq!(offsets.commit(each, &FREE), [Ok(()), Err(refused)]);
        assert_eq!(stored(&offsets, 0), Some(1));
    }

    #[test]
    fn a_superseded_item_does_not_keep_the_others_out() {
        let _alone = without_bugs();
        let mut offsets = Offsets::default();
        offsets.commit(by(Some("m"), 9, vec![item(0, 90)]), &FREE);
        let verdicts = offsets.commit(by(Some("m"), 5, vec![item(0, 50), item(1, 51)]), &FREE);
        assert_eq!(verdicts, [Err(Refusal::Superseded), Ok(())]);
    }

    #[test]
    fn a_fencing_epoch_never_falls() {
        let _alone = without_bugs();
        let mut offsets = Offsets::default();
        let fenced = |epoch, offset| OffsetCommit { fencing_epoch: epoch, ..item(0, offset) };
        offsets.commit(by(None, 0, vec![fenced(Some(7), 1)]), &FREE);
        let older = offsets.commit(by(None, 0, vec![fenced(Some(6), 2)]), &FREE);
        assert_eq!(older, [Err(Refusal::Fenced { actual: 7 })]);
        assert_eq!(offsets.commit(by(None, 0, vec![fenced(None, 3)]), &FREE), [Ok(())]);
        assert_eq!(offsets.groups["g"][&at(0)].fencing_epoch, Some(7));
    }

    #[test]
    fn an_exact_repeat_of_a_conditional_commit_is_fine() {
        let _alone = without_bugs();
        let mut offsets = Offsets::default();
        offsets.commit(by(Some("m"), 1, vec![item(0, 1)]), &FREE);
        let conditional = OffsetCommit { expected_offset: Some(1), ..item(0, 2) };
        for _ in 0..2 {
            assert_eq!(
                offsets.commit(by(Some("m"), 2, vec![conditional.clone()]), &FREE),
                [Ok(())]
            );
        }
    }

    #[test]
    fn forgetting_leaves_no_empty_group() {
        let _alone = without_bugs();
        let mut offsets = Offsets::default();
        offsets.commit(by(None, 0, vec![item(0, 1), item(1, 1)]), &FREE);
        assert_eq!(offsets.delete("g", &[at(0), at(5)]), 1);
        offsets.forget_topic(TopicId([1; 16]));
        assert!(offsets.groups.is_empty());
        assert_eq!(offsets.delete("g", &[]), 0);
    }
}
