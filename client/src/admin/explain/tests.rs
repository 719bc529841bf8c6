//! Each cause as a cluster would tell it, and the whole story that is made of it, word for word (`golden.txt`).

use std::fmt::Write as _;
use std::time::Duration;

use super::super::groups::{
    Actor, ExpelCause, GroupDescription, GroupEvent, GroupEventKind, GroupLag, GroupMember,
    GroupState, MemberPartition, PartitionLag, Revoking,
};
use super::{Cause, Explanation, Facts};
use crate::record::TopicPartition;
use GroupEventKind as Kind;

/// 2026-01-31T12:00:00Z.
const NOON: i64 = 1_769_860_800_000;

fn places(numbers: &[i32]) -> Vec<TopicPartition> {
    numbers.iter().map(|number| TopicPartition::new("orders", *number)).collect()
}

/// Events as they come, a tenth of a second apart unless said otherwise.
#[derive(Default)]
struct Log {
    events: Vec<GroupEvent>,
    now: i64,
    generation: i32,
}

impl Log {
    fn add(&mut self, kind: Kind, member: &str) -> &mut GroupEvent {
        self.now += 100;
        if Cause::of(kind).is_some_and(Cause::moves_partitions) {
            self.generation += 1;
        }
        self.events.push(GroupEvent {
            sequence: self.events.len() as i64,
            time_ms: NOON + self.now,
            generation: self.generation,
            kind,
            actor: Actor::default(),
            member_id: Some(member.to_owned()).filter(|member| !member.is_empty()),
            instance_id: None,
            from_member: None,
            partitions: Vec::new(),
            took: None,
            detail: String::new(),
        });
        self.events.last_mut().unwrap()
    }

    fn wait(&mut self, ms: i64) -> &mut Self {
        self.now += ms;
        self
    }

    fn join(&mut self, member: &str) {
        let client_id = Some("billing".to_owned());
        let address = Some("10.0.0.7:40112".to_owned());
        self.add(Kind::Joined, member).actor = Actor { member_id: None, client_id, address };
    }

    fn expel(&mut self, member: &str, cause: ExpelCause, took_ms: u64) -> &mut GroupEvent {
        let event = self.add(Kind::Expelled(cause), member);
        event.took = Some(Duration::from_millis(took_ms));
        event
    }

    fn ask(&mut self, owner: &str, numbers: &[i32]) {
        self.add(Kind::RevokeAsked, owner).partitions = places(numbers);
    }

    fn assign(&mut self, from: &str, to: &str, numbers: &[i32]) {
        let event = self.add(Kind::Assigned, to);
        event.partitions = places(numbers);
        event.from_member = Some(from.to_owned()).filter(|from| !from.is_empty());
    }

    fn by_operator(event: &mut GroupEvent) {
        let client_id = Some("waymark-cli".to_owned());
        event.actor = Actor { member_id: None, client_id, address: Some("10.0.0.9:5".to_owned()) };
    }

    fn explained(&self) -> Explanation {
        self.with(None, None)
    }

    fn with(&self, now: Option<&GroupDescription>, lag: Option<&GroupLag>) -> Explanation {
        let facts = Facts { group: "g", events: &self.events, description: now, lag };
        Explanation::of(facts)
    }
}

fn member(id: &str, numbers: &[i32]) -> GroupMember {
    let owned = |at| MemberPartition { at, fencing_epoch: 1 };
    GroupMember {
        member_id: id.to_owned(),
        instance_id: None,
        client_id: "billing".to_owned(),
        address: "10.0.0.7:40112".to_owned(),
        rack: String::new(),
        topics: vec!["orders".to_owned()],
        pattern: String::new(),
        joined_time_ms: NOON,
        silent: Some(Duration::from_millis(100)),
        working: None,
        session_timeout: Duration::from_secs(6),
        processing_timeout: Duration::from_secs(300),
        drain_timeout: Duration::from_secs(30),
        assigned: places(numbers).into_iter().map(owned).collect(),
        revoking: Vec::new(),
        away: false,
        connected: true,
    }
}

