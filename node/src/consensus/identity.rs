//! Owns the node's mark on its own disk: which node and which cluster the data belongs to, which journal it cannot be
//! without, and which replica ids it may run (S10, S12). Without it a disk that was swapped or wiped would join as if it
//! remembered its votes. Never decides whether to join.

use std::collections::BTreeMap;
use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use waymark_proto::ids::{ClusterId, NodeId, ShardId};
use waymark_proto::stored::{StoredFloor, StoredIdentity};

use crate::storage::disk::{Disk, OpenMode};
use crate::storage::journal::Expected;

const PATH: &str = "identity";
const NEW_PATH: &str = "identity.new";
/// 2 names the journal too; 3 the incarnations that may run, where not all may.
const FORMAT_VERSION: u32 = 3;
/// Written while no replica of the node was ever replaced, so that an older program still reads it.
const PLAIN_VERSION: u32 = 2;
/// What an older program wrote is read, and written anew by the next start.
const OLDEST_VERSION: u32 = 1;
/// Far more than the file ever has: a handful of bytes for each shard of the node.
const MOST_BYTES: usize = 1 << 20;

/// Whose data a disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// The journal that holds what the node voted and acknowledged; `None` in a mark of format 1.
    pub journal: Option<u64>,
    /// What this disk began with: replicas of older incarnations were on disks before it, and never run here.
    pub incarnation: u32,
    /// Replicas that were replaced on this disk: the least incarnation of each that may run.
    pub floors: BTreeMap<ShardId, u32>,
}

impl Identity {
    /// Reads a disk's mark; `None` on one that belongs to nobody.
    ///
    /// # Errors
    /// When the disk refuses, or the file is damaged or of a later version.
    pub async fn load(disk: &dyn Disk) -> io::Result<Option<Self>> {
        if !disk.list("").await?.iter().any(|name| name == PATH) {
            return Ok(None);
        }
        let file = disk.open(PATH, OpenMode::Read).await?;
        decode(&file.read_at(0, MOST_BYTES).await?).map(Some)
    }

    /// Marks a disk; durable on return.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn save(&self, disk: &dyn Disk) -> io::Result<()> {
        let bytes = self.encode();
        let file = disk.open(NEW_PATH, OpenMode::Write).await?;
        file.set_len(0).await?;
        file.write_at(0, vec![bytes]).await?;
        file.sync().await?;
        disk.rename(NEW_PATH, PATH).await?;
        disk.sync_dir("").await
    }

    /// Which journal the disk of this mark must have: the mark is made after the journal, so one without the other has
    /// lost what its replicas voted for (S10).
    #[must_use]
    pub fn expected_journal(of: Option<&Self>) -> Expected {
        match of {
            None => Expected::Unused,
            Some(Self { journal: None, .. }) => Expected::Existing,
            Some(Self { journal: Some(id), .. }) => Expected::Id(*id),
        }
    }

    /// The least incarnation of a shard's replica that may run on this disk. An older one may have voted, and what it voted
    /// is not here.
    #[must_use]
    pub fn floor(&self, shard: ShardId) -> u32 {
        self.floors.get(&shard).copied().unwrap_or(0).max(self.incarnation)
    }

    fn encode(&self) -> Bytes {
        let plain = self.incarnation == 0 && self.floors.is_empty();
        let format_version = match self.journal {
            None => OLDEST_VERSION,
            Some(_) if plain => PLAIN_VERSION,
            Some(_) => FORMAT_VERSION,
        };
        let floor =
            |(shard, least): (&ShardId, &u32)| StoredFloor { shard: shard.0, incarnation: *least };
        let stored = StoredIdentity {
            format_version,
            node: self.node.0,
            cluster_id: Bytes::copy_from_slice(&self.cluster.0),
            journal: self.journal.unwrap_or_default(),
            incarnation: self.incarnation,
            floors: self.floors.iter().map(floor).collect(),
        };
        let body = stored.encode_to_vec();
        let mut bytes = BytesMut::with_capacity(4 + body.len());
        bytes.put_u32_le(crc32c::crc32c(&body));
        bytes.put_slice(&body);
        bytes.freeze()
    }
}

fn decode(bytes: &[u8]) -> io::Result<Identity> {
    let damaged = |what: &str| {
        io::Error::other(format!(
            "{PATH} is damaged: {what}. Nothing was changed: move the data directory away and start on an empty one, \
             and the node comes back from its peers, as after the loss of its disk"
        ))
    };
    let (crc, body) = bytes.split_first_chunk::<4>().ok_or_else(|| damaged("cut short"))?;
    if u32::from_le_bytes(*crc) != crc32c::crc32c(body) {
        return Err(damaged("its checksum does not match"));
    }
    let stored = StoredIdentity::decode(body).map_err(|error| damaged(&error.to_string()))?;
    let version = stored.format_version;
    if version > FORMAT_VERSION {
        return Err(io::Error::other(format!(
            "{PATH} has format {version}, and this program knows formats up to {FORMAT_VERSION}: a newer version wrote it. \
             Nothing was changed: start that version again"
        )));
    }
    if version < OLDEST_VERSION {
        return Err(damaged("it names no format"));
    }
    let cluster = ClusterId::from_slice(&stored.cluster_id);
    let cluster = cluster.map_err(|error| damaged(&error.to_string()))?;
    let journal = (version > OLDEST_VERSION).then_some(stored.journal);
    Ok(Identity {
        node: NodeId(stored.node),
        cluster,
        journal,
        incarnation: stored.incarnation,
        floors: stored.floors.iter().map(|it| (ShardId(it.shard), it.incarnation)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_and_a_flipped_bit_is_noticed() {
        let identity = Identity { journal: Some(7), ..of_format_one() };
        let bytes = identity.encode();
        assert_eq!(decode(&bytes).unwrap(), identity);
        for at in 0..bytes.len() {
            let mut bad = bytes.to_vec();
            bad[at] ^= 1;
            assert!(decode(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn no_file_makes_a_node_panic() {
        bolero::check!().for_each(|body: &[u8]| {
            let _ = decode(body);
            // Behind a checksum that matches.
            let _ = decode(&[&crc32c::crc32c(body).to_le_bytes(), body].concat());
        });
    }

    fn of_format_one() -> Identity {
        Identity {
            node: NodeId(3),
            cluster: ClusterId([9; 16]),
            journal: None,
            incarnation: 0,
            floors: BTreeMap::new(),
        }
    }

    fn version(identity: &Identity) -> u32 {
        StoredIdentity::decode(&identity.encode()[4..]).unwrap().format_version
    }

    #[test]
    fn a_disk_that_was_replaced_says_what_may_run_and_no_older_program_reads_it() {
        let plain = Identity { journal: Some(7), ..of_format_one() };
        let floors = BTreeMap::from([(ShardId(4), 5)]);
        let later = Identity { incarnation: 2, floors, ..plain.clone() };
        assert_eq!(decode(&later.encode()).unwrap(), later);
        assert_eq!((later.floor(ShardId(0)), later.floor(ShardId(4))), (2, 5));
        assert_eq!((version(&plain), version(&later)), (2, 3));
    }

    #[test]
    fn an_identity_of_format_one_is_read_and_demands_a_journal() {
        let found = decode(&of_format_one().encode()).unwrap();
        assert_eq!(found, of_format_one());
        assert_eq!(Identity::expected_journal(Some(&found)), Expected::Existing);
    }
}
