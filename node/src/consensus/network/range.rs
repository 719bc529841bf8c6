//! Owns asking one peer for one run of a segment file: what a repair takes. It uses the same service as a pull of a manifest
//! and keeps the same pace there. Never decides whom to ask, and never believes what comes: who asked verifies it.

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;
use waymark_proto::ids::{NodeId, ShardId};
use waymark_proto::peer;

use super::{Network, wire};
use crate::storage::shard_store::MissingRange;

impl Network {
    /// The bytes of a run from its beginning on, as far as the peer has them.
    ///
    /// # Errors
    /// When the peer does not answer, or has nothing of it.
    pub async fn pull_range(
        &self,
        node: NodeId,
        shard: ShardId,
        range: &MissingRange,
    ) -> Result<Bytes, String> {
        let link = self.links.get(node).map_err(|error| error.to_string())?;
        let stall = link.shared.options.pull_stall;
        let mut client = link.client(true).map_err(|error| error.to_string())?;
        let request = peer::PullRequest { shard: shard.0, ranges: vec![wire::range_to(range)] };
        let opening = timeout(stall, client.pull(link.streaming(request))).await;
        let opened = opening.map_err(|_| "no answer")?.map_err(|status| status.to_string())?;
        let mut chunks = opened.into_inner();
        let mut given = BytesMut::new();
        let most = usize::try_from(range.to_byte - range.from_byte).unwrap_or(usize::MAX);
        while given.len() < most {
            let next = timeout(stall, chunks.message()).await.map_err(|_| "stalled");
            match next.map(|it| it.map_err(|status| status.to_string())) {
                Ok(Ok(Some(chunk))) => {
                    let expected = range.from_byte + given.len() as u64;
                    if chunk.from_byte != expected || given.len() + chunk.data.len() > most {
                        return Err("a chunk outside its range".to_owned());
                    }
                    given.extend_from_slice(&chunk.data);
                }
                // What came before is worth as much.
                _ if !given.is_empty() => break,
                Ok(Ok(None)) => return Err("it has nothing of it".to_owned()),
                Ok(Err(reason)) => return Err(reason),
                Err(reason) => return Err(reason.to_owned()),
            }
        }
        Ok(given.freeze())
    }
}
