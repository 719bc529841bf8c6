//! Somebody who looks after the cluster while a storm goes on: moves leaders, and makes, grows, writes and deletes topics that
//! nobody else uses. What the catalog says of those is written down; what comes of moves is nobody's promise.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use crate::calls::{Answer, Call, Outcome};
use crate::cluster::Cluster;
use crate::history::History;
use crate::readers::{CARETAKER, Names};
use crate::subject::{LogClient, Subject};
use crate::tally::Tally;

/// Between two chores at most.
const LONGEST_PAUSE_MS: u64 = 3_000;
/// Most partitions of a topic that comes and goes.
const MOST_PARTITIONS: u32 = 4;

/// The leadership of a partition goes to a node.
pub(crate) const LEADER_MOVED: &str = "leader-moved";
/// Every chore, as in a batch's table.
pub(crate) const CHORES: [&str; 2] = [LEADER_MOVED, "topic-came-and-went"];

/// Starts on a host of its own; ends with `stop`.
pub(crate) fn start(
    cluster: &mut Cluster,
    subject: &Arc<dyn Subject>,
    (history, names, tally): (&History, &Names, &Tally),
) -> Arc<AtomicBool> {
    let seed = cluster.draw(0, u64::MAX);
    let mut random = SmallRng::seed_from_u64(seed);
    let (nodes, partitions, tally) = (cluster.nodes(), subject.partitions(), tally.clone());
    let client = subject.client(seed);
    let mut caretaker = Caretaker { client, history: history.clone(), names: names.clone() };
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    cluster.client(async move {
        while !stopped.load(Ordering::SeqCst) {
            let moves = random.random_bool(0.6);
            let done = if moves {
                let partition = random.random_range(0..partitions);
                caretaker.client.move_leader(partition, random.random_range(nodes.clone())).await
            } else {
                let sizes = random.random_range(1..MOST_PARTITIONS);
                caretaker
                    .have_a_topic(sizes, random.random_range(sizes + 1..=MOST_PARTITIONS))
                    .await
            };
            let chore = CHORES[usize::from(!moves)];
            match done {
                Ok(()) => tally.count(chore),
                Err(error) => tracing::debug!(chore, %error, "a chore is left undone"),
            }
            sleep(Duration::from_millis(random.random_range(1..LONGEST_PAUSE_MS))).await;
        }
    });
    stop
}

/// A client whose calls that change topics are written down.
pub(crate) struct Caretaker {
    pub(crate) client: Box<dyn LogClient>,
    pub(crate) history: History,
    pub(crate) names: Names,
}

impl Caretaker {
    /// A topic comes, grows, takes a record, and goes. Where a step fails, the rest is left undone.
    async fn have_a_topic(&mut self, partitions: u32, grown: u32) -> io::Result<()> {
        let topic = self.names.next();
        self.make(topic, partitions).await?;
        self.grow(topic, grown).await?;
        self.client.write_to_topic(topic, grown - 1).await?;
        self.delete(topic).await
    }

    pub(crate) async fn make(&mut self, topic: u32, partitions: u32) -> io::Result<()> {
        let made = self.begin(Call::CreateTopic { topic, partitions });
        let done = self.client.create_topic(topic, partitions).await;
        self.end(made, done)
    }

    pub(crate) async fn grow(&mut self, topic: u32, partitions: u32) -> io::Result<()> {
        let raised = self.begin(Call::GrowTopic { topic, partitions });
        let done = self.client.grow_topic(topic, partitions).await;
        self.end(raised, done)
    }

    pub(crate) async fn delete(&mut self, topic: u32) -> io::Result<()> {
        let gone = self.begin(Call::DeleteTopic { topic });
        let done = self.client.delete_topic(topic).await;
        self.end(gone, done)
    }

    fn begin(&self, what: Call) -> u64 {
        self.history.invoke(CARETAKER, what)
    }

    fn end(&self, call: u64, done: io::Result<()>) -> io::Result<()> {
        // Whatever a failed call says: the client may have asked before, with an effect.
        let outcome = if done.is_ok() { Outcome::Ok(Answer::Done) } else { Outcome::Unknown };
        self.history.end(call, outcome);
        done
    }
}
