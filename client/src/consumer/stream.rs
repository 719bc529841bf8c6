//! Owns one fetch stream from one node: controls go out merged in order, frames come back as events. Never decides what is
//! fetched.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tonic::Status;
use waymark_proto::v1 as wire;
use waymark_proto::v1::fetch_service_client::FetchServiceClient;

use super::driver::Event;
use crate::config::{ClientConfig, ConsumerConfig};
use crate::connections::Link;
use crate::error::Error;

/// What the first control message says of the whole stream.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    first: wire::FetchControl,
}

/// The soft size of a frame: large enough to cost little, small enough to interleave partitions.
const FRAME_BYTES: i32 = 1 << 20;

impl Limits {
    pub(super) fn new(config: &ConsumerConfig, client: &ClientConfig, credit: i64) -> Self {
        let isolation = if config.read_uncommitted {
            wire::Isolation::ReadUncommitted
        } else {
            wire::Isolation::ReadCommitted
        };
        let wait = i32::try_from(config.fetch_max_wait.as_millis()).unwrap_or(i32::MAX);
        let hard = waymark_proto::transport::MAX_MESSAGE - (64 << 10);
        let first = wire::FetchControl {
            credit_bytes: credit,
            max_wait_ms: Some(wait),
            min_bytes: i32::try_from(config.fetch_min_bytes).unwrap_or(i32::MAX),
            max_bytes: FRAME_BYTES,
            max_message_bytes: i32::try_from(hard).unwrap_or(i32::MAX),
            isolation: isolation.into(),
            rack: client.rack.clone().unwrap_or_default(),
            ..wire::FetchControl::default()
        };
        Self { first }
    }
}

/// Controls that wait for the transport: merged into one, hence bounded by the number of cursors.
#[derive(Debug)]
struct Outbox {
    /// The driver merges into it, the stream takes it.
    next: Mutex<Option<wire::FetchControl>>,
    bell: Notify,
}

/// A stream as the driver sees it; dropping it ends the stream.
#[derive(Debug)]
pub(super) struct FetchStream {
    outbox: Arc<Outbox>,
    reader: AbortHandle,
}

impl Drop for FetchStream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl FetchStream {
    /// Opens a stream; events carry `stream`, so that what an earlier stream still says can be told apart.
    pub(super) fn open(
        link: Link,
        stream: (i32, u64),
        limits: Limits,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let outbox = Arc::new(Outbox { next: Mutex::new(Some(limits.first)), bell: Notify::new() });
        let controls = outgoing(Arc::clone(&outbox));
        let reader = tokio::spawn(async move {
            let error = match read(&link, controls, stream, &events).await {
                Ok(()) => Error::Transport {
                    address: Arc::clone(&link.address),
                    message: "the node ended the stream".into(),
                    sent: true,
                },
                Err(status) => link.failure(&status),
            };
            // The driver is gone only when the consumer is.
            let _ = events.send(Event::Broken { stream, error }).await;
        });
        Self { outbox, reader: reader.abort_handle() }
    }

    /// Sends a control message; it may travel merged with others, in effect the same.
    pub(super) fn control(&self, control: wire::FetchControl) {
        let mut next = self.outbox.next.lock().unwrap_or_else(PoisonError::into_inner);
        match next.as_mut() {
            Some(waiting) => merge(waiting, control),
            None => *next = Some(control),
        }
        drop(next);
        self.outbox.bell.notify_one();
    }
}

/// Cursor ids are never used again, so a removal and an addition of one message never mean the same cursor, except for a
/// cursor that is added and removed before it was sent: that one is left out altogether.
fn merge(waiting: &mut wire::FetchControl, control: wire::FetchControl) {
    let mut removed = control.remove;
    removed.retain(|id| {
        let before = waiting.add.len();
        waiting.add.retain(|add| add.cursor != *id);
        waiting.pause.retain(|paused| paused != id);
        waiting.resume.retain(|resumed| resumed != id);
        before == waiting.add.len()
    });
    waiting.remove.extend(removed);
    waiting.add.extend(control.add);
    waiting.pause.retain(|id| !control.resume.contains(id));
    waiting.resume.retain(|id| !control.pause.contains(id));
    waiting.pause.extend(control.pause);
    waiting.resume.extend(control.resume);
    waiting.credit_bytes += control.credit_bytes;
}

fn outgoing(
    outbox: Arc<Outbox>,
) -> impl futures::Stream<Item = wire::FetchControl> + Send + 'static {
    futures::stream::unfold((outbox, 0i64), |(outbox, sequence)| async move {
        loop {
            let next = outbox.next.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(mut control) = next {
                control.control_seq = sequence + 1;
                return Some((control, (outbox, sequence + 1)));
            }
            outbox.bell.notified().await;
        }
    })
}

async fn read(
    link: &Link,
    controls: impl futures::Stream<Item = wire::FetchControl> + Send + 'static,
    stream: (i32, u64),
    events: &mpsc::Sender<Event>,
) -> Result<(), Status> {
    let mut client = FetchServiceClient::new(link.channel.clone())
        .max_decoding_message_size(waymark_proto::transport::MAX_MESSAGE);
    let mut frames = client.fetch_stream(link.stream(controls)).await?.into_inner();
    while let Some(frame) = frames.message().await? {
        if events.send(Event::Frame { stream, frame }).await.is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(cursor: i32) -> wire::FetchControl {
        let add = vec![wire::CursorAdd { cursor, ..wire::CursorAdd::default() }];
        wire::FetchControl { add, credit_bytes: 10, ..wire::FetchControl::default() }
    }

    fn remove(cursor: i32) -> wire::FetchControl {
        wire::FetchControl { remove: vec![cursor], ..wire::FetchControl::default() }
    }

    #[test]
    fn merged_controls_grant_the_sum_of_their_credit() {
        let mut waiting = add(1);
        merge(&mut waiting, add(2));
        assert_eq!((waiting.add.len(), waiting.credit_bytes), (2, 20));
    }

    #[test]
    fn a_cursor_removed_before_it_was_sent_is_never_mentioned() {
        let mut waiting = add(1);
        merge(&mut waiting, remove(1));
        assert!(waiting.add.is_empty() && waiting.remove.is_empty());
        merge(&mut waiting, remove(7));
        assert_eq!(waiting.remove, [7]);
    }

    #[test]
    fn the_last_of_pause_and_resume_stands() {
        let mut waiting = wire::FetchControl { pause: vec![3], ..wire::FetchControl::default() };
        let resume = wire::FetchControl { resume: vec![3], ..wire::FetchControl::default() };
        merge(&mut waiting, resume);
        assert_eq!((waiting.pause.len(), waiting.resume.as_slice()), (0, [3].as_slice()));
    }
}
