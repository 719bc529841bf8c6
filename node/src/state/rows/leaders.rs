//! Owns the row of leaders seen: tag 1, one per shard.

use waymark_proto::stored::ShardRow;

use super::key::{KeyReader, KeyWriter, LEADERS};
use super::{RowError, read, row};
use crate::state::codec::values::{replica, stored_replica};
use crate::state::reply::Row;
use crate::state::shard::Leaders;

const FAMILY: &str = "leaders";

pub(super) fn drain(leaders: &mut Leaders, rows: &mut Vec<Row>) {
    if !std::mem::take(&mut leaders.dirty) {
        return;
    }
    let message = leaders.last.map(|(leader_term, leader)| ShardRow {
        leader_term,
        leader: Some(stored_replica(leader)),
        leaders_seen: leaders.seen,
    });
    rows.push(row(KeyWriter::new(LEADERS).finish(), message));
}

pub(super) fn load(leaders: &mut Leaders, key: &[u8], value: &[u8]) -> Result<(), RowError> {
    KeyReader::new(FAMILY, key).finish()?;
    let message: ShardRow = read(FAMILY, value)?;
    if message.leaders_seen < 0 {
        return Err(RowError::Impossible { family: FAMILY, what: "leaders are counted from 0" });
    }
    leaders.last = message.leader.map(|leader| (message.leader_term, replica(leader)));
    leaders.seen = message.leaders_seen;
    Ok(())
}
