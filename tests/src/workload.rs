//! What clients do in every profile: produce in bursts, one of them with keys and one that dies and begins anew, read in
//! several ways, and at the end read everything back. They write down what they were told; nothing is judged here, and
//! nothing breaks here.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::{sleep, timeout};

use crate::cluster::{Broken, Cluster};
use crate::history::{Event, History};
use crate::readers::{Jumper, Names, Onlooker, follow};
use crate::subject::{Appended, Clients, Hosts, LogClient, Subject};

/// Most records of a burst: more than a producer may have on the way, so that some wait.
const BURST: u64 = 8;
/// After the last fault, everything must be served again within this.
pub(crate) const SETTLE: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Bursts of a life, on average, of a producer that dies.
const BURSTS_OF_A_LIFE: u32 = 12;
/// A producer that dies waits for its last acknowledgements at most so long.
const LAST_WORDS_MS: u64 = 60;
/// Keys of the producer that has some: several for each partition.
const KEYS: u64 = 16;

/// The making of the partitions that everything else uses.
pub(crate) struct Preparation {
    ready: Arc<AtomicBool>,
    trouble: Trouble,
}

/// What was last asked in vain, for whoever waits too long.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trouble(Arc<Mutex<String>>);

impl Trouble {
    fn note(&self, error: &io::Error) {
        tracing::debug!(%error, "asked in vain");
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
    }

    pub(crate) fn told(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Preparation {
    pub(crate) fn start(cluster: &mut Cluster, subject: &Arc<dyn Subject>) -> Self {
        let mut client = subject.client(cluster.draw(0, u64::MAX));
        let (ready, trouble) = (Arc::new(AtomicBool::new(false)), Trouble::default());
        let (told, seen) = (Arc::clone(&ready), trouble.clone());
        cluster.client(async move {
            prepare(&mut client, &seen).await;
            told.store(true, Ordering::SeqCst);
        });
        Self { ready, trouble }
    }

    pub(crate) fn finish(&self, cluster: &mut Cluster) -> Result<(), Broken> {
        match cluster.run_until(SETTLE, || self.ready.load(Ordering::SeqCst))? {
            true => Ok(()),
            false => {
                Err(Broken(format!("the cluster never began to serve: {}", self.trouble.told())))
            }
        }
    }
}

/// Makes the partitions, as long as it takes.
pub(crate) async fn prepare(client: &mut Box<dyn LogClient>, trouble: &Trouble) {
    until_ok(client, trouble, async |client| client.prepare().await).await;
}

/// Asks until there is an answer.
pub(crate) async fn until_ok<T>(
    client: &mut Box<dyn LogClient>,
    trouble: &Trouble,
    ask: impl AsyncFn(&mut Box<dyn LogClient>) -> io::Result<T>,
) -> T {
    loop {
        match ask(client).await {
            Ok(answer) => return answer,
            Err(error) => {
                trouble.note(&error);
                sleep(ASK_AGAIN).await;
            }
        }
    }
}

/// Who produces and reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    producers: u32,
    /// Longest pause of a producer between two bursts.
    pause_ms: u64,
    followed: bool,
}

impl Pace {
    /// Something is always on the way, and somebody follows.
    pub(crate) const BUSY: Self = Self { producers: 3, pause_ms: 40, followed: true };
    /// A group reads, for longer: there is something new whenever it looks.
    pub(crate) const STEADY: Self = Self { producers: 2, pause_ms: 120, followed: false };
}

/// The clients of a run while faults happen.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    running: Arc<AtomicU32>,
    names: Names,
}

impl Load {
    pub(crate) fn start(
        hosts: &mut impl Hosts,
        clients: &Arc<dyn Clients>,
        history: &History,
        pace: Pace,
    ) -> Self {
        let mut load =
            Self { stop: Arc::default(), running: Arc::default(), names: Names::default() };
        for number in 1..=pace.producers {
            let habit = if pace.followed { Habit::of(number) } else { Habit::Plain };
            let producer = Burster::new(number, habit, (hosts, clients, history), pace);
            load.client(hosts, move |stop| producer.run(stop));
        }
        if pace.followed {
            load.start_readers(hosts, clients, history);
        }
        load
    }

    fn start_readers(
        &mut self,
        hosts: &mut impl Hosts,
        clients: &Arc<dyn Clients>,
        history: &History,
    ) {
        let partitions = clients.partitions();
        let (client, seen) = (clients.client(hosts.draw(0, u64::MAX)), history.clone());
        self.client(hosts, move |stop| async move {
            follow(client, partitions, &seen, &stop).await;
        });
        let (clients, history) = (Arc::clone(clients), history.clone());
        let seed = hosts.draw(0, u64::MAX);
        let (client, names) = (clients.client(seed), self.names.clone());
        let onlooker = Onlooker { client, history: history.clone(), partitions, names, seed };
        self.client(hosts, move |stop| async move { onlooker.look(&stop).await });
        let jumper = Jumper { clients, history, seed: hosts.draw(0, u64::MAX) };
        self.client(hosts, move |stop| async move { jumper.live(&stop).await });
    }

