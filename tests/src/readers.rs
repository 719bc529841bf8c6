//! Those who read in a run without a group: one follows everything and commits, one jumps about, restarts and commits to a
//! group of its own, one only asks. They write down what they asked and were told; nothing is judged here.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use crate::calls::{Answer, Call, Outcome};
use crate::history::{Event, History};
use crate::subject::{Clients, LogClient, Read};

/// Those who call, as in histories. Each life of the jumper is another reader, from its own number on.
pub(crate) const FOLLOWER: u32 = 1;
pub(crate) const AUDITOR: u32 = 2;
pub(crate) const CARETAKER: u32 = 3;
const ONLOOKER: u32 = 4;
const BELIEVER: u32 = 5;
const TASTER: u32 = 6;
const JUMPER: u32 = 100;

/// The group of the follower, whose offsets rise.
pub(crate) const FOLLOWERS: u32 = 1;
/// The group of the jumper, whose offsets do not.
const JUMPERS: u32 = 3;

const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Between two questions of the onlooker at most.
const LONGEST_PAUSE_MS: u64 = 150;
/// Between two questions of a believer.
const BELIEVES_FOR: Duration = Duration::from_millis(50);
/// Of the jumper's turns one in so many is its last.
const TURNS_OF_A_LIFE: u32 = 12;

/// Numbers of topics that came and may have gone again; each names one topic.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Arc<AtomicU32>);

