//! The order of acknowledgements on a produce stream: those of a partition leave in the order of its batches, whatever the
//! order in which their outcomes become known. Owns the receipts that wait for an earlier one. Never waits itself.

use std::collections::{BTreeMap, VecDeque};

use waymark_proto::ids::TopicPartition;
use waymark_proto::v1::BatchReceipt;

use crate::mutants;

/// A batch whose receipt is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    /// `None`: the batch named no partition, so it has no order to keep.
    lane: Option<TopicPartition>,
    number: u64,
    tag: i64,
}

impl Ticket {
    pub(super) fn tag(self) -> i64 {
        self.tag
    }
}

#[derive(Debug, Default)]
struct Lane {
    /// The number of the first of `due`.
    first: u64,
    /// One place for each batch; bounded by the bytes in flight of the stream.
    due: VecDeque<Option<BatchReceipt>>,
}

/// All receipts that are due.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// Only partitions with batches in flight.
    lanes: BTreeMap<TopicPartition, Lane>,
}

impl Receipts {
    /// The next batch of a partition.
    pub(super) fn expect(&mut self, lane: Option<TopicPartition>, tag: i64) -> Ticket {
        let Some(at) = lane else { return Ticket { lane, number: 0, tag } };
        let lane_of = self.lanes.entry(at).or_default();
        let number = lane_of.first + lane_of.due.len() as u64;
        lane_of.due.push_back(None);
        Ticket { lane, number, tag }
    }

    /// An outcome became known; what may leave now is added to `out`.
    pub(super) fn settle(
        &mut self,
        ticket: Ticket,
        mut receipt: BatchReceipt,
        out: &mut Vec<BatchReceipt>,
    ) {
        receipt.tag = ticket.tag;
        if mutants::planted!("ack-wrong-tag") {
            receipt.tag = receipt.tag.wrapping_add(1);
        }
        if mutants::planted!("ack-of-another-offset") {
            receipt.base_offset = receipt.base_offset.map(|offset| offset + 1);
        }
        let Some(at) = ticket.lane else {
            out.push(receipt);
            return;
        };
        let Some(lane) = self.lanes.get_mut(&at) else { return };
        let place = usize::try_from(ticket.number - lane.first).ok();
        if let Some(place) = place.and_then(|place| lane.due.get_mut(place)) {
            *place = Some(receipt);
        }
        while lane.due.front().is_some_and(Option::is_some) {
            lane.first += 1;
            out.extend(lane.due.pop_front().flatten());
        }
        if lane.due.is_empty() {
            self.lanes.remove(&at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use waymark_proto::ids::{PartitionId, TopicId};

    use super::*;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(partition) }
    }

    /// Settles in the order given by `keys` and checks the order in which receipts leave.
    fn run(batches: &[(i32, u32)]) -> Result<(), TestCaseError> {
        let mut receipts = Receipts::default();
        let mut tickets: Vec<(u32, Ticket, i32)> = (0i64..)
            .zip(batches)
            .map(|(tag, (partition, key))| {
                (*key, receipts.expect(Some(at(*partition)), tag), *partition)
            })
            .collect();
        tickets.sort_by_key(|(key, ..)| *key);
        let mut out = Vec::new();
        for (_, ticket, partition) in tickets {
            // The partition travels in a field that the order does not look at.
            let receipt = BatchReceipt {
                base_offset: Some(ticket.tag),
                record_count: partition,
                ..BatchReceipt::default()
            };
            receipts.settle(ticket, receipt, &mut out);
        }
        prop_assert_eq!(out.len(), batches.len());
        prop_assert!(receipts.lanes.is_empty());
        for receipt in &out {
            prop_assert_eq!(
                Some(receipt.tag),
                receipt.base_offset,
                "a receipt under another's tag"
            );
        }
        for partition in 0..3 {
            let tags = out.iter().filter(|r| r.record_count == partition).map(|r| r.tag);
            prop_assert!(tags.is_sorted(), "receipts of a partition overtook each other");
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn receipts_of_a_partition_leave_in_order_each_under_its_tag(
            batches in prop::collection::vec((0..3i32, any::<u32>()), 0..60)
        ) {
            let _clean = mutants::seclude();
            run(&batches)?;
        }
    }

    #[test]
    fn the_order_check_catches_an_ack_under_another_tag() {
        let _planted = mutants::plant("ack-wrong-tag");
        assert!(run(&[(0, 1), (1, 0)]).is_err());
    }
}
