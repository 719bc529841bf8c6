//! Single rules of groups, each as a sentence.

use super::*;

fn joined(life: &mut Life, who: &[usize]) {
    for who in who {
        life.join(*who, false);
        life.hear(*who);
    }
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: topic(1), partition: PartitionId(partition) }
}

fn commit_by(committer: Committer, items: Vec<OffsetCommit>) -> Command {
    Command::CommitOffsets(CommitOffsets {
        group: GROUP.to_owned(),
        committer,
        items,
        all_or_nothing: true,
        commit_seq: 0,
        commit_time_ms: 0,
        cause: 0,
        note: String::new(),
        actor: Actor::default(),
    })
}

fn kinds(life: &Life) -> Vec<EventKind> {
    life.group().unwrap().events.iter().map(|(_, event)| event.kind).collect()
}

#[test]
fn a_member_that_keeps_its_partitions_commits_on_while_others_join() {
    let _alone = without_bugs();
    let mut life = Life::new();
    joined(&mut life, &[1]);
    life.join(2, false);
    life.join(3, false);
    // It has not heard of the new generations yet, and commits what it holds.
    life.commit(1, 5, false).unwrap();
    assert_eq!(life.model.len(), 3);
}

#[test]
fn what_nobody_reads_any_more_is_its_owners_until_that_has_given_it_up() {
    let _alone = without_bugs();
    let mut life = Life::new();
    life.join(1, true);
    life.hear(1);
    life.join(1, false);
    let unread = |life: &Life| -> Vec<TopicPartition> {
        let holdings = life.group().unwrap().holdings.keys();
        holdings.filter(|at| at.topic == topic(2)).copied().collect()
    };
    assert_eq!(unread(&life).len(), 3);
    assert!(life.group().unwrap().is_moving());
    let rows = life.state.drain_rows().into_iter().filter_map(|row| Some((row.key, row.value?)));
    let rows: Vec<(Vec<u8>, Vec<u8>)> = rows.collect();
    let read = ShardState::from_rows(ShardId(1), &rows).unwrap();
    assert_eq!(read.group(GROUP).unwrap().holdings, life.group().unwrap().holdings);
    life.commit(1, 5, false).unwrap();
    assert_eq!(life.model.len(), 6, "it commits what it has in hand");
    life.drain(1, 2).unwrap();
    assert!(unread(&life).is_empty() && !life.group().unwrap().is_moving());
    assert!(
        life.model.iter().all(|(at, offset)| *offset == if at.topic == topic(2) { 7 } else { 5 })
    );
    let events = &life.group().unwrap().events;
    let last = events.iter().next_back().unwrap().1;
    assert_eq!((last.kind, &*last.from, &*last.member), (EventKind::Assigned, "b", ""));
    assert_eq!((last.partitions.len(), last.took_ms.is_some()), (3, true));
}

#[test]
fn who_reads_an_unread_topic_next_starts_where_its_last_owner_stops() {
    let _alone = without_bugs();
    let mut life = Life::new();
    life.join(1, true);
    life.hear(1);
    life.join(1, false);
    life.join(2, true);
    let unread = TopicPartition { topic: topic(2), partition: PartitionId(0) };
    let owner =
        |life: &Life| life.group().unwrap().holdings.get(&unread).unwrap().owner.to_string();
    assert_eq!(owner(&life), "b");
    life.drain(1, 4).unwrap();
    assert_eq!((owner(&life), life.model[&unread]), ("c".to_owned(), 4));
    // Its last reader may also think better of it.
    life.hear(2);
    life.join(2, false);
    life.join(2, true);
    assert_eq!((owner(&life), life.group().unwrap().is_moving()), ("c".to_owned(), false));
}

#[test]
fn of_a_topic_that_is_gone_or_moved_back_nothing_is_left_to_finish() {
    let _alone = without_bugs();
    let mut life = Life::new();
    life.join(1, true);
    life.join(1, false);
    let held = |life: &Life| life.group().unwrap().held_by("b").count();
    assert_eq!(held(&life), 6);
    let at = TopicPartition { topic: topic(2), partition: PartitionId(0) };
    let items = vec![(at, Some(0))];
    let (kind, note) = (ChangeKind::Reset, String::new());
    life.change(GroupChange::Reset { items, kind, note, seen: None });
    assert_eq!(held(&life), 5, "what its owner has in hand counts no more");
    let group = life.group().unwrap();
    let members = group.members.iter().map(|(id, it)| (id.clone(), it.topics.clone())).collect();
    let (seen, topics) = (group.generation, life.topics(false));
    life.change(GroupChange::Topics { seen, topics, members });
    assert_eq!(held(&life), 3, "the other topic was deleted");
}

#[test]
fn who_is_late_with_what_nobody_reads_loses_it() {
    let _alone = without_bugs();
    let mut life = Life::new();
    life.join(1, true);
    life.hear(1);
    life.join(1, false);
    life.step(Step::Overdue).unwrap();
    assert_eq!(life.group().unwrap().held_by("b").count(), 3);
    life.commit(1, 5, false).unwrap();
    assert_eq!(life.model.len(), 3);
}

