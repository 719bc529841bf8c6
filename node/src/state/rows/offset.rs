//! Owns the rows of committed offsets: tag 4, group (its length first), topic, partition.

use waymark_proto::stored::OffsetRow;

use super::key::{KeyReader, KeyWriter, OFFSET};
use super::{RowError, read, row};
use crate::mutants;
use crate::state::offsets::{CommittedOffset, Offsets};
use crate::state::reply::Row;

const FAMILY: &str = "offset";

pub(super) fn drain(offsets: &mut Offsets, rows: &mut Vec<Row>) {
    let first = rows.len();
    for (name, places) in std::mem::take(&mut offsets.dirty) {
        let group = offsets.groups.get(&name);
        if mutants::planted!("offsets-forgotten") {
            continue;
        }
        for at in places {
            let key = KeyWriter::new(OFFSET).text(&name).place(at).finish();
            rows.push(row(key, group.and_then(|group| group.get(&at)).map(to_stored)));
        }
    }
    // Keys begin with the length of the group's name, so they do not sort as the names do.
    rows[first..].sort_by(|a, b| a.key.cmp(&b.key));
}

fn to_stored(offset: &CommittedOffset) -> OffsetRow {
    OffsetRow {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        commit_time_ms: offset.commit_time_ms,
        commit_seq: offset.commit_seq,
        fencing_epoch: offset.fencing_epoch,
        member_id: offset.member.clone(),
        highest_seq: offset.highest_seq,
    }
}

pub(super) fn load(offsets: &mut Offsets, key: &[u8], value: &[u8]) -> Result<(), RowError> {
    let mut reader = KeyReader::new(FAMILY, key);
    let (group, at) = (reader.text()?, reader.place()?);
    reader.finish()?;
    let message: OffsetRow = read(FAMILY, value)?;
    let offset = CommittedOffset {
        offset: message.offset,
        leader_epoch: message.leader_epoch,
        metadata: message.metadata,
        commit_time_ms: message.commit_time_ms,
        commit_seq: message.commit_seq,
        fencing_epoch: message.fencing_epoch,
        member: message.member_id,
        highest_seq: message.highest_seq,
    };
    offsets.groups.entry(group.to_owned()).or_default().insert(at, offset);
    Ok(())
}
