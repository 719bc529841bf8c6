//! The nine steps of the demonstration, in order. Owns what happens to the cluster; counting and looks are elsewhere.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use waymark_client::{
    Admin, Client, ClientConfig, NewTopic, PartitionDescription, Producer, TopicPartition,
};

use super::super::Failure;
use super::super::local::LocalCluster;
use super::group::share;
use super::input::{FIRST, Input, TOPIC};
use super::produce::{Pulse, producer, send_rest, spot};
use super::read::{Values, consumer, ends, partitions, read_to};
use super::screen::{Screen, grouped, lasted};
use super::tally::{Report, Tally};

const PARTITIONS: i32 = 3;
const READY_WITHIN: Duration = Duration::from_secs(30);
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// What one step leaves to the next.
struct Scene<'a> {
    screen: &'a Screen,
    cluster: &'a mut LocalCluster,
    client: Client,
    input: &'a Input,
    tally: Tally,
    values: Values,
    all: Vec<TopicPartition>,
}

/// How the loss of the leader went.
struct Loss {
    node: u32,
    without_service: Duration,
    elsewhere: Duration,
}

/// Tells the whole story and reports what was found.
pub(super) async fn tell(
    screen: &Screen,
    cluster: &mut LocalCluster,
    folder: &Path,
    input: &Input,
) -> Result<Report, Failure> {
    let began = Instant::now();
    screen.title("Waymark: three nodes on this machine, and one of them will be killed.");
    let client = start(screen, cluster, folder).await?;
    let mut scene = Scene {
        screen,
        cluster,
        client,
        input,
        tally: Tally::default(),
        values: Values::default(),
        all: partitions(PARTITIONS),
    };
    scene.create_topic().await?;
    let producer = producer(&scene.client).await?;
    scene.first_records(&producer).await?;
    scene.first_read().await?;
    let loss = scene.lose_a_leader(&producer).await?;
    let catch_up = scene.restart(loss.node).await?;
    scene.read_on().await?;
    producer.close(CLOSE_WITHIN).await.map_err(|error| Failure::because("produce", error))?;
    screen.section(8, "Count");
    let replicas_identical = scene.compare_replicas().await?;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut report = Report {
        counts: scene.tally.counts(),
        file_identical: input.is_file(scene.values.in_order()),
        replicas_identical,
        killed_node: loss.node,
        without_service_ms: millis(loss.without_service),
        elsewhere_ms: millis(loss.elsewhere),
        catch_up_ms: millis(catch_up),
        group: None,
        seconds: began.elapsed().as_secs_f64(),
    };
    screen.counts(&report);
    screen.section(9, "Share the topic: three consumers of group demo");
    let connection = (&scene.client, scene.cluster.addresses());
    report.group = Some(share(screen, connection, &scene.all).await?);
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

async fn start(
    screen: &Screen,
    cluster: &mut LocalCluster,
    folder: &Path,
) -> Result<Client, Failure> {
    screen.section(1, "Start three nodes");
    let began = Instant::now();
    cluster.start_all()?;
    for node in &cluster.nodes {
        let process = node.process_id().unwrap_or_default();
        screen.line(&format!("node {}   {}   process {process}", node.id, node.client));
    }
    cluster.ready(READY_WITHIN).await?;
    let client = Client::connect(ClientConfig::new(cluster.addresses())).await;
    let client = client.map_err(|error| Failure::because("connect", error))?;
    screen.aside(&format!("ready after {}; data in {}", lasted(began.elapsed()), folder.display()));
    Ok(client)
}

#[allow(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn failed(error: waymark_client::Error) -> Failure {
    Failure(error.to_string())
}

