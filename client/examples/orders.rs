//! Orders: every order is created, paid, packed and shipped, in this sequence, whoever handles its events. Members of the
//! group come and go while orders flow: one joins late, one leaves, one crashes.
//!
//! ```sh
//! waymark dev                                                      # a cluster to talk to
//! cargo run -p waymark-client --example orders [EVENTS]            # events between one change and the next
//! ```
//!
//! What to see: the order's id as the key keeps its events in sequence; a planned change repeats nothing, because a
//! partition is handed over exactly where it stands; a crash loses nothing, and repeats only what its member had not yet
//! committed.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use waymark_client::{
    Client, ConsumerConfig, ConsumerRecord, OffsetReset, ProducerConfig, ProducerRecord,
};

mod stage;
use stage::{Outcome, ensure, until};

const PARTITIONS: i32 = 6;
const STEPS: [&str; 4] = ["created", "paid", "packed", "shipped"];
/// Between one new order and the next.
const PACE: Duration = Duration::from_millis(5);
/// After so long without a word from a member, the group goes on without it.
const SESSION: Duration = Duration::from_secs(6);

#[tokio::main]
async fn main() -> ExitCode {
    stage::run(handle_orders()).await
}

async fn handle_orders() -> Outcome {
    let events = u64::from(stage::size_or(400)?);
    let client = Client::connect(stage::cluster()).await?;
    let topic = stage::fresh_topic(&client, "orders", PARTITIONS).await?;
    let journal = Arc::new(Journal::default());
    let closing_time = CancellationToken::new();
    let shop = tokio::spawn(take_orders(client, topic.clone(), closing_time.clone()));

    let anna = Member::join("anna", &topic, &journal).await?;
    let ben = Member::join("ben", &topic, &journal).await?;
    let both = || journal.handled_by("anna") >= events && journal.handled_by("ben") >= events;
    until("anna and ben share the orders", both).await?;
    println!("anna and ben share the orders: {journal}");

    let cleo = Member::join("cleo", &topic, &journal).await?;
    until("cleo gets her share", || journal.handled_by("cleo") >= events).await?;
    println!("cleo has joined: {journal}");

    ben.leave().await?;
    println!("ben has left: {journal}");

    let more = journal.handled_by("cleo") + events;
    until("cleo goes on", || journal.handled_by("cleo") >= more).await?;
    cleo.crash().await;
    println!("cleo has crashed: {journal}");

    closing_time.cancel();
    let orders = shop.await??;
    println!(
        "{orders} orders were taken; the group notices the crash within {} s",
        SESSION.as_secs()
    );
    until("every order is shipped", || journal.shipped() == orders).await?;
    anna.leave().await?;
    println!("all orders are shipped: {journal}");

    journal.check(orders)
}

/// Takes a new order at each step of the clock, and moves those before it on by one step, until closing time.
async fn take_orders(
    client: Client,
    topic: String,
    closing_time: CancellationToken,
) -> Outcome<usize> {
    let producer = client.producer(ProducerConfig::default()).await?;
    let mut acknowledgements = Vec::new();
    let (mut tick, mut orders) = (0, 0);
    while tick < orders + STEPS.len() {
        if !closing_time.is_cancelled() {
            orders = tick + 1;
        }
        for (age, step) in STEPS.into_iter().enumerate() {
            let Some(order) = tick.checked_sub(age).filter(|order| *order < orders) else {
                continue;
            };
            let record = ProducerRecord::new(topic.as_str()).key(order.to_string()).value(step);
            acknowledgements.push(producer.send(record).await?);
        }
        tick += 1;
        sleep(PACE).await;
    }
    try_join_all(acknowledgements).await?;
    Ok(orders)
}

/// One process of the group; here a task with a connection of its own.
struct Member {
    leaving: CancellationToken,
    task: JoinHandle<Outcome>,
}

