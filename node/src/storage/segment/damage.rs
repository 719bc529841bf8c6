//! Owns what is known of damage to a replica's segments: which bytes, since when a repair is owed, and the bytes themselves,
//! of which the newest few are kept aside for whoever looks into the disk. Never repairs, and never gives a byte out.

use waymark_proto::ids::TopicPartition;

use super::frame::HEAD;
use super::partition::Segment;
use super::replica::{Replica, io_error};
use super::walk::Flaw;
use crate::storage::disk::OpenMode;
use crate::storage::shard_store::{DamagedRange, StoreError};

/// Folder of a replica with damaged bytes.
pub(super) const ASIDE: &str = "damaged";
/// Files in it; the oldest ones go.
const KEPT_ASIDE: usize = 8;
/// Bytes of one of them.
pub(super) const MOST_ASIDE: u64 = 1 << 20;
/// Ranges of one segment that are told apart; its repair reads all of it anyway.
const MOST_RANGES: usize = 64;

impl Segment {
    /// The bytes and offsets that a flaw may touch: up to where its frame ends if that can be told, else to the next batch
    /// whose place is known.
    fn touched(&self, flaw: &Flaw) -> (u64, (i64, i64)) {
        let first = flaw.offset.unwrap_or(self.base);
        let least = flaw.position + HEAD as u64;
        let (next_byte, next_offset) = self.begin_after(flaw.position);
        let to = flaw.end.unwrap_or(next_byte).max(least);
        (to, (first, next_offset.max(first)))
    }
}

impl Replica {
    /// Remembers a flaw of a segment that is here, and that a repair is owed.
    pub(super) fn note_damage(&self, (at, base): (TopicPartition, i64), flaw: Flaw) {
        let noted = {
            let mut known = self.known();
            let segment = known.partitions.get(&at).and_then(|it| it.segment(base));
            let Some((to_byte, offsets)) = segment.map(|it| it.touched(&flaw)) else { return };
            let ranges = known.damaged.entry((at, base)).or_default();
            let within = |it: &DamagedRange| (it.from_byte..it.to_byte).contains(&flaw.position);
            if ranges.len() >= MOST_RANGES || ranges.iter().any(within) {
                return;
            }
            let path = self.path(at, base);
            let (from_byte, what) = (flaw.position, flaw.what);
            let range =
                DamagedRange { at, base_offset: base, path, from_byte, to_byte, offsets, what };
            ranges.push(range.clone());
            range
        };
        self.shelf.numbers.damaged_ranges.one();
        tracing::warn!(
            shard = %self.key.shard, partition = %noted.at, file = noted.path,
            from_byte = noted.from_byte, to_byte = noted.to_byte, offsets = ?noted.offsets,
            what = noted.what, "damaged: not served until a peer has given it again"
        );
        self.shelf.damage.notify_one();
    }

    /// As [`Self::note_damage`], for one who must say no because of it.
    pub(super) fn met(&self, (at, base): (TopicPartition, i64), flaw: Flaw) -> StoreError {
        let (path, offset, what) = (self.path(at, base), flaw.position, flaw.what.clone());
        self.note_damage((at, base), flaw);
        let known = self.known();
        let ranges = known.damaged.get(&(at, base));
        let mut ranges = ranges.into_iter().flatten();
        let found = ranges.find(|it| (it.from_byte..it.to_byte).contains(&offset));
        let offsets = found.map(|it| it.offsets);
        let what = match offsets {
            Some((first, next)) => {
                format!("{what}: offsets {first} to {next} of {at} are under repair")
            }
            None => what,
        };
        StoreError::Damaged { path, offset, what }
    }

    /// A file that a segment must have and has not.
    pub(super) fn missing_file(&self, key: (TopicPartition, i64)) -> StoreError {
        let what = "the file is missing".to_owned();
        self.met(key, Flaw { position: 0, end: None, offset: Some(key.1), what })
    }

    pub(super) fn is_damaged(&self, at: TopicPartition, base: i64) -> bool {
        self.known().damaged.contains_key(&(at, base))
    }

    /// All damage that is not repaired, segment by segment. What has left with its segment needs no repair.
    pub(in crate::storage) fn damaged(&self) -> Vec<DamagedRange> {
        let mut known = self.known();
        let mut damaged = std::mem::take(&mut known.damaged);
        damaged.retain(|(at, base), _| {
            known.partitions.get(at).is_some_and(|it| it.segment(*base).is_some())
        });
        known.damaged = damaged;
        known.damaged.values().flatten().cloned().collect()
    }

    /// Keeps damaged bytes for an operator; the oldest of those kept go.
    pub(super) async fn keep_aside(
        &self,
        (at, base): (TopicPartition, i64),
        from: u64,
        bytes: bytes::Bytes,
    ) -> Result<(), StoreError> {
        let (disk, folder) = (&self.shelf.disk, format!("{}/{ASIDE}", self.folder()));
        disk.create_dir(&folder).await.map_err(io_error(&folder))?;
        let names = disk.list(&folder).await.map_err(io_error(&folder))?;
        let number = |name: &String| name.split('-').next().and_then(|it| it.parse::<u64>().ok());
        let next = names.iter().filter_map(number).max().unwrap_or(0) + 1;
        for name in names.iter().take((names.len() + 1).saturating_sub(KEPT_ASIDE)) {
            let path = format!("{folder}/{name}");
            disk.remove(&path).await.map_err(io_error(&path))?;
        }
        let partition = at.partition.0;
        let name = format!("{next:09}-{}.{partition}-{base}-{from}.damaged", at.topic);
        let path = format!("{folder}/{name}");
        let file = disk.open(&path, OpenMode::Write).await.map_err(io_error(&path))?;
        file.write_at(0, vec![bytes]).await.map_err(io_error(&path))
    }
}
