//! Random lives of a group against what members are promised: one owner for each partition, no partition without one, fencing
//! epochs that only rise, no offset that moves unasked, hand-offs that are exact, and a ledger that tells all of it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};
use waymark_proto::ids::{NodeId, PartitionId, ReplicaId, ShardId, TopicId, TopicPartition};

use super::*;
use crate::state::command::{Command, CommitOffsets, Committer, OffsetCommit};
use crate::state::reply::Reply;
use crate::state::shard::{EntryAt, ShardState};
use crate::state::tests::arbitrary::without_bugs;

const GROUP: &str = "g";
const MEMBERS: [&str; 4] = ["a", "b", "c", "d"];

/// One thing that somebody does; numbers choose among what is possible then.
#[derive(Debug, Clone, Copy)]
enum Step {
    Join {
        who: usize,
        both_topics: bool,
    },
    Leave {
        who: usize,
        to_return: bool,
        processed: i64,
    },
    Expel {
        who: usize,
    },
    /// A member hears what it may hold.
    Hear {
        who: usize,
    },
    /// A member gives up what it was asked for, having processed so many records.
    Drain {
        who: usize,
        processed: i64,
    },
    Overdue,
    /// A member commits what it holds, `late`: as it knew things before it last heard.
    Commit {
        who: usize,
        processed: i64,
        late: bool,
    },
    Reset {
        partition: i32,
        to: i64,
    },
    Grow,
    Leader,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..MEMBERS.len();
    prop_oneof![
        4 => (who.clone(), any::<bool>()).prop_map(|(who, both_topics)| Step::Join { who, both_topics }),
        1 => (who.clone(), any::<bool>(), 0_i64..9)
            .prop_map(|(who, to_return, processed)| Step::Leave { who, to_return, processed }),
        1 => who.clone().prop_map(|who| Step::Expel { who }),
        4 => who.clone().prop_map(|who| Step::Hear { who }),
        6 => (who.clone(), 0_i64..9).prop_map(|(who, processed)| Step::Drain { who, processed }),
        1 => Just(Step::Overdue),
        6 => (who, 0_i64..9, any::<bool>())
            .prop_map(|(who, processed, late)| Step::Commit { who, processed, late }),
        1 => (0_i32..3, 0_i64..50).prop_map(|(partition, to)| Step::Reset { partition, to }),
        1 => Just(Step::Grow),
        1 => Just(Step::Leader),
    ]
}

fn topic(number: u8) -> TopicId {
    TopicId([number; 16])
}

/// What a member was last told: the generation, and what it holds with fencing epochs.
#[derive(Debug, Clone, Default)]
struct Knows {
    epoch: i32,
    held: BTreeMap<TopicPartition, i64>,
}

struct Life {
    state: ShardState,
    clock: i64,
    term: u64,
    partitions: i32,
    knows: BTreeMap<usize, Knows>,
    before: BTreeMap<usize, Knows>,
    fences: BTreeMap<TopicPartition, i64>,
    /// What is committed, by the model.
    model: BTreeMap<TopicPartition, i64>,
}

impl Life {
    fn new() -> Self {
        Self {
            state: ShardState::new(ShardId(1)),
            clock: 0,
            term: 1,
            partitions: 3,
            knows: BTreeMap::new(),
            before: BTreeMap::new(),
            fences: BTreeMap::new(),
            model: BTreeMap::new(),
        }
    }

    fn apply(&mut self, command: Command) -> Reply {
        self.clock += 1_000;
        let leader = ReplicaId { node: NodeId(1), incarnation: 1 };
        let at = EntryAt { index: u64::try_from(self.clock).unwrap(), term: self.term, leader };
        self.state.apply(at, command).reply
    }

    fn change(&mut self, change: GroupChange) -> Reply {
        let entry = GroupEntry {
            group: GROUP.to_owned(),
            time_ms: self.clock,
            actor: Actor::default(),
            change,
        };
        self.apply(Command::Group(entry))
    }

    fn group(&self) -> Option<&Group> {
        self.state.group(GROUP)
    }

    fn topics(&self, both: bool) -> BTreeMap<TopicId, TopicFacts> {
        let facts = |number: u8| {
            let name = format!("t{number}");
            (topic(number), TopicFacts { name, partitions: self.partitions })
        };
        (1..=if both { 2 } else { 1 }).map(facts).collect()
    }

    fn hear(&mut self, who: usize) {
        let Some(group) = self.state.group(GROUP) else { return };
        if !group.members.contains_key(MEMBERS[who]) {
            self.knows.remove(&who);
            return;
        }
        let held = group.held_by(MEMBERS[who]);
        let held = held.map(|(at, it)| (at, group.fencing_epoch(it))).collect();
        let now = Knows { epoch: group.generation, held };
        if let Some(old) = self.knows.insert(who, now) {
            self.before.insert(who, old);
        }
    }

