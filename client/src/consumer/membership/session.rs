//! Owns one session stream to the coordinator: the member's latest message goes out, updates come back as events. Messages
//! say all that the member holds, so that a later one replaces one that has not left yet. Never decides what is said.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tonic::Status;
use waymark_proto::v1 as wire;
use waymark_proto::v1::group_service_client::GroupServiceClient;

use crate::connections::Link;
use crate::error::Error;

/// What a session says.
#[derive(Debug)]
pub(super) enum Heard {
    Update(Box<wire::CoordinatorUpdate>),
    Broken(Error),
}

#[derive(Debug)]
struct Outbox {
    /// Membership replaces it, the stream takes it.
    next: Mutex<Next>,
    bell: Notify,
}

/// What leaves next.
#[derive(Debug)]
enum Next {
    /// Nothing yet.
    Wait,
    Message(Box<wire::MemberUpdate>),
    /// Nothing any more: the transport keeps a stream open for as long as somebody may still speak on it.
    End,
}

impl Outbox {
    fn put(&self, next: Next) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = next;
        self.bell.notify_one();
    }

    fn take(&self) -> Next {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *next, Next::Wait)
    }
}

/// A stream as membership sees it; dropping it ends the stream, which is no leave.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) address: Arc<str>,
    outbox: Arc<Outbox>,
    reader: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.outbox.put(Next::End);
        self.reader.abort();
    }
}

impl Session {
    /// Opens a stream; events carry its number, so that what an earlier stream still says can be told apart.
    pub(super) fn open(
        link: Link,
        number: u64,
        first: wire::MemberUpdate,
        events: mpsc::Sender<(u64, Heard)>,
    ) -> Self {
        let outbox = Arc::new(Outbox {
            next: Mutex::new(Next::Message(Box::new(first))),
            bell: Notify::new(),
        });
        let messages = outgoing(Arc::clone(&outbox));
        let address = Arc::clone(&link.address);
        let reader = tokio::spawn(async move {
            let error = match read(&link, messages, number, &events).await {
                Ok(()) => Error::Transport {
                    address: Arc::clone(&link.address),
                    message: "the coordinator ended the session's stream".into(),
                    sent: true,
                },
                Err(status) => link.failure(&status),
            };
            // Membership is gone only when the consumer is.
            let _ = events.send((number, Heard::Broken(error))).await;
        });
        Self { address, outbox, reader: reader.abort_handle() }
    }

    pub(super) fn send(&self, message: wire::MemberUpdate) {
        self.outbox.put(Next::Message(Box::new(message)));
    }
}

fn outgoing(
    outbox: Arc<Outbox>,
) -> impl futures::Stream<Item = wire::MemberUpdate> + Send + 'static {
    futures::stream::unfold(outbox, |outbox| async move {
        loop {
            match outbox.take() {
                Next::Message(message) => return Some((*message, outbox)),
                Next::Wait => outbox.bell.notified().await,
                Next::End => return None,
            }
        }
    })
}

async fn read(
    link: &Link,
    messages: impl futures::Stream<Item = wire::MemberUpdate> + Send + 'static,
    number: u64,
    events: &mpsc::Sender<(u64, Heard)>,
) -> Result<(), Status> {
    let mut client = GroupServiceClient::new(link.channel.clone())
        .max_decoding_message_size(waymark_proto::transport::MAX_MESSAGE);
    let mut updates = client.session(link.stream(messages)).await?.into_inner();
    while let Some(update) = updates.message().await? {
        if events.send((number, Heard::Update(Box::new(update)))).await.is_err() {
            break;
        }
    }
    Ok(())
}