    fn client<F>(
        &mut self,
        hosts: &mut impl Hosts,
        life: impl FnOnce(Arc<AtomicBool>) -> F + 'static,
    ) where
        F: Future<Output = ()> + 'static,
    {
        self.running.fetch_add(1, Ordering::SeqCst);
        let (stop, running) = (Arc::clone(&self.stop), Arc::clone(&self.running));
        hosts.host(async move {
            life(stop).await;
            running.fetch_sub(1, Ordering::SeqCst);
        });
    }

    /// Topics of the caretaker, which somebody may ask for.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Asks every client to come to its end.
    pub(crate) fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether every client has.
    pub(crate) fn has_ended(&self) -> bool {
        self.running.load(Ordering::SeqCst) == 0
    }

    /// Lets every client come to its end.
    pub(crate) fn stop(&self, cluster: &mut Cluster) -> Result<(), Broken> {
        self.end();
        match cluster.run_until(SETTLE, || self.has_ended())? {
            true => Ok(()),
            false => Err(Broken("a client still waits, without a deadline".to_owned())),
        }
    }
}

/// How a producer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// It names partitions, and lives as long as the run.
    Plain,
    /// It dies in the middle of bursts, and begins anew as another producer.
    Mortal,
    /// Its records have keys, and these decide the partition.
    Keyed,
}

impl Habit {
    fn of(number: u32) -> Self {
        match number {
            2 => Self::Mortal,
            3 => Self::Keyed,
            _ => Self::Plain,
        }
    }
}

/// Sends bursts of values, each to one partition.
struct Burster {
    clients: Arc<dyn Clients>,
    client: Box<dyn LogClient>,
    number: u32,
    habit: Habit,
    /// Lives before this one.
    lives: u32,
    history: History,
    random: SmallRng,
    pause_ms: u64,
    sent: u64,
}

impl Burster {
    fn new(
        number: u32,
        habit: Habit,
        (hosts, clients, history): (&mut impl Hosts, &Arc<dyn Clients>, &History),
        pace: Pace,
    ) -> Self {
        let seed = hosts.draw(0, u64::MAX);
        Self {
            clients: Arc::clone(clients),
            client: clients.client(seed),
            number,
            habit,
            lives: 0,
            history: history.clone(),
            random: SmallRng::seed_from_u64(seed),
            pause_ms: pace.pause_ms,
            sent: 0,
        }
    }

    async fn run(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::SeqCst) {
            self.burst().await;
            sleep(Duration::from_millis(self.random.random_range(0..self.pause_ms))).await;
        }
    }

    async fn burst(&mut self) {
        let partitions = self.clients.partitions();
        let (key, partition) = if self.habit == Habit::Keyed {
            let key = self.random.random_range(0..KEYS).to_be_bytes();
            (Some(key), partition_of(&key, partitions))
        } else {
            (None, self.random.random_range(0..partitions))
        };
        let count = self.random.random_range(1..=BURST);
        let first = (u64::from(self.number) << 32) | self.sent;
        self.sent += count;
        let values: Vec<u64> = (first..first + count).collect();
        // Each life is another producer: what an earlier one has on the way may come after what this one sends.
        let producer = self.number + (self.lives << 8);
        for value in values.iter().copied() {
            self.history.note(Event::AppendInvoked { partition, producer, value });
        }
        let dies = self.habit == Habit::Mortal && self.random.random_ratio(1, BURSTS_OF_A_LIFE);
        let last_words = Duration::from_millis(self.random.random_range(1..LAST_WORDS_MS));
        let sends = async {
            match key {
                Some(key) => self.client.append_keyed(&key, &values).await,
                None => self.client.append(partition, &values).await,
            }
        };
        let outcomes = match dies {
            true => timeout(last_words, sends).await.unwrap_or_default(),
            false => sends.await,
        };
        let told = outcomes.into_iter().chain(std::iter::repeat(Appended::Unknown));
        for (value, outcome) in values.into_iter().zip(told) {
            self.history.note(match outcome {
                Appended::At(offset) => Event::AppendOk { partition, offset, value },
                Appended::Refused => Event::AppendFailed { partition, value },
                Appended::Unknown => Event::AppendUnknown { partition, value },
            });
        }
        if dies {
            self.lives += 1;
            self.client = self.clients.client(self.random.random());
        }
    }
}

/// The partition of a key, as every client of Kafka's kind finds it: murmur2 of the key, without its sign. Written from its
/// description, so that it shares no mistake with the client.
fn partition_of(key: &[u8], partitions: u32) -> u32 {
    const MIX: u32 = 0x5bd1_e995;
    let length = u32::try_from(key.len()).expect("a key is short");
    let mut hash = 0x9747_b28c ^ length;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let word = u32::from_le_bytes(*word).wrapping_mul(MIX);
        hash = hash.wrapping_mul(MIX) ^ (word ^ (word >> 24)).wrapping_mul(MIX);
    }
    for (place, byte) in rest.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * place);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(MIX);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(MIX);
    ((hash ^ (hash >> 15)) & 0x7fff_ffff) % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_where_other_clients_send_it() {
        // As Kafka's own tests have it: murmur2 of these is -973932308, -790332482 and -985981536.
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
        ] {
            let positive = hash.cast_unsigned() & 0x7fff_ffff;
            assert_eq!(partition_of(key.as_bytes(), 1_000_003), positive % 1_000_003, "{key}");
        }
    }
}
