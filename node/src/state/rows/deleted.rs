//! Owns the rows of topics that were deleted lately: tag 8, topic.

use waymark_proto::stored::DeletedTopicRow;

use super::key::{DELETED, KeyReader, KeyWriter};
use super::{RowError, read, row};
use crate::state::deleted::Deleted;
use crate::state::reply::Row;

const FAMILY: &str = "deleted topic";

pub(super) fn drain(deleted: &mut Deleted, rows: &mut Vec<Row>) {
    for topic in std::mem::take(&mut deleted.dirty) {
        let key = KeyWriter::new(DELETED).topic(topic).finish();
        let message = deleted.topics.get(&topic).map(|index| DeletedTopicRow { index: *index });
        rows.push(row(key, message));
    }
}

pub(super) fn load(deleted: &mut Deleted, key: &[u8], value: &[u8]) -> Result<(), RowError> {
    let mut reader = KeyReader::new(FAMILY, key);
    let topic = reader.topic()?;
    reader.finish()?;
    let message: DeletedTopicRow = read(FAMILY, value)?;
    deleted.load(topic, message.index);
    Ok(())
}
