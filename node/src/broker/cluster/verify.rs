//! Owns comparing the replicas of partitions, byte by byte through digests (S21), over what all of them have. Reads only
//! what is committed, so produce may go on meanwhile.

use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{NodeId, TopicPartition};

use crate::broker::Core;
use crate::broker::admin::{Topic, Verdict};
use crate::broker::refusal::failure;
use crate::consensus::{Inspection, Look};

/// Partitions compared at a time: each makes its replicas read all that they hold.
const AT_ONCE: usize = 4;
/// Replicas are compared anew while one of them has not applied enough.
const COMPARE_AGAIN: Duration = Duration::from_millis(50);
/// How long followers may take to reach what the leader had when it was first looked at: they hear of a commit with the next
/// entries. One that takes longer catches up, and what it has is compared.
const FOLLOWERS_ARRIVE: Duration = Duration::from_secs(2);
/// A comparison that has less time left than this is the last one.
const ANSWER_TIME: Duration = Duration::from_secs(1);

impl Core {
    pub(in crate::broker) async fn verify(
        &self,
        topic: &Topic,
        deadline: Instant,
    ) -> Result<Vec<Verdict>, Failure> {
        let each = self.places(topic.id).into_iter().map(|place| async move {
            let at = TopicPartition { topic: topic.id, partition: place.partition };
            self.compare(at, &place.voters, deadline).await
        });
        let verdicts: Vec<Result<Verdict, Failure>> =
            stream::iter(each).buffered(AT_ONCE).collect().await;
        verdicts.into_iter().collect()
    }

    /// Compares over what all replicas have: from the greatest log start to the least high watermark (S21), once all of them
    /// have what the first of them had at the beginning.
    async fn compare(
        &self,
        at: TopicPartition,
        voters: &[NodeId],
        deadline: Instant,
    ) -> Result<Verdict, Failure> {
        let shard = self.shard_of(at)?;
        let arrived = deadline.min(Instant::now() + FOLLOWERS_ARRIVE);
        let mut newest = None;
        loop {
            let look = Look { shard, at, digest_of: None };
            let seen = self.ask_all(voters, look, deadline).await;
            let here = seen.iter().filter_map(|(_, it)| it.as_ref().ok().filter(|it| it.here));
            let extents: Vec<(i64, i64)> =
                here.map(|it| (it.log_start, it.high_watermark)).collect();
            if extents.len() < voters.len() && Instant::now() + COMPARE_AGAIN < deadline {
                sleep(COMPARE_AGAIN).await;
                if Instant::now() + ANSWER_TIME < deadline {
                    continue;
                }
            }
            let to = extents.iter().map(|it| it.1);
            let newest = *newest.get_or_insert(to.clone().max().unwrap_or(0));
            if to.clone().any(|it| it < newest) && Instant::now() + COMPARE_AGAIN < arrived {
                sleep(COMPARE_AGAIN).await;
                continue;
            }
            let from = extents.iter().map(|it| it.0).max().unwrap_or(0);
            let to = to.min().unwrap_or(0).max(from);
            let look = Look { shard, at, digest_of: Some((from, to)) };
            let digests = self.ask_all(voters, look, deadline).await;
            let replicas = digests.into_iter().map(|(node, it)| (node, digest(it))).collect();
            return Ok(Verdict { at, range: (from, to), replicas });
        }
    }

    async fn ask_all(
        &self,
        nodes: &[NodeId],
        look: Look,
        deadline: Instant,
    ) -> Vec<(NodeId, Result<Inspection, String>)> {
        let ask = |node: NodeId| async move {
            (node, self.consensus.inspect(node, look, deadline).await)
        };
        join_all(nodes.iter().map(|node| ask(*node))).await
    }
}

fn digest(seen: Result<Inspection, String>) -> Result<String, Failure> {
    let unavailable = |why: &str| failure(FailureCode::ReplicaBehind, why);
    match seen {
        Ok(Inspection { digest: Some(Ok(digest)), .. }) => {
            Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
        }
        Ok(Inspection { digest: Some(Err(why)), .. }) => {
            Err(failure(FailureCode::RangeDamaged, why))
        }
        Ok(Inspection { here: true, log_start, high_watermark, .. }) => {
            Err(unavailable(&format!("it has {log_start}..{high_watermark} by now")))
        }
        Ok(Inspection { here: false, .. }) => Err(unavailable("the partition is not here")),
        Err(why) => Err(unavailable(&why)),
    }
}