fn group(state: GroupState, members: Vec<GroupMember>) -> GroupDescription {
    GroupDescription {
        group: "g".to_owned(),
        state,
        generation: 3,
        assignor: "sticky".to_owned(),
        coordinator: Some(1),
        members,
        created_time_ms: NOON,
        empty_since_ms: None,
        expires_time_ms: None,
        unowned: Vec::new(),
    }
}

fn lag(partitions: Vec<PartitionLag>) -> GroupLag {
    let records = partitions.iter().filter_map(|partition| partition.records).sum();
    let behind = partitions.iter().filter_map(|partition| partition.behind).max();
    GroupLag {
        group: "g".to_owned(),
        state: GroupState::Stable,
        partitions,
        records,
        behind: behind.unwrap_or_default(),
        measured_time_ms: NOON,
    }
}

fn behind(number: i32, records: Option<i64>) -> PartitionLag {
    PartitionLag {
        at: TopicPartition::new("orders", number),
        committed: Some(5),
        log_start: Some(0),
        high_watermark: records.map(|records| 5 + records),
        records,
        behind: records.map(|_| Duration::from_secs(90)),
        catching_up_per_second: None,
        loss_in: None,
        lost_records: 0,
        member_id: None,
        client_id: None,
        held: false,
        error: None,
    }
}

/// A group of two members, `a` and `b`, with two partitions each.
fn two() -> Log {
    let mut log = Log::default();
    log.join("a");
    log.assign("", "a", &[0, 1, 2, 3]);
    log.wait(60_000).join("b");
    log.ask("a", &[2, 3]);
    log.wait(900).assign("a", "b", &[2, 3]);
    log.wait(60_000);
    log
}

/// What follows when `b` is gone.
fn and_a_gets_all(mut log: Log) -> Log {
    log.assign("b", "a", &[2, 3]);
    log
}

fn expelled(cause: ExpelCause, took_ms: u64) -> Log {
    let mut log = two();
    log.expel("b", cause, took_ms);
    and_a_gets_all(log)
}

/// One story for each cause that events tell of.
fn told_by_events() -> Vec<(Cause, Log)> {
    let mut left = two();
    left.add(Kind::Left, "b");
    let mut away = two();
    away.add(Kind::Away, "b").instance_id = Some("seat-2".to_owned());
    let returned = away.wait(1_900).add(Kind::Returned, "b2");
    returned.instance_id = Some("seat-2".to_owned());
    returned.took = Some(Duration::from_secs(2));
    let mut operator = two();
    let event = operator.expel("b", ExpelCause::Operator, 0);
    event.took = None;
    event.detail = "stuck since noon".to_owned();
    Log::by_operator(event);
    let mut replaced = two();
    replaced.expel("b", ExpelCause::Replaced, 0).instance_id = Some("seat-2".to_owned());
    let mut overdue = two();
    overdue.join("c");
    overdue.ask("a", &[1]);
    let late = overdue.wait(29_900).add(Kind::DrainOverdue, "a");
    late.partitions = places(&[1]);
    late.took = Some(Duration::from_secs(30));
    overdue.assign("a", "c", &[1]);
    let mut slow = two();
    slow.join("c");
    slow.ask("a", &[1]);
    slow.ask("b", &[3]);
    slow.assign("b", "c", &[3]);
    slow.wait(12_000).assign("a", "c", &[1]);
    let mut looping = two();
    for start in ["c1", "c2", "c3"] {
        looping.wait(20_000).join(start);
        looping.events.last_mut().unwrap().actor.address = Some("10.0.0.8:1".to_owned());
        looping.wait(6_000).expel(start, ExpelCause::Crash, 6_000);
    }
    vec![
        (Cause::Joined, two()),
        (Cause::Left, and_a_gets_all(left)),
        (Cause::Returned, away),
        (Cause::Heartbeat, expelled(ExpelCause::Heartbeat, 6_000)),
        (Cause::Progress, expelled(ExpelCause::Progress, 300_000)),
        (Cause::Crash, expelled(ExpelCause::Crash, 6_000)),
        (Cause::DidNotReturn, expelled(ExpelCause::DidNotReturn, 45_000)),
        (Cause::Operator, and_a_gets_all(operator)),
        (Cause::Replaced, replaced),
        (Cause::DrainOverdue, overdue),
        (Cause::SlowDrain, slow),
        (Cause::CrashLoop, looping),
    ]
}

