//! Owns administration.
use crate::client::Client;
/// Administration of a cluster.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
}
impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }
}
