//! Owns administration: topics, their settings and records, groups' offsets, the cluster. Every call works on any node and
//! is repeated until it has an answer or its deadline has passed (each step has one of its own, where there are several);
//! repeating is harmless, because topics are created under ids made here and deleted by the ids that they had, partitions are
//! given as totals, a group's offsets are moved only if they were not since somebody looked, and the rest says what to be,
//! not what to change.
//!
//! - `topics`, `deletion`, `configs`, `offsets`, `groups` and `cluster` hold the calls; `model` what they speak of.
//! - `explain` tells why a group did what it did, from what the calls on groups gave.
//! - this file has what they share: a list of items, each with its own outcome.

mod cluster;
mod configs;
mod deletion;
mod explain;
mod groups;
mod model;
mod offsets;
mod topics;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[cfg(feature = "cli")]
pub(crate) use explain::words;
pub use explain::{
    Cause, Explanation, Facts, Finding, Gravity, Moved, Pending, Phase, PhaseName, Round, Trigger,
};
pub use groups::{
    Actor, ExpelCause, GroupDescription, GroupEvent, GroupEventKind, GroupFilter, GroupLag,
    GroupListing, GroupListings, GroupMember, GroupReset, GroupState, MemberPartition,
    MemberRemoval, MembersToRemove, OffsetChange, OffsetChangeKind, OffsetHistory, OffsetMove,
    OffsetMoves, PartitionLag, ResetScope, ResetTo, Revoking,
};
pub use model::{
    ClusterDescription, ConfigChange, ConfigEntry, GroupOffset, Health, LeaderMove, ListedOffset,
    NewTopic, NodeDescription, OffsetSpec, PartitionDescription, PartitionVerdict, RecordsBefore,
    ReplicaDigest, ServerInfo, TopicConfig, TopicDescription, TopicListing,
};

use crate::client::Client;
use crate::connections::Link;
use crate::error::{Error, Result};
use crate::retry::{Repeat, Verdict, judge};

/// Administration of a cluster. Cheap to clone.
///
/// Calls on several items give one outcome each, in the order asked; the outer error is for the call as a whole.
///
/// ```no_run
/// # async fn example(client: waymark_client::Client) -> waymark_client::Result<()> {
/// use waymark_client::NewTopic;
/// let admin = client.admin();
/// admin.create_topic(NewTopic::new("orders").partitions(3).config("retention.ms", "86400000")).await?;
/// for topic in admin.list_topics().await? {
///     println!("{} has {} partitions", topic.name, topic.partitions);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}

/// One outcome per item, in the order asked.
pub(crate) type Outcomes<T> = Vec<Result<T>>;

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Sends the items that have no outcome yet, until each has one or the deadline passes.
    async fn each<I, T, F>(
        &self,
        what: &'static str,
        items: Vec<I>,
        send: impl Fn(Link, Duration, Vec<I>) -> F,
    ) -> Result<Outcomes<T>>
    where
        I: Clone,
        F: Future<Output = Result<Outcomes<T>>>,
    {
        let open: Vec<Option<Result<T>>> = items.iter().map(|_| None).collect();
        let outcomes = Mutex::new(open);
        let lock = || outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let (lock, items, send) = (&lock, &items, &send);
        let finished = self
            .client
            .call(what, Repeat::Harmless, |link, timeout| async move {
                let left = |outcomes: &[Option<Result<T>>]| -> Vec<usize> {
                    (0..outcomes.len()).filter(|at| outcomes[*at].is_none()).collect()
                };
                let asked = left(&lock());
                let batch = asked.iter().map(|at| items[*at].clone()).collect();
                let answers = send(link, timeout, batch).await?;
                if answers.len() != asked.len() {
                    return Err(Error::protocol("not one outcome for each item"));
                }
                let mut again = None;
                for (at, answer) in asked.into_iter().zip(answers) {
                    match answer {
                        Err(error) if may_repeat(&error) => again = Some(error),
                        verdict => lock()[at] = Some(verdict),
                    }
                }
                again.map_or(Ok(()), Err)
            })
            .await;
        let all = std::mem::take(&mut *lock());
        let unanswered = || finished.clone().err().unwrap_or(Error::protocol("no outcome"));
        if !all.is_empty() && all.iter().all(Option::is_none) {
            return Err(unanswered());
        }
        Ok(all.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(unanswered()))).collect())
    }
}

fn may_repeat(error: &Error) -> bool {
    matches!(judge(error, Repeat::Harmless), Verdict::Again { .. })
}

/// The outcome of a call on one item.
fn only<T>(outcomes: Outcomes<T>) -> Result<T> {
    let mut outcomes = outcomes.into_iter();
    outcomes.next().unwrap_or_else(|| Err(Error::protocol("no outcome")))
}