/// And for each that somebody outside of the group brings about.
fn told_from_outside() -> Vec<(Cause, Log)> {
    let with_detail = |kind, detail: &str| {
        let mut log = two();
        detail.clone_into(&mut log.add(kind, "").detail);
        log
    };
    let mut topics = with_detail(Kind::TopicsChanged, "orders has 5 partitions");
    topics.assign("", "b", &[4]);
    let mut reset = two();
    let event = reset.add(Kind::OffsetsReset, "");
    event.partitions = places(&[0, 1, 2, 3]);
    event.detail = "bad deploy".to_owned();
    Log::by_operator(event);
    let mut undone = two();
    Log::by_operator(undone.add(Kind::OffsetsUndone, ""));
    vec![
        (Cause::TopicsChanged, topics),
        (Cause::SubscriptionChanged, with_detail(Kind::SubscriptionChanged, "orders, trades")),
        (Cause::AssignorChanged, with_detail(Kind::AssignorChanged, "range")),
        (Cause::OffsetsReset, reset),
        (Cause::OffsetsUndone, undone),
        (Cause::OffsetsDeleted, with_detail(Kind::OffsetsDeleted, "")),
        (Cause::ExpiryAnnounced, with_detail(Kind::ExpiryAnnounced, "on 2026-02-07")),
        (Cause::OffsetsExpired, with_detail(Kind::OffsetsExpired, "")),
        (Cause::CoordinatorChanged, with_detail(Kind::CoordinatorChanged, "from node 1 to node 2")),
    ]
}

#[test]
fn every_cause_is_told_as_it_was_agreed_on() {
    let mut told = String::new();
    for (cause, log) in told_by_events().into_iter().chain(told_from_outside()) {
        let explanation = log.explained();
        let found = explanation.findings.iter().any(|finding| finding.cause == cause);
        assert!(found, "{cause:?}: {explanation}");
        writeln!(told, "# {}\n{explanation}\n", cause.as_str()).unwrap();
    }
    let agreed = include_str!("golden.txt");
    for (number, (told, agreed)) in told.lines().zip(agreed.lines()).enumerate() {
        assert_eq!(told, agreed, "line {} of golden.txt", number + 1);
    }
    assert_eq!(told.lines().count(), agreed.lines().count());
}

#[test]
fn the_injected_cause_is_the_gravest_finding() {
    for (cause, log) in told_by_events() {
        let explanation = log.explained();
        let first = &explanation.findings[0];
        // A planned change is no graver than the joins before it.
        let planned =
            matches!(cause, Cause::Left | Cause::Returned | Cause::Operator | Cause::Replaced);
        assert!(planned || first.cause == cause, "{cause:?}: {explanation}");
    }
}

#[test]
fn a_partition_belongs_to_the_change_that_asked_for_it() {
    let mut log = two();
    log.join("c");
    log.ask("a", &[1]);
    log.join("d");
    log.ask("b", &[3]);
    log.assign("b", "d", &[3]);
    log.assign("a", "c", &[1]);
    let rounds = log.explained().rounds;
    let by_c = &rounds[rounds.len() - 2];
    assert_eq!(by_c.moved[0].partition, "orders/1");
    assert_eq!(by_c.held_up_by.as_deref(), Some("a"));
    assert_eq!(rounds.last().unwrap().moved[0].partition, "orders/3");
}