#[test]
fn a_seat_outlives_its_process_and_moves_nobody_else() {
    let _alone = without_bugs();
    let mut life = Life::new();
    joined(&mut life, &[0, 1]);
    settle(&mut life).unwrap();
    let held = |life: &Life, who: &str| -> Vec<TopicPartition> {
        life.group().unwrap().held_by(who).map(|(at, _)| at).collect()
    };
    let (seat, other) = (held(&life, "a"), held(&life, "b"));
    life.step(Step::Leave { who: 0, to_return: true, processed: 1 }).unwrap();
    assert_eq!(held(&life, "a"), seat, "its partitions wait");
    let mut again = join_of("a2");
    again.instance = Some("seat".to_owned());
    life.change(GroupChange::Join(again));
    assert_eq!((held(&life, "a2"), held(&life, "b")), (seat, other));
    assert!(kinds(&life).contains(&EventKind::Returned));
    assert!(!life.group().unwrap().is_moving());
    let stranger = life.group().unwrap().check_member("a", Some("seat"));
    assert_eq!(stranger, Err(Refusal::InstanceFenced));
}

fn join_of(member: &str) -> Join {
    Join {
        member: member.into(),
        instance: None,
        takes_over: false,
        rack: String::new(),
        subscription: Subscription { names: ["t1".to_owned()].into(), pattern: String::new() },
        topics: [(topic(1), TopicFacts { name: "t1".to_owned(), partitions: 3 })].into(),
        assignor: None,
        limits: Limits { session_ms: 1, processing_ms: 1, drain_ms: 1 },
    }
}

#[test]
fn a_seat_in_use_is_refused_unless_it_may_be_taken_over() {
    let _alone = without_bugs();
    let mut life = Life::new();
    joined(&mut life, &[0]);
    let mut second = join_of("a2");
    second.instance = Some("seat".to_owned());
    let refused = life.change(GroupChange::Join(second.clone()));
    assert_eq!(refused, Reply::Refused(Refusal::InstanceInUse("seat".to_owned())));
    second.takes_over = true;
    assert!(matches!(life.change(GroupChange::Join(second)), Reply::Group(_)));
    life.commit(0, 1, false).unwrap();
    assert!(life.model.is_empty(), "the process that lost its seat commits nothing");
}

#[test]
fn a_group_that_is_made_again_goes_on_above_its_old_fencing_epochs() {
    let _alone = without_bugs();
    let mut life = Life::new();
    joined(&mut life, &[1, 2]);
    let fence = |life: &Life| {
        let group = life.group().unwrap();
        group.holdings.values().map(|it| group.fencing_epoch(it)).max().unwrap()
    };
    let old = fence(&life);
    for who in [1, 2] {
        life.step(Step::Expel { who }).unwrap();
    }
    assert!(matches!(life.change(GroupChange::Delete), Reply::Group(_)));
    assert!(life.group().is_none());
    life.join(3, false);
    assert!(fence(&life) > old);
}

#[test]
fn an_offset_expires_only_when_announced_and_due_and_nobody_came() {
    let _alone = without_bugs();
    let mut life = Life::new();
    life.step(Step::Reset { partition: 0, to: 5 }).unwrap();
    life.change(GroupChange::Expire);
    assert!(life.state.committed(GROUP, at(0)).is_some(), "it was not announced");
    let at_ms = Some(life.clock + 5_000);
    life.change(GroupChange::AnnounceExpiry { at_ms });
    life.change(GroupChange::Expire);
    assert!(life.state.committed(GROUP, at(0)).is_some(), "it is not due");
    life.clock += 10_000;
    life.change(GroupChange::Expire);
    assert!(life.state.committed(GROUP, at(0)).is_none());
    let last = life.group().unwrap().ledger.iter().last().map(|(_, fact)| fact.kind);
    assert_eq!(last, Some(ChangeKind::Expiry));
    life.change(GroupChange::AnnounceExpiry { at_ms });
    life.join(1, false);
    assert_eq!(life.group().unwrap().expires_ms, None, "who comes back cancels it");
}

#[test]
fn a_reset_fences_what_was_in_hand_and_an_undo_puts_it_back() {
    let _alone = without_bugs();
    let mut life = Life::new();
    joined(&mut life, &[1]);
    life.commit(1, 7, false).unwrap();
    let stood = life.model.clone();
    let then = life.clock - 1;
    life.step(Step::Reset { partition: 0, to: 0 }).unwrap();
    life.commit(1, 9, false).unwrap();
    assert_eq!(life.model.get(&at(0)), Some(&0), "commits of before the reset are fenced");
    let plan = life.group().unwrap().undo_plan(then);
    for (place, past) in plan {
        assert_eq!(past, PastOffset::Exact(stood.get(&place).copied()));
    }
    assert!(kinds(&life).contains(&EventKind::Reset));
}

