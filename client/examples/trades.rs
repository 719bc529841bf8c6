//! Trades: each symbol's trades in their order, each of them once, in a database. The table that holds the rows also holds
//! where reading stands, and under which fencing epoch; all three change in one transaction.
//!
//! ```sh
//! waymark dev                                                      # a cluster to talk to
//! cargo run -p waymark-client --example trades [TRADES]            # trades per part of the show
//! ```
//!
//! What to see: a consumer that begins where its database stands needs no committed offsets, and a crash repeats nothing. An
//! owner that was asleep while its partition went to another cannot write any more: its epoch is too old.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tokio::task::JoinHandle;
use waymark_client::{
    Client, Consumer, ConsumerConfig, ConsumerRecord, OffsetReset, OwnedPartition, Producer,
    ProducerConfig, ProducerRecord, RebalanceContext, RebalanceListener, Subscription, async_trait,
};

mod stage;
use stage::{Outcome, ensure, until};

const PARTITIONS: i32 = 4;
const SYMBOLS: [&str; 8] = ["AAPL", "AMZN", "ASML", "MSFT", "NESN", "NVDA", "SAP", "TSM"];
/// Who works longer than this on what it has in hand has its partitions taken away.
const LONGEST_WORK: Duration = Duration::from_secs(2);
/// After so long without a word from a member, the group goes on without it.
const SESSION: Duration = Duration::from_secs(6);

#[tokio::main]
async fn main() -> ExitCode {
    stage::run(settle()).await
}

async fn settle() -> Outcome {
    let part = stage::size_or(400)?;
    let client = Client::connect(stage::cluster()).await?;
    let topic = stage::fresh_topic(&client, "trades", PARTITIONS).await?;
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("trades.sqlite");
    let table = Sink::open(&database)?;
    let mut exchange = Exchange::open(&client, &topic).await?;
    exchange.trade(part).await?;

    // The first owner reads some trades, and its machine stands still before it has written them.
    let sleeper = Settler::join("sleeper", &topic, &database).await?;
    let in_hand = sleeper.consumer.poll(Duration::from_secs(30)).await?;
    println!("the first owner has {} trades in hand, and its machine stands still", in_hand.len());
    let heir = Settler::join("heir", &topic, &database).await?.at_work();
    until("another owner writes all of them", || table.count().ok() == Some(part)).await?;
    println!("its partitions have gone to another member, which has written all {part} trades");

    // Awake again, it does not know what it has missed. The database does.
    for (partition, trades) in by_partition(in_hand) {
        match sleeper.sink.write(partition, &trades)? {
            Written::Refused { epoch, owner } => println!(
                "partition {partition}: {} trades of epoch {epoch} are refused, the owner's is {owner}",
                trades.len()
            ),
            Written::Stored => return Err("the table took trades of an owner of the past".into()),
        }
    }
    let sleeper = sleeper.at_work();
    until("the first owner has joined again", || !sleeper.consumer.assignment().is_empty()).await?;

    // Both work, until one is gone from one moment to the next, somewhere in its work.
    exchange.trade(part).await?;
    until("trades are written", || table.count().is_ok_and(|rows| rows > part)).await?;
    heir.crash().await;
    exchange.trade(part).await?;
    println!("a member has crashed; the group notices within {} s", SESSION.as_secs());
    until("all trades are written", || table.count().is_ok_and(|rows| rows >= 3 * part)).await?;
    sleeper.crash().await;
    table.check(&exchange.numbers)?;
    println!("{} trades of {} symbols: each once, in its symbol's order", 3 * part, SYMBOLS.len());
    Ok(())
}

/// Where trades come from: each symbol's are numbered.
struct Exchange {
    producer: Producer,
    topic: String,
    numbers: BTreeMap<&'static str, u32>,
}

impl Exchange {
    async fn open(client: &Client, topic: &str) -> Outcome<Self> {
        let producer = client.producer(ProducerConfig::default()).await?;
        Ok(Self { producer, topic: topic.to_owned(), numbers: BTreeMap::new() })
    }

    async fn trade(&mut self, trades: u32) -> Outcome {
        let mut acknowledgements = Vec::new();
        for symbol in SYMBOLS.into_iter().cycle().take(usize::try_from(trades)?) {
            let number = self.numbers.entry(symbol).or_default();
            *number += 1;
            let record =
                ProducerRecord::new(self.topic.as_str()).key(symbol).value(number.to_string());
            acknowledgements.push(self.producer.send(record).await?);
        }
        try_join_all(acknowledgements).await?;
        Ok(())
    }
}

/// A process that writes trades into the database.
struct Settler {
    consumer: Arc<Consumer>,
    sink: Sink,
    task: Option<JoinHandle<Outcome>>,
}

impl Settler {
    async fn join(name: &str, topic: &str, database: &Path) -> Outcome<Self> {
        let client = Client::connect(stage::cluster().client_id(name)).await?;
        let config = ConsumerConfig::default()
            .group_id(format!("{topic}-settlement"))
            .auto_offset_reset(OffsetReset::Earliest)
            // The database knows where reading stands.
            .auto_commit(false)
            .session_timeout(SESSION)
            .max_poll_interval(LONGEST_WORK)
            .max_poll_records(50);
        let consumer = Arc::new(client.consumer(config)?);
        let sink = Sink::open(database)?;
        let claims = Claims(sink.clone());
        consumer.subscribe_with(Subscription::topics([topic]), claims).await?;
        Ok(Self { consumer, sink, task: None })
    }

