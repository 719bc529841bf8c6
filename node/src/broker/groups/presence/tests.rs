//! Whoever is late is found out at the first look after it, though most looks at its group are left out.

use proptest::prelude::*;
use waymark_proto::ids::{NodeId, PartitionId, ReplicaId, ShardId, TopicId};

use super::*;
use crate::state::command::Command;
use crate::state::groups::{
    Actor, GroupChange, GroupEntry, Join, Release, Subscription, TopicFacts,
};
use crate::state::{EntryAt, ShardState};

const MEMBERS: [&str; 3] = ["a", "b", "c"];
const GROUP: &str = "g";

/// A group in a real state, and two who watch it: one as it is, and one that leaves out no look.
struct Watch {
    state: ShardState,
    index: u64,
    now: Instant,
    one: Presences,
    all: Presences,
}

impl Watch {
    fn new() -> Self {
        let now = Instant::now();
        let state = ShardState::new(ShardId(1));
        Self { state, index: 0, now, one: Presences::new(now), all: Presences::new(now) }
    }

    fn change(&mut self, change: GroupChange) {
        self.index += 1;
        let leader = ReplicaId { node: NodeId(1), incarnation: 1 };
        let at = EntryAt { index: self.index, term: 1, leader };
        let (group, actor) = (GROUP.to_owned(), Actor::default());
        let entry = GroupEntry { group, time_ms: 0, actor, change };
        self.state.apply(at, Command::Group(entry));
    }

    fn join(&mut self, who: &str, limits: Limits) {
        let topics = [(TopicId([1; 16]), TopicFacts { name: "t".to_owned(), partitions: 4 })];
        self.change(GroupChange::Join(Join {
            member: who.into(),
            instance: Some(format!("seat of {who}")),
            takes_over: false,
            rack: String::new(),
            subscription: Subscription { names: ["t".to_owned()].into(), pattern: String::new() },
            topics: topics.into(),
            assignor: None,
            limits,
        }));
    }

    /// It gives up all that it holds, or what it was asked for.
    fn release(&self, who: &str, all: bool) -> Release {
        let group = self.state.group(GROUP);
        let held = group.into_iter().flat_map(|group| {
            let own = group.held_by(who).filter(|(_, it)| all || it.revoke.is_some());
            own.map(|(at, it)| (at, group.fencing_epoch(it)))
        });
        let (member, partitions) = (who.into(), held.collect());
        Release { member, member_epoch: 0, partitions, offsets: Vec::new(), commit_seq: 0 }
    }

    fn heard(&mut self, who: &str, working_on: Option<i64>) {
        self.one.heard(who, working_on, self.now);
        self.all.heard(who, working_on, self.now);
    }

    /// The look that is due by both, with all being looked at by the second.
    fn look(&mut self) -> (Due, Due) {
        let Some(group) = self.state.group(GROUP) else { return Default::default() };
        self.all.calm = None;
        (self.one.due(group, self.now), self.all.due(group, self.now))
    }

