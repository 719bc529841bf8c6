//! Owns the way to the catalog and back: a change proposed wherever it is led, then seen here and by the other nodes; and
//! the look at its newest state that "not found" needs (S14). Never says what a change means.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout_at};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{NodeId, ShardId, TopicId};

use crate::broker::Core;
use crate::broker::admin::{Change, Topic};
use crate::broker::refusal::{failure, refused, unproposed};
use crate::consensus::{Committed, ProposeError, Question};
use crate::state::catalog::{Catalog, TopicPhase};
use crate::state::{CatalogCommand, Command, Refusal, Reply};

/// Between two attempts of a change whose outcome is unknown.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Other nodes that do not show a change by then are slow or cut off: their clients wait for them, not this one's.
const NEWS_PATIENCE: Duration = Duration::from_secs(1);

/// Looks at the newest catalog that callers share.
#[derive(Debug, Default)]
pub(in crate::broker) struct Barrier {
    /// Calls that asked so far.
    asked: AtomicU64,
    /// Of these, how many have been answered; the holder asks for all that came before it began.
    answered: tokio::sync::Mutex<u64>,
}

impl Core {
    /// Changes the catalog; on return this node shows the change. A command that may be repeated is, as long as its outcome
    /// is unknown and the deadline allows.
    pub(in crate::broker) async fn change_catalog(
        &self,
        command: CatalogCommand,
        invalid: FailureCode,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let repeatable = matches!(
            command,
            CatalogCommand::CreateTopic { .. }
                | CatalogCommand::CreatePool { .. }
                | CatalogCommand::AddPartitions { .. }
        );
        let committed = loop {
            let command = Command::Catalog(command.clone());
            match self.consensus.propose_anywhere(ShardId::CATALOG, command, deadline).await {
                Ok(committed) => break committed,
                Err(ProposeError::OutcomeUnknown(_))
                    if repeatable && Instant::now() + RETRY_PAUSE < deadline =>
                {
                    sleep(RETRY_PAUSE).await;
                }
                Err(error) => return Err(unproposed(&error)),
            }
        };
        if let Reply::Refused(refusal) = &committed.reply {
            let mut failure = refused(refusal);
            if matches!(refusal, Refusal::Invalid(_)) {
                failure.code = invalid;
            }
            return Err(failure);
        }
        self.seen_here(&committed, deadline).await?;
        Ok(committed.reply)
    }

    /// Changes a topic, and returns when its partitions can be used by way of any node.
    pub(super) async fn change_topic(
        &self,
        topic: TopicId,
        command: CatalogCommand,
        invalid: FailureCode,
        change: Change,
    ) -> Result<Topic, Failure> {
        let reply = self.change_catalog(command, invalid, change.deadline).await?;
        let version = match reply {
            Reply::Topic { version, .. } => version,
            _ => 0,
        };
        let topic = self.until_ready(topic, version, change.deadline).await?;
        self.spread_news(change.deadline).await;
        Ok(topic)
    }

    async fn seen_here(&self, committed: &Committed, deadline: Instant) -> Result<(), Failure> {
        let unseen = "the change is made, but this node has not seen it yet";
        match self.has_applied(committed.at.index, deadline).await {
            true => Ok(()),
            false => Err(failure(FailureCode::OutcomeUnknown, unseen)),
        }
    }

    /// False when the catalog here is not that far in time.
    async fn has_applied(&self, index: u64, deadline: Instant) -> bool {
        let mut news = self.wakes.catalog();
        loop {
            news.mark_unchanged();
            let shard0 = self.consensus.shard(ShardId::CATALOG);
            if shard0.and_then(|it| it.applied_index()) >= Some(index) {
                return true;
            }
            if !matches!(timeout_at(deadline, news.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
    }

    /// What the catalog here shows, once it does; `None`: not in time.
    pub(super) async fn catalog_shows<T>(
        &self,
        mut look: impl FnMut(&Catalog) -> Option<T>,
        deadline: Instant,
    ) -> Result<Option<T>, Failure> {
        let mut news = self.wakes.catalog();
        loop {
            news.mark_unchanged();
            if let Some(seen) = self.catalog(&mut look)? {
                return Ok(Some(seen));
            }
            if !matches!(timeout_at(deadline, news.changed()).await, Ok(Ok(()))) {
                return Ok(None);
            }
        }
    }

    /// Waits until every shard has a topic at this version or a later one.
    async fn until_ready(
        &self,
        topic: TopicId,
        version: u64,
        deadline: Instant,
    ) -> Result<Topic, Failure> {
        let ready = |catalog: &Catalog| {
            let Some(entry) = catalog.topic(topic).filter(|it| it.phase != TopicPhase::Deleting)
            else {
                return Some(None);
            };
            let ready = entry.version >= version && entry.phase == TopicPhase::Ready;
            ready.then(|| Some(Topic::from(entry)))
        };
        match self.catalog_shows(ready, deadline).await? {
            Some(Some(topic)) => Ok(topic),
            Some(None) => {
                Err(failure(FailureCode::TopicNotFound, "the topic was deleted meanwhile"))
            }
            None => {
                let unready = "the change is made, but not every partition has taken it yet";
                Err(failure(FailureCode::OutcomeUnknown, unready))
            }
        }
    }

    /// Waits until the other nodes that can be reached show what this node's catalog shows, and this node knows who leads
    /// what, so that the caller's next request may go anywhere. A courtesy: what is not done in time is not a failure.
    pub(super) async fn spread_news(&self, deadline: Instant) {
        let deadline = deadline.min(Instant::now() + NEWS_PATIENCE);
        let catalog = self.consensus.shard(ShardId::CATALOG).and_then(|it| it.applied_index());
        let question = Question { catalog, ..Question::default() };
        let alive = self.nodes.iter().map(|it| it.node);
        let alive: Vec<NodeId> =
            alive.filter(|node| *node != self.node && self.is_alive(*node)).collect();
        let asked = alive.iter().map(|node| self.ask_peer(*node, &question, deadline));
        drop(join_all(asked).await);
    }

    /// Returns once this node's catalog has everything that was committed before the call. Calls that come while one is
    /// under way share the next.
    pub(in crate::broker) async fn catalog_barrier(
        &self,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let late = || failure(FailureCode::NoQuorum, "the catalog was not reached in time");
        let ticket = self.barrier.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let answered = timeout_at(deadline, self.barrier.answered.lock()).await;
        let mut answered = answered.map_err(|_| late())?;
        if *answered >= ticket {
            return Ok(());
        }
        let covered = self.barrier.asked.load(Ordering::Relaxed);
        let index = self.consensus.read_index_anywhere(ShardId::CATALOG, deadline).await;
        let index = index.map_err(|_| late())?;
        if !self.has_applied(index, deadline).await {
            let lags = "this node lags behind the catalog";
            return Err(failure(FailureCode::ReplicaBehind, lags));
        }
        *answered = covered;
        Ok(())
    }
}
