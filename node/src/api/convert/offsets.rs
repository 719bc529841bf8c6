//! Offsets of partitions and of groups: queries and commits from the wire, and what is stored back.

use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::TopicPartition;
use waymark_proto::v1;

use super::fields::{count, group, known, optional};
use crate::api::admin::{Committed, Spot};
use crate::api::convert::topics::id_bytes;
use crate::api::refusal::{invalid, missing, refuse, too_large, unsupported};
use crate::state::command::{CommitOffsets, Committer, OffsetCommit};
use crate::state::groups::Actor;

/// Partitions of one commit.
pub(in crate::api) const MAX_PARTITIONS: usize = 10_000;
/// Longest metadata of a committed offset, UTF-16 units, as Kafka counts.
pub(in crate::api) const MAX_METADATA: usize = 4_096;

/// Highest `commit_seq` in line: whoever comes next still has room above. Our client's, a time, are below it for 70 years.
const HIGHEST_IN_LINE: i64 = 1 << 62;

/// Longest note, bytes: it is kept in the history of the group.
pub(in crate::api) const MAX_NOTE: usize = 1_024;

/// Which offset is asked for.
pub(in crate::api) fn spot(query: &v1::OffsetQuery) -> Result<Spot, Failure> {
    let _: v1::Isolation = known("isolation", query.isolation)?;
    match known("spec", query.spec)? {
        // Nothing is tiered, so everything is local.
        v1::OffsetSpec::Earliest | v1::OffsetSpec::EarliestLocal => Ok(Spot::Earliest),
        v1::OffsetSpec::Latest => Ok(Spot::Latest),
        v1::OffsetSpec::AtTime => Ok(Spot::AtTime(count("time_ms", query.time_ms)?)),
        v1::OffsetSpec::MaxTimestamp => Ok(Spot::MaxTimestamp),
        v1::OffsetSpec::LatestTiered => Err(unsupported("spec: nothing is tiered")),
        v1::OffsetSpec::Unspecified => Err(missing("spec")),
    }
}

/// What concerns a whole commit.
pub(in crate::api) fn commit_head(request: &v1::CommitOffsetsRequest) -> Result<(), Failure> {
    group(&request.group_id)?;
    if request.offsets.len() > MAX_PARTITIONS {
        return Err(too_large("offsets of a commit", MAX_PARTITIONS as i64));
    }
    if request.commit_seq_in_line && request.commit_seq > HIGHEST_IN_LINE {
        return Err(invalid("commit_seq", "0 to 2^62 where it is in line"));
    }
    if request.commit_seq < 0 {
        return Err(invalid("commit_seq", "0 or more"));
    }
    let _: v1::CommitCause = known("cause", request.cause)?;
    if request.note.len() > MAX_NOTE {
        return Err(invalid("note", "at most 1024 bytes"));
    }
    match &request.member {
        None => Ok(()),
        Some(member) if member.member_id.is_empty() => Err(missing("member.member_id")),
        Some(member) if member.member_id.len() > super::fields::MAX_ID => {
            Err(invalid("member.member_id", "at most 1024 bytes"))
        }
        Some(member) => optional("member.member_epoch", member.member_epoch).map(|_| ()),
    }
}

/// One position to commit.
pub(in crate::api) fn commit_item(
    at: TopicPartition,
    given: &v1::OffsetCommit,
) -> Result<OffsetCommit, Failure> {
    let length = given.metadata.as_deref().map_or(0, |text| text.encode_utf16().count());
    if length > MAX_METADATA {
        let message = format!("metadata of {length} characters");
        let mut failure = refuse(FailureCode::MetadataTooLarge, message);
        failure.limit = Some(MAX_METADATA as i64);
        return Err(failure);
    }
    Ok(OffsetCommit {
        at,
        offset: count("offset", given.offset)?,
        leader_epoch: optional("leader_epoch", given.leader_epoch)?,
        metadata: given.metadata.clone(),
        expected_offset: optional("expected_offset", given.expected_offset)?,
        fencing_epoch: optional("fencing_epoch", given.fencing_epoch)?,
    })
}

