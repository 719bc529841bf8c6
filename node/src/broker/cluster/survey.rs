//! Owns asking peers what they are and lead, and what follows from their answers: who is alive, and that metadata changed.
//! A peer is alive while it was heard of lately by this node's own timer; what its clock shows plays no part.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep_until};
use waymark_proto::ids::{NodeId, ShardId, TopicId, TopicPartition};

use crate::broker::Core;
use crate::consensus::{Catching, LedShard, Question, Stand, Survey, Trouble};

/// Between two rounds while all is known …
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// … and while a shard's leader is not: shards without a replica here are known by surveys alone.
const ASK_SOON: Duration = Duration::from_millis(100);
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// A node that was silent for longer is taken for dead. Each round asks it, and heartbeats come in between.
const SILENCE: Duration = Duration::from_secs(3);

/// What a peer told last. Leaderships that were told long ago are not gone: their shards may be led elsewhere now, which
/// the terms show.
#[derive(Debug, Clone)]
pub(in crate::broker) struct Told {
    at: Instant,
    pub(super) led: Vec<LedShard>,
    pub(super) catching: Vec<Catching>,
    pub(super) version: String,
    pub(super) troubles: Vec<Trouble>,
}

/// What has no replica here: its topics, and how far their shards' leaderships are known. While that stays the same, so do
/// their leader epochs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Elsewhere {
    topics: Vec<TopicId>,
    terms: BTreeMap<ShardId, u64>,
}

/// Asks peers what they lead, for ever.
pub(in crate::broker) async fn ask_peers(core: &Arc<Core>) {
    let mut cluster = core.consensus.cluster_id();
    // A node whose consensus ended learns nothing more.
    if cluster.wait_for(Option::is_some).await.is_err() {
        return;
    }
    let mut asked = Elsewhere::default();
    loop {
        let began = Instant::now();
        let elsewhere = core.elsewhere_now();
        let topics = if elsewhere == asked { Vec::new() } else { elsewhere.topics.clone() };
        let question = Question { topics, ..Question::default() };
        let answers = core.ask_all_peers(&question, began + ANSWER_TIME).await;
        if elsewhere != asked {
            let stands = answers.iter().flat_map(|survey| &survey.stands);
            core.note_epochs(&elsewhere.topics, stands);
            asked = elsewhere;
        }
        let pause = if core.knows_all_leaders() { ASK_AGAIN } else { ASK_SOON };
        sleep_until(began + pause).await;
    }
}

/// Publishes the version of metadata whenever something that it shows may have changed, for ever.
pub(in crate::broker) async fn tell_metadata(core: &Arc<Core>) {
    loop {
        let version = core.catalog(crate::state::Catalog::metadata_version).unwrap_or(0);
        core.wakes.note_metadata(version);
        core.wakes.metadata_due().await;
    }
}

impl Core {
    async fn ask_all_peers(&self, question: &Question, deadline: Instant) -> Vec<Survey> {
        let peers = self.nodes.iter().map(|it| it.node).filter(|node| *node != self.node);
        let asked = peers.map(|node| self.ask_peer(node, question, deadline));
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Asks a node, and notes what it tells.
    pub(in crate::broker) async fn ask_peer(
        &self,
        node: NodeId,
        question: &Question,
        deadline: Instant,
    ) -> Option<Survey> {
        let survey = self.consensus.survey(node, question, deadline).await.ok()?;
        self.wakes.note_led(&survey.led);
        let told = Told {
            at: Instant::now(),
            led: survey.led.clone(),
            catching: survey.catching.clone(),
            troubles: survey.troubles.clone(),
            version: survey.version.clone(),
        };
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(node, told);
        Some(survey)
    }

    fn elsewhere_now(&self) -> Elsewhere {
        let here: BTreeSet<ShardId> =
            self.consensus.shards().iter().map(crate::consensus::Shard::id).collect();
        let topics = self.catalog(|catalog| {
            let away = catalog
                .topics()
                .filter(|topic| topic.partition_shards.iter().any(|shard| !here.contains(shard)));
            away.map(|topic| topic.id).collect()
        });
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut terms = BTreeMap::new();
        for led in told.values().flat_map(|told| &told.led).filter(|it| !here.contains(&it.shard)) {
            let known = terms.entry(led.shard).or_insert(led.term);
            *known = led.term.max(*known);
        }
        Elsewhere { topics: topics.unwrap_or_default(), terms }
    }

    /// Notes leader epochs elsewhere. An older answer never lowers one, and a leader that is silent takes none away.
    fn note_epochs<'a>(&self, topics: &[TopicId], stands: impl Iterator<Item = &'a Stand>) {
        let mut known = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|at, _| topics.contains(&at.topic));
        for stand in stands {
            let epoch = known.entry(stand.at).or_insert(stand.leader_epoch);
            *epoch = stand.leader_epoch.max(*epoch);
        }
    }

    /// The leader epoch of a partition without a replica here, as its leader told last.
    pub(in crate::broker) fn epoch_elsewhere(&self, at: TopicPartition) -> i32 {
        let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        epochs.get(&at).copied().unwrap_or(0)
    }

    /// Where the partitions of topics stand at their leaders, of all leaders that answer in time.
    pub(in crate::broker) async fn stands(
        &self,
        topics: &[TopicId],
        deadline: Instant,
    ) -> BTreeMap<TopicPartition, Stand> {
        let question = Question { topics: topics.to_vec(), ..Question::default() };
        let deadline = deadline.min(Instant::now() + ANSWER_TIME);
        let own = self.consensus.survey(self.node, &question, deadline);
        let (own, others) = futures::join!(own, self.ask_all_peers(&question, deadline));
        let mut stands = BTreeMap::new();
        for stand in own.into_iter().chain(others).flat_map(|survey| survey.stands) {
            let known = stands.entry(stand.at).or_insert(stand);
            // A leader that does not know yet that it is none has the lower epoch.
            if stand.leader_epoch > known.leader_epoch {
                *known = stand;
            }
        }
        stands
    }

    /// What peers told lately, by node.
    pub(super) fn told_lately(&self) -> BTreeMap<NodeId, Told> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = told.iter().filter(|(_, it)| it.at.elapsed() <= SILENCE);
        lately.map(|(node, it)| (*node, it.clone())).collect()
    }

    pub(in crate::broker) fn is_alive(&self, node: NodeId) -> bool {
        node == self.node || self.silent_for(node).is_some_and(|silence| silence <= SILENCE)
    }

    /// How long ago a peer was last heard of; `None`: never.
    fn silent_for(&self, node: NodeId) -> Option<Duration> {
        let beats = self.consensus.peers_heard().into_iter().find(|(it, _)| *it == node);
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let last = beats.map(|(_, heard)| heard.at).max(told.get(&node).map(|it| it.at));
        last.map(|at| at.elapsed())
    }

    fn knows_all_leaders(&self) -> bool {
        let places = self.shard_places();
        places.contains_key(&ShardId::CATALOG) && places.values().all(|it| it.leader.is_some())
    }
}