    /// Where a member stands after it has processed more records.
    fn stopped(&self, at: TopicPartition, processed: i64) -> OffsetCommit {
        OffsetCommit {
            at,
            offset: self.model.get(&at).copied().unwrap_or(0) + processed,
            leader_epoch: None,
            metadata: None,
            expected_offset: None,
            fencing_epoch: None,
        }
    }

    /// What a member that has heard everything would give up now, with where it stopped.
    fn release(&self, who: usize, all: bool, processed: i64) -> Option<Release> {
        let knows = self.knows.get(&who)?;
        let group = self.group()?;
        let asked = |at: &TopicPartition| {
            let holding = group.holdings.get(at);
            holding.is_some_and(|it| &*it.owner == MEMBERS[who] && it.revoke.is_some())
        };
        let partitions: Vec<(TopicPartition, i64)> = knows
            .held
            .iter()
            .filter(|(at, _)| all || asked(at))
            .map(|(at, fence)| (*at, *fence))
            .collect();
        Some(Release {
            member: MEMBERS[who].into(),
            member_epoch: knows.epoch,
            offsets: partitions.iter().map(|(at, _)| self.stopped(*at, processed)).collect(),
            partitions,
            commit_seq: 0,
        })
    }

    /// Whether a commit of this place under this knowledge must be taken.
    fn is_owner(&self, who: usize, at: TopicPartition, epoch: i32) -> bool {
        let holding = self.group().and_then(|group| group.holdings.get(&at));
        holding.is_some_and(|it| &*it.owner == MEMBERS[who] && it.since <= epoch)
    }

    /// Who holds what, since when.
    fn ownerships(&self) -> BTreeMap<TopicPartition, (MemberId, i32)> {
        let holdings = self.group().into_iter().flat_map(|group| &group.holdings);
        holdings.map(|(at, it)| (*at, (it.owner.clone(), it.since))).collect()
    }

    /// Whoever comes, and whatever is subscribed: an owner is asked, and nothing is taken from it.
    fn still_has(&self, before: &BTreeMap<TopicPartition, (MemberId, i32)>) -> TestCaseResult {
        let now = self.ownerships();
        for (at, owner) in before {
            prop_assert_eq!(now.get(at), Some(owner), "{:?} was taken from its owner", at);
        }
        Ok(())
    }

    fn step(&mut self, step: Step) -> TestCaseResult {
        match step {
            Step::Join { who, both_topics } => {
                let before = self.ownerships();
                self.join(who, both_topics);
                self.still_has(&before)?;
            }
            Step::Hear { who } => self.hear(who),
            Step::Leave { who, to_return, processed } => {
                let Some(release) = self.release(who, true, processed) else { return Ok(()) };
                self.expect_offsets(who, &release);
                self.change(GroupChange::Leave { release, to_return });
            }
            Step::Expel { who } => {
                let members = vec![(MEMBERS[who].into(), ExpelCause::Heartbeat, 9)];
                self.change(GroupChange::Expel { members, note: String::new() });
                let still = self.group().is_some_and(|it| it.members.contains_key(MEMBERS[who]));
                prop_assert!(!still, "who was expelled is no member");
            }
            Step::Drain { who, processed } => return self.drain(who, processed),
            Step::Overdue => {
                let Some(group) = self.group() else { return Ok(()) };
                let late = group.holdings.iter().filter(|(_, it)| it.revoke.is_some());
                let partitions = late.map(|(at, it)| (*at, group.fencing_epoch(it))).collect();
                self.change(GroupChange::Overdue { partitions });
            }
            Step::Commit { who, processed, late } => return self.commit(who, processed, late),
            Step::Reset { partition, to } => {
                let at = TopicPartition { topic: topic(1), partition: PartitionId(partition) };
                let kind = ChangeKind::Reset;
                let items = vec![(at, Some(to))];
                self.change(GroupChange::Reset { items, kind, note: String::new(), seen: None });
                self.model.insert(at, to);
            }
            Step::Grow => {
                self.partitions = (self.partitions + 1).min(5);
                let Some(group) = self.group() else { return Ok(()) };
                let generation = group.generation;
                let members: Vec<(MemberId, BTreeSet<TopicId>)> =
                    group.members.iter().map(|(id, it)| (id.clone(), it.topics.clone())).collect();
                let mut read: BTreeSet<TopicId> =
                    members.iter().flat_map(|(_, topics)| topics).copied().collect();
                // What somebody has yet to give up is there as well.
                read.extend(group.holdings.keys().map(|at| at.topic));
                let topics =
                    self.topics(true).into_iter().filter(|(id, _)| read.contains(id)).collect();
                let seen = generation;
                let before = self.ownerships();
                self.change(GroupChange::Topics { seen, topics, members });
                self.still_has(&before)?;
            }
            Step::Leader => self.term += 1,
        }
        Ok(())
    }