/// The whole commit. The time is set by the layer below.
pub(in crate::api) fn commit(
    request: &v1::CommitOffsetsRequest,
    items: Vec<OffsetCommit>,
    actor: Actor,
) -> CommitOffsets {
    let named = request.member.as_ref().map(|member| member.member_id.clone());
    let name = named.unwrap_or_default();
    let committer = match request.member.as_ref().and_then(|member| member.member_epoch) {
        Some(epoch) => {
            let instance = request.member.as_ref().and_then(|member| member.instance_id.clone());
            Committer::Member { id: name, epoch, instance }
        }
        None => Committer::Outside { name, in_line: request.commit_seq_in_line },
    };
    CommitOffsets {
        group: request.group_id.clone(),
        committer,
        cause: request.cause,
        note: request.note.clone(),
        actor,
        items,
        all_or_nothing: request.all_or_nothing.unwrap_or(true),
        commit_seq: request.commit_seq,
        commit_time_ms: 0,
    }
}

/// A committed offset.
pub(in crate::api) fn committed(name: String, stored: Committed) -> v1::CommittedOffset {
    v1::CommittedOffset {
        topic: Some(v1::TopicRef { name, topic_id: id_bytes(stored.at.topic) }),
        partition: Some(stored.at.partition.0),
        offset: Some(stored.offset),
        leader_epoch: stored.leader_epoch,
        metadata: stored.metadata,
        commit_time_ms: stored.commit_time_ms,
        fencing_epoch: stored.fencing_epoch,
        unstable: false,
        failure: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> TopicPartition {
        TopicPartition::default()
    }

    #[test]
    fn a_forgotten_offset_is_not_committed_as_0() {
        let failure = commit_item(at(), &v1::OffsetCommit::default()).expect_err("no offset");
        assert_eq!(failure.code, FailureCode::InvalidArgument);
    }

    #[test]
    fn metadata_is_counted_in_utf16_units() {
        let with = |metadata: String| {
            let given = v1::OffsetCommit {
                offset: Some(1),
                metadata: Some(metadata),
                ..v1::OffsetCommit::default()
            };
            commit_item(at(), &given).err().map(|failure| failure.code)
        };
        assert_eq!(with("x".repeat(4_096)), None);
        assert_eq!(with("😀".repeat(2_048)), None);
        assert_eq!(with("😀".repeat(2_049)), Some(FailureCode::MetadataTooLarge));
    }

    #[test]
    fn a_commit_in_line_leaves_room_for_the_next_one() {
        let commit = |commit_seq, commit_seq_in_line| {
            let group_id = "g".to_owned();
            let rest = v1::CommitOffsetsRequest::default();
            let request =
                v1::CommitOffsetsRequest { group_id, commit_seq, commit_seq_in_line, ..rest };
            commit_head(&request).err().map(|failure| failure.code)
        };
        assert_eq!(commit(HIGHEST_IN_LINE, true), None);
        assert_eq!(commit(HIGHEST_IN_LINE + 1, true), Some(FailureCode::InvalidArgument));
        assert_eq!(commit(i64::MAX, false), None, "out of line it counts within itself");
    }

    #[test]
    fn a_commit_without_a_group_or_with_a_nameless_member_is_refused() {
        let code = |request| commit_head(&request).err().map(|failure| failure.code);
        assert_eq!(code(v1::CommitOffsetsRequest::default()), Some(FailureCode::InvalidGroupId));
        let good = v1::CommitOffsetsRequest { group_id: "g".to_owned(), ..Default::default() };
        assert_eq!(code(good.clone()), None);
        let nameless = v1::CommitOffsetsRequest { member: Some(v1::MemberRef::default()), ..good };
        assert_eq!(code(nameless), Some(FailureCode::InvalidArgument));
    }

    #[test]
    fn all_or_nothing_is_the_default() {
        let request = v1::CommitOffsetsRequest::default();
        assert!(commit(&request, Vec::new(), Actor::default()).all_or_nothing);
    }

    #[test]
    fn a_time_is_needed_to_look_for_a_time() {
        let query = v1::OffsetQuery { spec: v1::OffsetSpec::AtTime.into(), ..Default::default() };
        assert!(spot(&query).is_err());
        let query = v1::OffsetQuery { spec: 77, ..Default::default() };
        assert_eq!(spot(&query).expect_err("not known").code, FailureCode::Unsupported);
    }
}
