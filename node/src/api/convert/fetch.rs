//! Fetch: positions, limits and control messages from the wire, and what was read back.

use std::time::Duration;

use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::v1;

use super::fields::{by_id, count, known, optional, or_default};
use crate::api::cursors::{Control, Position};
use crate::api::logs::{Batches, Marks};
use crate::api::refusal::{invalid, missing, too_large, unsupported};

/// What every gRPC library receives by default, with room for what is not batches.
const DEFAULT_MESSAGE_BYTES: usize = (4 << 20) - (64 << 10);
/// Less than this leaves no room for a batch beside the positions.
const LEAST_MESSAGE_BYTES: usize = 1 << 10;
/// The largest message this node sends.
const MOST_MESSAGE_BYTES: usize = 32 << 20;
const DEFAULT_WAIT: Duration = Duration::from_millis(500);
/// The longest long poll.
pub(in crate::api) const MAX_WAIT: Duration = Duration::from_secs(60);
/// Cursors of one stream, and positions of one request.
pub(in crate::api) const MAX_CURSORS: usize = 10_000;

/// How much is sent, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) struct Limits {
    /// How long an answer may wait for data.
    pub(in crate::api) max_wait: Duration,
    /// Bytes that end the wait.
    pub(in crate::api) min_bytes: usize,
    /// Soft limit of a message's batches.
    pub(in crate::api) max_bytes: usize,
    /// Hard limit of a message.
    pub(in crate::api) max_message_bytes: usize,
}

/// A request's limits.
pub(in crate::api) fn request_limits(request: &v1::FetchRequest) -> Result<Limits, Failure> {
    isolation(request.isolation)?;
    consistency(request.consistency.as_ref())?;
    if request.positions.len() > MAX_CURSORS {
        return Err(too_large("positions of a request", MAX_CURSORS as i64));
    }
    let sizes = [request.min_bytes, request.max_bytes, request.max_message_bytes];
    limits(request.max_wait_ms, sizes)
}

/// A stream's limits, from its first message.
pub(in crate::api) fn stream_limits(first: &v1::FetchControl) -> Result<Limits, Failure> {
    isolation(first.isolation)?;
    consistency(first.consistency.as_ref())?;
    let sizes = [first.min_bytes, first.max_bytes, first.max_message_bytes];
    limits(first.max_wait_ms, sizes)
}

fn limits(wait: Option<i32>, [min, max, message]: [i32; 3]) -> Result<Limits, Failure> {
    let wait = optional("max_wait_ms", wait)?;
    let max_wait =
        wait.map_or(DEFAULT_WAIT, |ms| Duration::from_millis(u64::from(ms.unsigned_abs())));
    if max_wait > MAX_WAIT {
        return Err(invalid("max_wait_ms", "at most 60000"));
    }
    let message = or_default("max_message_bytes", message, DEFAULT_MESSAGE_BYTES)?;
    if message < LEAST_MESSAGE_BYTES {
        return Err(invalid("max_message_bytes", "at least 1024"));
    }
    let message = message.min(MOST_MESSAGE_BYTES);
    Ok(Limits {
        max_wait,
        min_bytes: or_default("min_bytes", min, 1)?,
        max_bytes: or_default("max_bytes", max, message)?.min(message),
        max_message_bytes: message,
    })
}

/// Until there are transactions both isolations read the same.
fn isolation(asked: i32) -> Result<(), Failure> {
    known("isolation", asked).map(|_: v1::Isolation| ())
}

/// How fresh an answer must be. A fetch from a leader satisfies every level: its answer is final.
pub(in crate::api) fn consistency(
    asked: Option<&v1::Consistency>,
) -> Result<v1::ConsistencyLevel, Failure> {
    let Some(asked) = asked else { return Ok(v1::ConsistencyLevel::Unspecified) };
    if asked.tokens.iter().any(|token| token.len() > 64) {
        return Err(invalid("consistency.tokens", "at most 64 bytes each"));
    }
    known("consistency.level", asked.level)
}

/// Where to read.
pub(in crate::api) fn position(given: &v1::FetchPosition) -> Result<Position, Failure> {
    Ok(Position {
        at: by_id(&given.topic_id, given.partition)?,
        offset: count("offset", given.offset)?,
        leader_epoch: optional("leader_epoch", given.leader_epoch)?,
        last_fetched_epoch: optional("last_fetched_epoch", given.last_fetched_epoch)?,
        max_bytes: match or_default("max_bytes", given.max_bytes, 0)? {
            0 => None,
            own => Some(own),
        },
    })
}

