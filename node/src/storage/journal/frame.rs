//! Owns the bytes of one frame: one fact about one replica's log, with a checksum of its own, so that a single entry can
//! be read back and verified without its flush. It never decides what a fact means for a log (see `replay`).
//!
//! Layout, little-endian, `HEAD` bytes and then the payload:
//!
//! ```text
//!  0 u32 CRC32C over everything behind it     12 u32 shard        20 u64 term             36 u64 index
//!  4 u32 payload length                       16 u32 incarnation  28 u32 leader's node
//!  8 u8 fact, u8 entry kind, u8 flags, u8 0                       32 u32 leader's incarnation
//! ```

use bytes::Bytes;
use waymark_proto::ids::{NodeId, ReplicaId, ReplicaKey, ShardId};

use crate::storage::disk::AlignedBuf;
use crate::storage::raft_record::{EntryKind, LogEntry, LogId, Vote};

/// Bytes in front of every payload.
pub(super) const HEAD: usize = 44;

const FACT_ENTRY: u8 = 1;
const FACT_VOTE: u8 = 2;
const FACT_TRUNCATE: u8 = 3;
const FACT_PURGE: u8 = 4;
const FACT_FORGET: u8 = 5;
const FACT_DOUBT: u8 = 6;

/// The fact stood in the journal before and is written again (S3): it never implies a truncation.
const FLAG_CARRIED: u8 = 1;
/// Of a vote: a quorum granted it.
const FLAG_COMMITTED: u8 = 2;
/// Of a truncation: nothing is left.
const FLAG_TO_NOTHING: u8 = 4;
/// Of a doubt: the vote may be a lesser one than was given.
const FLAG_VOTE: u8 = 8;
/// Of a doubt: the end of the log may be another one. The frame's index says up to where entries may be lost.
const FLAG_END: u8 = 16;

/// What one frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fact {
    /// An entry of the log.
    Entry(LogEntry),
    /// A vote; the greatest counts, wherever it stands.
    Vote(Vote),
    /// Everything after this entry is gone; everything, when `None`.
    Truncate(Option<LogId>),
    /// Everything up to here is gone, and is in a checkpoint.
    Purge(LogId),
    /// The replica never existed.
    Forget,
    /// Damage took something of this log (S11). Stands in the flush that supersedes what a recovery found, so that the
    /// finding outlives the damaged bytes.
    Doubt(Doubt),
}

/// What damage left in doubt of one replica. With nothing in doubt, entries inside of its log are missing and known to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Doubt {
    /// A greater vote than the one found may have been given.
    pub(super) vote: bool,
    /// The log may end elsewhere; what was lost lies at or below this index.
    pub(super) end: Option<u64>,
}

impl Doubt {
    /// Whether the replica must not run under its id again.
    pub(super) fn is_grave(&self) -> bool {
        self.vote || self.end.is_some()
    }
}

/// A fact about one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// Whose log.
    pub(super) key: ReplicaKey,
    /// Written again, not for the first time.
    pub(super) carried: bool,
    /// What it says.
    pub(super) fact: Fact,
}

/// A payload is summed and copied in parts that fit a processor's first cache, where the copy finds what the sum has read.
const SUMMED_AT_ONCE: usize = 24 << 10;

impl Frame {
    /// Bytes on disk.
    pub(super) fn encoded_len(&self) -> usize {
        HEAD + self.payload().len()
    }

    fn payload(&self) -> &[u8] {
        match &self.fact {
            Fact::Entry(entry) => &entry.payload,
            Fact::Vote(_) | Fact::Truncate(_) | Fact::Purge(_) | Fact::Forget | Fact::Doubt(_) => {
                &[]
            }
        }
    }

