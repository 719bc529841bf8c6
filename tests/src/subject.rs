//! What a profile can be run on: the seam between the harness and the nodes under test. The harness knows nothing of what
//! a node does; a subject knows nothing of faults.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use waymark_node::consensus::LogStand;
use waymark_node::state::ShardState;
use waymark_node::storage::raft_record::LogId;
use waymark_proto::ids::{ReplicaId, ShardId};

use crate::acks::Ack;
use crate::disk::Point;
use crate::group::seam::{GroupMember, GroupOperator, Manner, Told};

/// One start of one node.
#[derive(Debug, Clone)]
pub struct Seat {
    /// 1, 2, 3 …
    pub node: u32,
    /// Nodes of the cluster, 1 to this.
    pub nodes: u32,
    /// Differs for every node and every start, and follows from the seed of the run.
    pub seed: u64,
}

/// The name of a node's host on the simulated network.
#[must_use]
pub fn host(node: u32) -> String {
    format!("node-{node}")
}

/// The life of a node from start to crash; it ends only by an error.
pub type Life = Pin<Box<dyn Future<Output = Result<(), Box<dyn std::error::Error>>>>>;

/// What an append came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// Acknowledged at this offset.
    At(u64),
    /// Refused, certainly not written.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// A record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Of which partition.
    pub partition: u32,
    /// At which offset.
    pub offset: u64,
    /// What it holds.
    pub value: u64,
}

/// Producers are numbered, and their values begin with their number. Those from here on send large records, and some that
/// are larger than any log takes.
pub const FIRST_LARGE_PRODUCER: u32 = 1 << 16;

/// A log of the workload is kept in segments of so many bytes at most …
pub const SEGMENT_BYTES: u32 = 1 << 16;
/// … but for one batch of large records, which is larger by itself.
pub const LARGEST_SEGMENT_BYTES: u32 = 288 << 10;

/// A client of the cluster under test. It connects when it is first used, on the host where that happens.
#[async_trait]
pub trait LogClient: Send + Debug {
    /// Makes the partitions, unless they are there. Returns once all of them can be used.
    ///
    /// # Errors
    /// When they cannot be made now; the caller tries again.
    async fn prepare(&mut self) -> io::Result<()>;
    /// Sends each value once, in this order and without waiting for one before the next. The client retries only where that
    /// cannot repeat it. One outcome per value.
    async fn append(&mut self, partition: u32, values: &[u64]) -> Vec<Appended>;
    /// As [`Self::append`], with a key that decides the partition.
    async fn append_keyed(&mut self, key: &[u8], values: &[u64]) -> Vec<Appended>;
    /// Records of all partitions after those that it returned before, as they come; none after a while without any.
    ///
    /// # Errors
    /// When they cannot be read now; the caller tries again.
    async fn follow(&mut self) -> io::Result<Vec<Read>>;
    /// The whole partition up to its high watermark, as offsets and values.
    ///
    /// # Errors
    /// When it cannot be read now; the caller tries again.
    async fn read_all(&mut self, partition: u32) -> io::Result<Vec<(u64, u64)>>;
    /// The first offset of a partition's log.
    ///
    /// # Errors
    /// When it cannot be told now; the caller tries again.
    async fn log_start(&mut self, partition: u32) -> io::Result<u64>;
    /// What a reader is given who begins at an offset that is gone; none when it is told so.
    ///
    /// # Errors
    /// When nothing can be told now; the caller tries again.
    async fn read_gone(&mut self, partition: u32, offset: u64) -> io::Result<Vec<(u64, u64)>>;
    /// Goes on following a partition from this offset.
    ///
    /// # Errors
    /// When nothing is followed and that cannot begin now; the caller tries again.
    async fn seek(&mut self, partition: u32, offset: u64) -> io::Result<()>;
    /// The offset after the last record of a partition.
    ///
    /// # Errors
    /// When it cannot be told now; the caller tries again.
    async fn end_offset(&mut self, partition: u32) -> io::Result<u64>;
    /// Commits the offset of a group; returns whether that was acknowledged. Otherwise nobody knows.
    async fn commit(&mut self, group: u32, partition: u32, offset: u64) -> bool;
    /// The committed offset of a group; 0 without any.
    ///
    /// # Errors
    /// When it cannot be read now; the caller tries again.
    async fn committed(&mut self, group: u32, partition: u32) -> io::Result<u64>;
    /// The leadership of a partition goes to a node.
    ///
    /// # Errors
    /// When that cannot be done now.
    async fn move_leader(&mut self, partition: u32, to: u32) -> io::Result<()>;
    /// The logs of the workload are kept to so many bytes, or as long as they grow.
    ///
    /// # Errors
    /// When that is refused or unknown.
    async fn limit_logs(&mut self, bytes: Option<u32>) -> io::Result<()>;
    /// Makes a topic that nothing else uses, named by its number.
    ///
    /// # Errors
    /// When nobody knows whether it is made, as for the calls below.
    async fn create_topic(&mut self, topic: u32, partitions: u32) -> io::Result<()>;
    /// Gives it more partitions: so many in all.
    ///
    /// # Errors
    /// As [`Self::create_topic`].
    async fn grow_topic(&mut self, topic: u32, partitions: u32) -> io::Result<()>;
    /// Writes a record to a partition of it.
    ///
    /// # Errors
    /// As [`Self::create_topic`].
    async fn write_to_topic(&mut self, topic: u32, partition: u32) -> io::Result<()>;
    /// Deletes it.
    ///
    /// # Errors
    /// As [`Self::create_topic`].
    async fn delete_topic(&mut self, topic: u32) -> io::Result<()>;
    /// How many partitions it has as of now; `None`: there is no such topic.
    ///
    /// # Errors
    /// When that cannot be told now.
    async fn look_up_topic(&mut self, topic: u32) -> io::Result<Option<u32>>;
    /// Bytes of a log that a record with this value takes, at most.
    fn stored_at_most(&self, value: u64) -> u64;
    /// What each replica of a partition holds from its start up to an offset, as one digest per node.
    ///
    /// # Errors
    /// When not every replica holds so much, or some cannot be asked now; the caller tries again.
    async fn digests(&mut self, partition: u32, end: u64) -> io::Result<Vec<(u32, String)>>;
}