    fn join(&mut self, who: usize, both_topics: bool) {
        let join = Join {
            member: MEMBERS[who].into(),
            instance: (who == 0).then(|| "seat".to_owned()),
            takes_over: false,
            rack: String::new(),
            subscription: Subscription {
                names: self.topics(both_topics).into_values().map(|it| it.name).collect(),
                pattern: String::new(),
            },
            topics: self.topics(both_topics),
            assignor: None,
            limits: Limits { session_ms: 1, processing_ms: 1, drain_ms: 1 },
        };
        let again = self.group().is_some_and(|it| it.members.contains_key(MEMBERS[who]));
        self.change(GroupChange::Join(join.clone()));
        if !again {
            self.knows.insert(who, Knows::default());
            self.before.remove(&who);
        }
        let generation = self.group().map(|it| it.generation);
        self.change(GroupChange::Join(join));
        assert_eq!(self.group().map(|it| it.generation), generation, "a repeat changes nothing");
    }

    fn expect_offsets(&mut self, who: usize, release: &Release) {
        for item in &release.offsets {
            if self.is_owner(who, item.at, release.member_epoch) {
                self.model.insert(item.at, item.offset);
            }
        }
    }

    /// A hand-off is exact: the new owner begins where the old one stopped, with no entry between.
    fn drain(&mut self, who: usize, processed: i64) -> TestCaseResult {
        self.hear(who);
        let Some(release) = self.release(who, false, processed) else { return Ok(()) };
        if release.partitions.is_empty() {
            return Ok(());
        }
        let stopped = release.offsets.clone();
        self.expect_offsets(who, &release);
        self.change(GroupChange::Release(release));
        for item in stopped {
            let committed = self.state.committed(GROUP, item.at).map(|it| it.offset);
            prop_assert_eq!(committed, Some(item.offset), "the new owner starts where it stopped");
            prop_assert!(
                !self.is_owner(who, item.at, i32::MAX),
                "and the old one holds it no more"
            );
        }
        Ok(())
    }

    fn commit(&mut self, who: usize, processed: i64, late: bool) -> TestCaseResult {
        let knows = if late { self.before.get(&who) } else { self.knows.get(&who) };
        let Some(mut knows) = knows.cloned() else { return Ok(()) };
        // Half of what is late was read before, and is committed by a member that has heard the newest.
        if late && processed % 2 == 0 {
            knows.epoch = self.knows.get(&who).map_or(knows.epoch, |it| it.epoch);
        }
        let read = |(at, fence): (&TopicPartition, &i64)| OffsetCommit {
            fencing_epoch: Some(*fence),
            ..self.stopped(*at, processed)
        };
        let items: Vec<OffsetCommit> = knows.held.iter().map(read).collect();
        let may: Vec<bool> = items
            .iter()
            .map(|item| {
                let group = self.group();
                let fence = group.and_then(|it| Some(it.fencing_epoch(it.holdings.get(&item.at)?)));
                self.is_owner(who, item.at, knows.epoch) && fence == item.fencing_epoch
            })
            .collect();
        let commit = CommitOffsets {
            group: GROUP.to_owned(),
            committer: Committer::Member {
                id: MEMBERS[who].to_owned(),
                epoch: knows.epoch,
                instance: None,
            },
            items: items.clone(),
            all_or_nothing: false,
            commit_seq: 0,
            commit_time_ms: self.clock,
            cause: 0,
            note: String::new(),
            actor: Actor::default(),
        };
        let verdicts = match self.apply(Command::CommitOffsets(commit)) {
            Reply::Committed(verdicts) => verdicts,
            Reply::Refused(refusal) => {
                prop_assert_eq!(refusal, Refusal::UnknownMember);
                return Ok(());
            }
            other => panic!("{other:?}"),
        };
        for ((item, verdict), may) in items.into_iter().zip(verdicts).zip(may) {
            prop_assert_eq!(verdict.is_ok(), may, "only an owner commits, and an owner always may");
            if may {
                self.model.insert(item.at, item.offset);
            }
        }
        Ok(())
    }