/// Where a group stands once a copy of an operator's reset arrives, after all that its member did since.
fn after_a_late_reset() -> Option<i64> {
    let mut life = Life::new();
    joined(&mut life, &[1]);
    life.commit(1, 9, false).unwrap();
    let reset = GroupChange::Reset {
        items: vec![(at(0), Some(3))],
        kind: ChangeKind::Reset,
        note: String::new(),
        seen: life.group().map(|group| group.generation),
    };
    life.change(reset.clone());
    life.model.insert(at(0), 3);
    life.hear(1);
    life.commit(1, 5, false).unwrap();
    life.change(reset);
    life.state.committed(GROUP, at(0)).map(|it| it.offset)
}

#[test]
fn a_late_repeat_of_a_reset_moves_nothing() {
    let _alone = without_bugs();
    assert_eq!(after_a_late_reset(), Some(8));
}

#[test]
fn a_late_repeat_of_a_reset_that_moves_is_caught() {
    let _bug = crate::mutants::plant("late-reset-moves");
    assert_eq!(after_a_late_reset(), Some(3));
}

#[test]
fn many_commits_are_folded_and_an_undo_into_a_fold_replays_rather_than_skips() {
    let _alone = without_bugs();
    let mut life = Life::new();
    joined(&mut life, &[1]);
    let mut stood = Vec::new();
    for _ in 0..200 {
        life.commit(1, 1, false).unwrap();
        stood.push((life.clock, life.model[&at(0)]));
    }
    life.check().unwrap();
    let ledger = &life.group().unwrap().ledger;
    assert!(ledger.iter().filter(|(it, _)| *it == at(0)).count() <= ledger::MOST);
    for (time, offset) in stood {
        match ledger.at_time(at(0), time - 1_000) {
            PastOffset::Exact(past) => assert_eq!(past, Some(offset)),
            PastOffset::NotAfter(past) => assert!(past <= Some(offset)),
            PastOffset::Unknown => {}
        }
    }
}

#[test]
fn a_deleted_topic_comes_back_neither_with_a_late_join_nor_with_a_late_commit() {
    let _alone = without_bugs();
    let mut life = Life::new();
    life.step(Step::Reset { partition: 0, to: 5 }).unwrap();
    life.apply(Command::ForgetTopic { topic: topic(1) });
    assert!(life.state.committed(GROUP, at(0)).is_none());
    let outside = Committer::Outside { name: String::new(), in_line: false };
    let late = commit_by(outside, vec![life.stopped(at(0), 9)]);
    assert_eq!(life.apply(late), Reply::Committed(vec![Err(Refusal::NoTopic(topic(1)))]));
    life.change(GroupChange::Join(join_of("b")));
    assert!(
        life.group().unwrap().holdings.keys().next().is_none(),
        "nobody would ever take it away again"
    );
    assert!(life.group().unwrap().topics.is_empty());
}

#[test]
fn a_fact_tells_the_generation_that_the_group_had_after_it() {
    let _alone = without_bugs();
    let mut life = Life::new();
    joined(&mut life, &[1]);
    let generation = life.group().unwrap().generation;
    let mut release = life.release(1, true, 5).unwrap();
    release.partitions.clear();
    life.change(GroupChange::Release(release));
    let group = life.group().unwrap();
    assert_eq!(group.generation, generation, "nothing changed hands");
    let told: BTreeSet<i32> = group.ledger.iter().map(|(_, fact)| fact.generation).collect();
    assert_eq!(told, [generation].into());
}

#[test]
fn a_partition_that_a_commit_names_twice_has_moved_once() {
    let _alone = without_bugs();
    let mut life = Life::new();
    joined(&mut life, &[1]);
    let mut release = life.release(1, true, 5).unwrap();
    release.partitions.clear();
    release.offsets = vec![life.stopped(at(0), 3), life.stopped(at(0), 7)];
    life.change(GroupChange::Release(release));
    assert_eq!(life.state.committed(GROUP, at(0)).map(|it| it.offset), Some(7));
    let facts = life.group().unwrap().ledger.iter();
    let told: Vec<_> = facts.map(|(_, fact)| (fact.before, fact.after)).collect();
    assert_eq!(told, [(None, Some(7))]);
}

#[test]
fn whose_seat_was_taken_is_told_so_when_it_commits() {
    let _alone = without_bugs();
    let mut life = Life::new();
    joined(&mut life, &[0]);
    let mut second = join_of("a2");
    (second.instance, second.takes_over) = (Some("seat".to_owned()), true);
    life.change(GroupChange::Join(second));
    let mut commit = |instance: Option<&str>| {
        let (id, instance) = (MEMBERS[0].to_owned(), instance.map(str::to_owned));
        life.apply(commit_by(Committer::Member { id, epoch: 1, instance }, Vec::new()))
    };
    assert_eq!(commit(Some("seat")), Reply::Refused(Refusal::InstanceFenced));
    assert_eq!(commit(None), Reply::Refused(Refusal::UnknownMember));
}