/// How a disk behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskCondition {
    /// As always.
    Healthy,
    /// Every sync says that it is done, and nothing is synced before the disk is well again.
    Lies,
    /// Every sync takes very long.
    Slow,
    /// All files together may grow by so many bytes more, and shrink.
    Full {
        /// Bytes left.
        free: u64,
    },
    /// Every write fails.
    WritesFail,
    /// Every sync fails, and what it covered will never reach the disk although reads still see it.
    SyncsFail,
    /// Now and then a write fails.
    SomeWritesFail,
    /// Now and then a write leaves only its first bytes, and fails.
    ShortWrites,
    /// Now and then a read fails, or all of them.
    ReadsFail {
        /// Of a hundred.
        percent: u8,
    },
    /// The next sync of the journal hangs.
    Stalled {
        /// So long, milliseconds.
        ms: u32,
    },
}

impl DiskCondition {
    /// A node may have to end because of it.
    #[must_use]
    pub fn may_end_a_node(self) -> bool {
        !matches!(
            self,
            Self::Healthy | Self::Lies | Self::Slow | Self::Full { .. } | Self::Stalled { .. }
        )
    }
}

/// How a node's life ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It stopped, because its disk failed.
    Stopped,
    /// Its machine lost power where a trap was set.
    Trapped(Point),
}

/// A replica as it is at one moment, seen from above.
pub struct Sight {
    /// Its node.
    pub node: u32,
    /// How often that node was started.
    pub life: u32,
    /// Its shard.
    pub shard: ShardId,
    /// Its own id.
    pub replica: ReplicaId,
    /// Where its log and vote stand.
    pub stand: LogStand,
    /// What stands at an index of its log.
    pub entry: Box<dyn Fn(u64) -> Option<LogId>>,
    /// Whether its journal holds an entry as durable.
    pub on_disk: Box<dyn Fn(LogId) -> bool>,
    /// What it has applied, with nothing left to be written to its tables: equal where equal entries were applied.
    pub state: Box<dyn Fn() -> ShardState>,
    /// Its disk has kept every word so far: it never said that it had synced what it had not.
    pub honest_disk: bool,
}

impl Debug for Sight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sight({} of shard {} in life {})", self.replica, self.shard, self.life)
    }
}

/// What rots on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rot {
    /// Bytes of a file of records.
    Records,
    /// Bytes of what a restart begins with.
    Checkpoint,
}

/// What time has done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// Bits of it flipped.
    Flipped,
    /// It lost its end.
    Cut,
}

/// What a workload is done with.
pub trait Clients: Send + Sync + Debug + 'static {
    /// Partitions that it may use: 0 to this, exclusive.
    fn partitions(&self) -> u32;
    /// Replicas that each of them has.
    fn replicas(&self) -> u32;
    /// A client that runs on its own host.
    fn client(&self, seed: u64) -> Box<dyn LogClient>;
}

