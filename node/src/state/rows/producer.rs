//! Owns the rows of producers: tag 3, topic, partition, producer id.

use waymark_proto::stored::{ProducerRow, producer_row};

use super::key::{KeyReader, KeyWriter, PRODUCER};
use super::{RowError, read, row};
use crate::state::partitions::Partitions;
use crate::state::producer::{PRODUCER_WINDOW, Producer, RememberedBatch};
use crate::state::reply::Row;

const FAMILY: &str = "producer";

pub(super) fn drain(partitions: &mut Partitions, rows: &mut Vec<Row>) {
    for (at, id) in std::mem::take(&mut partitions.dirty_producers) {
        let key = KeyWriter::new(PRODUCER).place(at).int64(id).finish();
        let producer = partitions.by_id.get(&at).and_then(|partition| partition.producers.get(&id));
        rows.push(row(key, producer.map(to_stored)));
    }
}

fn to_stored(producer: &Producer) -> ProducerRow {
    let batch = |batch: &RememberedBatch| producer_row::Batch {
        first_sequence: batch.first_sequence,
        last_sequence: batch.last_sequence,
        base_offset: batch.base_offset,
        append_time_ms: batch.append_time_ms,
        leader_epoch: batch.leader_epoch,
    };
    let several = producer.batches.len() > 1;
    let lost = usize::from(crate::mutants::planted!("remembered-batch-lost") && several);
    ProducerRow {
        producer_epoch: producer.epoch.into(),
        batches: producer.batches.iter().skip(lost).map(batch).collect(),
        last_append_ms: producer.last_append_ms,
        appended_in_epoch: producer.appended_in_epoch,
    }
}

pub(super) fn load(partitions: &mut Partitions, key: &[u8], value: &[u8]) -> Result<(), RowError> {
    let mut reader = KeyReader::new(FAMILY, key);
    let (at, id) = (reader.place()?, reader.int64()?);
    reader.finish()?;
    let message: ProducerRow = read(FAMILY, value)?;
    if crate::mutants::planted!("producers-forgotten") {
        return Ok(());
    }
    let impossible = |what| RowError::Impossible { family: FAMILY, what };
    let Ok(epoch) = i16::try_from(message.producer_epoch) else {
        return Err(impossible("an epoch has 16 bits"));
    };
    if !(1..=PRODUCER_WINDOW).contains(&message.batches.len()) {
        return Err(impossible("the last batches are remembered, as many as the window holds"));
    }
    let batch = |batch: producer_row::Batch| RememberedBatch {
        first_sequence: batch.first_sequence,
        last_sequence: batch.last_sequence,
        base_offset: batch.base_offset,
        append_time_ms: batch.append_time_ms,
        leader_epoch: batch.leader_epoch,
    };
    let producer = Producer {
        epoch,
        batches: message.batches.into_iter().map(batch).collect(),
        last_append_ms: message.last_append_ms,
        appended_in_epoch: message.appended_in_epoch,
    };
    let partition = partitions.by_id.get_mut(&at);
    let partition = partition.ok_or_else(|| impossible("a producer's partition is here"))?;
    partition.producers.insert(id, producer);
    Ok(())
}
