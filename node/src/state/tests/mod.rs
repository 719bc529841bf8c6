//! Random logs against what clients are promised: contiguous offsets, one producer's records once and in order, equal
//! states from equal logs. Each promise is a function that also judges the planted bugs.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};
use waymark_proto::ids::{ShardId, TopicPartition};

pub(in crate::state) mod arbitrary;

use self::arbitrary::without_bugs;
use crate::state::batch::BatchHeader;
use crate::state::command::{CatalogCommand, Command, CommitOffsets, Committer};
use crate::state::reply::{Effect, Refusal, Reply};
use crate::state::shard::{EntryAt, ShardState};

type Log = Vec<(EntryAt, Command)>;

/// Of each producer epoch of a partition, what was appended begins at sequence 0 and goes on without gap or repeat; and
/// the offsets of a partition are contiguous.
fn appends_are_once_and_in_order(log: Log) -> TestCaseResult {
    let mut state = ShardState::new(ShardId::CATALOG);
    let mut next_offsets: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    let mut next_sequences: BTreeMap<(TopicPartition, i64, i16), i32> = BTreeMap::new();
    for (at, command) in log {
        for effect in state.apply(at, command).effects {
            let Effect::Append(batch) = effect else { continue };
            let next = next_offsets.insert(batch.at, batch.next_offset).unwrap_or(0);
            prop_assert_eq!(batch.base_offset, next);
            let whole = [batch.stamp.as_slice(), &batch.body].concat();
            let header = BatchHeader::read(&whole).expect("only batches are appended");
            prop_assert_eq!(batch.next_offset - next, i64::from(header.record_count));
            if let Some(sent) = header.sequence {
                let key = (batch.at, sent.producer_id, sent.epoch);
                let next = next_sequences.insert(key, sent.first + sent.count).unwrap_or(0);
                prop_assert_eq!(sent.first, next);
            }
        }
        for (at, view) in state.partitions() {
            prop_assert_eq!(view.next_offset, next_offsets.get(&at).copied().unwrap_or(0));
        }
    }
    Ok(())
}

/// What a member committed with a sequence is replaced only by a sequence at least as high, while it alone commits.
fn commits_of_a_member_never_go_back(sequences: Vec<i64>) -> TestCaseResult {
    let mut state = ShardState::new(ShardId(1));
    let at = EntryAt { index: 1, term: 1, leader: Default::default() };
    let place = TopicPartition::default();
    let mut newest = 0;
    for commit_seq in sequences {
        let item = crate::state::command::OffsetCommit {
            at: place,
            offset: commit_seq * 10,
            leader_epoch: None,
            metadata: None,
            expected_offset: None,
            fencing_epoch: None,
        };
        let commit = CommitOffsets {
            group: "g".to_owned(),
            committer: Committer::Outside { name: "m".to_owned(), in_line: false },
            items: vec![item],
            all_or_nothing: true,
            commit_seq,
            commit_time_ms: 0,
            cause: 0,
            note: String::new(),
            actor: crate::state::groups::Actor::default(),
        };
        let applied = state.apply(at, Command::CommitOffsets(commit));
        let late = commit_seq < newest;
        let verdict = if late { Err(Refusal::Superseded) } else { Ok(()) };
        prop_assert_eq!(applied.reply, Reply::Committed(vec![verdict]));
        newest = newest.max(commit_seq);
        prop_assert_eq!(state.committed("g", place).map(|it| it.offset), Some(newest * 10));
    }
    Ok(())
}

fn runner() -> TestRunner {
    TestRunner::new(Config { failure_persistence: None, ..Config::default() })
}

#[test]
fn a_random_log_appends_once_and_in_order() {
    let _alone = without_bugs();
    let logs = arbitrary::log(arbitrary::produce());
    runner().run(&logs, appends_are_once_and_in_order).unwrap();
}

#[test]
fn random_commits_of_one_member_never_go_back() {
    let _alone = without_bugs();
    let sequences = prop::collection::vec(1_i64..9, 0..20);
    runner().run(&sequences, commits_of_a_member_never_go_back).unwrap();
}

/// Once a topic's partitions were closed, none of them is opened again, whatever comes late.
fn closed_topics_stay_closed(log: Log) -> TestCaseResult {
    let mut state = ShardState::new(ShardId(1));
    let mut closed = std::collections::BTreeSet::new();
    for (at, command) in log {
        if let Command::ClosePartitions { topic } = &command {
            closed.insert(*topic);
        }
        state.apply(at, command);
        prop_assert!(state.partitions().all(|(at, _)| !closed.contains(&at.topic)));
    }
    Ok(())
}

/// A group's floor rises unless it is lowered on purpose, and retention that saw a higher one removes nothing.
fn what_is_held_stays(log: Log) -> TestCaseResult {
    let mut state = ShardState::new(ShardId::CATALOG);
    for (at, command) in log {
        let before: BTreeMap<TopicPartition, (i64, Option<i64>)> =
            state.partitions().map(|(at, it)| (at, (it.log_start, it.hold_floor))).collect();
        state.apply(at, command.clone());
        for (at, view) in state.partitions() {
            let Some((log_start, floor)) = before.get(&at) else { continue };
            match &command {
                Command::SetHolds { lower: false, .. } => prop_assert!(view.hold_floor >= *floor),
                Command::SetHolds { lower: true, .. } => prop_assert!(view.hold_floor <= *floor),
                Command::AdvanceLogStart { items } => {
                    let held = floor.unwrap_or(i64::MAX);
                    let mut rises = items.iter().filter(|it| it.at == at && it.to > *log_start);
                    let may = rises.any(|it| it.floor_seen.is_none_or(|seen| seen <= held));
                    prop_assert!(may || view.log_start == *log_start);
                }
                Command::OpenPartitions { .. } | Command::AlterPartitions { .. } => {}
                _ => prop_assert_eq!(view.hold_floor, *floor),
            }
        }
    }
    Ok(())
}