    /// Appends the frame and returns its checksum.
    pub(super) fn encode(&self, out: &mut AlignedBuf) -> u32 {
        let payload = self.payload();
        let (fact, kind, flags, id) = self.fields();
        let mut head = [0_u8; HEAD];
        let len = u32::try_from(payload.len()).expect("the journal refuses entries above 4 GiB");
        head[4..8].copy_from_slice(&len.to_le_bytes());
        head[8] = fact;
        head[9] = kind;
        head[10] = flags;
        head[12..16].copy_from_slice(&self.key.shard.0.to_le_bytes());
        head[16..20].copy_from_slice(&self.key.incarnation.to_le_bytes());
        head[20..28].copy_from_slice(&id.term.to_le_bytes());
        head[28..32].copy_from_slice(&id.leader.node.0.to_le_bytes());
        head[32..36].copy_from_slice(&id.leader.incarnation.to_le_bytes());
        head[36..44].copy_from_slice(&id.index.to_le_bytes());
        let head_at = out.len();
        out.extend_from_slice(&head);
        let mut crc = crc32c::crc32c(&head[4..]);
        for part in payload.chunks(SUMMED_AT_ONCE) {
            crc = crc32c::crc32c_append(crc, part);
            out.extend_from_slice(part);
        }
        out.as_mut_slice()[head_at..head_at + 4].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    fn fields(&self) -> (u8, u8, u8, LogId) {
        let carried = if self.carried { FLAG_CARRIED } else { 0 };
        let none = LogId { term: 0, leader: ReplicaId::default(), index: 0 };
        match &self.fact {
            Fact::Entry(entry) => (FACT_ENTRY, kind_code(entry.kind), carried, entry.id),
            Fact::Vote(vote) => {
                let committed = if vote.committed { FLAG_COMMITTED } else { 0 };
                let id = LogId { term: vote.term, leader: vote.voted_for, index: 0 };
                (FACT_VOTE, 0, carried | committed, id)
            }
            Fact::Truncate(None) => (FACT_TRUNCATE, 0, carried | FLAG_TO_NOTHING, none),
            Fact::Truncate(Some(last)) => (FACT_TRUNCATE, 0, carried, *last),
            Fact::Purge(upto) => (FACT_PURGE, 0, carried, *upto),
            Fact::Forget => (FACT_FORGET, 0, carried, none),
            Fact::Doubt(doubt) => {
                let vote = if doubt.vote { FLAG_VOTE } else { 0 };
                let end = if doubt.end.is_some() { FLAG_END } else { 0 };
                let id = LogId { index: doubt.end.unwrap_or(0), ..none };
                (FACT_DOUBT, 0, carried | vote | end, id)
            }
        }
    }

    /// The frame at the start of `bytes`, its checksum and its length; its payload shares `bytes`. `None` when there is
    /// no whole, undamaged frame.
    pub(super) fn decode(bytes: &Bytes) -> Option<(Self, u32, usize)> {
        let head: &[u8; HEAD] = bytes.get(..HEAD)?.try_into().ok()?;
        let len = HEAD.checked_add(usize::try_from(u32_at(head, 4)).ok()?)?;
        let crc = u32_at(head, 0);
        if crc32c::crc32c(bytes.get(4..len)?) != crc {
            return None;
        }
        let id = LogId {
            term: u64_at(head, 20),
            leader: ReplicaId { node: NodeId(u32_at(head, 28)), incarnation: u32_at(head, 32) },
            index: u64_at(head, 36),
        };
        let flags = head[10];
        let fact = match head[8] {
            FACT_ENTRY => {
                let kind = kind_of(head[9])?;
                Fact::Entry(LogEntry { id, kind, payload: bytes.slice(HEAD..len) })
            }
            FACT_VOTE => Fact::Vote(Vote {
                term: id.term,
                voted_for: id.leader,
                committed: flags & FLAG_COMMITTED != 0,
            }),
            FACT_TRUNCATE => Fact::Truncate((flags & FLAG_TO_NOTHING == 0).then_some(id)),
            FACT_PURGE => Fact::Purge(id),
            FACT_FORGET => Fact::Forget,
            FACT_DOUBT => Fact::Doubt(Doubt {
                vote: flags & FLAG_VOTE != 0,
                end: (flags & FLAG_END != 0).then_some(id.index),
            }),
            _ => return None,
        };
        let key = ReplicaKey { shard: ShardId(u32_at(head, 12)), incarnation: u32_at(head, 16) };
        Some((Self { key, carried: flags & FLAG_CARRIED != 0, fact }, crc, len))
    }
}

fn kind_code(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Blank => 0,
        EntryKind::Command => 1,
        EntryKind::Membership => 2,
    }
}

fn kind_of(code: u8) -> Option<EntryKind> {
    match code {
        0 => Some(EntryKind::Blank),
        1 => Some(EntryKind::Command),
        2 => Some(EntryKind::Membership),
        _ => None,
    }
}

/// The little-endian number at a position that the caller knows to lie inside.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

/// The little-endian number at a position that the caller knows to lie inside.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log_id() -> impl Strategy<Value = LogId> {
        (any::<u64>(), any::<u32>(), any::<u32>(), any::<u64>()).prop_map(
            |(term, node, incarnation, index)| LogId {
                term,
                leader: ReplicaId { node: NodeId(node), incarnation },
                index,
            },
        )
    }

    fn fact() -> impl Strategy<Value = Fact> {
        let kind = prop_oneof![
            Just(EntryKind::Blank),
            Just(EntryKind::Command),
            Just(EntryKind::Membership)
        ];
        prop_oneof![
            (log_id(), kind, prop::collection::vec(any::<u8>(), 0..300)).prop_map(
                |(id, kind, payload)| Fact::Entry(LogEntry { id, kind, payload: payload.into() })
            ),
            (log_id(), any::<bool>()).prop_map(|(id, committed)| Fact::Vote(Vote {
                term: id.term,
                voted_for: id.leader,
                committed
            })),
            prop::option::of(log_id()).prop_map(Fact::Truncate),
            log_id().prop_map(Fact::Purge),
            Just(Fact::Forget),
            (any::<bool>(), prop::option::of(any::<u64>()))
                .prop_map(|(vote, end)| Fact::Doubt(Doubt { vote, end })),
        ]
    }

    pub(in crate::storage::journal) fn frame() -> impl Strategy<Value = Frame> {
        (any::<u32>(), any::<u32>(), any::<bool>(), fact()).prop_map(
            |(shard, incarnation, carried, fact)| Frame {
                key: ReplicaKey { shard: ShardId(shard), incarnation },
                carried,
                fact,
            },
        )
    }

    proptest! {
        #[test]
        fn a_frame_reads_back_as_it_was_written(frame in frame()) {
            let mut out = AlignedBuf::default();
            let crc = frame.encode(&mut out);
            let bytes = Bytes::copy_from_slice(out.as_slice());
            prop_assert_eq!(bytes.len(), frame.encoded_len());
            let len = bytes.len();
            prop_assert_eq!(Frame::decode(&bytes), Some((frame, crc, len)));
        }

        #[test]
        fn a_frame_with_one_flipped_bit_is_refused(frame in frame(), at in any::<prop::sample::Index>()) {
            let mut out = AlignedBuf::default();
            frame.encode(&mut out);
            let bit = at.index(out.len() * 8);
            out.as_mut_slice()[bit / 8] ^= 1 << (bit % 8);
            let decoded = Frame::decode(&Bytes::copy_from_slice(out.as_slice()));
            // A flip that grows the length asks for bytes that are not there; both are refusals.
            prop_assert_eq!(decoded, None);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Frame::decode(&Bytes::from(bytes));
        }
    }
}