impl Names {
    /// Another one.
    pub(crate) fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The newest; 0 before the first.
    fn newest(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

/// One client and what it writes down.
struct Desk {
    client: Box<dyn LogClient>,
    number: u32,
    history: History,
}

impl Desk {
    fn note_reads(&self, records: &[Read], ends: &mut BTreeMap<u32, u64>) {
        let reader = Some(self.number);
        for Read { partition, offset, value } in records.iter().copied() {
            self.history.note(Event::Read { reader, partition, offset, value });
            let end = ends.entry(partition).or_default();
            *end = (*end).max(offset + 1);
        }
    }

    async fn commit(&mut self, group: u32, partition: u32, offset: u64) {
        let call = self.history.invoke(self.number, Call::Commit { group, partition, offset });
        let done = self.client.commit(group, partition, offset).await;
        let outcome = if done { Outcome::Ok(Answer::Done) } else { Outcome::Unknown };
        self.history.end(call, outcome);
    }

    async fn committed(&mut self, group: u32, partition: u32) -> Option<u64> {
        let call = self.history.invoke(self.number, Call::Committed { group, partition });
        let told = self.client.committed(group, partition).await.ok();
        self.answered(call, told.map(Answer::Offset));
        told
    }

    async fn end_offset(&mut self, partition: u32) {
        let call = self.history.invoke(self.number, Call::EndOffset { partition });
        let told = self.client.end_offset(partition).await.ok();
        self.answered(call, told.map(Answer::Offset));
    }

    async fn look_up(&mut self, topic: u32) {
        let call = self.history.invoke(self.number, Call::LookUpTopic { topic });
        let told = self.client.look_up_topic(topic).await.ok();
        self.answered(call, told.map(Answer::Partitions));
    }

    async fn follow(&mut self) -> io::Result<Vec<Read>> {
        self.history.note_damage(self.client.follow().await)
    }

    /// A question without an answer changed nothing.
    fn answered(&self, call: u64, answer: Option<Answer>) {
        self.history.end(call, answer.map_or(Outcome::Failed, Outcome::Ok));
    }
}

/// Reads all partitions from their beginning while records come, commits one partition's offset after every read, and looks
/// whether it counts.
pub(crate) async fn follow(
    client: Box<dyn LogClient>,
    partitions: u32,
    history: &History,
    stop: &AtomicBool,
) {
    let mut desk = Desk { client, number: FOLLOWER, history: history.clone() };
    let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
    for partition in 0..partitions {
        history.note(Event::Sought { reader: FOLLOWER, partition, offset: 0 });
    }
    let mut turn = 0;
    while !stop.load(Ordering::SeqCst) {
        let Ok(records) = desk.follow().await else {
            sleep(ASK_AGAIN).await;
            continue;
        };
        desk.note_reads(&records, &mut ends);
        turn += 1;
        let chosen = ends.iter().nth(turn % ends.len().max(1));
        let Some((partition, offset)) = chosen.map(|(partition, end)| (*partition, *end)) else {
            continue;
        };
        desk.commit(FOLLOWERS, partition, offset).await;
        desk.committed(FOLLOWERS, partition).await;
    }
}

/// Which partitions gave a record that they had taken after a moment. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasted {
    given: Arc<Mutex<BTreeSet<u32>>>,
    over: Arc<AtomicBool>,
}

impl Tasted {
    /// Those so far.
    pub(crate) fn given(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody waits for the others.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

/// Reads each partition from what was acknowledged last, until it is given a record that was acknowledged later.
pub(crate) async fn taste(
    mut client: Box<dyn LogClient>,
    partitions: u32,
    history: History,
    tasted: Tasted,
) {
    let before = history.last_acknowledged();
    let from = |partition| before.get(&partition).map_or(0, |(offset, _)| *offset);
    for partition in 0..partitions {
        let offset = from(partition);
        while client.seek(partition, offset).await.is_err() {
            if tasted.over.load(Ordering::SeqCst) {
                return;
            }
            sleep(ASK_AGAIN).await;
        }
        history.note(Event::Sought { reader: TASTER, partition, offset });
    }
    let mut desk = Desk { client, number: TASTER, history };
    let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
    while !tasted.over.load(Ordering::SeqCst) {
        let Ok(records) = desk.follow().await else {
            sleep(ASK_AGAIN).await;
            continue;
        };
        desk.note_reads(&records, &mut ends);
        for (partition, (offset, _)) in desk.history.last_acknowledged() {
            if offset > from(partition) && ends.get(&partition).is_some_and(|end| *end > offset) {
                tasted.given().insert(partition);
            }
        }
    }
}

/// The settled committed offset of the follower, asked for until it is told.
pub(crate) async fn audit(client: &mut Box<dyn LogClient>, history: &History, partition: u32) {
    loop {
        let what = Call::Committed { group: FOLLOWERS, partition };
        let call = history.invoke(AUDITOR, what);
        let told = client.committed(FOLLOWERS, partition).await;
        let outcome = told.map_or(Outcome::Failed, |offset| Outcome::Ok(Answer::Offset(offset)));
        history.end(call, outcome);
        if outcome != Outcome::Failed {
            return;
        }
        sleep(ASK_AGAIN).await;
    }
}

/// A reader that goes anywhere, commits where it is, dies without a word, and begins anew at what was committed.
pub(crate) struct Jumper {
    pub(crate) clients: Arc<dyn Clients>,
    pub(crate) history: History,
    pub(crate) seed: u64,
}

impl Jumper {
    pub(crate) async fn live(self, stop: &AtomicBool) {
        let mut random = SmallRng::seed_from_u64(self.seed);
        for number in JUMPER.. {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            let client = self.clients.client(random.random());
            let mut desk = Desk { client, number, history: self.history.clone() };
            self.one_life(&mut desk, &mut random, stop).await;
        }
    }

    async fn one_life(&self, desk: &mut Desk, random: &mut SmallRng, stop: &AtomicBool) {
        let partitions = self.clients.partitions();
        let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
        for partition in 0..partitions {
            let Some(from) = desk.committed(JUMPERS, partition).await else { return };
            if !self.go(desk, partition, from).await {
                return;
            }
            ends.insert(partition, from);
        }
        while !stop.load(Ordering::SeqCst) && random.random_range(0..TURNS_OF_A_LIFE) > 0 {
            let partition = random.random_range(0..partitions);
            let end = ends.get(&partition).copied().unwrap_or(0);
            if random.random_bool(0.3)
                && !self.go(desk, partition, random.random_range(0..=end)).await
            {
                return;
            }
            let Ok(records) = desk.follow().await else { return };
            desk.note_reads(&records, &mut ends);
            if random.random_bool(0.5) {
                let offset = ends.get(&partition).copied().unwrap_or(0);
                desk.commit(JUMPERS, partition, random.random_range(0..=offset)).await;
            }
        }
    }

    async fn go(&self, desk: &mut Desk, partition: u32, offset: u64) -> bool {
        let reader = desk.number;
        let went = desk.client.seek(partition, offset).await.is_ok();
        desk.history.note(Event::Sought { reader, partition, offset });
        went
    }
}

/// Asks one node alone where a partition ends that it leads now, until `stop`: whoever is deposed has somebody who believes it.
pub(crate) async fn believe(
    client: Box<dyn LogClient>,
    partition: u32,
    history: History,
    stop: Arc<AtomicBool>,
) {
    let mut desk = Desk { client, number: BELIEVER, history };
    while !stop.load(Ordering::SeqCst) {
        desk.end_offset(partition).await;
        sleep(BELIEVES_FOR).await;
    }
}

/// Asks one node alone what a topic is, until `stop`: a node that knows no better has somebody who asks it.
pub(crate) async fn doubt(
    client: Box<dyn LogClient>,
    topic: u32,
    history: History,
    stop: Arc<AtomicBool>,
) {
    let mut desk = Desk { client, number: BELIEVER, history };
    while !stop.load(Ordering::SeqCst) {
        desk.look_up(topic).await;
        sleep(BELIEVES_FOR).await;
    }
}

/// Asks where partitions end, what is committed, and what is in the catalog.
pub(crate) struct Onlooker {
    pub(crate) client: Box<dyn LogClient>,
    pub(crate) history: History,
    pub(crate) partitions: u32,
    pub(crate) names: Names,
    pub(crate) seed: u64,
}

impl Onlooker {
    pub(crate) async fn look(self, stop: &AtomicBool) {
        let mut random = SmallRng::seed_from_u64(self.seed);
        let mut desk = Desk { client: self.client, number: ONLOOKER, history: self.history };
        while !stop.load(Ordering::SeqCst) {
            let partition = random.random_range(0..self.partitions);
            let newest = self.names.newest();
            match random.random_range(0..4) {
                0 => drop(desk.committed(FOLLOWERS, partition).await),
                1 => drop(desk.committed(JUMPERS, partition).await),
                2 if newest > 0 => desk.look_up(newest).await,
                _ => desk.end_offset(partition).await,
            }
            sleep(Duration::from_millis(random.random_range(1..LONGEST_PAUSE_MS))).await;
        }
    }
}