impl Member {
    async fn join(name: &'static str, topic: &str, journal: &Arc<Journal>) -> Outcome<Self> {
        let client = Client::connect(stage::cluster().client_id(name)).await?;
        let config = ConsumerConfig::default()
            .group_id(format!("{topic}-handlers"))
            .auto_offset_reset(OffsetReset::Earliest)
            // What is finished is committed this often: a crash repeats no more than was done since.
            .auto_commit_interval(Duration::from_secs(1))
            .session_timeout(SESSION);
        let consumer = client.consumer(config)?;
        consumer.subscribe([topic]).await?;
        let (leaving, journal) = (CancellationToken::new(), Arc::clone(journal));
        let asked = leaving.clone();
        let task = tokio::spawn(async move {
            while !asked.is_cancelled() {
                for record in consumer.poll(Duration::from_millis(100)).await? {
                    journal.handle(name, &record)?;
                }
            }
            // Commits what is finished, hands the partitions over and says goodbye.
            consumer.close(Duration::from_secs(10)).await?;
            Ok(())
        });
        Ok(Self { leaving, task })
    }

    async fn leave(self) -> Outcome {
        self.leaving.cancel();
        self.task.await?
    }

    /// Gone from one moment to the next: no last commit, no goodbye.
    async fn crash(self) {
        self.task.abort();
        // It says only that it was aborted.
        let _ = self.task.await;
    }
}

/// What was handled, and by whom.
#[derive(Default)]
struct Journal(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    /// Of each order and step: who did it first.
    done: BTreeMap<(usize, usize), &'static str>,
    by_member: BTreeMap<&'static str, u64>,
    /// Who had first done what came again.
    repeated: BTreeMap<&'static str, u64>,
    out_of_sequence: Vec<String>,
}

impl Journal {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the work of one event. It may come again after a crash, so it must do no harm twice: an order remembers how far
    /// it is.
    fn handle(&self, member: &'static str, record: &ConsumerRecord) -> Outcome {
        let word = |bytes: &Option<_>| -> Outcome<String> {
            let bytes: &bytes::Bytes = bytes.as_ref().ok_or("an event without key or value")?;
            Ok(std::str::from_utf8(bytes)?.to_owned())
        };
        let order: usize = word(&record.key)?.parse()?;
        let name = word(&record.value)?;
        let step = STEPS.into_iter().position(|step| step == name).ok_or("an unknown step")?;

        let mut entries = self.entries();
        *entries.by_member.entry(member).or_default() += 1;
        if let Some(first) = entries.done.get(&(order, step)).copied() {
            *entries.repeated.entry(first).or_default() += 1;
        } else {
            if step > 0 && !entries.done.contains_key(&(order, step - 1)) {
                entries
                    .out_of_sequence
                    .push(format!("order {order} was {name} before it was {}", STEPS[step - 1]));
            }
            entries.done.insert((order, step), member);
        }
        Ok(())
    }

    fn handled_by(&self, member: &str) -> u64 {
        self.entries().by_member.get(member).copied().unwrap_or_default()
    }

    fn shipped(&self) -> usize {
        self.entries().done.keys().filter(|(_, step)| *step == STEPS.len() - 1).count()
    }

    fn check(&self, orders: usize) -> Outcome {
        let entries = self.entries();
        let Entries { done, repeated, out_of_sequence, .. } = &*entries;
        ensure(out_of_sequence.is_empty(), || {
            format!("{} events came too early: {}", out_of_sequence.len(), out_of_sequence[0])
        })?;
        ensure(done.len() == orders * STEPS.len(), || {
            format!("{} of {} events were handled", done.len(), orders * STEPS.len())
        })?;
        let planned: u64 =
            repeated.iter().filter(|(member, _)| **member != "cleo").map(|(_, times)| times).sum();
        ensure(planned == 0, || format!("planned changes repeated events: {repeated:?}"))?;
        let again = repeated.get("cleo").copied().unwrap_or_default();
        println!(
            "{} events of {orders} orders: none lost, none out of sequence, 0 repeated when members joined and left, \
             {again} repeated after the crash",
            done.len()
        );
        Ok(())
    }
}

impl std::fmt::Display for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entries = self.entries();
        let each: Vec<_> =
            entries.by_member.iter().map(|(member, events)| format!("{member} {events}")).collect();
        write!(f, "events handled by {}", each.join(", "))
    }
}