    fn check(&mut self) -> TestCaseResult {
        let Some(group) = self.state.group(GROUP) else { return Ok(()) };
        let wanted: BTreeSet<TopicPartition> = group.places().collect();
        let for_nobody = |it: &Holding| it.revoke.as_ref().is_some_and(|it| it.to.is_none());
        let stays = group.holdings.iter().filter(|(_, it)| !for_nobody(it));
        let stays: BTreeSet<TopicPartition> = stays.map(|(at, _)| *at).collect();
        prop_assert_eq!(wanted, stays, "every partition that somebody reads has an owner");
        for (at, holding) in &group.holdings {
            let owner = group.members.get(&holding.owner);
            // Who no longer reads a topic holds its partitions until it has given them up.
            let leaves = holding.revoke.is_some();
            prop_assert!(owner.is_some_and(|it| leaves || it.topics.contains(&at.topic)));
            let fence = group.fencing_epoch(holding);
            let before = self.fences.insert(*at, fence).unwrap_or(0);
            prop_assert!(fence >= before, "a fencing epoch never falls");
        }
        for who in MEMBERS {
            let all = group.holdings.iter().filter(|(_, it)| &*it.owner == who);
            let all: Vec<TopicPartition> = all.map(|(at, _)| *at).collect();
            let held: Vec<TopicPartition> = group.held_by(who).map(|(at, _)| at).collect();
            prop_assert_eq!(held, all, "what a member holds is found by its name");
        }
        let committed: BTreeMap<TopicPartition, i64> =
            self.state.group_offsets(GROUP).map(|(at, it)| (at, it.offset)).collect();
        prop_assert_eq!(&committed, &self.model, "no offset moves unasked");
        let mut last: BTreeMap<TopicPartition, Option<i64>> = BTreeMap::new();
        for (at, fact) in group.ledger.iter() {
            if let Some(before) = last.insert(at, fact.after) {
                prop_assert_eq!(fact.before, before, "each fact begins where the last one ended");
            }
        }
        for (at, after) in last {
            prop_assert_eq!(after, committed.get(&at).copied(), "the ledger tells all of it");
        }
        Ok(())
    }
}

fn a_life_keeps_every_promise(steps: Vec<Step>) -> TestCaseResult {
    let mut life = Life::new();
    for step in steps {
        life.step(step)?;
        life.check()?;
    }
    settle(&mut life)
}

/// Once everybody has heard and drained, nothing moves any more, and equal members hold equal shares.
fn settle(life: &mut Life) -> TestCaseResult {
    for _ in 0..2 {
        (0..MEMBERS.len()).for_each(|who| life.hear(who));
        for who in 0..MEMBERS.len() {
            life.drain(who, 1)?;
        }
    }
    life.check()?;
    let Some(group) = life.group() else { return Ok(()) };
    prop_assert!(!group.is_moving());
    let shares: BTreeMap<&BTreeSet<TopicId>, Vec<usize>> =
        group.members.iter().fold(BTreeMap::new(), |mut shares, (id, member)| {
            shares.entry(&member.topics).or_default().push(group.held_by(id).count());
            shares
        });
    for counts in shares.values() {
        let spread = counts.iter().max().unwrap() - counts.iter().min().unwrap();
        prop_assert!(spread <= 1, "equal members hold equal shares: {counts:?}");
    }
    Ok(())
}

fn lives() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..60)
}

fn runner() -> TestRunner {
    TestRunner::new(Config { failure_persistence: None, cases: 400, ..Config::default() })
}

#[test]
fn random_lives_of_a_group_keep_every_promise() {
    let _alone = without_bugs();
    runner().run(&lives(), a_life_keeps_every_promise).unwrap();
}

mod rules;

mod planted_bugs {
    use super::*;

    fn is_caught(bug: &'static str) {
        let _bug = crate::mutants::plant(bug);
        assert!(runner().run(&lives(), a_life_keeps_every_promise).is_err(), "{bug}");
    }

    #[test]
    fn taking_a_commit_of_an_old_generation_is_caught() {
        is_caught("commit-of-an-old-generation");
    }

    #[test]
    fn a_handoff_in_two_entries_is_caught() {
        is_caught("handoff-in-two-entries");
    }

    #[test]
    fn keeping_an_expired_member_is_caught() {
        is_caught("expired-member-stays");
    }

    #[test]
    fn giving_members_a_deleted_topic_is_caught() {
        let _bug = crate::mutants::plant("deleted-topic-comes-back");
        let mut life = Life::new();
        life.apply(Command::ForgetTopic { topic: topic(1) });
        life.join(1, false);
        assert!(
            life.group().unwrap().holdings.keys().next().is_some(),
            "rules tests that there are none"
        );
    }

    #[test]
    fn losing_a_fact_of_the_ledger_is_caught() {
        is_caught("ledger-loses-a-fact");
    }
}
