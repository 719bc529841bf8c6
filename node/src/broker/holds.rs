//! Owns how far groups hold retention up (S20): the coordinator of a group tells the shards of its partitions up to where
//! the group has committed, a moment after it did; a reset lowers a floor before it commits. Never in the way of a commit,
//! and a delay only keeps too much.
//!
//! What a shard has been told is remembered here, so that only changes travel. A new coordinator remembers nothing: it
//! sets every floor once, down as well as up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout_at};
use waymark_proto::ids::{PartitionId, ShardId, TopicId, TopicPartition};

use super::Core;
use crate::consensus::Shard;
use crate::state::catalog::TopicPhase;
use crate::state::{Catalog, Command, Hold, Reply};

/// Between two looks at what groups have committed.
const INTERVAL: Duration = Duration::from_secs(1);
/// Short: a reset waits for raises on the way.
const PROPOSAL_TIME: Duration = Duration::from_secs(3);
/// Floors in one entry.
const AT_ONCE: usize = 4096;
/// A floor that was lowered for a reset stays for at least this long, longer than a reset takes to commit: until then the
/// group's commits still tell the higher one.
const LOWERED_FOR: Duration = Duration::from_secs(60);

/// What the shards have been told of the groups that this node coordinates.
#[derive(Debug, Default)]
pub(super) struct Holds {
    told: Mutex<BTreeMap<String, BTreeMap<TopicPartition, Told>>>,
    /// Held while raises are on the way.
    raising: tokio::sync::Mutex<()>,
}

/// What a shard has been told of a group.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    /// Absent: nothing, or nobody knows whether it arrived.
    floor: Option<i64>,
    /// Not to be raised before.
    lowered_until: Option<Instant>,
}

/// The floors that a group ought to have.
#[derive(Debug)]
struct Floors {
    /// In which this node coordinates the group.
    term: u64,
    partitions: BTreeMap<TopicPartition, i64>,
}

/// Changes of floors, and which way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    lower: Vec<Hold>,
    raise: Vec<Hold>,
}

impl Holds {
    fn told(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<TopicPartition, Told>>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to tell of a group so that its floors are these. Forgets partitions that are not among them.
    fn changes(&self, group: &str, Floors { term, partitions }: &Floors, now: Instant) -> Changes {
        let mut told = self.told();
        let known = told.entry(group.to_owned()).or_default();
        known.retain(|at, _| partitions.contains_key(at));
        let mut changes = Changes::default();
        for (at, floor) in partitions {
            let Told { floor: before, lowered_until } = known.get(at).copied().unwrap_or_default();
            let (at, floor, term) = (*at, *floor, *term);
            let hold = || Hold { group: group.to_owned(), at, floor, term };
            if before.is_none_or(|before| floor < before) {
                changes.lower.push(hold());
            }
            let waits = lowered_until.is_some_and(|until| now < until);
            if before.is_none_or(|before| floor > before) && !waits {
                changes.raise.push(hold());
            }
        }
        changes
    }

    fn note(&self, hold: &Hold, floor: Option<i64>) {
        let mut told = self.told();
        told.entry(hold.group.clone()).or_default().entry(hold.at).or_default().floor = floor;
    }

    /// No raise until then, whatever is committed.
    fn pin(&self, group: &str, items: &[(TopicPartition, i64)], until: Instant) {
        let mut told = self.told();
        let known = told.entry(group.to_owned()).or_default();
        for (at, _) in items {
            known.entry(*at).or_default().lowered_until = Some(until);
        }
    }

    fn is_pinned(&self, hold: &Hold, now: Instant) -> bool {
        let told = self.told();
        let known = told.get(&hold.group).and_then(|known| known.get(&hold.at));
        known.and_then(|it| it.lowered_until).is_some_and(|until| now < until)
    }

    /// Forgets groups that this node does not coordinate, or that hold nothing.
    fn keep_only(&self, groups: &BTreeSet<String>) {
        self.told().retain(|group, _| groups.contains(group));
    }
}

/// Tells shards how far groups have committed, for ever.
pub(super) async fn keep(core: &Arc<Core>) {
    loop {
        sleep(INTERVAL).await;
        core.raise_holds().await;
    }
}

impl Core {
    /// Whether retention of a topic waits for a group.
    pub(super) fn holds_retention(&self, group: &str, topic: TopicId) -> bool {
        let named = self.catalog(|catalog| {
            let groups = &catalog.topic(topic)?.config.hold_groups;
            Some(groups.iter().any(|it| it == group))
        });
        named.ok().flatten().unwrap_or(false)
    }

