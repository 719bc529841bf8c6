//! Owns reading the ledger: every commit, reset and expiry that moved an offset of a group.

use waymark_proto::v1 as wire;

use super::events::Actor;
use super::{PAGE, at, partition_ref, service};
use crate::admin::Admin;
use crate::error::Result;
use crate::record::TopicPartition;
use crate::refusal::check;
use crate::retry::Repeat;

/// What moved an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetChangeKind {
    /// A commit of a member, or from outside of the group.
    Commit,
    /// A commit with a partition that was given up.
    Handoff,
    /// An operator moved it.
    Reset,
    /// An operator put it back.
    Undo,
    /// An operator removed it.
    Delete,
    /// Retention removed it.
    Expiry,
    /// A kind that this client does not know.
    Unknown,
}

impl OffsetChangeKind {
    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Handoff => "handoff",
            Self::Reset => "reset",
            Self::Undo => "undo",
            Self::Delete => "delete",
            Self::Expiry => "expiry",
            Self::Unknown => "unknown",
        }
    }

    fn read(kind: wire::OffsetChangeKind) -> Self {
        match kind {
            wire::OffsetChangeKind::Commit => Self::Commit,
            wire::OffsetChangeKind::Handoff => Self::Handoff,
            wire::OffsetChangeKind::Reset => Self::Reset,
            wire::OffsetChangeKind::Undo => Self::Undo,
            wire::OffsetChangeKind::Delete => Self::Delete,
            wire::OffsetChangeKind::Expiry => Self::Expiry,
            wire::OffsetChangeKind::Unspecified => Self::Unknown,
        }
    }
}

/// One fact of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetChange {
    /// Its place in the ledger.
    pub sequence: i64,
    /// When, Unix ms.
    pub time_ms: i64,
    /// Of which partition.
    pub at: TopicPartition,
    /// `None`: nothing was committed.
    pub before: Option<i64>,
    /// `None`: nothing is committed any more.
    pub after: Option<i64>,
    /// What moved it.
    pub kind: OffsetChangeKind,
    /// How it was committed: `SYNC`, `ASYNC`, `AUTO`, `REVOKE` or `ADMIN`; `None` where it was no commit.
    pub cause: Option<&'static str>,
    /// Who did it.
    pub actor: Actor,
    /// The group's generation then.
    pub generation: i32,
    /// Why, as whoever did it said.
    pub note: String,
    /// Commits that this fact stands for: above 1 where older ones of one member were folded.
    pub count: i32,
    /// Of the first of them, Unix ms.
    pub first_time_ms: i64,
}

/// What the ledger knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetHistory {
    /// Oldest first.
    pub changes: Vec<OffsetChange>,
    /// Facts before this time may have been folded or dropped, Unix ms.
    pub exact_since_ms: i64,
}

impl Admin {
    /// What moved the offsets of a group, oldest first. No partition named means all; no time, from the beginning.
    ///
    /// # Errors
    /// When the group does not exist or no node answers in time.
    pub async fn group_offset_history(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        since_ms: Option<i64>,
    ) -> Result<OffsetHistory> {
        let mut history = OffsetHistory::default();
        let mut page_token = String::new();
        loop {
            let request = &wire::ListOffsetHistoryRequest {
                group_id: group.to_owned(),
                partitions: partitions.iter().map(partition_ref).collect(),
                since_ms,
                page_size: PAGE,
                page_token,
            };
            let page = self
                .client
                .call("reading the ledger", Repeat::Harmless, |link, timeout| async move {
                    let call = link.call(request.clone(), timeout);
                    let answer = service(&link).list_offset_history(call).await;
                    let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
                    check(answer.failure.as_ref()).map(|()| answer)
                })
                .await?;
            for change in page.changes {
                history.changes.push(read(change)?);
            }
            // Folding goes on while pages are read: what the latest page is sure of holds for all.
            history.exact_since_ms = history.exact_since_ms.max(page.exact_since_ms);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(history);
            }
        }
    }
}

fn read(change: wire::OffsetChange) -> Result<OffsetChange> {
    let cause = match change.cause() {
        wire::CommitCause::Unspecified => None,
        cause => cause.as_str_name().strip_prefix("COMMIT_CAUSE_"),
    };
    Ok(OffsetChange {
        at: at(change.topic.as_ref(), change.partition)?,
        kind: OffsetChangeKind::read(change.kind()),
        cause,
        sequence: change.sequence,
        time_ms: change.time_ms,
        before: change.before,
        after: change.after,
        actor: change.actor.map(Actor::from).unwrap_or_default(),
        generation: change.generation,
        note: change.note,
        count: change.count.max(1),
        first_time_ms: change.first_time_ms,
    })
}
