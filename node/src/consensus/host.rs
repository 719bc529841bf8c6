//! Owns what peers may ask of this node's replicas. A node that knows no cluster yet answers no Raft request: it has to
//! persist the cluster first (S12).

use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;
use waymark_proto::ids::{ClusterId, NodeId, ReplicaId, ShardId};

use super::member::Member;
use super::network::{HelloAnswer, Inspection, Look, PeerHost, ReplicaDoor, SegmentFiles, Vitals};
use super::shard::Shard;
use super::{Committed, ProposeError};

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

    fn identity(&self) -> HelloAnswer {
        let cluster = *self.0.cluster.borrow();
        HelloAnswer { node: self.0.node, cluster, empty: self.0.is_empty() }
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

    fn vitals(&self) -> Vitals {
        self.0.vitals_now()
    }

    fn heard(&self, node: NodeId, vitals: Vitals) {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(node, vitals);
    }
}

/// Replicas that lag by fewer entries than this are in sync: what is on the way while records flow.
const IN_SYNC: u64 = 256;

/// Looks at a replica of this node.
pub(super) async fn inspect(shard: &Shard, look: Look) -> Inspection {
    let leads = shard.leadership().leader == Some(shard.replica().node);
    let mut seen = Inspection { here: true, leads, ..Inspection::default() };
    if leads {
        let applied = shard.applied_index().unwrap_or(0);
        let followers = shard.progress().into_iter();
        let level = followers.filter(|(_, at)| at.is_some_and(|at| at + IN_SYNC >= applied));
        seen.in_sync = std::iter::once(shard.replica().node)
            .chain(level.map(|(replica, _)| replica.node))
            .collect();
        seen.in_sync.sort_unstable();
    }
    let Some(at) = look.at else { return seen };
    let marks =
        shard.read(|state| state.partition(at).map(|view| (view.log_start, view.next_offset)));
    let Some((log_start, high_watermark)) = marks else {
        seen.here = false;
        return seen;
    };
    (seen.log_start, seen.high_watermark) = (log_start, high_watermark);
    if let Some((from, to)) = look.digest_of {
        let digest = shard.store().digest(at, from, to).await;
        seen.digest = Some(digest.map_err(|error| error.to_string()));
    }
    seen
}
