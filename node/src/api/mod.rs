//! The gRPC edge: the public services over the broker. Each service reads its message into domain types, calls the layer
//! below under the call's deadline, and writes the answer. Owns the protocol of the streams and the metadata of calls; what
//! a request means is decided below.
//!
//! | file | owns |
//! |---|---|
//! | `edge`, `call`, `methods`, `features`, `status`, `refusal`, `notice` | metadata of calls, deadlines, refusals |
//! | `naming` | what references to topics mean |
//! | `relay`, `spread` | the one hop to the node that leads, for a call and for its items |
//! | `logs`, `admin` | the seam to the broker |
//! | `produce`, `produce_stream`, `receipts` | appending |
//! | `fetch`, `fetch_stream`, `cursors`, `frame` | reading |
//! | `groups` | members at their coordinator, and what operators do with groups |
//! | `records`, `offsets`, `topics`, `cluster`, `metadata_stream` | everything else |
//! | `reflection` | the description of all of it |
//! | `convert` | wire ⇄ domain |

mod call;
mod cluster;
mod convert;
mod cursors;
mod edge;
mod features;
mod fetch;
mod fetch_stream;
mod frame;
mod groups;
mod metadata_stream;
mod methods;
mod naming;
mod notice;
mod offsets;
mod produce;
mod produce_stream;
mod receipts;
mod records;
mod reflection;
mod refusal;
mod relay;
mod spread;
mod status;
#[cfg(test)]
mod tests;
mod topics;

pub use crate::broker::{admin, logs};

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::service::{Routes, RoutesBuilder};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{ClusterId, NodeId};
use waymark_proto::transport::{Dial, MAX_MESSAGE};
use waymark_proto::v1::cluster_service_server::ClusterServiceServer;
use waymark_proto::v1::fetch_service_server::FetchServiceServer;
use waymark_proto::v1::group_service_server::GroupServiceServer;
use waymark_proto::v1::offset_service_server::OffsetServiceServer;
use waymark_proto::v1::produce_service_server::ProduceServiceServer;
use waymark_proto::v1::record_service_server::RecordServiceServer;
use waymark_proto::v1::topic_service_server::TopicServiceServer;

use self::admin::SharedAdmin;
use self::call::Call;
use self::edge::Edge;
use self::logs::SharedLogs;
use self::relay::Peers;
use crate::broker::groups::seam::SharedGroups;
use crate::env::{Clock, Random};

/// What the services are built from.
#[derive(Debug, Clone)]
pub struct Parts {
    /// This node.
    pub node: NodeId,
    /// The cluster, once founded.
    pub cluster: watch::Receiver<Option<ClusterId>>,
    /// The partitions.
    pub logs: SharedLogs,
    /// Topics, offsets, the cluster.
    pub admin: SharedAdmin,
    /// Consumer groups.
    pub groups: SharedGroups,
    /// How other nodes are reached.
    pub dial: Arc<dyn Dial>,
    /// For ids of calls that bring none.
    pub random: Arc<Random>,
    /// For records that bring no timestamp.
    pub clock: Arc<dyn Clock>,
    /// Cancelled when the node is about to stop: streams are told, and go on until their clients end them.
    pub draining: CancellationToken,
}

/// The implementation of every service. A clone is the same.
#[derive(Debug, Clone)]
struct Api {
    parts: Arc<Parts>,
    peers: Arc<Peers>,
    /// Turns at the processor for calls that need batches built or taken apart.
    codec: Arc<Semaphore>,
}

/// The public services, for health and reflection.
pub const SERVICES: [&str; 7] = [
    "waymark.v1.ClusterService",
    "waymark.v1.FetchService",
    "waymark.v1.GroupService",
    "waymark.v1.OffsetService",
    "waymark.v1.ProduceService",
    "waymark.v1.RecordService",
    "waymark.v1.TopicService",
];

/// The public services, to be served at the client address.
#[must_use]
pub fn routes(parts: Parts) -> Routes {
    let peers = Arc::new(Peers::new(Arc::clone(&parts.dial)));
    let codec = Arc::new(Semaphore::new(records::CODEC_PERMITS));
    let api = Api { parts: Arc::new(parts), peers, codec };
    macro_rules! served {
        ($server:ident) => {{
            let service = $server::new(api.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE);
            Edge::new(service, api.clone())
        }};
    }
    let described = reflection::routes().unwrap_or_else(|error| {
        tracing::error!(%error, "the services cannot be described");
        Routes::default()
    });
    let mut routes = RoutesBuilder::from(described);
    routes
        .add_service(served!(ClusterServiceServer))
        .add_service(served!(FetchServiceServer))
        .add_service(served!(GroupServiceServer))
        .add_service(served!(OffsetServiceServer))
        .add_service(served!(ProduceServiceServer))
        .add_service(served!(RecordServiceServer))
        .add_service(served!(TopicServiceServer));
    routes.routes()
}

impl Api {
    fn node(&self) -> NodeId {
        self.parts.node
    }

    fn admin(&self) -> &SharedAdmin {
        &self.parts.admin
    }

    fn peers(&self) -> &Peers {
        &self.peers
    }

    fn logs(&self) -> &SharedLogs {
        &self.parts.logs
    }

    fn cluster(&self) -> Option<ClusterId> {
        *self.parts.cluster.borrow()
    }

    fn draining(&self) -> CancellationToken {
        self.parts.draining.clone()
    }

    fn new_request_id(&self) -> Arc<str> {
        format!("{:016x}", self.parts.random.next_u64()).into()
    }

    /// The status of a call that failed as a whole. Where another node must answer, the edge is told to ask it.
    fn refused(&self, call: &Call, failure: &Failure) -> Status {
        let elsewhere =
            matches!(failure.code, FailureCode::NotLeader | FailureCode::NotCoordinator);
        if let (true, Some(leader)) = (elsewhere, &failure.leader)
            && leader.node != self.parts.node
            && !leader.address.is_empty()
        {
            call.pass_on(leader.address.clone());
        }
        status::whole_call(failure)
    }
}
