//! Owns the messages by which a node asks another one for entries that damage took from it (S11). Neither judges an entry
//! nor reads a log: see `log_mend`.

use std::time::Duration;

use waymark_proto::ids::{NodeId, ShardId};
use waymark_proto::peer;

use super::wire::{self, Malformed};
use super::{Network, PeerError};
use crate::consensus::types::{from_raft_log_id, to_raft_log_id};
use crate::storage::raft_record::{EntryKind, LogEntry, LogId};

/// Entries asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Of which shard's log.
    pub shard: ShardId,
    /// The first one.
    pub from: u64,
    /// The index after the last one.
    pub to: u64,
    /// Whoever has this entry has the same ones before it: the entry behind the last one wanted, or that one itself.
    pub anchor: LogId,
}

/// What a node has of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Its own entry at the anchor's index, looked at in the same moment as the entries.
    pub at_anchor: Option<LogId>,
    /// Entries from the first one wanted on, as many as fit a message.
    pub entries: Vec<LogEntry>,
}

impl Network {
    /// Asks a node for entries of its log.
    ///
    /// # Errors
    /// When it does not answer in time, or what it says makes no sense.
    pub async fn entries(
        &self,
        node: NodeId,
        wanted: Wanted,
        within: Duration,
    ) -> Result<Given, PeerError> {
        let link = self.links.get(node)?;
        let asked = link
            .call_on(true, within, request(wanted), |mut client, request| async move {
                client.entries(request).await
            })
            .await?;
        given(asked).map_err(|error| PeerError::Unanswered { node, reason: error.to_string() })
    }
}

fn request(wanted: Wanted) -> peer::EntriesRequest {
    peer::EntriesRequest {
        shard: wanted.shard.0,
        from: wanted.from,
        to: wanted.to,
        anchor: Some(id_to(wanted.anchor)),
    }
}

pub(super) fn wanted(request: peer::EntriesRequest) -> Result<Wanted, Malformed> {
    Ok(Wanted {
        shard: ShardId(request.shard),
        from: request.from,
        to: request.to,
        anchor: id_from(request.anchor)?,
    })
}

pub(super) fn response(given: Given) -> peer::EntriesResponse {
    let entry = |entry: LogEntry| {
        let kind = match entry.kind {
            EntryKind::Blank => peer::EntryKind::Blank,
            EntryKind::Command => peer::EntryKind::Command,
            EntryKind::Membership => peer::EntryKind::Membership,
        };
        peer::Entry { id: Some(id_to(entry.id)), kind: kind.into(), payload: entry.payload }
    };
    peer::EntriesResponse {
        at_anchor: given.at_anchor.map(id_to),
        entries: given.entries.into_iter().map(entry).collect(),
    }
}

pub(super) fn given(answer: peer::EntriesResponse) -> Result<Given, Malformed> {
    let entry = |entry: peer::Entry| {
        let kind = match entry.kind() {
            peer::EntryKind::Blank => EntryKind::Blank,
            peer::EntryKind::Command => EntryKind::Command,
            peer::EntryKind::Membership => EntryKind::Membership,
            peer::EntryKind::Unspecified => return Err(Malformed("an entry of an unknown kind")),
        };
        Ok(LogEntry { id: id_from(entry.id)?, kind, payload: entry.payload })
    };
    Ok(Given {
        at_anchor: answer.at_anchor.map(|id| id_from(Some(id))).transpose()?,
        entries: answer.entries.into_iter().map(entry).collect::<Result<_, _>>()?,
    })
}

fn id_to(id: LogId) -> peer::LogId {
    wire::log_id_to(to_raft_log_id(id))
}

fn id_from(id: Option<peer::LogId>) -> Result<LogId, Malformed> {
    let id = id.ok_or(Malformed("an entry without a position"))?;
    wire::log_id_from(id).map(from_raft_log_id)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waymark_proto::ids::ReplicaId;

    use super::*;

    fn id(index: u64) -> LogId {
        LogId { term: 3, leader: ReplicaId { node: NodeId(2), incarnation: 1 }, index }
    }

    #[test]
    fn what_is_wanted_and_what_is_given_read_back_as_they_were_sent() {
        let asked = Wanted { shard: ShardId(4), from: 5, to: 9, anchor: id(9) };
        assert_eq!(wanted(request(asked)), Ok(asked));
        let kinds = [EntryKind::Blank, EntryKind::Command, EntryKind::Membership];
        let entries = (5..).zip(kinds).map(|(index, kind)| {
            let payload = Bytes::from(vec![7; usize::try_from(index).unwrap()]);
            LogEntry { id: id(index), kind, payload }
        });
        let told = Given { at_anchor: Some(id(9)), entries: entries.collect() };
        assert_eq!(given(response(told.clone())), Ok(told));
        assert_eq!(given(response(Given::default())), Ok(Given::default()));
    }

    #[test]
    fn an_entry_without_a_position_or_of_an_unknown_kind_is_refused() {
        let mut asked = request(Wanted { shard: ShardId(4), from: 5, to: 9, anchor: id(9) });
        asked.anchor = None;
        assert!(wanted(asked).is_err());
        let mut told = peer::EntriesResponse::default();
        told.entries.push(peer::Entry { id: None, kind: 1, payload: Bytes::new() });
        assert!(given(told.clone()).is_err());
        told.entries[0].id = Some(id_to(id(1)));
        told.entries[0].kind = 77;
        assert!(given(told).is_err());
    }
}
