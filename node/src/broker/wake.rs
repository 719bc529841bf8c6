//! Owns the wake-ups: whoever waits for a partition to change, or for metadata to change, is told. A partition wakes its own
//! waiters and nobody else's, so that a thousand idle readers cost nothing while one partition is written. A waiter looks
//! again by itself: a wake-up too many costs a look, and one too few cannot happen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};
use waymark_proto::ids::{ShardId, TopicPartition};

use crate::consensus::{ApplyObserver, Leadership, LedShard};
use crate::state::Effect;

/// Low bits of a metadata version: leaders; above them the catalog's own version.
const LEADER_BITS: u32 = 32;

/// What a partition's waiters share.
#[derive(Debug, Default)]
struct Spot {
    notify: Arc<Notify>,
    waiters: usize,
}

/// Partitions that somebody waits for; the others have no entry.
type Spots = BTreeMap<TopicPartition, Spot>;

/// Who waits for what. Told by consensus, used by the broker.
#[derive(Debug)]
pub struct Wakes {
    /// By shard: its leadership concerns all who wait in it.
    waiting: Mutex<BTreeMap<ShardId, Spots>>,
    /// Groups whose sessions wait here. The number rises with each change of the group, and of its shard's leadership.
    groups: Mutex<Waited>,
    /// Rises with each entry and each change of leader of the catalog: for who waits for its changes, which are few.
    catalog: watch::Sender<u64>,
    /// The last term heard of, by shard.
    terms: Mutex<BTreeMap<ShardId, u64>>,
    /// Rises the same way on every node, so that a client may compare what different nodes say.
    metadata: watch::Sender<i64>,
    /// Something that the metadata shows may have changed.
    due: Notify,
}

/// Changes of groups that sessions wait for.
#[derive(Debug, Default)]
struct Waited {
    by_name: BTreeMap<String, watch::Sender<u64>>,
    /// So many may be here before those are looked for that nobody waits for any more.
    room: usize,
}

impl Waited {
    /// Entries that stay though nobody waits for them.
    const SPARE: usize = 64;

    fn subscribe(&mut self, group: &str) -> watch::Receiver<u64> {
        if let Some(changes) = self.by_name.get(group) {
            return changes.subscribe();
        }
        // Looked for at each doubling only, they cost whoever comes the same however many are here, and are never many more
        // than were waited for at one time.
        if self.by_name.len() >= self.room {
            self.by_name.retain(|_, changes| changes.receiver_count() > 0);
            self.room = 2 * self.by_name.len() + Self::SPARE;
        }
        let (changes, changed) = watch::channel(0);
        self.by_name.insert(group.to_owned(), changes);
        changed
    }
}

impl Default for Wakes {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            groups: Mutex::default(),
            catalog: watch::channel(0).0,
            terms: Mutex::default(),
            metadata: watch::channel(0).0,
            due: Notify::new(),
        }
    }
}

impl Wakes {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<ShardId, Spots>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait for changes of a partition.
    pub(super) fn wait(self: &Arc<Self>, shard: ShardId, at: TopicPartition) -> Waiter {
        let mut waiting = self.waiting();
        let spot = waiting.entry(shard).or_default().entry(at).or_default();
        spot.waiters += 1;
        let notify = Arc::clone(&spot.notify);
        Waiter { wakes: Arc::clone(self), shard, at, notify }
    }

    fn groups(&self) -> MutexGuard<'_, Waited> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes of a group, from now on.
    pub(super) fn group(&self, group: &str) -> watch::Receiver<u64> {
        self.groups().subscribe(group)
    }

    fn tell_groups(&self, effects: &[Effect]) {
        let changed = effects.iter().filter_map(|effect| match effect {
            Effect::GroupChanged(group) => Some(group),
            _ => None,
        });
        let mut changed = changed.peekable();
        if changed.peek().is_none() {
            return;
        }
        let groups = self.groups();
        let waited = changed.filter_map(|group| groups.by_name.get(group));
        waited.for_each(|changes| changes.send_modify(|count| *count += 1));
    }

