//! Owns asking one peer for what damage took here: a run of a segment file, or a checkpoint. A run comes by the same service
//! as a pull of a manifest, at the same pace. Never decides whom to ask, and never believes what comes: who asked verifies it.

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
                    link.shared.pulls.pulled.add(chunk.data.len() as u64);
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

    /// The newest checkpoint of a peer's replica, as a manifest.
    ///
    /// # Errors
    /// When the peer does not answer, or has none.
    pub async fn newest_manifest(&self, node: NodeId, shard: ShardId) -> Result<Bytes, String> {
        let link = self.links.get(node).map_err(|error| error.to_string())?;
        let stall = link.shared.options.pull_stall;
        let mut client = link.client(true).map_err(|error| error.to_string())?;
        let request = peer::NewestManifestRequest { shard: shard.0 };
        let opening = timeout(stall, client.newest_manifest(link.streaming(request))).await;
        let opened = opening.map_err(|_| "no answer")?.map_err(|status| status.to_string())?;
        let mut parts = opened.into_inner();
        let (mut length, mut manifest) = (None, BytesMut::new());
        while length.is_none_or(|length| manifest.len() < length) {
            let next = timeout(stall, parts.message()).await.map_err(|_| "stalled")?;
            let part = next.map_err(|status| status.to_string())?.ok_or("it ended early")?;
            if let Some(head) = part.head {
                let told = usize::try_from(head.length).unwrap_or(usize::MAX);
                if told > link.shared.options.manifest_bytes {
                    return Err("the manifest is too large".to_owned());
                }
                length = Some(told);
            }
            manifest.extend_from_slice(&part.data);
        }
        Ok(manifest.freeze())
    }
}
