//! The members of a run, each on a host of its own: they come, go, hang, die and are cut off as a story says. Owns who is
//! there; never what they do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::life::Life;
use super::seam::Place;
use crate::cluster::{Broken, Cluster};
use crate::group_history::GroupEvent;
use crate::history::History;
use crate::subject::Subject;

/// An orderly leave, with its last commits, takes no longer, whatever happens to nodes.
const LEAVE: Duration = Duration::from_secs(30);

/// How far the latest ownership of each partition has come: its fencing epoch, and the offset after the last record.
type Ends = Arc<Mutex<BTreeMap<u32, (u64, u64)>>>;

/// One host, on which members live one after the other.
#[derive(Debug)]
pub(super) struct Chair {
    /// The number of the member that lives; 0: none.
    pub(super) sits: AtomicU32,
    pub(super) leave: AtomicBool,
    /// Whoever sits there does not come to the end of what it was given.
    pub(super) stuck: AtomicBool,
    /// It has been given something since, and hangs at it.
    pub(super) hangs: AtomicBool,
    pub(super) seeds: AtomicU64,
    /// Members, and commits, of the whole run so far.
    pub(super) members: Arc<AtomicU32>,
    pub(super) commits: Arc<AtomicU64>,
    ends: Ends,
}

impl Chair {
    /// These were finished. What an earlier owner finishes late is not how far the group has come.
    pub(super) fn left_at<'a>(&self, places: impl Iterator<Item = &'a Place>) {
        let mut ends = lock(&self.ends);
        for place in places {
            let now = (place.fence, place.offset);
            let end = ends.entry(place.partition).or_insert(now);
            *end = (*end).max(now);
        }
    }

    /// Nobody sits there, and nothing is asked of whoever comes next.
    fn clear(&self) {
        self.sits.store(0, Ordering::SeqCst);
        for flag in [&self.leave, &self.stuck, &self.hangs] {
            flag.store(false, Ordering::SeqCst);
        }
    }

    pub(super) fn member(&self) -> Option<u32> {
        Some(self.sits.load(Ordering::SeqCst)).filter(|number| *number > 0)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Crowd {
    chairs: Vec<Arc<Chair>>,
    subject: Arc<dyn Subject>,
    history: History,
    members: Arc<AtomicU32>,
    commits: Arc<AtomicU64>,
    ends: Ends,
}

impl Crowd {
    pub(super) fn new(subject: &Arc<dyn Subject>, history: &History) -> Self {
        let (subject, history) = (Arc::clone(subject), history.clone());
        let (members, commits, ends) = (Arc::default(), Arc::default(), Ends::default());
        Self { chairs: Vec::new(), subject, history, members, commits, ends }
    }

    /// A member begins, on a host where none lives; returns which.
    pub(super) fn join(&mut self, cluster: &mut Cluster) -> usize {
        let free = self.chairs.iter().position(|chair| chair.member().is_none());
        if let Some(place) = free {
            self.chairs[place].clear();
            cluster.restart_member(&host(place));
            return place;
        }
        let place = self.chairs.len();
        let chair = Arc::new(Chair {
            sits: AtomicU32::new(0),
            leave: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            seeds: AtomicU64::new(cluster.draw(0, u64::MAX / 2)),
            members: Arc::clone(&self.members),
            commits: Arc::clone(&self.commits),
            ends: Arc::clone(&self.ends),
        });
        self.chairs.push(Arc::clone(&chair));
        let (subject, history) = (Arc::clone(&self.subject), self.history.clone());
        cluster.member(&host(place), move || Life::begin(&subject, &chair, &history).live());
        place
    }

    /// Where members live now.
    pub(super) fn present(&self) -> Vec<usize> {
        let there = |place: &usize| {
            let chair = &self.chairs[*place];
            chair.member().is_some() && !chair.leave.load(Ordering::SeqCst)
        };
        (0..self.chairs.len()).filter(there).collect()
    }

    /// One of those who are there.
    pub(super) fn any(&self, cluster: &mut Cluster) -> Option<usize> {
        let present = self.present();
        let drawn = cluster.draw(0, present.len().max(1) as u64);
        present.get(usize::try_from(drawn).unwrap_or(0)).copied()
    }

    pub(super) fn tell_to_leave(&self, place: usize) {
        self.chairs[place].leave.store(true, Ordering::SeqCst);
    }

    /// Everyone leaves, one after the other, and nobody is left.
    pub(super) fn disperse(&self, cluster: &mut Cluster) -> Result<(), Broken> {
        for place in self.present() {
            self.tell_to_leave(place);
        }
        match cluster.run_until(LEAVE, || self.chairs.iter().all(|it| it.member().is_none()))? {
            true => Ok(()),
            false => Err(Broken("a member does not come to its end".to_owned())),
        }
    }

    pub(super) fn crash(&self, cluster: &mut Cluster, place: usize) {
        let chair = &self.chairs[place];
        if let Some(member) = chair.member() {
            tracing::info!(member, "a member dies");
            self.history.note(GroupEvent::Crashed { member });
            cluster.crash_member(&host(place));
            chair.clear();
        }
    }

    pub(super) fn cut_off(&self, cluster: &mut Cluster, place: usize) {
        if let Some(member) = self.chairs[place].member() {
            tracing::info!(member, "a member is cut off");
            self.history.note(GroupEvent::CutOff { member });
            cluster.isolate_member(&host(place));
        }
    }

    /// Its application hangs from now on.
    pub(super) fn hang(&self, place: usize) {
        if let Some(member) = self.chairs[place].member() {
            tracing::info!(member, "a member hangs");
            self.history.note(GroupEvent::Stuck { member });
            self.chairs[place].stuck.store(true, Ordering::SeqCst);
        }
    }

    /// Whether it was given something at which it hangs.
    pub(super) fn hangs(&self, place: usize) -> bool {
        self.chairs[place].hangs.load(Ordering::SeqCst)
    }

    /// It goes on where it hung, unless it has died since.
    pub(super) fn wake(&self, place: usize) {
        let chair = &self.chairs[place];
        let hung = chair.stuck.swap(false, Ordering::SeqCst);
        if let Some(member) = chair.member().filter(|_| hung) {
            tracing::info!(member, "a member goes on");
            self.history.note(GroupEvent::WentOn { member });
        }
    }

    /// Its session is over by now.
    pub(super) fn note_overdue(&self, place: usize) {
        if let Some(member) = self.chairs[place].member() {
            self.history.note(GroupEvent::Overdue { member });
        }
    }

    pub(super) fn heal(&self, cluster: &mut Cluster, place: usize) {
        if let Some(member) = self.chairs[place].member() {
            tracing::info!(member, "a member is joined to everyone again");
            self.history.note(GroupEvent::Healed { member });
        }
        cluster.heal_member(&host(place));
    }

    /// Where each partition was left so far.
    pub(super) fn ends(&self) -> BTreeMap<u32, u64> {
        lock(&self.ends).iter().map(|(partition, (_, end))| (*partition, *end)).collect()
    }

    /// Whether all records up to these ends were worked on since the group was last moved.
    pub(super) fn has_reached(&self, ends: &BTreeMap<u32, u64>) -> bool {
        let reached = lock(&self.ends);
        let there = |partition| reached.get(partition).map_or(0, |(_, end)| *end);
        ends.iter().all(|(partition, end)| there(partition) == *end)
    }
}

fn lock(ends: &Ends) -> MutexGuard<'_, BTreeMap<u32, (u64, u64)>> {
    ends.lock().unwrap_or_else(PoisonError::into_inner)
}

fn host(place: usize) -> String {
    format!("member-{}", place + 1)
}
