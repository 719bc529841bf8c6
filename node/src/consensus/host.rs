//! Owns what peers may ask of this node's replicas. A node that knows no cluster yet answers no Raft request: it has to
//! persist the cluster first (S12).

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;
use waymark_proto::ids::{ClusterId, NodeId, ReplicaId, ShardId, TopicPartition};

use super::member::Member;
use super::network::{
    Given, HelloAnswer, Inspection, Look, OffsetStand, PeerHost, PullHeld, Question, ReplicaDoor,
    SegmentFiles, Survey, Vitals, Wanted,
};
use super::room::Level;
use super::shard::Shard;
use super::{Committed, Heard, ProposeError, comeback, log_mend, positions, standing};
use crate::mutants;
use crate::reached::reached;
use crate::storage::shard_store::StoreError;

/// This node, as its peers see it.
#[derive(Debug, Clone)]
pub(super) struct Host(pub(super) Arc<Member>);

#[async_trait]
impl PeerHost for Host {
    fn raft(&self, shard: ShardId, to: ReplicaId) -> Option<Arc<dyn ReplicaDoor>> {
        let shard = self.0.shard(shard)?;
        (shard.replica() == to).then(|| Arc::clone(&shard.core.door))
    }

    fn store(&self, shard: ShardId) -> Option<Arc<dyn SegmentFiles>> {
        let shard = self.0.shard(shard)?;
        Some(Arc::new(shard.store().clone()))
    }

    fn hold_for_pull(&self, shard: ShardId, index: u64) -> Option<PullHeld> {
        let shard = self.0.shard(shard)?;
        let applied = Arc::clone(&shard.core.applied);
        let bytes = move || applied.applied_bytes.load(Ordering::Relaxed);
        let before = bytes();
        let store = shard.store().clone();
        let kept = (store.hold(), shard.core.kept_log.keep_after(index));
        // While no checkpoint is newer, the next manifest would be this one again.
        let is_newest = move || store.checkpoint().is_none_or(|it| it.applied.index <= index);
        let grown = move || if is_newest() { 0 } else { bytes().saturating_sub(before) };
        Some(PullHeld { kept: Box::new(kept), grown: Box::new(grown) })
    }

    fn is_replaced(&self, shard: ShardId, replica: ReplicaId) -> bool {
        let here = self.0.shard(shard);
        here.is_some_and(|it| it.is_replaced(replica)) && !mutants::planted!("old-disk-votes")
    }

    fn has_less(&self, shard: ShardId, follower: ReplicaId, (before, lacks): (u64, u64)) {
        if !comeback::begin_replacing(&self.0, shard, follower) {
            return;
        }
        self.0.reversions.one();
        reached!("log-reverted");
        tracing::error!(
            %shard, replica = %follower, before, lacks,
            "a replica has lost entries that it acknowledged, so it is to be replaced"
        );
        if !mutants::planted!("reverted-runs-on") {
            comeback::replace_reverted(&self.0, shard, follower);
        }
    }

    fn identity(&self, caller: NodeId) -> HelloAnswer {
        let cluster = *self.0.cluster.borrow();
        let catalog = self.0.shard(ShardId::CATALOG);
        let callers_disk =
            catalog.and_then(|it| it.read(|state| Some(state.catalog()?.disk_of(caller))));
        HelloAnswer {
            node: self.0.node,
            cluster,
            empty: self.0.is_empty(),
            callers_disk: callers_disk.unwrap_or(0),
        }
    }

    async fn accept_cluster(&self, cluster: ClusterId) -> Result<(), String> {
        self.0.join(cluster).await
    }

    async fn propose_local(
        &self,
        shard: ShardId,
        command: Bytes,
        deadline: Instant,
    ) -> Result<Committed, ProposeError> {
        let Some(replica) = self.0.shard(shard) else { return Err(ProposeError::NotHere(shard)) };
        replica.propose_encoded(command, deadline).await
    }

    async fn inspect(&self, look: Look) -> Inspection {
        match self.0.shard(look.shard) {
            Some(shard) => inspect(&shard, look).await,
            None => Inspection::default(),
        }
    }

    async fn survey(&self, question: Question, deadline: Instant) -> Survey {
        standing::answer(&self.0, &question, deadline).await
    }

    async fn positions(
        &self,
        asked: Vec<(TopicPartition, i64)>,
        deadline: Instant,
    ) -> Vec<OffsetStand> {
        positions::answer(&self.0, &asked, deadline).await
    }

    async fn read_index(&self, shard: ShardId, deadline: Instant) -> Result<u64, ProposeError> {
        let replica = self.0.shard(shard).ok_or(ProposeError::NotHere(shard))?;
        replica.read_index(deadline).await
    }

    async fn on_disk(&self) -> Result<(), String> {
        self.0.parts.journal.barrier().await.map_err(|error| error.to_string())
    }

    fn refuses_entries(&self) -> Option<String> {
        let disk = self.0.disk.borrow().clone();
        let disk = disk.filter(|disk| disk.level == Level::Nothing)?;
        Some(format!("node {} has {disk}", self.0.node))
    }

    async fn entries(&self, wanted: Wanted) -> Given {
        log_mend::give(&self.0, wanted).await
    }

    fn vitals(&self) -> Vitals {
        self.0.vitals_now()
    }

    fn heard(&self, node: NodeId, vitals: Vitals) {
        let heard = Heard { vitals, at: Instant::now() };
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(node, heard);
    }
}

/// Looks at a replica of this node.
pub(super) async fn inspect(shard: &Shard, look: Look) -> Inspection {
    let at = look.at;
    let marks =
        shard.read(|state| state.partition(at).map(|view| (view.log_start, view.next_offset)));
    let Some((log_start, high_watermark)) = marks else { return Inspection::default() };
    let mut seen = Inspection { here: true, log_start, high_watermark, digest: None };
    if let Some((from, to)) = look.digest_of {
        seen.digest = match shard.store().digest(at, from, to).await {
            Ok(digest) => Some(Ok(digest)),
            // It lags, or retention has gone on: no damage.
            Err(StoreError::OutOfRange { .. }) => None,
            Err(error) => Some(Err(error.to_string())),
        };
    }
    seen
}