#[test]
fn who_still_drains_holds_the_group_up() {
    let mut log = two();
    log.join("c");
    log.ask("a", &[1]);
    log.ask("b", &[3]);
    log.assign("b", "c", &[3]);
    let mut a = member("a", &[0, 1]);
    let at = TopicPartition::new("orders", 1);
    a.revoking = vec![Revoking { at, left: Duration::from_secs(12), reason: String::new() }];
    let now = group(GroupState::Moving, vec![a, member("b", &[2]), member("c", &[3])]);
    let explanation = log.with(Some(&now), None);
    assert!(explanation.summary.contains("moving 1 partition, held up by a"), "{explanation}");
    let waiting = explanation.rounds.last().unwrap();
    assert_eq!(waiting.pending[0].partition, "orders/1");
    let draining = explanation.findings.iter().find(|finding| finding.cause == Cause::Draining);
    assert!(draining.unwrap().text.contains("12 s left"), "{explanation}");
}

#[test]
fn a_revoke_that_was_called_off_is_not_waited_for() {
    let mut log = two();
    log.join("c");
    log.ask("a", &[1]);
    log.add(Kind::Left, "c");
    let now = group(GroupState::Stable, vec![member("a", &[0, 1]), member("b", &[2, 3])]);
    let rounds = log.with(Some(&now), None).rounds;
    assert!(rounds.iter().all(|round| round.pending.is_empty()), "{rounds:?}");
}

#[test]
fn several_processes_of_one_host_are_no_crash_loop() {
    let mut log = Log::default();
    for member in ["a", "b", "c", "d"] {
        log.join(member);
    }
    let looping = |log: &Log| {
        log.explained().findings.iter().any(|finding| finding.cause == Cause::CrashLoop)
    };
    assert!(!looping(&log));
    for _ in 0..3 {
        log.wait(1_000).join("seat");
        log.events.last_mut().unwrap().instance_id = Some("seat-1".to_owned());
    }
    assert!(looping(&log));
}

#[test]
fn events_without_their_beginning_are_told_all_the_same() {
    let mut log = two();
    log.events.drain(..4);
    let explanation = log.explained();
    assert!(explanation.to_string().contains("not told any more"), "{explanation}");
    assert_eq!(explanation.rounds[0].moved.len(), 2);
}

#[test]
fn what_will_soon_go_wrong_is_told_before_it_does() {
    let mut slow = member("slow", &[0]);
    slow.working = Some(Duration::from_secs(200));
    let mut silent = member("silent", &[1]);
    silent.silent = Some(Duration::from_secs(4));
    let mut now = group(GroupState::Stable, vec![slow, silent, member("idle", &[])]);
    now.unowned = places(&[7]);
    let causes = |explanation: &Explanation| -> Vec<Cause> {
        explanation.findings.iter().map(|finding| finding.cause).collect()
    };
    let explanation = Log::default().with(Some(&now), None);
    let expected = [Cause::Unowned, Cause::SlowProgress, Cause::GoingSilent, Cause::IdleMembers];
    assert_eq!(causes(&explanation), expected, "{explanation}");
    assert!(explanation.to_string().contains("3 min 20 s of 5 min"), "{explanation}");
}

#[test]
fn lag_is_told_by_what_it_threatens() {
    let mut near = behind(0, Some(10));
    near.loss_in = Some(Duration::from_secs(600));
    near.catching_up_per_second = Some(-3.5);
    let mut gone = behind(1, Some(10));
    gone.loss_in = Some(Duration::ZERO);
    gone.lost_records = 42;
    let explanation = Log::default().with(None, Some(&lag(vec![near, gone, behind(2, None)])));
    let text = explanation.to_string();
    for part in [
        "retention has removed 42 unread records of orders/1",
        "retention removes unread records of orders/0 in 10 min",
        "20 records and 1 min 30 s behind, and 3.5 more each second",
        "the lag of orders/2 is not known",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn an_expiry_that_a_member_made_void_is_not_a_warning() {
    let mut log = two();
    log.add(Kind::ExpiryAnnounced, "");
    let mut now = group(GroupState::Empty, Vec::new());
    now.expires_time_ms = Some(NOON);
    let told = log.with(Some(&now), None).to_string();
    assert!(told.contains("will be removed on 2026-01-31T12:00:00.000Z"), "{told}");
    now.expires_time_ms = None;
    let findings = log.with(Some(&now), None).findings;
    assert!(findings.iter().all(|finding| finding.cause != Cause::ExpiryAnnounced));
}
