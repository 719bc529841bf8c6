//! A node in a box: the services that producer and consumer speak, on in-memory connections, with one partition log per
//! topic partition, real sequence checks, and faults on demand. Nothing here is durable or replicated.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::type_complexity,
    clippy::result_large_err,
    clippy::disallowed_methods,
    reason = "a test fixture"
)]

mod fetch;
pub mod groups;
mod produce;
mod services;
mod topics;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use waymark_client::{Client, ClientConfig};
use waymark_proto::transport::{self, BoxedIo, Connecting, Dial, Purpose};
use waymark_proto::v1 as wire;

pub const TOPIC_ID: [u8; 16] = [7; 16];
pub const TOPIC: &str = "t";

/// What happens to the next batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Refused, not appended.
    Refuse(wire::FailureCode, wire::RetryClass),
    /// Appended, and the connection breaks before the answer.
    AppendAndBreak,
    /// Not appended, and the connection breaks.
    Break,
    /// Neither appended nor answered.
    Swallow,
    /// Forgets the producer before it looks.
    ForgetProducer,
}

#[derive(Debug, Default)]
pub struct Log {
    /// Batches as they were sent, with their base offsets.
    pub batches: Vec<(i64, Bytes)>,
    pub next_offset: i64,
    pub log_start: i64,
    pub producers: BTreeMap<(i64, i16), Vec<(i32, i32, i64)>>,
}

#[derive(Debug, Default)]
pub struct Inner {
    pub logs: BTreeMap<i32, Log>,
    pub faults: VecDeque<Fault>,
    /// Every batch that arrived: partition and bytes.
    pub arrived: Vec<(i32, Bytes)>,
    /// While set, batches wait unanswered.
    pub held: bool,
    pub committed: BTreeMap<(String, i32), i64>,
    pub commit_seqs: Vec<i64>,
    /// What commits in line have to be above.
    pub highest_seq: i64,
    /// Why each was made.
    pub commit_causes: Vec<wire::CommitCause>,
    /// Members that commits named; empty for a commit without one.
    pub committers: BTreeSet<String>,
    pub controls: Vec<wire::FetchControl>,
    pub sent_bytes: i64,
    pub next_producer: i64,
    pub partitions: i32,
    /// Told with every receipt, and with every commit that was taken.
    pub throttle_ms: i32,
    /// Stale frames to send after a removal, to prove that they are ignored.
    pub stale_after_remove: bool,
    pub group: groups::Group,
    /// What commits are refused, in order, for the whole request.
    pub commit_faults: VecDeque<wire::Failure>,
    /// While set, commits wait unanswered.
    pub commits_held: bool,
    /// The topic was deleted, and made anew under its name with this id.
    pub made_anew: Option<[u8; 16]>,
    /// The next deletion is done and its answer lost, and the topic made anew with this id.
    pub made_anew_unheard: Option<[u8; 16]>,
    /// Deletions that were asked for: by which id, and whether the topic went.
    pub deletions: Vec<(Vec<u8>, bool)>,
    /// So often metadata says that nothing is known of any topic at the moment.
    pub untold: u32,
}

#[derive(Debug, Clone)]
pub struct Fake {
    pub inner: Arc<Mutex<Inner>>,
    pub bell: Arc<Notify>,
    connections: mpsc::UnboundedSender<io::Result<BoxedIo>>,
}

#[derive(Debug, Clone)]
struct Wire(Fake);

impl Dial for Wire {
    fn connect(&self, address: &str) -> Connecting {
        let fake = self.0.clone();
        let alive = !address.starts_with("dead");
        Box::pin(async move {
            if !alive {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = tokio::io::duplex(1 << 20);
            let _ = fake.connections.send(Ok(BoxedIo::new(far, None)));
            Ok(BoxedIo::new(near, None))
        })
    }
}

impl Fake {
    pub fn start(partitions: i32) -> Self {
        let (connections, receiver) = mpsc::unbounded_channel();
        let group = groups::Group { dealing: true, ..groups::Group::default() };
        let inner = Inner { partitions, next_producer: 100, group, ..Inner::default() };
        let fake =
            Self { inner: Arc::new(Mutex::new(inner)), bell: Arc::new(Notify::new()), connections };
        let incoming = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
        let server = fake.clone();
        tokio::spawn(async move {
            transport::server(Purpose::Client)
                .add_service(
                    wire::produce_service_server::ProduceServiceServer::new(server.clone())
                        .max_decoding_message_size(transport::MAX_MESSAGE),
                )
                .add_service(wire::fetch_service_server::FetchServiceServer::new(server.clone()))
                .add_service(wire::offset_service_server::OffsetServiceServer::new(server.clone()))
                .add_service(wire::group_service_server::GroupServiceServer::new(server.clone()))
                .add_service(wire::topic_service_server::TopicServiceServer::new(server.clone()))
                .add_service(wire::cluster_service_server::ClusterServiceServer::new(server))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        fake
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn config(&self) -> ClientConfig {
        let first = std::time::Duration::from_millis(1);
        ClientConfig::new(["dead:1", "alive:1"])
            .seed(1)
            .retry_backoff(first, 10 * first)
            .dial(Arc::new(Wire(self.clone())))
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.config()).await.unwrap()
    }

    /// The next batches meet these, in order.
    pub fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// Waits until something holds.
    pub async fn until(&self, holds: impl Fn(&Inner) -> bool) {
        let patience = std::time::Duration::from_secs(20);
        let waiting = async {
            while !holds(&self.lock()) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(patience, waiting).await.expect("it never came to hold");
    }
}

pub fn i32_at(batch: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(batch[at..at + 4].try_into().unwrap())
}

pub fn base_sequence(batch: &[u8]) -> i32 {
    i32_at(batch, 53)
}

pub fn record_count(batch: &[u8]) -> i32 {
    i32_at(batch, 57)
}

pub fn producer(batch: &[u8]) -> (i64, i16) {
    let id = i64::from_be_bytes(batch[43..51].try_into().unwrap());
    (id, i16::from_be_bytes(batch[51..53].try_into().unwrap()))
}

pub fn failure(code: wire::FailureCode, retry: wire::RetryClass) -> wire::Failure {
    let mut failure = wire::Failure { message: "planned".to_owned(), ..wire::Failure::default() };
    failure.set_code(code);
    failure.set_retry(retry);
    failure
}
