//! Owns finding a shard's leader for the index that a linearizable read has to wait for (S14): here, or one hop away. Writes
//! nothing, so it may be repeated as often as the deadline allows.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use waymark_proto::ids::{NodeId, ShardId};

use super::ProposeError;
use super::member::Member;
use super::propose::target;

const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// A leader that was cut off must not use up the whole deadline.
const ATTEMPT: Duration = Duration::from_millis(1_000);

/// Asks wherever the shard is led.
pub(super) async fn anywhere(
    member: &Member,
    shard: ShardId,
    deadline: Instant,
) -> Result<u64, ProposeError> {
    let mut hint: Option<NodeId> = None;
    let mut round = 0;
    loop {
        let attempt = deadline.min(Instant::now() + ATTEMPT);
        let asked = match target(member, shard, hint.take(), round) {
            Some(node) if node == member.node => here(member, shard, attempt).await,
            Some(node) => match member.network.read_index(node, shard, attempt).await {
                Ok(asked) => asked,
                Err(_) => Err(ProposeError::NoQuorum(shard)),
            },
            None => Err(ProposeError::NoQuorum(shard)),
        };
        let refused = match asked {
            Ok(index) => return Ok(index),
            Err(refused) => refused,
        };
        if let ProposeError::NotLeader { leader, .. } = &refused {
            hint = *leader;
        }
        round += 1;
        let next = Instant::now() + RETRY_PAUSE;
        if next >= deadline {
            return Err(refused);
        }
        sleep_until(next).await;
    }
}

async fn here(member: &Member, shard: ShardId, deadline: Instant) -> Result<u64, ProposeError> {
    let replica = member.shard(shard).ok_or(ProposeError::NotHere(shard))?;
    replica.read_index(deadline).await
}