impl Scene<'_> {
    fn admin(&self) -> Admin {
        self.client.admin()
    }

    async fn create_topic(&self) -> Result<(), Failure> {
        self.screen.section(2, &format!("Create {TOPIC} with {PARTITIONS} partitions"));
        let topic = NewTopic::new(TOPIC).partitions(PARTITIONS).replication_factor(3);
        self.admin().create_topic(topic).await.map_err(failed)?;
        for partition in self.led().await? {
            self.screen.line(&format!(
                "partition {}   leader node {}   replicas on nodes {}",
                partition.partition,
                partition.leader.unwrap_or_default(),
                list(&partition.voters)
            ));
        }
        Ok(())
    }

    async fn first_records(&mut self, producer: &Producer) -> Result<(), Failure> {
        self.screen.section(
            3,
            &format!("Produce {FIRST} records, each on a quorum of disks when acknowledged"),
        );
        let mut sent = Vec::new();
        for place in 0..FIRST {
            sent.push((place, producer.send(self.input.record(place)).await.map_err(failed)?));
        }
        for (place, sent) in sent {
            let receipt = sent.await.map_err(failed)?;
            self.screen.line(&format!(
                "{:<8}{:<28}partition {}   offset {:<4}synced on {} of {} replicas",
                self.input.key(place),
                shown(self.input.value(place).map(|value| &value[..])),
                receipt.at.partition,
                receipt.offset.unwrap_or_default(),
                receipt.batch.durable_replicas,
                receipt.batch.replicas,
            ));
            self.tally.acknowledge(place, spot(&receipt));
        }
        Ok(())
    }

    async fn first_read(&mut self) -> Result<(), Failure> {
        self.screen.section(4, "Consume them, and commit");
        let consumer = consumer(&self.client, &self.all).await?;
        let ends = ends(&self.client, &self.all).await?;
        let screen = self.screen;
        let taken = (self.input, &mut self.tally, &mut self.values);
        read_to(&consumer, &ends, taken, |record| {
            screen.line(&format!(
                "{:<8}{:<28}partition {}   offset {}",
                shown(record.key.as_deref()),
                shown(record.value.as_deref()),
                record.partition,
                record.offset
            ));
        })
        .await?;
        consumer.commit_sync().await.map_err(failed)?;
        let committed: Vec<String> =
            ends.iter().map(|(partition, end)| format!("{partition} → {end}")).collect();
        screen.aside(&format!("committed by group demo: partition {}", committed.join(", ")));
        consumer.close(CLOSE_WITHIN).await.map_err(failed)
    }

    async fn lose_a_leader(&mut self, producer: &Producer) -> Result<Loss, Failure> {
        let more = self.input.len() - FIRST;
        self.screen.section(5, &format!("Kill a leader while producing {} records", grouped(more)));
        let before = self.led().await?;
        let victim = before.first().and_then(|partition| partition.leader).unwrap_or_default();
        let lost: Vec<i32> = led_by(&before, |leader| leader == Some(victim));
        let kept: Vec<i32> = led_by(&before, |leader| leader != Some(victim));
        let node = u32::try_from(victim).unwrap_or_default();
        let (acknowledged, mut count) = watch::channel(0);
        let (screen, cluster) = (self.screen, &mut *self.cluster);
        let admin = self.client.admin();
        let sending = send_rest(producer, self.input, &mut self.tally, &acknowledged);
        let killing = async {
            // The sender lives until both futures end.
            let _ = count.wait_for(|count| *count >= more / 3).await;
            let so_far = *count.borrow();
            let process = cluster.kill(node).await?;
            let killed = Instant::now();
            screen.line(&format!(
                "{} acknowledged when node {node}, leader of partition {}, gets SIGKILL (process {process})",
                grouped(so_far),
                list(&lost)
            ));
            let led = described(&admin, |partition| {
                partition.leader.is_some_and(|leader| leader != victim)
            });
            for partition in led.await?.iter().filter(|it| lost.contains(&it.partition)) {
                screen.line(&format!(
                    "partition {}   new leader node {}   leader epoch {}",
                    partition.partition,
                    partition.leader.unwrap_or_default(),
                    partition.leader_epoch
                ));
            }
            Ok(killed)
        };
        let (pulse, killed): (Result<Pulse, Failure>, Result<Instant, Failure>) =
            tokio::join!(sending, killing);
        let (pulse, killed) = (pulse?, killed?);
        let loss = Loss {
            node,
            without_service: pulse.longest_pause(&lost, killed),
            elsewhere: pulse.longest_pause(&kept, killed),
        };
        screen.line(&format!(
            "time without service: {} in what node {node} led, {} elsewhere",
            lasted(loss.without_service),
            lasted(loss.elsewhere)
        ));
        Ok(loss)
    }

    async fn restart(&mut self, node: u32) -> Result<Duration, Failure> {
        self.screen.section(6, &format!("Restart node {node} on its data"));
        let began = Instant::now();
        self.cluster.start(node)?;
        self.cluster.ready(READY_WITHIN).await?;
        let id = i32::try_from(node).unwrap_or_default();
        described(&self.admin(), |partition| partition.in_sync.contains(&id)).await?;
        let lasts = began.elapsed();
        self.screen.line(&format!("in sync in all partitions after {}", lasted(lasts)));
        Ok(lasts)
    }

    async fn read_on(&mut self) -> Result<(), Failure> {
        self.screen.section(7, "Restart the consumer: it goes on where its group committed");
        let consumer = consumer(&self.client, &self.all).await?;
        for at in &self.all {
            let position = consumer.position(at.clone()).map_err(failed)?;
            self.screen.line(&format!("partition {}   from offset {position}", at.partition));
        }
        let ends = ends(&self.client, &self.all).await?;
        let before = self.tally.counts().read;
        let taken = (self.input, &mut self.tally, &mut self.values);
        read_to(&consumer, &ends, taken, |_| {}).await?;
        let read = self.tally.counts().read - before;
        self.screen.line(&format!("{} records up to the end", grouped(read)));
        consumer.commit_sync().await.map_err(failed)?;
        consumer.close(CLOSE_WITHIN).await.map_err(failed)
    }

    async fn compare_replicas(&self) -> Result<bool, Failure> {
        let verdicts = self.admin().verify_replicas([TOPIC]).await.map_err(failed)?;
        let whole = i32::try_from(verdicts.len()).is_ok_and(|count| count == PARTITIONS);
        Ok(whole && verdicts.iter().all(|it| it.identical && it.replicas.len() == 3))
    }

    /// The partitions, once each has a leader.
    async fn led(&self) -> Result<Vec<PartitionDescription>, Failure> {
        described(&self.admin(), |partition| partition.leader.is_some()).await
    }
}