/// A control message.
///
/// # Errors
/// When a number of the message itself is negative. What is wrong with a cursor is that cursor's failure alone.
pub(in crate::api) fn control(given: v1::FetchControl) -> Result<Control, Failure> {
    if given.credit_bytes < 0 || given.control_seq < 0 {
        return Err(invalid("credit_bytes and control_seq", "0 or more"));
    }
    let add = given.add.into_iter().map(|add| (add.cursor, added(&add))).collect();
    Ok(Control {
        remove: given.remove,
        add,
        pause: given.pause,
        resume: given.resume,
        credit: given.credit_bytes,
        sequence: given.control_seq,
    })
}

fn added(add: &v1::CursorAdd) -> Result<Position, Failure> {
    if !add.group_id.is_empty() || add.fencing_epoch.is_some() {
        // Served without the check, a fenced owner would go on reading.
        return Err(unsupported("add.group_id: cursors of a group's owner are not built"));
    }
    position(add.position.as_ref().ok_or_else(|| missing("add.position"))?)
}

/// What was read for a cursor.
pub(in crate::api) fn data(cursor: i32, read: Batches) -> v1::CursorData {
    let caught_up = read.next_offset >= read.marks.high_watermark;
    v1::CursorData {
        next_offset: Some(read.next_offset),
        caught_up,
        batches: read.bytes,
        ..marks(cursor, read.marks)
    }
}

/// Where a cursor's partition stands.
pub(in crate::api) fn marks(cursor: i32, marks: Marks) -> v1::CursorData {
    v1::CursorData {
        cursor,
        high_watermark: marks.high_watermark,
        last_stable_offset: marks.high_watermark,
        log_start_offset: marks.log_start,
        leader_epoch: marks.leader_epoch,
        ..v1::CursorData::default()
    }
}

/// A failure, which ends its cursor.
pub(in crate::api) fn failed(cursor: i32, failure: Failure) -> v1::CursorData {
    v1::CursorData { cursor, failure: Some(failure.into()), ..v1::CursorData::default() }
}

/// The next batch does not fit into any message of the caller.
pub(in crate::api) fn limit_too_small(needed: usize) -> Failure {
    let needed = i64::try_from(needed).unwrap_or(i64::MAX);
    let message = format!("the next batch needs a message of {needed} bytes");
    let mut failure = Failure::new(FailureCode::FetchLimitTooSmall, message);
    failure.limit = Some(needed);
    failure
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_forgotten_offset_is_not_offset_0() {
        let given = v1::FetchPosition {
            topic_id: bytes::Bytes::from_static(&[7; 16]),
            partition: Some(0),
            ..v1::FetchPosition::default()
        };
        let failure = position(&given).expect_err("no offset");
        assert!(failure.message.contains("offset"), "{failure}");
    }

    #[test]
    fn limits_that_are_not_given_are_what_libraries_receive() {
        let limits = request_limits(&v1::FetchRequest::default()).expect("all defaults");
        assert_eq!(limits.max_message_bytes, (4 << 20) - (64 << 10));
        assert_eq!(limits.max_bytes, limits.max_message_bytes);
        assert_eq!((limits.min_bytes, limits.max_wait), (1, Duration::from_millis(500)));
    }

    #[test]
    fn a_wait_of_0_is_no_wait() {
        let request = v1::FetchRequest { max_wait_ms: Some(0), ..v1::FetchRequest::default() };
        assert_eq!(request_limits(&request).expect("legal").max_wait, Duration::ZERO);
    }

    #[test]
    fn a_cursor_of_a_groups_owner_is_refused_rather_than_served_unchecked() {
        let add = v1::CursorAdd { group_id: "g".to_owned(), ..v1::CursorAdd::default() };
        assert_eq!(added(&add).expect_err("not built").code, FailureCode::Unsupported);
    }

    proptest! {
        #[test]
        fn no_message_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            use prost::Message as _;
            if let Ok(message) = v1::FetchControl::decode(bytes.as_slice()) {
                let _ = (stream_limits(&message), control(message));
            }
            if let Ok(message) = v1::FetchRequest::decode(bytes.as_slice()) {
                let _ = request_limits(&message);
                let _: Vec<_> = message.positions.iter().map(position).collect();
            }
        }

        #[test]
        fn no_numbers_panic(numbers in prop::array::uniform4(any::<i32>()), wait in any::<Option<i32>>()) {
            let [min, max, message, _] = numbers;
            if let Ok(limits) = limits(wait, [min, max, message]) {
                prop_assert!(limits.max_bytes <= limits.max_message_bytes);
            }
        }
    }
}