    fn at_work(mut self) -> Self {
        let (consumer, sink) = (Arc::clone(&self.consumer), self.sink.clone());
        self.task = Some(tokio::spawn(async move {
            loop {
                let records = consumer.poll(Duration::from_millis(100)).await?;
                for (partition, trades) in by_partition(records) {
                    // Refused is what another owner has by now: nothing is left to do about it.
                    sink.write(partition, &trades)?;
                }
            }
        }));
        self
    }

    /// Gone from one moment to the next. Here a task; its last reference to the consumer goes with it.
    async fn crash(self) {
        if let Some(task) = self.task {
            task.abort();
            // It says only that it was aborted.
            let _ = task.await;
        }
    }
}

/// Claims partitions in the database as they are assigned, and begins where the database stands.
struct Claims(Sink);

#[async_trait]
impl RebalanceListener for Claims {
    async fn assigned(&self, context: &RebalanceContext, partitions: &[OwnedPartition]) {
        for owned in partitions {
            let outcome = match self.0.claim(owned) {
                Ok(next_offset) => context.seek(owned.at.clone(), next_offset).map_err(Into::into),
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                // Without a claim nothing is written: the table refuses it.
                eprintln!("{} is not claimed: {error}", owned.at);
            }
        }
    }
}

/// The table of trades. The calls block, but not for long.
#[derive(Clone)]
struct Sink(Arc<Mutex<Connection>>);

/// What became of a batch.
enum Written {
    Stored,
    /// They came with this epoch, and that of the owner is another; 0: nobody has claimed the partition.
    Refused {
        epoch: i64,
        owner: i64,
    },
}

impl Sink {
    fn open(path: &Path) -> Outcome<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        // No constraint keeps a trade from being there twice: it must not happen.
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS trades (symbol TEXT NOT NULL, number INTEGER NOT NULL);
             CREATE TABLE IF NOT EXISTS positions (
                 partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL, fencing_epoch INTEGER NOT NULL);",
        )?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes this epoch the one that may write, and says where to begin. First claim, then read: from here on the owner
    /// before cannot move the position any more.
    fn claim(&self, owned: &OwnedPartition) -> Outcome<i64> {
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            "INSERT INTO positions (partition, next_offset, fencing_epoch) VALUES (?1, 0, ?2)
             ON CONFLICT (partition) DO UPDATE SET fencing_epoch = max(fencing_epoch, excluded.fencing_epoch)",
            params![owned.at.partition, owned.fencing_epoch],
        )?;
        let next_offset = transaction.query_row(
            "SELECT next_offset FROM positions WHERE partition = ?1",
            [owned.at.partition],
            |row| row.get(0),
        )?;
        transaction.commit()?;
        Ok(next_offset)
    }

    /// Stores trades of one partition with the position after them, in one transaction: both or neither. Only the epoch that
    /// has claimed the partition may.
    fn write(&self, partition: i32, trades: &[ConsumerRecord]) -> Outcome<Written> {
        let Some(last) = trades.last() else { return Ok(Written::Stored) };
        let epoch = last.fencing_epoch.ok_or("a record without a fencing epoch")?;
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let owner = transaction
            .query_row(
                "SELECT fencing_epoch FROM positions WHERE partition = ?1",
                [partition],
                |row| row.get(0),
            )
            .optional()?
            .unwrap_or(0);
        if epoch != owner {
            return Ok(Written::Refused { epoch, owner });
        }
        for trade in trades {
            let text = |bytes: &Option<bytes::Bytes>| -> Outcome<String> {
                let bytes = bytes.as_ref().ok_or("a trade without symbol or number")?;
                Ok(std::str::from_utf8(bytes)?.to_owned())
            };
            let (symbol, number) = (text(&trade.key)?, text(&trade.value)?.parse::<u32>()?);
            transaction.execute(
                "INSERT INTO trades (symbol, number) VALUES (?1, ?2)",
                params![symbol, number],
            )?;
        }
        transaction.execute(
            "UPDATE positions SET next_offset = ?2 WHERE partition = ?1",
            params![partition, last.offset + 1],
        )?;
        transaction.commit()?;
        Ok(Written::Stored)
    }

    fn count(&self) -> rusqlite::Result<u32> {
        self.connection().query_row("SELECT count(*) FROM trades", [], |row| row.get(0))
    }

    /// Each symbol's rows, in the order in which they were written, are numbered 1, 2, 3 … up to the last trade.
    fn check(&self, traded: &BTreeMap<&'static str, u32>) -> Outcome {
        let connection = self.connection();
        let mut query =
            connection.prepare("SELECT number FROM trades WHERE symbol = ?1 ORDER BY rowid")?;
        for (symbol, last) in traded {
            let rows = query.query_map([symbol], |row| row.get(0))?;
            let numbers: Vec<u32> = rows.collect::<rusqlite::Result<_>>()?;
            ensure(numbers.iter().copied().eq(1..=*last), || {
                let wrong = numbers.iter().zip(1..).find(|(number, row)| *number != row);
                let first = wrong.map(|(number, row)| format!("; row {row} is trade {number}"));
                let rows = numbers.len();
                format!("{symbol} has {last} trades and {rows} rows{}", first.unwrap_or_default())
            })?;
        }
        Ok(())
    }
}

/// A record's fencing epoch is that of its partition, so each partition is written by itself.
fn by_partition(records: Vec<ConsumerRecord>) -> BTreeMap<i32, Vec<ConsumerRecord>> {
    let mut partitions: BTreeMap<i32, Vec<ConsumerRecord>> = BTreeMap::new();
    for record in records {
        partitions.entry(record.partition).or_default().push(record);
    }
    partitions
}
