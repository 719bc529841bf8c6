//! The life of one member's process: it asks for records, works on them, commits in its manner, and leaves when it is told
//! to. It writes down what it was given and what it was told; nothing is judged here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use super::crowd::Chair;
use super::seam::{Change, Delivery, GroupMember, Manner, Place, Told};
use crate::group_history::GroupEvent;
use crate::history::{Event, History};
use crate::subject::Subject;

/// The longest work of a member that does not hang on the records of one call.
const WORK_MS: u64 = 25;
/// After an error.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Whether it still hangs is looked at so often.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// A process that has left ends this much later: its connections are closed by then.
const FAREWELL: Duration = Duration::from_millis(100);

/// One start of one member.
pub(super) struct Life {
    number: u32,
    manner: Manner,
    member: Box<dyn GroupMember>,
    chair: Arc<Chair>,
    history: History,
    random: SmallRng,
    name: Option<String>,
}

impl Life {
    pub(super) fn begin(subject: &Arc<dyn Subject>, chair: &Arc<Chair>, history: &History) -> Self {
        let number = chair.members.fetch_add(1, Ordering::SeqCst) + 1;
        chair.sits.store(number, Ordering::SeqCst);
        let seed = chair.seeds.fetch_add(1, Ordering::SeqCst);
        let mut random = SmallRng::seed_from_u64(seed);
        let manner = Manner::ALL[random.random_range(0..Manner::ALL.len())];
        history.note(GroupEvent::Started { member: number });
        let member = subject.member(seed, manner, told(number, history.clone()));
        tracing::info!(number, ?manner, "a member begins");
        let (chair, history) = (Arc::clone(chair), history.clone());
        Self { number, manner, member, chair, history, random, name: None }
    }

    /// Until it is told to leave, and has left.
    pub(super) async fn live(mut self) {
        while !self.chair.leave.load(Ordering::SeqCst) {
            let polled = self.history.note_damage(self.member.poll().await);
            self.call_by_name();
            match polled {
                Ok(records) => self.work(records).await,
                Err(error) => {
                    tracing::debug!(member = self.number, %error, "asked in vain");
                    sleep(ASK_AGAIN).await;
                }
            }
        }
        self.history.note(GroupEvent::Leaving { member: self.number });
        self.member.leave().await;
        sleep(FAREWELL).await;
        self.chair.sits.store(0, Ordering::SeqCst);
    }

    fn call_by_name(&mut self) {
        let name = self.member.id();
        if let Some(id) = name.clone().filter(|_| name != self.name) {
            self.history.note(GroupEvent::Named { member: self.number, id });
            self.name = name;
        }
    }

    async fn work(&mut self, records: Vec<Delivery>) {
        let mut places: BTreeMap<u32, Place> = BTreeMap::new();
        for Delivery { partition, offset, value, fence } in records.iter().copied() {
            let member = self.number;
            self.history.note(GroupEvent::HandedOut { member, partition, offset, fence });
            self.history.note(Event::Read { reader: None, partition, offset, value });
            places.insert(partition, Place { partition, offset: offset + 1, fence });
        }
        if places.is_empty() {
            return;
        }
        sleep(Duration::from_millis(self.random.random_range(0..WORK_MS))).await;
        while self.chair.stuck.load(Ordering::SeqCst) {
            self.chair.hangs.store(true, Ordering::SeqCst);
            sleep(LOOK_AGAIN).await;
        }
        self.chair.hangs.store(false, Ordering::SeqCst);
        for Delivery { partition, offset, .. } in records {
            self.history.note(GroupEvent::Finished { partition, offset });
        }
        self.chair.left_at(places.values());
        if matches!(self.manner, Manner::Waiting | Manner::WithoutWaiting) {
            self.commit(places.into_values().collect()).await;
        }
    }

    async fn commit(&mut self, places: Vec<Place>) {
        let commits: Vec<u64> =
            places.iter().map(|_| self.chair.commits.fetch_add(1, Ordering::SeqCst)).collect();
        for (Place { partition, offset, fence }, commit) in places.iter().copied().zip(&commits) {
            let commit = *commit;
            self.history.note(GroupEvent::Commit { commit, partition, offset, fence });
        }
        let mut committing = self.member.commit(places);
        let history = self.history.clone();
        let note = move |counts: bool| {
            for commit in commits.into_iter().filter(|_| counts) {
                history.note(GroupEvent::Committed { commit });
            }
        };
        if self.manner == Manner::Waiting {
            return note(committing.await);
        }
        match futures::poll!(&mut committing) {
            Poll::Ready(counts) => note(counts),
            Poll::Pending => {
                tokio::spawn(async move { note(committing.await) });
            }
        }
    }
}

fn told(member: u32, history: History) -> Told {
    Arc::new(move |change, partition, fence| match change {
        Change::Owned => history.note(GroupEvent::Owned { member, partition, fence }),
        Change::Lost => history.note(GroupEvent::Lost { member, partition, fence }),
        Change::GivenUp => {}
    })
}
