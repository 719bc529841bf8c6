//! Owns moving a leadership on request (S13), and that the node asked for is from then on the one that prefers to lead, so
//! that balancing leaves it there.

use tokio::time::{Instant, timeout_at};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{NodeId, ShardId, TopicPartition};

use crate::broker::Core;
use crate::broker::refusal::{failure, unproposed};
use crate::consensus::ProposeError;
use crate::state::CatalogCommand;

impl Core {
    /// Moves the leadership of a partition, and of those that share its replica set. At the leader.
    pub(in crate::broker) async fn transfer(
        &self,
        at: TopicPartition,
        to: NodeId,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let hosting = self.shard_of(at)?;
        let place = self.shard_places().remove(&hosting).unwrap_or_default();
        if !place.voters.contains(&to) {
            let message = format!("node {to} holds no replica of the partition");
            return Err(failure(FailureCode::InvalidArgument, message));
        }
        let shard = self.serving(hosting)?;
        if to != self.node {
            match timeout_at(deadline, shard.transfer_to(to)).await {
                Ok(Ok(())) => {}
                Ok(Err(ProposeError::NotLeader { leader, .. })) if leader == Some(to) => {}
                // It leads still: the target did not catch up while proposals paused.
                Ok(Err(ProposeError::NotLeader { .. })) if shard.leadership().ready => {
                    let message = format!("node {to} lags behind");
                    return Err(failure(FailureCode::ReplicaBehind, message));
                }
                Ok(Err(ProposeError::NotLeader { leader: Some(leader), .. })) => {
                    return Err(self.led_by(leader, FailureCode::NotLeader));
                }
                Ok(Err(error)) => return Err(unproposed(&error)),
                Err(_) => {
                    let message = "the leadership may still move";
                    return Err(failure(FailureCode::OutcomeUnknown, message));
                }
            }
        }
        self.prefer(hosting, to, deadline).await
    }

    async fn prefer(&self, shard: ShardId, node: NodeId, deadline: Instant) -> Result<(), Failure> {
        let preferred = self.catalog(|catalog| catalog.shard(shard).map(|it| it.initializer))?;
        if preferred == Some(node) {
            return Ok(());
        }
        let command = CatalogCommand::PreferLeader { shard, node };
        let told = self.change_catalog(command, FailureCode::InvalidArgument, deadline).await;
        told.map(drop)
    }
}