    /// Tells the shards of what the groups that this node coordinates have committed since they were told last.
    async fn raise_holds(&self) {
        let floors = self.floors();
        self.holds.keep_only(&floors.keys().cloned().collect());
        let now = Instant::now();
        let mut all = Changes::default();
        for (group, floors) in &floors {
            let Changes { lower, raise } = self.holds.changes(group, floors, now);
            all.lower.extend(lower);
            all.raise.extend(raise);
        }
        let deadline = now + PROPOSAL_TIME;
        // Down, then up: together they set a floor of which nobody knows where it is.
        self.set_holds(all.lower, true, deadline).await;
        let _turn = self.holds.raising.lock().await;
        let now = Instant::now();
        all.raise.retain(|hold| !self.holds.is_pinned(hold, now));
        self.set_holds(all.raise, false, deadline).await;
    }

    /// Lowers a group's floors before it is reset to these offsets, and returns where each partition begins. From then on
    /// retention leaves alone what lies behind, and the reset may be committed. A partition whose shard does not answer in
    /// time is left out: its records may go any time.
    pub(super) async fn lower_holds(
        &self,
        group: &str,
        items: &[(TopicPartition, i64)],
        deadline: Instant,
    ) -> BTreeMap<TopicPartition, i64> {
        let (held, free): (Vec<_>, Vec<_>) =
            items.iter().partition(|(at, _)| self.holds_retention(group, at.topic));
        self.holds.pin(group, &held, Instant::now() + LOWERED_FOR);
        // A raise that was sent before must not come after.
        let Ok(turn) = timeout_at(deadline, self.holds.raising.lock()).await else {
            return BTreeMap::new();
        };
        drop(turn);
        let Some((_, term)) = self.coordinated(group) else { return BTreeMap::new() };
        let hold = |(at, floor): &(TopicPartition, i64)| {
            let (group, at, floor) = (group.to_owned(), *at, *floor);
            Hold { group, at, floor, term }
        };
        let lowered = self.set_holds(held.iter().map(hold).collect(), true, deadline);
        let (mut starts, others) = futures::join!(lowered, self.positions(&free, deadline));
        starts.extend(others.into_iter().map(|((at, _), position)| (at, position.log_start)));
        starts
    }

    /// The floors that the groups coordinated here ought to have: their commits, and all of a partition without one.
    fn floors(&self) -> BTreeMap<String, Floors> {
        let mut floors = BTreeMap::new();
        for (group, mut partitions) in self.catalog(held_by_group).unwrap_or_default() {
            let Some((shard, term)) = self.coordinated(&group) else { continue };
            shard.read(|state| {
                for (at, committed) in state.group_offsets(&group) {
                    if let Some(floor) = partitions.get_mut(&at) {
                        *floor = committed.offset;
                    }
                }
            });
            floors.insert(group, Floors { term, partitions });
        }
        floors
    }

    /// The shard of a group that this node coordinates, and in which term. What is read of the shard after this is no older
    /// than that term: floors of an older state must not pass for a newer coordinator's.
    fn coordinated(&self, group: &str) -> Option<(Shard, u64)> {
        let shard = self.coordinating(group).ok()?;
        let now = shard.leadership();
        let leads = now.leader == Some(self.node) && now.ready;
        leads.then_some((shard, now.term))
    }

    /// Proposes floors to the shards of their partitions, all shards at once. Returns the log starts that they told.
    async fn set_holds(
        &self,
        holds: Vec<Hold>,
        lower: bool,
        deadline: Instant,
    ) -> BTreeMap<TopicPartition, i64> {
        let mut by_shard: BTreeMap<ShardId, Vec<Hold>> = BTreeMap::new();
        for hold in holds {
            if let Ok(shard) = self.shard_of(hold.at) {
                by_shard.entry(shard).or_default().push(hold);
            }
        }
        let entries = by_shard.iter().flat_map(|(shard, holds)| {
            holds
                .chunks(AT_ONCE)
                .map(move |holds| self.set_in_shard(*shard, holds, lower, deadline))
        });
        join_all(entries).await.into_iter().flatten().collect()
    }

