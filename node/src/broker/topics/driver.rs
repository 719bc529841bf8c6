//! Owns carrying topics through their steps (S16): while this node leads the catalog, every unfinished step's commands are
//! proposed to their shards, all at once, and when all are committed the step is done. Every command may be repeated, so a
//! new leader begins again with whatever the old one left. Woken by the catalog; never decides what a step is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use waymark_proto::ids::{ShardId, TopicId};

use crate::broker::Core;
use crate::state::catalog::PendingStep;
use crate::state::{Command, Reply};

/// Topics carried at a time; the others wait for a place.
const MOST_AT_ONCE: usize = 64;
/// One attempt of one command.
const PROPOSAL_TIME: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Wakes get lost only by a bug; then a step is late by this much.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Carries topics through their steps for ever, whenever this node leads the catalog.
pub(in crate::broker) async fn drive(core: &Arc<Core>) {
    let mut news = core.wakes.catalog();
    loop {
        news.mark_unchanged();
        if core.serving(ShardId::CATALOG).is_ok() {
            drive_while_leading(core, &mut news).await;
        }
        let _news_or_not = timeout(LOOK_AGAIN, news.changed()).await;
    }
}

/// Dropping the steps under way when the leadership is lost is fine: the next leader repeats them.
async fn drive_while_leading(core: &Core, news: &mut watch::Receiver<u64>) {
    let mut carried: BTreeSet<TopicId> = BTreeSet::new();
    let mut running = FuturesUnordered::new();
    while core.serving(ShardId::CATALOG).is_ok() {
        news.mark_unchanged();
        for step in next_steps(core, &carried) {
            carried.insert(step.topic);
            running.push(carry(core, step));
        }
        tokio::select! {
            Some(topic) = running.next(), if !running.is_empty() => {
                carried.remove(&topic);
            }
            _ = news.changed() => {}
            () = sleep(LOOK_AGAIN) => {}
        }
    }
}

fn next_steps(core: &Core, carried: &BTreeSet<TopicId>) -> Vec<PendingStep> {
    let places = MOST_AT_ONCE.saturating_sub(carried.len());
    let steps = core.catalog(|catalog| {
        let waiting = catalog.unfinished_steps().filter(|step| !carried.contains(&step.topic));
        waiting.take(places).collect()
    });
    steps.unwrap_or_default()
}

/// Takes one step to its end, however long that takes.
async fn carry(core: &Core, step: PendingStep) -> TopicId {
    let began = Instant::now();
    let each = step.commands.iter().map(|(shard, command)| insist(core, *shard, command));
    join_all(each).await;
    insist(core, ShardId::CATALOG, &step.done()).await;
    tracing::info!(
        topic = %step.topic, version = step.version, phase = ?step.phase,
        shards = step.commands.len(), took_ms = began.elapsed().as_millis(), "topic step done"
    );
    step.topic
}

/// Proposes until it is committed. Repeating what may have been committed already changes nothing.
async fn insist(core: &Core, shard: ShardId, command: &Command) {
    let mut pause = FIRST_PAUSE;
    loop {
        let deadline = Instant::now() + PROPOSAL_TIME;
        match core.consensus.propose_anywhere(shard, command.clone(), deadline).await {
            Ok(committed) => {
                if let Reply::Refused(refusal) = committed.reply {
                    tracing::error!(%shard, %refusal, "a shard refuses a topic's step");
                }
                return;
            }
            Err(error) => tracing::debug!(%shard, %error, "a topic's step has to wait"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
