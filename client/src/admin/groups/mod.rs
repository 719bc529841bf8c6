//! Owns consumer groups as an operator sees them: who is in them, where they read, how far they are behind, and what was
//! done to them. Any node answers. Never joins a group: that is the consumer's.
//!
//! - `members` lists, describes, deletes groups and expels members; `model` is what it speaks of
//! - `moves` moves committed offsets, by place or back in time
//! - `history` reads the ledger of offsets, `events` what happened to the group, `lag` how far behind it is

mod events;
mod history;
mod lag;
mod members;
mod model;
mod moves;

pub use events::{Actor, ExpelCause, GroupEvent, GroupEventKind};
pub use history::{OffsetChange, OffsetChangeKind, OffsetHistory};
pub use lag::{GroupLag, PartitionLag};
pub use members::{MemberRemoval, MembersToRemove};
pub use model::{
    GroupDescription, GroupFilter, GroupListing, GroupListings, GroupMember, GroupState,
    MemberPartition, Revoking,
};
pub use moves::{GroupReset, OffsetMove, OffsetMoves, ResetScope, ResetTo};

use tonic::transport::Channel;
use waymark_proto::ids::TopicId;
use waymark_proto::v1 as wire;
use wire::group_service_client::GroupServiceClient;

use crate::answers::topic_ref;
use crate::connections::Link;
use crate::error::Error;
use crate::record::TopicPartition;

/// Items of one page.
const PAGE: i32 = 1000;

fn service(link: &Link) -> GroupServiceClient<Channel> {
    GroupServiceClient::new(link.channel.clone())
        .max_decoding_message_size(waymark_proto::transport::MAX_MESSAGE)
}

fn partition_ref(at: &TopicPartition) -> wire::PartitionRef {
    wire::PartitionRef { topic: Some(topic_ref(&at.topic)), partition: Some(at.partition) }
}

/// A partition by its topic's name, or by its id where the topic is gone and only the id is left.
fn at(topic: Option<&wire::TopicRef>, partition: Option<i32>) -> Result<TopicPartition, Error> {
    let (Some(topic), Some(partition)) = (topic, partition) else {
        return Err(Error::protocol("an item that names no partition"));
    };
    if topic.name.is_empty() {
        return Ok(TopicPartition::new(id_text(&topic.topic_id), partition));
    }
    Ok(TopicPartition::new(topic.name.as_str(), partition))
}

fn at_ref(partition: &wire::PartitionRef) -> Result<TopicPartition, Error> {
    at(partition.topic.as_ref(), partition.partition)
}

/// A topic id as text, for a topic whose name is not known any more.
fn id_text(id: &[u8]) -> String {
    TopicId::from_slice(id).map_or_else(|_| "(unknown topic)".to_owned(), |id| id.to_string())
}

/// Text that may be missing: the wire says so by leaving it empty.
fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