    async fn set_in_shard(
        &self,
        shard: ShardId,
        holds: &[Hold],
        lower: bool,
        deadline: Instant,
    ) -> Vec<(TopicPartition, i64)> {
        // Until the shard has said so, nobody knows where these floors are.
        holds.iter().for_each(|hold| self.holds.note(hold, None));
        let command = Command::SetHolds { items: holds.to_vec(), lower };
        let starts = match self.consensus.propose_anywhere(shard, command, deadline).await {
            Ok(done) => match done.reply {
                Reply::LogStarts(starts) => starts,
                _ => Vec::new(),
            },
            Err(error) => {
                tracing::debug!(%shard, %error, "floors of groups are told again later");
                Vec::new()
            }
        };
        let mut told = Vec::new();
        for (hold, start) in holds.iter().zip(starts) {
            // Refused: the shard has yet to hear of the partition, or that retention waits for the group.
            if let Ok(start) = start {
                self.holds.note(hold, Some(hold.floor));
                told.push((hold.at, start));
            }
        }
        told
    }
}

/// The partitions of topics that name groups, by group; as if nothing were committed.
fn held_by_group(catalog: &Catalog) -> BTreeMap<String, BTreeMap<TopicPartition, i64>> {
    let mut held: BTreeMap<String, BTreeMap<TopicPartition, i64>> = BTreeMap::new();
    for topic in catalog.topics().filter(|it| it.phase != TopicPhase::Deleting) {
        for group in &topic.config.hold_groups {
            let numbers = (0_i32..).zip(&topic.partition_shards);
            let at = |number| TopicPartition { topic: topic.id, partition: PartitionId(number) };
            let partitions = numbers.map(|(number, _)| (at(number), 0));
            held.entry(group.clone()).or_default().extend(partitions);
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: i32) -> TopicPartition {
        TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(number) }
    }

    fn hold(number: i32, floor: i64) -> Hold {
        Hold { group: "g".to_owned(), at: at(number), floor, term: 1 }
    }

    fn floors_of<const N: usize>(partitions: [(TopicPartition, i64); N]) -> Floors {
        Floors { term: 1, partitions: BTreeMap::from(partitions) }
    }

    fn only(lower: &[Hold], raise: &[Hold]) -> Changes {
        Changes { lower: lower.to_vec(), raise: raise.to_vec() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_coordinator_sets_every_floor_and_then_tells_only_changes() {
        let (holds, now) = (Holds::default(), Instant::now());
        let changes =
            |floors: [(TopicPartition, i64); 2]| holds.changes("g", &floors_of(floors), now);
        let all = [hold(0, 5), hold(1, 0)];
        assert_eq!(changes([(at(0), 5), (at(1), 0)]), only(&all, &all));
        all.iter().for_each(|it| holds.note(it, Some(it.floor)));
        assert_eq!(changes([(at(0), 5), (at(1), 0)]), only(&[], &[]));
        assert_eq!(changes([(at(0), 7), (at(1), 0)]), only(&[], &[hold(0, 7)]));
        assert_eq!(changes([(at(0), 2), (at(1), 0)]), only(&[hold(0, 2)], &[]));
        holds.note(&hold(0, 2), None);
        assert_eq!(changes([(at(0), 2), (at(1), 0)]), only(&[hold(0, 2)], &[hold(0, 2)]));
        holds.keep_only(&BTreeSet::new());
        assert_eq!(
            changes([(at(0), 5), (at(1), 0)]),
            only(&all, &all),
            "it was another's for a while"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_floor_lowered_for_a_reset_is_not_raised_by_the_commits_before_it() {
        let (holds, now) = (Holds::default(), Instant::now());
        let committed = |offset| floors_of([(at(0), offset)]);
        holds.note(&hold(0, 9), Some(9));
        holds.pin("g", &[(at(0), 4)], now + LOWERED_FOR);
        holds.note(&hold(0, 4), Some(4));
        assert_eq!(holds.changes("g", &committed(9), now), only(&[], &[]));
        assert_eq!(holds.changes("g", &committed(2), now), only(&[hold(0, 2)], &[]));
        let later = now + LOWERED_FOR;
        assert_eq!(holds.changes("g", &committed(9), later), only(&[], &[hold(0, 9)]));
    }
}
