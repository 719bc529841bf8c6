//! Owns the identities that every layer shares, as types that cannot be mixed up. It never parses a message.
//!
//! Ids of topics, replicas and producers are never used again, so a stored fact keyed by one can never be inherited by
//! something that merely has the same name.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A node of the cluster, as listed in the configuration: 1, 2, 3 …
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// One Raft group. Shard 0 also holds the catalog. Clients never see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

impl ShardId {
    /// The shard that holds the catalog.
    pub const CATALOG: ShardId = ShardId(0);
}

/// openraft's node id: a node and how many times this replica was born there. Never used again (S10).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId {
    /// The node that runs the replica.
    pub node: NodeId,
    /// Raised when a replica of the same shard has to be born anew on the same node.
    pub incarnation: u32,
}

/// One replica's own log: a shard and the incarnation of the local replica. The key of everything a node keeps on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaKey {
    /// The shard.
    pub shard: ShardId,
    /// The local replica's incarnation.
    pub incarnation: u32,
}

/// A topic, for ever: a topic that is deleted and created again gets another one.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

/// A partition's number within its topic, from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub i32);

/// A partition of one topic: the key of most tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionId,
}

/// The cluster: drawn at birth, on every disk and in every handshake of peers (S12).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

/// The text or the bytes given are not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}, got {got:?}")]
pub struct InvalidId {
    /// Which kind of id.
    pub what: &'static str,
    /// What is legal.
    pub rule: &'static str,
    /// What was given.
    pub got: String,
}

const UUID_RULE: &str = "16 bytes, or 22 characters of base64url";

macro_rules! sixteen_bytes {
    ($name:ident, $what:literal) => {
        impl $name {
            /// The id in these bytes.
            ///
            /// # Errors
            /// When there are not exactly sixteen bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, InvalidId> {
                let fail = || InvalidId {
                    what: $what,
                    rule: UUID_RULE,
                    got: format!("{} bytes", bytes.len()),
                };
                bytes.try_into().map(Self).map_err(|_| fail())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let fail = || InvalidId { what: $what, rule: UUID_RULE, got: text.to_owned() };
                let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| fail())?;
                Self::from_slice(&bytes).map_err(|_| fail())
            }
        }
    };
}

sixteen_bytes!(TopicId, "a topic id");
sixteen_bytes!(ClusterId, "a cluster id");

impl TopicId {
    /// All zero and 0…01 are reserved, as in Kafka: the first means "none", the second was the metadata topic.
    #[must_use]
    pub fn is_reserved(self) -> bool {
        self.0[..15].iter().all(|byte| *byte == 0) && self.0[15] <= 1
    }
}

macro_rules! shown_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}

shown_as_number!(NodeId, ShardId, PartitionId);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.incarnation)
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_reads_back_from_its_text() {
        let id = TopicId([7; 16]);
        assert_eq!(id.to_string().len(), 22);
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn a_text_that_is_no_id_says_what_is_legal() {
        let error = "nonsense".parse::<TopicId>().expect_err("too short");
        assert!(error.to_string().contains("22 characters"), "{error}");
    }

    #[test]
    fn the_ids_zero_and_one_are_reserved() {
        let mut one = [0; 16];
        one[15] = 1;
        assert!(TopicId([0; 16]).is_reserved());
        assert!(TopicId(one).is_reserved());
        assert!(!TopicId([1; 16]).is_reserved());
    }
}
