//! Owns the bytes of a membership, in an entry and in a checkpoint: a version, then the voter sets, then the learners.
//! Fixed and small, so that a release of the consensus library never changes what is stored. Never decides who belongs.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::EmptyNode;
use waymark_proto::ids::{NodeId, ReplicaId};

use super::types::{LogId, Membership, RaftNode, from_raft_log_id, to_raft_log_id};
use crate::storage::raft_record as record;

/// A membership without its position, in openraft's words.
pub type RaftMembership = openraft::Membership<RaftNode, EmptyNode>;

/// The first byte of every encoded membership.
const VERSION: u8 = 1;
/// More members than any shard has: a longer list is damage, not a reason to allocate.
const MOST_MEMBERS: u32 = 1024;

/// The bytes are not a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an encoded membership: {0}")]
pub struct BadMembership(&'static str);

/// A membership as an entry's payload.
#[must_use]
pub fn encode_membership(membership: &RaftMembership) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(VERSION);
    put_members(&mut out, membership);
    out.freeze()
}

/// Reads an entry's payload.
///
/// # Errors
/// When the bytes are not what [`encode_membership`] writes.
pub fn decode_membership(bytes: &[u8]) -> Result<RaftMembership, BadMembership> {
    let mut rest = bytes;
    take_version(&mut rest)?;
    let membership = take_members(&mut rest)?;
    finish(rest)?;
    Ok(membership)
}

/// A membership with the position of its entry, as checkpoints and manifests hold it.
#[must_use]
pub fn encode_stored_membership(stored: &Membership) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(VERSION);
    match stored.log_id() {
        None => out.put_u8(0),
        Some(id) => {
            out.put_u8(1);
            put_log_id(&mut out, *id);
        }
    }
    put_members(&mut out, stored.membership());
    out.freeze()
}

/// Reads a membership with its position.
///
/// # Errors
/// When the bytes are not what [`encode_stored_membership`] writes.
pub fn decode_stored_membership(bytes: &[u8]) -> Result<Membership, BadMembership> {
    let mut rest = bytes;
    take_version(&mut rest)?;
    let id = match rest.try_get_u8().map_err(|_| CUT)? {
        0 => None,
        1 => Some(take_log_id(&mut rest)?),
        _ => return Err(BadMembership("neither with nor without a position")),
    };
    let membership = take_members(&mut rest)?;
    finish(rest)?;
    Ok(Membership::new(id, membership))
}

const CUT: BadMembership = BadMembership("cut short");

fn put_replica(out: &mut BytesMut, id: RaftNode) {
    out.put_u32_le(id.0.node.0);
    out.put_u32_le(id.0.incarnation);
}

fn put_replicas(out: &mut BytesMut, ids: &BTreeSet<RaftNode>) {
    out.put_u32_le(u32::try_from(ids.len()).unwrap_or(u32::MAX));
    for id in ids {
        put_replica(out, *id);
    }
}

fn put_members(out: &mut BytesMut, membership: &RaftMembership) {
    let configs = membership.get_joint_config();
    out.put_u32_le(u32::try_from(configs.len()).unwrap_or(u32::MAX));
    for config in configs {
        put_replicas(out, config);
    }
    put_replicas(out, &membership.nodes().map(|(id, _)| *id).collect());
}

fn put_log_id(out: &mut BytesMut, id: LogId) {
    let id = from_raft_log_id(id);
    out.put_u64_le(id.term);
    put_replica(out, RaftNode(id.leader));
    out.put_u64_le(id.index);
}

fn take_version(rest: &mut &[u8]) -> Result<(), BadMembership> {
    match rest.try_get_u8().map_err(|_| CUT)? {
        VERSION => Ok(()),
        _ => Err(BadMembership("of a version that is not known here")),
    }
}

fn take_replica(rest: &mut &[u8]) -> Result<RaftNode, BadMembership> {
    let node = NodeId(rest.try_get_u32_le().map_err(|_| CUT)?);
    let incarnation = rest.try_get_u32_le().map_err(|_| CUT)?;
    Ok(RaftNode(ReplicaId { node, incarnation }))
}

fn take_count(rest: &mut &[u8]) -> Result<u32, BadMembership> {
    match rest.try_get_u32_le().map_err(|_| CUT)? {
        count if count <= MOST_MEMBERS => Ok(count),
        _ => Err(BadMembership("too many members")),
    }
}

fn take_replicas(rest: &mut &[u8]) -> Result<BTreeSet<RaftNode>, BadMembership> {
    (0..take_count(rest)?).map(|_| take_replica(rest)).collect()
}

fn take_members(rest: &mut &[u8]) -> Result<RaftMembership, BadMembership> {
    let configs: Vec<BTreeSet<RaftNode>> =
        (0..take_count(rest)?).map(|_| take_replicas(rest)).collect::<Result<_, _>>()?;
    let nodes = take_replicas(rest)?;
    if configs.iter().flatten().any(|voter| !nodes.contains(voter)) {
        return Err(BadMembership("a voter that is not a member"));
    }
    Ok(RaftMembership::new_with_defaults(configs, nodes))
}

fn take_log_id(rest: &mut &[u8]) -> Result<LogId, BadMembership> {
    let term = rest.try_get_u64_le().map_err(|_| CUT)?;
    let leader = take_replica(rest)?.0;
    let index = rest.try_get_u64_le().map_err(|_| CUT)?;
    Ok(to_raft_log_id(record::LogId { term, leader, index }))
}

fn finish(rest: &[u8]) -> Result<(), BadMembership> {
    if rest.is_empty() { Ok(()) } else { Err(BadMembership("bytes after its end")) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_replica() -> impl Strategy<Value = ReplicaId> {
        (any::<u32>(), any::<u32>())
            .prop_map(|(node, incarnation)| ReplicaId { node: NodeId(node), incarnation })
    }

    pub(crate) fn any_log_id() -> impl Strategy<Value = LogId> {
        (any::<u64>(), any_replica(), any::<u64>())
            .prop_map(|(term, leader, index)| to_raft_log_id(record::LogId { term, leader, index }))
    }

    pub(crate) fn any_membership() -> impl Strategy<Value = RaftMembership> {
        let set = || proptest::collection::btree_set(any_replica().prop_map(RaftNode), 0..5);
        (proptest::collection::vec(set(), 0..3), set())
            .prop_map(|(configs, learners)| RaftMembership::new_with_defaults(configs, learners))
    }

    proptest! {
        #[test]
        fn a_membership_reads_back(membership in any_membership()) {
            let bytes = encode_membership(&membership);
            prop_assert_eq!(decode_membership(&bytes), Ok(membership));
        }

        #[test]
        fn a_membership_reads_back_with_its_position(
            id in proptest::option::of(any_log_id()),
            membership in any_membership(),
        ) {
            let stored = Membership::new(id, membership);
            let bytes = encode_stored_membership(&stored);
            prop_assert_eq!(decode_stored_membership(&bytes), Ok(stored));
        }

        #[test]
        fn a_membership_cut_short_is_refused(membership in any_membership(), cut in any::<prop::sample::Index>()) {
            let bytes = encode_membership(&membership);
            let cut = cut.index(bytes.len());
            prop_assert!(decode_membership(&bytes[..cut]).is_err());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            drop(decode_membership(&bytes));
            drop(decode_stored_membership(&bytes));
        }
    }
}
