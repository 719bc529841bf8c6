//! Fuzz targets: whatever a peer sends, it is refused or read, and never panics: a peer may be of another version, or mad.

use bolero::check;
use bytes::Bytes;
use prost::Message;
use waymark_proto::ids::{PartitionId, TopicId, TopicPartition};
use waymark_proto::peer;

use super::pull::part_of;
use super::service::job;
use super::{entries, inspect, outcome, positions, survey, wire};
use crate::storage::shard_store::MissingRange;

/// Reads a message, and what we make of it.
fn read<M: Message + Default, T>(bytes: &[u8], made: impl Fn(M) -> T) {
    if let Ok(message) = M::decode(bytes) {
        let _ = made(message);
    }
}

#[test]
fn no_request_of_a_peer_makes_a_node_panic() {
    check!().for_each(|bytes: &[u8]| {
        read(bytes, wire::append_from);
        read(bytes, wire::entry_from);
        read(bytes, wire::vote_request_from);
        read(bytes, |route| wire::route_from(Some(route)));
        read::<peer::FileRange, _>(bytes, |range| wire::range_from(&range));
        read::<peer::SurveyRequest, _>(bytes, |request| survey::question(&request));
        read::<peer::InspectRequest, _>(bytes, |request| inspect::look(&request));
        read::<peer::PositionsRequest, _>(bytes, |request| positions::asked(&request));
        read(bytes, entries::wanted);
        read(bytes, wire::transfer_from);
        read::<peer::ManifestHead, _>(bytes, |head| job(&head, Bytes::new()));
    });
}

#[test]
fn no_answer_of_a_peer_makes_a_node_panic() {
    let at = TopicPartition { topic: TopicId([7; 16]), partition: PartitionId(3) };
    let missing = [MissingRange { at, base_offset: 5, from_byte: 0, to_byte: 9 }];
    check!().for_each(|bytes: &[u8]| {
        read(bytes, wire::answer_from);
        read(bytes, wire::vote_response_from);
        read(bytes, wire::transfer_response_from);
        read::<peer::HelloResponse, _>(bytes, |answer| wire::hello_from(&answer));
        read(bytes, survey::survey);
        read(bytes, inspect::inspection);
        read(bytes, positions::stands);
        read(bytes, entries::given);
        read(bytes, outcome::propose_from);
        read(bytes, wire::vitals_from);
        read::<peer::PullChunk, _>(bytes, |chunk| part_of(&missing, &chunk));
    });
}