/// Where clients of a workload run.
pub trait Hosts {
    /// Starts one.
    fn host(&mut self, life: impl Future<Output = ()> + 'static);
    /// A number from the run's seed.
    fn draw(&mut self, from: u64, below: u64) -> u64;
}

/// Nodes under test, with what survives their crashes: disks, and nothing else.
pub trait Subject: Clients {
    /// Starts a node; called again after every crash.
    fn start(&self, seat: Seat) -> Life;
    /// A client that knows one node alone at first, and stays with it until it fails.
    fn client_at(&self, node: u32, seed: u64) -> Box<dyn LogClient>;
    /// A member of the run's group, which runs on its own host.
    fn member(&self, seed: u64, manner: Manner, told: Told) -> Box<dyn GroupMember>;
    /// Somebody who looks after that group.
    fn operator(&self, seed: u64) -> Box<dyn GroupOperator>;
    /// Which node coordinates that group now, seen from above.
    fn coordinator(&self) -> Option<u32>;
    /// Which node serves as a partition's leader now, seen from above; of several that think they do, the latest.
    fn leader(&self, partition: u32) -> Option<u32>;
    /// Every replica that runs now.
    fn sights(&self) -> Vec<Sight>;
    /// What leaders have called done since somebody last asked.
    fn acks(&self) -> Vec<Ack>;
    /// What a node holds for durable, though a power cut at this moment would take it; `None`: nothing.
    fn wrongly_held_for_durable(&self) -> Option<String>;
    /// What of some node has outgrown its bound.
    fn beyond_bounds(&self) -> Option<String>;
    /// Takes the disk away from a node at once: from here on no write of its dying tasks counts. What it wrote is there for
    /// its next life, synced or not.
    fn power_off(&self, node: u32);
    /// Decides which unsynced writes of a node that is off survive, torn and reordered; what was synced survives always.
    fn lose_unsynced(&self, node: u32, seed: u64);
    /// Whether a node's disk lies, and every other one has what it lies about, truly: its next power loss takes that. All
    /// other power losses spare what a disk lies about.
    fn expose_lies(&self, node: u32) -> bool;
    /// A node that is off has an empty disk from now on: what was on the other one is lost.
    fn lose_disk(&self, node: u32);
    /// Every node runs, and all replicas run, vote and have what their leaders have, or nearly; seen from above.
    fn is_whole(&self) -> bool;
    /// A file of records, or one that a restart begins with, has rotted, and nothing has taken its place yet.
    fn has_rot(&self) -> bool;
    /// As [`Self::is_whole`], without the nearly.
    fn is_level(&self) -> bool;
    /// How many nodes may be away at most, whichever, without costing any partition its majority.
    fn spare(&self) -> usize;
    /// Flips bits in the journals of nodes that are down: where something durable follows, which another node has, and so that
    /// no vote and no end of a log is in doubt. Returns how many were hit.
    fn rot_journals(&self, nodes: &[u32], seed: u64) -> usize;
    /// Damages the journal of a node that is down so that the vote, or the end of the log, of some of its replicas is in doubt,
    /// and nothing of another's is lost for good: what is damaged is followed by something durable. `None`: there is no place
    /// for that.
    fn doubt_journal(&self, node: u32, seed: u64) -> Option<Harm>;
    /// The shards of which a node says that its replica is in doubt, so that it must not run under its id.
    fn in_doubt(&self, node: u32) -> Vec<ShardId>;
    /// How a node's disk behaves from now on. A node whose disk has failed in its life may end without breaking the run.
    fn set_disk(&self, node: u32, condition: DiskCondition);
    /// Whether a sync hangs on a node's disk, of now or of before.
    fn hangs(&self, node: u32) -> bool {
        let _ = node;
        false
    }
    /// Whether a node's disk has failed since the node was started.
    fn may_end(&self, node: u32) -> bool;
    /// How a node's life ended by itself, if it did; it waits for its next start.
    fn ended(&self, node: u32) -> Option<End>;
    /// The power of a node goes by itself at a point, after it was passed so many times; `None`: not any more.
    fn set_trap(&self, node: u32, at: Option<(Point, u32)>);
    /// The time that a node's timers know jumps ahead, as for a process that stood still.
    fn skip_time(&self, node: u32, by: Duration);
    /// Calls to and from a node are lost, late or repeated, with this chance of a hundred; 0: all is well again.
    fn set_calls(&self, node: u32, percent: u8);
    /// Something at rest on a node's disk rots: bits flip, or a file loses its end. Never the journal, and never what may rot
    /// on another node too: two sound copies of everything are left. `None`: there was nothing that may.
    fn rot(&self, node: u32, what: Rot, seed: u64) -> Option<Harm>;
    /// Damage that nodes know of and have not repaired.
    fn open_damage(&self) -> usize;
    /// A node's wall clock jumps by so many milliseconds.
    fn shift_clock(&self, node: u32, by_ms: i64);
}
