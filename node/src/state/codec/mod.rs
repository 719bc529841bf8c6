//! Owns commands as the bytes of a Raft entry: a format version, then protobuf. Decoding shares the entry's bytes, so a
//! batch is copied once in its life, when the proposer encodes it. Never changes what a stored byte means: a new meaning
//! is a new field or a new version.

mod catalog_commands;
pub(in crate::state) mod group_commands;
mod shard_commands;
pub(in crate::state) mod values;

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use waymark_proto::ids::InvalidId;
use waymark_proto::stored::StoredCommand;
use waymark_proto::stored::stored_command::Kind;

use super::command::Command;

/// The first byte of every encoded command.
const FORMAT_VERSION: u8 = 1;

/// These bytes are no command that this version knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No byte at all.
    #[error("a command must not be empty")]
    Empty,
    /// Written by a version that stores commands otherwise.
    #[error("command format {0} is not known")]
    Version(u8),
    /// Not protobuf.
    #[error("not a command: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// Written by a version with more commands.
    #[error("the command is not known")]
    UnknownCommand,
    /// A message lacks a part without which it means nothing.
    #[error("the command lacks its {0}")]
    Missing(&'static str),
    /// A number that its field cannot mean.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// Bytes that should be an id.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

impl Command {
    /// The command as a Raft entry's payload; the one copy of the batches in it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let kind = match self {
            Self::Catalog(command) => catalog_commands::to_stored(command),
            other => shard_commands::to_stored(other),
        };
        let stored = StoredCommand { kind };
        let mut bytes = BytesMut::with_capacity(1 + stored.encoded_len());
        bytes.put_u8(FORMAT_VERSION);
        stored.encode_raw(&mut bytes);
        bytes.freeze()
    }

    /// Reads a payload; batches are slices of it. The caller counts an entry that does not decode as applied, with a
    /// refusal: all replicas of one version see the same.
    ///
    /// # Errors
    /// When the bytes are no command that this version knows.
    pub fn decode(mut payload: Bytes) -> Result<Self, DecodeError> {
        match payload.first() {
            None => return Err(DecodeError::Empty),
            Some(&FORMAT_VERSION) => drop(payload.split_to(1)),
            Some(other) => return Err(DecodeError::Version(*other)),
        }
        match StoredCommand::decode(payload)?.kind {
            None => Err(DecodeError::UnknownCommand),
            Some(kind) => from_kind(kind),
        }
    }
}

fn from_kind(kind: Kind) -> Result<Command, DecodeError> {
    match kind {
        Kind::Produce(it) => shard_commands::produce(it),
        Kind::OpenPartitions(it) => shard_commands::open_partitions(it),
        Kind::AlterPartitions(it) => shard_commands::alter_partitions(&it),
        Kind::ClosePartitions(it) => {
            Ok(Command::ClosePartitions { topic: values::topic(&it.topic_id)? })
        }
        Kind::AdvanceLogStart(it) => shard_commands::advance_log_start(&it),
        Kind::ExpireProducers(it) => {
            Ok(Command::ExpireProducers { last_append_before_ms: it.last_append_before_ms })
        }
        Kind::SetHolds(it) => shard_commands::set_holds(it),
        Kind::CommitOffsets(it) => shard_commands::commit_offsets(it),
        Kind::DeleteOffsets(it) => shard_commands::delete_offsets(it),
        Kind::Group(it) => group_commands::group(it).map(Command::Group),
        Kind::ForgetTopic(it) => Ok(Command::ForgetTopic { topic: values::topic(&it.topic_id)? }),
        catalog => catalog_commands::from_stored(catalog).map(Command::Catalog),
    }
}

/// For logs: what and how much, never a record, a key or an application's words.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Produce(it) => {
                let bytes: usize = it.items.iter().map(|item| item.batch.len()).sum();
                write!(f, "produce {} batches of {bytes} bytes", it.items.len())
            }
            Self::OpenPartitions { topic, settings, partitions } => {
                let (count, version) = (partitions.len(), settings.version);
                write!(f, "open {count} partitions of {topic} at version {version}")
            }
            Self::AlterPartitions { topic, settings } => {
                write!(f, "alter partitions of {topic} to version {}", settings.version)
            }
            Self::ClosePartitions { topic } => write!(f, "close partitions of {topic}"),
            Self::AdvanceLogStart { items } => {
                write!(f, "advance the log start of {} partitions", items.len())
            }
            Self::SetHolds { items, lower } => {
                let how = if *lower { "lower" } else { "raise" };
                write!(f, "{how} {} floors of groups", items.len())
            }
            Self::ExpireProducers { last_append_before_ms } => {
                write!(f, "expire producers idle since {last_append_before_ms}")
            }
            Self::CommitOffsets(it) => {
                write!(f, "commit {} offsets of group {:?}", it.items.len(), it.group)
            }
            Self::Group(entry) => write!(f, "change group {:?}: {}", entry.group, entry.change),
            Self::DeleteOffsets { group, partitions, .. } if partitions.is_empty() => {
                write!(f, "delete all offsets of group {group:?}")
            }
            Self::DeleteOffsets { group, partitions, .. } => {
                write!(f, "delete {} offsets of group {group:?}", partitions.len())
            }
            Self::ForgetTopic { topic } => write!(f, "forget the offsets of {topic}"),
            Self::Catalog(command) => command.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
