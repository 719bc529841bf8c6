//! Clients of a real cluster, with the habits of the simulated ones. Owns where they begin; never the cluster.

use super::client::WaymarkClient;
use super::{PARTITIONS, REPLICAS};
use crate::subject::{Clients, LogClient};

/// Clients of a real cluster.
#[derive(Debug)]
pub(crate) struct RealClients {
    /// Where they begin.
    pub(crate) bootstrap: Vec<String>,
}

impl Clients for RealClients {
    fn partitions(&self) -> u32 {
        PARTITIONS
    }

    fn replicas(&self) -> u32 {
        REPLICAS
    }

    fn client(&self, seed: u64) -> Box<dyn LogClient> {
        Box::new(WaymarkClient::real(self.bootstrap.clone(), seed))
    }
}