    /// Changes of the catalog here, and of its leader, from now on.
    pub(super) fn catalog(&self) -> watch::Receiver<u64> {
        self.catalog.subscribe()
    }

    pub(super) fn metadata(&self) -> watch::Receiver<i64> {
        self.metadata.subscribe()
    }

    /// Resolves when the metadata has to be looked at again.
    pub(super) async fn metadata_due(&self) {
        self.due.notified().await;
    }

    /// Peers told what they lead: all that is known of shards without a replica here.
    pub(super) fn note_led(&self, led: &[LedShard]) {
        for led in led {
            self.note_term(led.shard, led.term * 2 + 1);
        }
    }

    fn note_term(&self, shard: ShardId, seen: u64) {
        let mut terms = self.terms.lock().unwrap_or_else(PoisonError::into_inner);
        let known = terms.entry(shard).or_default();
        if seen > *known {
            *known = seen;
            self.due.notify_one();
        }
    }

    /// Sums what is known into one number that never falls while terms and the catalog only rise.
    pub(super) fn note_metadata(&self, catalog_version: u64) {
        let terms = self.terms.lock().unwrap_or_else(PoisonError::into_inner);
        let leaders: u64 = terms.values().sum();
        let version = (catalog_version << LEADER_BITS) | (leaders & u64::from(u32::MAX));
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        self.metadata.send_if_modified(|known| {
            let newer = version > *known;
            *known = version.max(*known);
            newer
        });
    }
}

/// One who waits for a partition, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiter {
    wakes: Arc<Wakes>,
    shard: ShardId,
    at: TopicPartition,
    notify: Arc<Notify>,
}

impl Waiter {
    /// Resolves at the next change after this call, whenever it is first polled.
    pub(super) fn next(&self) -> Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.wakes.waiting();
        let Some(spots) = waiting.get_mut(&self.shard) else { return };
        let Some(spot) = spots.get_mut(&self.at) else { return };
        spot.waiters -= 1;
        if spot.waiters == 0 {
            spots.remove(&self.at);
        }
    }
}

/// The partition that an effect changes for readers; `None`: none, or all of the shard.
fn partition_of(effect: &Effect) -> Option<TopicPartition> {
    match effect {
        Effect::Append(batch) => Some(batch.at),
        Effect::LogStart { at, .. } | Effect::Opened(at) | Effect::Closed(at) => Some(*at),
        Effect::GroupChanged(_) | Effect::CatalogChanged | Effect::LeaderChanged => None,
    }
}

impl ApplyObserver for Wakes {
    fn applied(&self, shard: ShardId, _: u64, effects: &[Effect]) {
        if shard == ShardId::CATALOG {
            self.catalog.send_modify(|changes| *changes += 1);
        }
        if effects.contains(&Effect::CatalogChanged) {
            self.due.notify_one();
        }
        self.tell_groups(effects);
        let waiting = self.waiting();
        let Some(spots) = waiting.get(&shard).filter(|spots| !spots.is_empty()) else { return };
        // A new leader is a new leader epoch of every partition.
        if effects.contains(&Effect::LeaderChanged) {
            spots.values().for_each(|spot| spot.notify.notify_waiters());
            return;
        }
        let changed = effects.iter().filter_map(|effect| spots.get(&partition_of(effect)?));
        changed.for_each(|spot| spot.notify.notify_waiters());
    }

