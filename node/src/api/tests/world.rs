//! Nodes that serve over streams in memory, each found by its address.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use waymark_proto::failure::LeaderHint;
use waymark_proto::ids::{ClusterId, NodeId};
use waymark_proto::transport::{BoxedIo, Connecting, Dial, Purpose, channel, server};

use super::fake::Fake;
use super::fake_groups::FakeGroups;
use crate::api::admin::NodeView;
use crate::api::{Parts, routes};
use crate::env::{Clock, Random};

pub(super) const CLUSTER: ClusterId = ClusterId([9; 16]);

/// All listeners, by address.
#[derive(Debug, Default, Clone)]
pub(super) struct World {
    listeners: Arc<Mutex<BTreeMap<String, mpsc::Sender<DuplexStream>>>>,
    unformed: bool,
}

impl Dial for World {
    fn connect(&self, address: &str) -> Connecting {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = listeners.get(address).cloned();
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let listener = listener.ok_or_else(refused)?;
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            listener.send(theirs).await.map_err(|_| refused())?;
            Ok(BoxedIo::new(ours, None))
        })
    }
}

#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now_ms(&self) -> i64 {
        43_200_000
    }
}

/// A node that serves.
#[derive(Debug, Clone)]
pub(super) struct Served {
    pub(super) fake: Arc<Fake>,
    pub(super) groups: Arc<FakeGroups>,
    pub(super) channel: Channel,
    pub(super) draining: CancellationToken,
    pub(super) hint: LeaderHint,
}

impl World {
    /// A world whose cluster is not formed yet.
    pub(super) fn unformed() -> Self {
        Self { unformed: true, ..Self::default() }
    }

    /// Serves a node that leads these partitions.
    pub(super) fn serve(&self, number: u32, partitions: &[i32]) -> Served {
        let (node, address) = (NodeId(number), format!("n{number}:7001"));
        let here = NodeView { node, rack: String::new(), address: address.clone() };
        let fake = Arc::new(Fake::leading(here, partitions));
        let groups = Arc::new(FakeGroups::new(node));
        let draining = CancellationToken::new();
        let parts = Parts {
            node,
            cluster: watch::Sender::new((!self.unformed).then_some(CLUSTER)).subscribe(),
            logs: fake.clone(),
            admin: fake.clone(),
            groups: groups.clone(),
            dial: Arc::new(self.clone()),
            random: Arc::new(Random::seeded(u64::from(number))),
            clock: Arc::new(Noon),
            draining: draining.clone(),
        };
        let (listener, arriving) = mpsc::channel(8);
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(address.clone(), listener);
        let arriving = ReceiverStream::new(arriving)
            .map(|stream| Ok::<_, io::Error>(BoxedIo::new(stream, None)));
        let serving = server(Purpose::Client).add_routes(routes(parts));
        tokio::spawn(serving.serve_with_incoming(arriving));
        let channel =
            channel(Arc::new(self.clone()), &address, Purpose::Client).expect("an address");
        let hint = LeaderHint { node, leader_epoch: 1, address };
        Served { fake, groups, channel, draining, hint }
    }
}