    fn apply(&mut self, due: Due) {
        let Due { expelled: members, overdue: partitions } = due;
        if !members.is_empty() {
            self.change(GroupChange::Expel { members, note: String::new() });
        }
        if !partitions.is_empty() {
            self.change(GroupChange::Overdue { partitions });
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Look { after_ms: u64, verdicts_are_written: bool },
    Heard { who: usize, working_on: Option<i64> },
    Connected { who: usize, begins: bool },
    Join { who: usize, limits: Limits },
    Leave { who: usize, to_return: bool },
    Release { who: usize },
    Reset { partition: i32 },
    Slept,
}

fn limits() -> impl Strategy<Value = Limits> {
    let ms = || prop_oneof![Just(500), Just(1_000), Just(3_000), Just(10_000)];
    (ms(), ms(), ms()).prop_map(|(session_ms, processing_ms, drain_ms)| Limits {
        session_ms,
        processing_ms,
        drain_ms,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..MEMBERS.len();
    prop_oneof![
        10 => (0..900_u64, any::<bool>()).prop_map(|(after_ms, verdicts_are_written)| Step::Look {
            after_ms,
            verdicts_are_written
        }),
        6 => (who.clone(), prop::option::of(0..3_i64))
            .prop_map(|(who, working_on)| Step::Heard { who, working_on }),
        2 => (who.clone(), any::<bool>())
            .prop_map(|(who, begins)| Step::Connected { who, begins }),
        3 => (who.clone(), limits()).prop_map(|(who, limits)| Step::Join { who, limits }),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, to_return)| Step::Leave { who, to_return }),
        1 => who.prop_map(|who| Step::Release { who }),
        1 => (0..4_i32).prop_map(|partition| Step::Reset { partition }),
        1 => Just(Step::Slept),
    ]
}

fn take(watch: &mut Watch, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Look { after_ms, verdicts_are_written } => {
            watch.now += Duration::from_millis(after_ms);
            let (one, all) = watch.look();
            prop_assert_eq!(&one, &all);
            if verdicts_are_written {
                watch.apply(one);
            }
        }
        Step::Heard { who, working_on } => watch.heard(MEMBERS[who], working_on),
        Step::Connected { who, begins } => {
            watch.one.connected(MEMBERS[who], begins, watch.now);
            watch.all.connected(MEMBERS[who], begins, watch.now);
        }
        Step::Join { who, limits } => watch.join(MEMBERS[who], limits),
        Step::Leave { who, to_return } => {
            let release = watch.release(MEMBERS[who], true);
            watch.change(GroupChange::Leave { release, to_return });
        }
        Step::Release { who } => {
            let release = watch.release(MEMBERS[who], false);
            watch.change(GroupChange::Release(release));
        }
        Step::Reset { partition } => {
            let (topic, partition) = (TopicId([1; 16]), PartitionId(partition));
            let items = vec![(TopicPartition { topic, partition }, Some(7))];
            let kind = crate::state::groups::ChangeKind::Reset;
            watch.change(GroupChange::Reset { items, kind, note: String::new(), seen: None });
        }
        Step::Slept => {
            watch.one.begin_again(watch.now);
            watch.all.begin_again(watch.now);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn looks_that_are_left_out_would_have_found_nothing(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut watch = Watch::new();
        watch.join("a", Limits { session_ms: 1_000, processing_ms: 1_000, drain_ms: 1_000 });
        for step in steps {
            take(&mut watch, step)?;
        }
    }
}

const LOOK: Duration = Duration::from_millis(200);
const SESSION: Duration = Duration::from_millis(6_000);
const LIMITS: Limits = Limits { session_ms: 6_000, processing_ms: 300_000, drain_ms: 30_000 };

/// Looks every 200 ms until something is due. Returns what, and how many looks were really taken.
fn until_due(watch: &mut Watch, heartbeats: usize) -> (Due, usize) {
    let (mut taken, mut heard) = (0, 0);
    for look in 1.. {
        watch.now += LOOK;
        if look % 10 == 0 && heard < heartbeats {
            watch.heard("a", None);
            heard += 1;
        }
        let before = watch.one.calm.map(|it| it.until);
        let (due, _) = watch.look();
        taken += usize::from(watch.one.calm.map(|it| it.until) != before);
        if due != Due::default() {
            return (due, taken);
        }
    }
    unreachable!("a silent member is due some time")
}

#[test]
fn a_group_that_lives_is_looked_at_once_a_session_and_a_silent_member_still_goes_on_time() {
    let mut watch = Watch::new();
    watch.join("a", LIMITS);
    watch.look();
    let began = watch.now;
    let (due, taken) = until_due(&mut watch, 50);
    // The last heartbeat came after 100 s; 30 looks are one session.
    let silent = LOOK * 31;
    assert_eq!(watch.now - began, Duration::from_secs(100) + silent);
    assert!(silent > SESSION && silent - SESSION <= LOOK);
    assert_eq!(due.expelled, [("a".into(), ExpelCause::Heartbeat, millis(silent))]);
    assert!(taken <= 30, "{taken} looks in 106 s of a session of 6 s");
}

#[test]
fn who_begins_to_work_between_looks_is_found_stuck_on_time() {
    let mut watch = Watch::new();
    watch.join("a", Limits { session_ms: 60_000, processing_ms: 1_000, drain_ms: 1_000 });
    watch.look();
    watch.now += LOOK / 2;
    watch.heard("a", Some(1));
    let began = watch.now;
    let (due, _) = until_due(&mut watch, 0);
    assert!(watch.now - began <= Duration::from_secs(1) + LOOK);
    assert_eq!(due.expelled[0].1, ExpelCause::Progress);
}

#[test]
fn one_walk_finds_what_is_due_in_every_group_and_begins_those_that_are_new() {
    let (mut quick, mut slow) = (Watch::new(), Watch::new());
    quick.join("a", Limits { session_ms: 1_000, ..LIMITS });
    slow.join("a", LIMITS);
    let (quick, slow) = (quick.state.group(GROUP).unwrap(), slow.state.group(GROUP).unwrap());
    let groups = [("b", quick), ("d", slow), ("f", quick)];
    let now = Instant::now();
    // Groups that are gone, or that only sessions know of yet, stand between.
    let mut present: Present =
        ["a", "c", "d", "g"].map(|name| (name.to_owned(), Presences::new(now))).into();
    assert_eq!(due_in(&mut present, groups.into_iter(), now), []);
    assert_eq!(present.keys().collect::<Vec<_>>(), ["a", "b", "c", "d", "f", "g"]);
    let due = due_in(&mut present, groups.into_iter(), now + Duration::from_secs(3));
    assert_eq!(due.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b", "f"]);
    let due = due_in(&mut present, groups.into_iter(), now + Duration::from_secs(9));
    assert_eq!(due.len(), 3);
}

#[test]
fn time_to_give_up_is_counted_from_when_the_revoke_was_first_seen() {
    use crate::broker::groups::session::{assigned, count_down};
    let mut watch = Watch::new();
    watch.join("a", LIMITS);
    watch.join("b", LIMITS);
    watch.look();
    watch.now += Duration::from_secs(12);
    let group = watch.state.group(GROUP).unwrap();
    let mut told = assigned(&watch.state, (GROUP, group), "a");
    let left = |told: &[crate::broker::groups::seam::Assigned]| -> Vec<i32> {
        told.iter().filter_map(|it| Some(it.revoked?.left_ms)).collect()
    };
    assert_eq!(left(&told), [30_000, 30_000]);
    count_down(&mut told, &watch.one, watch.now);
    assert_eq!(left(&told), [18_000, 18_000]);
    count_down(&mut told, &watch.one, watch.now + Duration::from_secs(60));
    assert_eq!(left(&told), [0, 0]);
}