    fn leadership(&self, shard: ShardId, now: Leadership) {
        // A leader that is known counts more than a term without one.
        self.note_term(shard, now.term * 2 + u64::from(now.leader.is_some()));
        if shard == ShardId::CATALOG {
            self.catalog.send_modify(|changes| *changes += 1);
        }
        // Which shard a group lives in is not known here; a look too many costs little, and leaders change seldom.
        self.groups().by_name.values().for_each(|changes| changes.send_modify(|count| *count += 1));
        let waiting = self.waiting();
        let spots = waiting.get(&shard).into_iter().flat_map(BTreeMap::values);
        spots.for_each(|spot| spot.notify.notify_waiters());
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use waymark_proto::ids::{NodeId, PartitionId, TopicId};

    use super::*;

    const SHARD: ShardId = ShardId(3);

    fn at(partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(partition) }
    }

    fn log_start(partition: i32) -> Effect {
        Effect::LogStart { at: at(partition), offset: 1 }
    }

    #[test]
    fn a_partition_wakes_its_own_waiters_and_nobody_elses() {
        let wakes = Arc::new(Wakes::default());
        let waiters: Vec<_> = (0..1000).map(|number| wakes.wait(SHARD, at(number))).collect();
        let woken: Vec<_> = waiters.iter().map(Waiter::next).collect();
        wakes.applied(SHARD, 1, &[log_start(500), log_start(7)]);
        let woken = woken.into_iter().map(|it| it.now_or_never().is_some());
        let woken: Vec<usize> =
            woken.enumerate().filter(|(_, woken)| *woken).map(|(number, _)| number).collect();
        assert_eq!(woken, [7, 500]);
    }

    #[test]
    fn a_change_before_the_first_poll_is_not_missed_and_one_before_the_call_does_not_count() {
        let wakes = Arc::new(Wakes::default());
        let waiter = wakes.wait(SHARD, at(1));
        wakes.applied(SHARD, 1, &[log_start(1)]);
        let next = waiter.next();
        assert!(waiter.next().now_or_never().is_none());
        wakes.applied(SHARD, 2, &[log_start(1)]);
        assert!(next.now_or_never().is_some());
    }

    #[test]
    fn a_change_of_leadership_wakes_the_whole_shard_and_no_other() {
        let wakes = Arc::new(Wakes::default());
        let (here, there) = (wakes.wait(SHARD, at(1)), wakes.wait(ShardId(4), at(2)));
        let (a, b) = (here.next(), there.next());
        wakes.leadership(SHARD, Leadership { leader: Some(NodeId(1)), term: 2, ready: false });
        assert!(a.now_or_never().is_some());
        assert!(b.now_or_never().is_none());
        let a = here.next();
        wakes.applied(SHARD, 1, &[Effect::LeaderChanged]);
        assert!(a.now_or_never().is_some());
    }

    #[test]
    fn a_group_wakes_its_own_sessions_and_few_groups_are_kept_that_nobody_waits_for() {
        let wakes = Wakes::default();
        let staying: Vec<_> = (0..100).map(|number| wakes.group(&format!("s{number}"))).collect();
        for number in 0..10_000 {
            drop(wakes.group(&format!("g{number}")));
            let kept = wakes.groups().by_name.len();
            assert!(kept <= 2 * staying.len() + Waited::SPARE, "{kept}");
        }
        let again = wakes.group("s7");
        wakes.applied(SHARD, 1, &[Effect::GroupChanged("s7".to_owned())]);
        let woken = staying.iter().map(|it| it.has_changed().unwrap());
        assert_eq!(
            woken.enumerate().filter(|(_, it)| *it).map(|(n, _)| n).collect::<Vec<_>>(),
            [7]
        );
        assert!(again.has_changed().unwrap());
    }

    #[test]
    fn nothing_is_kept_of_a_partition_that_nobody_waits_for() {
        let wakes = Arc::new(Wakes::default());
        let (one, two) = (wakes.wait(SHARD, at(1)), wakes.wait(SHARD, at(1)));
        drop(one);
        let next = two.next();
        wakes.applied(SHARD, 1, &[log_start(1)]);
        assert!(next.now_or_never().is_some());
        drop(two);
        assert!(wakes.waiting().values().all(BTreeMap::is_empty));
    }
}
