//! The smallest subject that can pass or fail a scenario: every node keeps one unreplicated log behind gRPC. It proves the
//! harness, not the product: that the network, the clock, the faults, the oracle and the repetition work.
//!
//! Its one planted bug is `ack-before-fsync`, the same name as in the product's journal.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use http::uri::PathAndQuery;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::server::{NamedService, UnaryService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use waymark_node::mutants;
use waymark_proto::transport::{Purpose, channel, server};

use crate::net::{SimDial, incoming};
use crate::subject::{Appended, Life, LogClient, PORT, Seat, Subject, host};

/// A sync of the toy's disk takes this long, so that a power loss lands inside it.
const SYNC: Duration = Duration::from_millis(4);
const DEADLINE: Duration = Duration::from_secs(1);
const APPEND: &str = "/toy.Log/Append";
const READ: &str = "/toy.Log/Read";

/// A call and its answer: values to append or values read, or the offset of an append.
#[derive(Clone, PartialEq, prost::Message)]
struct Values {
    #[prost(uint64, repeated, tag = "1")]
    values: Vec<u64>,
}

/// What survives a crash of one node.
#[derive(Debug, Default)]
struct Platter {
    values: Vec<u64>,
    /// `values[..durable]` survive a power loss; raised by syncs only.
    durable: usize,
    /// Raised by every power loss; a write of an earlier life no longer counts.
    life: u64,
}

/// Three logs on three nodes; partition `p` lives on node `p + 1`.
#[derive(Debug)]
pub struct Toy {
    platters: Vec<Arc<Mutex<Platter>>>,
}

impl Toy {
    /// One partition for each of so many nodes.
    #[must_use]
    pub fn new(nodes: u32) -> Self {
        Self { platters: (0..nodes).map(|_| Arc::default()).collect() }
    }

    fn platter(&self, node: u32) -> &Arc<Mutex<Platter>> {
        &self.platters[node as usize - 1]
    }
}

fn lock(platter: &Mutex<Platter>) -> MutexGuard<'_, Platter> {
    platter.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subject for Toy {
    fn partitions(&self) -> u32 {
        u32::try_from(self.platters.len()).expect("a toy has a handful of nodes")
    }

    fn start(&self, seat: Seat) -> Life {
        let platter = Arc::clone(self.platter(seat.node));
        let life = lock(&platter).life;
        let service = ToyServer { platter, life };
        Box::pin(async move {
            let node = server(Purpose::Peer).add_service(service);
            Ok(node.serve_with_incoming(incoming(PORT)).await?)
        })
    }

    fn client(&self, _seed: u64) -> Box<dyn LogClient> {
        Box::new(ToyClient { channels: vec![None; self.platters.len()] })
    }

    fn leader(&self, partition: u32) -> Option<u32> {
        Some(partition + 1)
    }

    fn power_off(&self, node: u32) {
        lock(self.platter(node)).life += 1;
    }

    fn lose_unsynced(&self, node: u32, seed: u64) {
        let mut platter = lock(self.platter(node));
        let kept =
            SmallRng::seed_from_u64(seed).random_range(platter.durable..=platter.values.len());
        platter.values.truncate(kept);
        platter.durable = kept;
    }
}

#[derive(Debug, Clone)]
struct ToyServer {
    platter: Arc<Mutex<Platter>>,
    life: u64,
}

impl ToyServer {
    async fn append(&self, value: u64) -> Result<u64, Status> {
        let (offset, written) = {
            let mut platter = lock(&self.platter);
            platter.values.push(value);
            (platter.values.len() as u64 - 1, platter.values.len())
        };
        if mutants::active("ack-before-fsync") {
            let later = self.clone();
            tokio::spawn(async move { later.sync(written).await });
        } else {
            self.sync(written).await?;
        }
        tracing::debug!(offset, value, "appended");
        Ok(offset)
    }

    async fn sync(&self, written: usize) -> Result<(), Status> {
        tokio::time::sleep(SYNC).await;
        let mut platter = lock(&self.platter);
        if platter.life != self.life {
            return Err(Status::unavailable("no power"));
        }
        platter.durable = platter.durable.max(written);
        Ok(())
    }

    fn read(&self) -> Vec<u64> {
        let platter = lock(&self.platter);
        platter.values[..platter.durable].to_vec()
    }
}

impl NamedService for ToyServer {
    const NAME: &'static str = "toy.Log";
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;

/// One method of the service, as tonic calls it.
struct Method {
    server: ToyServer,
    reads: bool,
}

impl UnaryService<Values> for Method {
    type Response = Values;
    type Future = Answer<Response<Values>>;

    fn call(&mut self, request: Request<Values>) -> Self::Future {
        let (server, reads) = (self.server.clone(), self.reads);
        Box::pin(async move {
            if reads {
                return Ok(Response::new(Values { values: server.read() }));
            }
            let value = request.into_inner().values.first().copied();
            let value = value.ok_or_else(|| Status::invalid_argument("no value"))?;
            Ok(Response::new(Values { values: vec![server.append(value).await?] }))
        })
    }
}

impl tower::Service<http::Request<Body>> for ToyServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = Method { server: self.clone(), reads: request.uri().path() == READ };
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Values, Values>::default());
            Ok(grpc.unary(method, request).await)
        })
    }
}

#[derive(Debug)]
struct ToyClient {
    /// Made when first used: a channel needs the runtime of its host.
    channels: Vec<Option<Channel>>,
}

impl ToyClient {
    async fn call(
        &mut self,
        partition: u32,
        path: &'static str,
        values: Vec<u64>,
    ) -> Option<Vec<u64>> {
        let slot = &mut self.channels[partition as usize];
        let address = format!("{}:{PORT}", host(partition + 1));
        let channel = slot.get_or_insert_with(|| {
            channel(Arc::new(SimDial), &address, Purpose::Peer).expect("hosts have plain names")
        });
        let mut grpc = Grpc::new(channel.clone());
        let answer = async move {
            grpc.ready().await.ok()?;
            let path = PathAndQuery::from_static(path);
            let codec = ProstCodec::<Values, Values>::default();
            grpc.unary(Request::new(Values { values }), path, codec).await.ok()
        };
        let answer = tokio::time::timeout(DEADLINE, answer).await.ok()??;
        Some(answer.into_inner().values)
    }
}

#[async_trait]
impl LogClient for ToyClient {
    async fn append(&mut self, partition: u32, value: u64) -> Appended {
        let answer = self.call(partition, APPEND, vec![value]).await;
        answer.and_then(|values| values.first().copied()).map_or(Appended::Unknown, Appended::At)
    }

    async fn read_all(&mut self, partition: u32) -> io::Result<Vec<(u64, u64)>> {
        let values = self.call(partition, READ, Vec::new()).await.ok_or(io::ErrorKind::TimedOut)?;
        Ok(values.into_iter().enumerate().map(|(offset, value)| (offset as u64, value)).collect())
    }
}