#[test]
fn in_a_random_log_what_is_held_stays() {
    let _alone = without_bugs();
    runner().run(&arbitrary::log(arbitrary::command()), what_is_held_stays).unwrap();
}

#[test]
fn a_topic_that_was_deleted_is_neither_opened_late_nor_created_again() {
    let _alone = without_bugs();
    let mut state = ShardState::new(ShardId::CATALOG);
    let at = |index| EntryAt { index, term: 1, leader: Default::default() };
    let create = || CatalogCommand::CreateTopic {
        topic: arbitrary::topic(1),
        name: "a".to_owned(),
        partitions: 1,
        replication: 3,
        configs: Vec::new(),
        time_ms: 1,
    };
    let delete = CatalogCommand::DeleteTopic { topic: arbitrary::topic(1) };
    let gone = CatalogCommand::TopicStep { topic: arbitrary::topic(1), version: 2 };
    for (index, command) in
        (1..).zip([arbitrary::found(3), arbitrary::pool(3, 1), create(), delete, gone])
    {
        let applied = state.apply(at(index), Command::Catalog(command));
        assert!(!matches!(applied.reply, Reply::Refused(_)), "{:?}", applied.reply);
    }
    let again = state.apply(at(9), Command::Catalog(create()));
    assert!(matches!(again.reply, Reply::Refused(Refusal::Invalid(_))), "{:?}", again.reply);
    assert!(runner().run(&arbitrary::log(arbitrary::command()), closed_topics_stay_closed).is_ok());
}

proptest! {
    #[test]
    fn equal_logs_give_equal_states_effects_and_rows(log in arbitrary::log(arbitrary::command())) {
        let _alone = without_bugs();
        let mut states = [ShardState::new(ShardId::CATALOG), ShardState::new(ShardId::CATALOG)];
        for (at, command) in log {
            // One replica has the command at hand, the other reads it from its log.
            let encoded = command.encode();
            let [first, second] = &mut states;
            prop_assert_eq!(first.apply(at, command), second.apply_encoded(at, encoded));
        }
        let [first, second] = &mut states;
        prop_assert_eq!(first.drain_rows(), second.drain_rows());
        prop_assert_eq!(first, second);
    }

    #[test]
    fn a_leader_epoch_rises_with_each_leadership(log in arbitrary::log(arbitrary::command())) {
        let mut state = ShardState::new(ShardId(1));
        let mut last = None;
        let mut leaders = 0;
        for (at, _) in log {
            let changed = last.replace((at.term, at.leader)) != Some((at.term, at.leader));
            leaders += i64::from(changed);
            prop_assert_eq!(state.observe(at).effects.contains(&Effect::LeaderChanged), changed);
            prop_assert_eq!(state.leaders.seen, leaders);
        }
    }
}

#[test]
fn an_entry_that_is_no_command_is_refused_and_counts_its_leader() {
    let mut state = ShardState::new(ShardId(1));
    let at = EntryAt { index: 1, term: 7, leader: Default::default() };
    let applied = state.apply_encoded(at, bytes::Bytes::from_static(b"?"));
    assert!(matches!(applied.reply, Reply::Refused(Refusal::Invalid(_))));
    assert_eq!(applied.effects, [Effect::LeaderChanged]);
}

mod planted_bugs {
    use super::*;

    #[test]
    fn appending_a_repeat_again_is_caught() {
        let _bug = crate::mutants::plant("dup-appends");
        let logs = arbitrary::log(arbitrary::produce());
        assert!(runner().run(&logs, appends_are_once_and_in_order).is_err());
    }

    #[test]
    fn using_an_offset_twice_is_caught() {
        let _bug = crate::mutants::plant("offset-reused");
        let logs = arbitrary::log(arbitrary::produce());
        assert!(runner().run(&logs, appends_are_once_and_in_order).is_err());
    }

    #[test]
    fn letting_an_epoch_begin_anywhere_is_caught() {
        let _bug = crate::mutants::plant("epoch-from-zero-skipped");
        let logs = arbitrary::log(arbitrary::produce());
        assert!(runner().run(&logs, appends_are_once_and_in_order).is_err());
    }

    #[test]
    fn opening_a_closed_topic_late_is_caught() {
        let _bug = crate::mutants::plant("late-open-reopens");
        let logs = arbitrary::log(arbitrary::command());
        assert!(runner().run(&logs, closed_topics_stay_closed).is_err());
    }

    #[test]
    fn letting_a_late_commit_win_is_caught() {
        let _bug = crate::mutants::plant("superseded-ignored");
        let sequences = prop::collection::vec(1_i64..9, 0..20);
        assert!(runner().run(&sequences, commits_of_a_member_never_go_back).is_err());
    }
}
