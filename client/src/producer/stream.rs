//! Owns one produce stream to one node: a bounded way in, and a task that turns everything that comes back, and the end,
//! into events for the driver. Never retries and never looks into a batch.

use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use waymark_proto::v1 as wire;
use waymark_proto::v1::produce_service_client::ProduceServiceClient;

use super::driver::Event;
use crate::connections::Link;
use crate::error::Error;

/// Requests that wait for the transport. More would only be batches that no longer grow.
const REQUESTS_AHEAD: usize = 2;

/// A stream as the driver sees it; dropping it ends the stream.
#[derive(Debug)]
pub(crate) struct ProduceStream {
    requests: mpsc::Sender<wire::ProduceRequest>,
    reader: AbortHandle,
}

impl Drop for ProduceStream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl ProduceStream {
    /// Opens a stream. Events carry `(node, incarnation)`, so that what an earlier stream still says can be told apart.
    /// `room` is told whenever the transport took a request.
    pub(crate) fn open(
        link: Link,
        stream: (i32, u64),
        events: mpsc::Sender<Event>,
        room: Arc<Notify>,
    ) -> Self {
        let (requests, receiver) = mpsc::channel(REQUESTS_AHEAD);
        let outgoing = ReceiverStream::new(receiver).map(move |request| {
            room.notify_one();
            request
        });
        let reader = tokio::spawn(async move {
            let error = match read(&link, outgoing, stream, &events).await {
                Ok(()) => Error::Transport {
                    address: Arc::clone(&link.address),
                    message: "the node ended the stream".into(),
                    sent: true,
                },
                Err(status) => link.failure(&status),
            };
            // The driver is gone only when the producer is.
            let _ = events.send(Event::Broken { stream, error }).await;
        });
        Self { requests, reader: reader.abort_handle() }
    }

    /// A place for one request, if the transport keeps up.
    pub(crate) fn reserve(&self) -> Option<mpsc::Permit<'_, wire::ProduceRequest>> {
        self.requests.try_reserve().ok()
    }
}

async fn read(
    link: &Link,
    outgoing: impl futures::Stream<Item = wire::ProduceRequest> + Send + 'static,
    stream: (i32, u64),
    events: &mpsc::Sender<Event>,
) -> Result<(), Status> {
    let mut client = ProduceServiceClient::new(link.channel.clone())
        .max_decoding_message_size(waymark_proto::transport::MAX_MESSAGE)
        .max_encoding_message_size(waymark_proto::transport::MAX_MESSAGE);
    let mut answers = client.produce_stream(link.stream(outgoing)).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        if events.send(Event::Answer { stream, answer }).await.is_err() {
            break;
        }
    }
    Ok(())
}
