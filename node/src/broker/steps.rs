//! Owns a topic's way through its shards (S16): every shard concerned gets its command, then the catalog is told. Each step
//! can be repeated by anybody, and is, by the leader of the catalog, until it is done.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};
use waymark_proto::failure::Failure;
use waymark_proto::ids::ShardId;

use super::Core;
use super::refusal::{refused, unproposed};
use crate::state::catalog::{PendingStep, TopicPhase};
use crate::state::{Command, Reply};

const LOOK_AGAIN: Duration = Duration::from_millis(500);
const STEP_TIME: Duration = Duration::from_secs(10);
/// A step of a topic that somebody else is taking is left to them for so long.
const OTHERS_TURN: Duration = Duration::from_secs(2);

impl Core {
    /// Proposes wherever the shard is led, and takes a refusal for a failure.
    pub(super) async fn propose(
        &self,
        shard: ShardId,
        command: Command,
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let done = self.consensus.propose_anywhere(shard, command, deadline).await;
        match done.map_err(|error| unproposed(&error))?.reply {
            Reply::Refused(refusal) => Err(refused(&refusal)),
            reply => Ok(reply),
        }
    }

    /// Takes a whole step.
    pub(super) async fn take_step(
        &self,
        step: &PendingStep,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let each = step
            .commands
            .iter()
            .map(|(shard, command)| self.propose(*shard, command.clone(), deadline));
        for outcome in join_all(each).await {
            outcome?;
        }
        self.propose(ShardId::CATALOG, step.done(), deadline).await.map(|_| ())
    }
}

/// Takes up what was left undone.
pub(super) async fn repeat_unfinished(core: &Arc<Core>) {
    let mut seen: Vec<(waymark_proto::ids::TopicId, u64, TopicPhase)> = Vec::new();
    let mut since = Instant::now();
    loop {
        sleep(LOOK_AGAIN).await;
        let version = core.catalog(crate::state::Catalog::metadata_version).unwrap_or(0);
        core.wakes.note_metadata(version);
        if core.serving(ShardId::CATALOG).is_err() {
            continue;
        }
        let steps: Vec<PendingStep> =
            core.catalog(|catalog| catalog.unfinished_steps().collect()).unwrap_or_default();
        let now: Vec<_> = steps.iter().map(|it| (it.topic, it.version, it.phase)).collect();
        if now != seen {
            (seen, since) = (now, Instant::now());
            continue;
        }
        if seen.is_empty() || since.elapsed() < OTHERS_TURN {
            continue;
        }
        for step in &steps {
            let taken = core.take_step(step, Instant::now() + STEP_TIME).await;
            if let Err(error) = taken {
                tracing::warn!(topic = %step.topic, %error, "a step of a topic is not done yet");
            }
        }
    }
}
