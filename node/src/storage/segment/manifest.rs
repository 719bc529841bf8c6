//! Owns a checkpoint's bytes: rows, and for every partition its files up to the cut (S6). The file is the encoded message
//! and its CRC32C. Never touches a file.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use waymark_proto::ids::{
    NodeId, PartitionId, ReplicaId, ReplicaKey, ShardId, TopicId, TopicPartition,
};
use waymark_proto::stored::{
    StoredCheckpoint, StoredLogId, StoredPartitionFiles, StoredReplica, StoredRow, StoredSegment,
};

use crate::storage::raft_record::LogId;
use crate::storage::shard_store::{Checkpoint, Cut, StoreError};

const FORMAT: u32 = 1;
const CRC: usize = 4;

/// A segment up to the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileExtent {
    pub(super) base: i64,
    pub(super) next: i64,
    pub(super) bytes: u64,
    pub(super) max_timestamp: i64,
}

/// All rows of a shard, sorted by key.
pub(super) type Rows = Vec<(Vec<u8>, Vec<u8>)>;
/// The files of each partition, oldest first.
pub(super) type Files = BTreeMap<TopicPartition, Vec<FileExtent>>;

/// A checkpoint, taken apart.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) checkpoint: Checkpoint,
    pub(super) rows: Rows,
    pub(super) files: Files,
}

/// Not a checkpoint that this version writes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreadable(&'static str);

fn stored_replica(replica: ReplicaId) -> StoredReplica {
    StoredReplica { node: replica.node.0, incarnation: replica.incarnation }
}

fn replica(stored: StoredReplica) -> ReplicaId {
    ReplicaId { node: NodeId(stored.node), incarnation: stored.incarnation }
}

/// Encodes a cut. The replica's node is not the store's to know; its incarnation is.
pub(super) fn encode(key: ReplicaKey, cut: &Cut, rows: &Rows, files: &Files) -> Bytes {
    let segment = |it: &FileExtent| StoredSegment {
        base_offset: it.base,
        bytes: i64::try_from(it.bytes).unwrap_or(i64::MAX),
        digest: None,
        max_timestamp: it.max_timestamp,
        next_offset: it.next,
    };
    let row = |(key, value): &(Vec<u8>, Vec<u8>)| StoredRow {
        key: key.clone().into(),
        value: value.clone().into(),
    };
    let message = StoredCheckpoint {
        format_version: FORMAT,
        shard: key.shard.0,
        replica: Some(StoredReplica { node: 0, incarnation: key.incarnation }),
        applied: Some(StoredLogId {
            term: cut.applied.term,
            leader: Some(stored_replica(cut.applied.leader)),
            index: cut.applied.index,
        }),
        membership: cut.membership.clone(),
        rows: rows.iter().map(row).collect(),
        files: files
            .iter()
            .map(|(at, segments)| StoredPartitionFiles {
                topic_id: at.topic.0.to_vec().into(),
                partition: at.partition.0,
                segments: segments.iter().map(segment).collect(),
            })
            .collect(),
    };
    message.encode_to_vec().into()
}

/// Takes a checkpoint apart.
pub(super) fn decode(encoded: Bytes) -> Result<Manifest, Unreadable> {
    let message =
        StoredCheckpoint::decode(&encoded[..]).map_err(|_| Unreadable("not a checkpoint"))?;
    if message.format_version != FORMAT {
        return Err(Unreadable("a checkpoint of another version"));
    }
    let applied = message.applied.ok_or(Unreadable("no position"))?;
    let leader = applied.leader.ok_or(Unreadable("no leader"))?;
    let mut files = Files::new();
    for partition in message.files {
        let topic =
            TopicId::from_slice(&partition.topic_id).map_err(|_| Unreadable("a topic id"))?;
        let at = TopicPartition { topic, partition: PartitionId(partition.partition) };
        let segments: Option<Vec<FileExtent>> = partition.segments.iter().map(extent).collect();
        let segments = segments.ok_or(Unreadable("the extent of a segment"))?;
        if segments.windows(2).any(|pair| pair[0].next > pair[1].base) {
            return Err(Unreadable("segments out of order"));
        }
        files.insert(at, segments);
    }
    let checkpoint = Checkpoint {
        encoded,
        shard: ShardId(message.shard),
        replica: message.replica.map(replica).unwrap_or_default(),
        applied: LogId { term: applied.term, leader: replica(leader), index: applied.index },
        membership: message.membership,
    };
    let rows = message.rows.into_iter().map(|row| (row.key.into(), row.value.into())).collect();
    Ok(Manifest { checkpoint, rows, files })
}

fn extent(segment: &StoredSegment) -> Option<FileExtent> {
    let bytes = u64::try_from(segment.bytes).ok()?;
    let (base, next) = (segment.base_offset, segment.next_offset);
    let max_timestamp = segment.max_timestamp;
    (0 <= base && base <= next).then_some(FileExtent { base, next, bytes, max_timestamp })
}

/// The checkpoint that a manifest from elsewhere tells of.
pub(in crate::storage) fn read(encoded: Bytes) -> Result<Checkpoint, StoreError> {
    let decoded = decode(encoded).map_err(|error| StoreError::Damaged {
        path: "a peer's manifest".to_owned(),
        offset: 0,
        what: error.to_string(),
    });
    Ok(decoded?.checkpoint)
}

/// The content of the checkpoint's file.
pub(super) fn to_file(encoded: &Bytes) -> Bytes {
    let mut file = BytesMut::with_capacity(encoded.len() + CRC);
    file.put_slice(encoded);
    file.put_u32_le(crc32c::crc32c(encoded));
    file.freeze()
}

/// What `to_file` put into it.
pub(super) fn from_file(file: &Bytes) -> Result<Bytes, Unreadable> {
    let at = file.len().checked_sub(CRC).ok_or(Unreadable("shorter than its checksum"))?;
    let (encoded, crc) = (file.slice(..at), &file[at..]);
    if crc32c::crc32c(&encoded).to_le_bytes() != crc {
        return Err(Unreadable("its checksum"));
    }
    Ok(encoded)
}