/// The topic's partitions, once all of them are as wanted.
async fn described(
    admin: &Admin,
    wanted: impl Fn(&PartitionDescription) -> bool,
) -> Result<Vec<PartitionDescription>, Failure> {
    let deadline = Instant::now() + CAUGHT_UP_WITHIN;
    loop {
        let topic = admin.describe_topic(TOPIC).await.map_err(failed)?;
        let whole = i32::try_from(topic.partitions.len()).is_ok_and(|count| count == PARTITIONS);
        if whole && topic.partitions.iter().all(&wanted) {
            return Ok(topic.partitions);
        }
        if Instant::now() > deadline {
            return Err(Failure(format!(
                "{TOPIC} is not as it should be after {} s: {:?}",
                CAUGHT_UP_WITHIN.as_secs(),
                topic.partitions
            )));
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn led_by(partitions: &[PartitionDescription], choose: impl Fn(Option<i32>) -> bool) -> Vec<i32> {
    let chosen = partitions.iter().filter(|partition| choose(partition.leader));
    chosen.map(|partition| partition.partition).collect()
}

fn list(numbers: &[i32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Bytes as a person may see them: printable, on one line, not too long.
fn shown(bytes: Option<&[u8]>) -> String {
    const MOST: usize = 24;
    let text = String::from_utf8_lossy(bytes.unwrap_or_default());
    let mut text: String = text.chars().map(|c| if c.is_control() { '·' } else { c }).collect();
    if let Some((cut, _)) = text.char_indices().nth(MOST) {
        text.truncate(cut);
        text.push('…');
    }
    text
}
