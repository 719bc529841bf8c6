//! One message of fetched batches: what still fits. Owns the arithmetic of the soft limit, of the hard limit and of what a
//! message costs beside its batches. Never reads.

use waymark_proto::v1::CursorData;

/// What a message costs beside its entries: notice, numbers, and the length of an answer's envelope.
const FRAME_COST: usize = 256;
/// What an entry costs beside its batches: seven numbers of up to ten bytes with their tags, and two lengths.
const ENTRY_COST: usize = 96;

/// A message in the making.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) data: Vec<CursorData>,
    /// Bytes of batches in it.
    pub(super) bytes: usize,
    soft: usize,
    hard: usize,
}

/// Whether a batch fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// Into this message.
    Yes,
    /// Into the next one, which is empty.
    Later,
    /// Into no message of this caller; it would need one of this size.
    Never(usize),
}

impl Frame {
    pub(super) fn new(soft: usize, hard: usize) -> Self {
        Self { data: Vec::new(), bytes: 0, soft, hard }
    }

    /// Bytes of batches that may still be read for this message; `None`: it is full.
    pub(super) fn room(&self) -> Option<usize> {
        let hard = self.hard.saturating_sub(self.cost() + ENTRY_COST);
        let soft = self.soft.saturating_sub(self.bytes);
        match soft.min(hard) {
            0 => None,
            room => Some(room),
        }
    }

    /// Whether batches of this many bytes fit, whatever was asked for: the first batch is always whole.
    pub(super) fn fits(&self, bytes: usize) -> Fit {
        let needed = FRAME_COST + ENTRY_COST + bytes;
        if needed > self.hard {
            return Fit::Never(needed);
        }
        let within = self.cost() + ENTRY_COST + bytes <= self.hard;
        if within { Fit::Yes } else { Fit::Later }
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, data: CursorData) {
        self.bytes += data.batches.len();
        self.data.push(data);
    }

    /// Whether one more entry without batches fits.
    pub(super) fn has_entry_room(&self) -> bool {
        self.cost() + ENTRY_COST <= self.hard
    }

    fn cost(&self) -> usize {
        FRAME_COST + self.data.len() * ENTRY_COST + self.bytes
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message as _;
    use waymark_proto::v1::FetchFrame;

    use super::*;

    /// An entry whose numbers take as much room as they can.
    fn entry(bytes: usize) -> CursorData {
        CursorData {
            cursor: i32::MAX,
            next_offset: Some(i64::MAX),
            high_watermark: i64::MAX,
            last_stable_offset: i64::MAX,
            log_start_offset: i64::MAX,
            leader_epoch: i32::MAX,
            caught_up: true,
            batches: Bytes::from(vec![0; bytes]),
            ..CursorData::default()
        }
    }

    proptest! {
        #[test]
        fn an_encoded_message_never_exceeds_the_hard_limit(
            sizes in prop::collection::vec(0..4_000usize, 1..40),
            hard in 1_024..20_000usize,
        ) {
            let mut frame = Frame::new(hard, hard);
            for size in sizes {
                if frame.fits(size) == Fit::Yes {
                    frame.push(entry(size));
                }
            }
            let message = FetchFrame { data: frame.data, applied_control_seq: i64::MAX, ..Default::default() };
            prop_assert!(message.encoded_len() <= hard);
        }
    }

    #[test]
    fn a_batch_too_large_for_any_message_is_told_apart_from_one_for_the_next() {
        let mut frame = Frame::new(2_000, 2_000);
        assert_eq!(frame.fits(1_000), Fit::Yes);
        frame.push(entry(1_000));
        assert_eq!(frame.fits(1_000), Fit::Later);
        assert!(matches!(frame.fits(2_000), Fit::Never(needed) if needed > 2_000));
    }
}
