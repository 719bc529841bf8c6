//! Every setting of a node: its unit, default, legal range and reason. Owns the numbers; never what is done with them.

use std::time::Duration;

use super::section::{OFF, address, address_or_off, between, not_empty, one_of, section};
use super::value::Size;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

section! {
    /// Who this node is.
    NodeSection = "node" {
        /// This node's id. It must be in the list of nodes, and the data directory remembers it: a disk never changes
        /// hands.
        id: u32 = 1, between(1, 1_000_000);
        /// The data directory, relative to the working directory. Created when missing; one process at a time may use it.
        data: String = "waymark-data".to_owned(), not_empty();
        /// Threads that run the node's tasks, beside those that wait for disks; 0 for half of the processors, at least one.
        /// The kernel's work for network and disks takes the other half, and a record that passes through fewer threads
        /// waits for fewer wake-ups.
        threads: u32 = 0, between(0, 1024);
    }
}

section! {
    /// Where this node listens. The list of nodes says how others reach it, which may be another address.
    ListenSection = "listen" {
        /// For clients. The default is reached from this machine only: there is no authentication.
        client: String = "127.0.0.1:7001".to_owned(), address();
        /// For the other nodes. Keep it in a network that only they can reach.
        peer: String = "127.0.0.1:7101".to_owned(), address();
    }
}

section! {
    /// The cluster. All nodes must have the same values and the same list of nodes in the same order; the first of the
    /// list founds the cluster once all have answered that they are empty.
    ClusterSection = "cluster" {
        /// Shards of a pool for each node. A shard is a Raft group that hosts many partitions; three let the leaders of a
        /// lost node spread over the others. More cost timers and memory. Used when a pool is made.
        shards_per_node: u32 = 3, between(1, 64);
        /// Replicas of a topic that does not say how many it wants; never more than there are nodes. Three keep every
        /// record through the loss of one node.
        replication: u32 = 3, between(1, 7);
        /// Partitions of a topic that does not say how many it wants. It can have more later, never fewer.
        partitions: u32 = 1, between(1, 100_000);
    }
}

section! {
    /// The journal: the one stream of files that every Raft entry of this node is written to and synced in.
    JournalSection = "journal" {
        /// Bytes of each preallocated file. Files are recycled, so this is also the unit in which space is taken. An entry
        /// may take a quarter of a file.
        file_bytes: Size = Size::mib(64), between(Size::mib(1), Size::gib(1));
        /// Bytes of recent entries kept in memory for replication, apply and reads, for all shards together. Followers
        /// further behind are served from disk.
        cache_bytes: Size = Size::mib(128), between(Size::mib(1), Size::gib(16));
        /// Most bytes of one flush, at most a quarter of a file. One write and one sync of 1 MiB take about half a
        /// millisecond; larger ones only delay whoever comes next.
        flush_bytes: Size = Size::mib(1), between(Size::kib(64), Size::mib(64));
        /// Idle time after which an empty flush is written behind the last one, so that damage to it can be told from a
        /// write that was cut off.
        closing_flush_after: Duration = ms(20), between(ms(1), secs(10));
    }
}

section! {
    /// Segments and tables: what was committed, by partition.
    StoreSection = "store" {
        /// A partition's committed batches are written to its segment once they reach this many bytes. They are in the
        /// journal already, so nothing is at risk; longer runs cost fewer writes.
        segment_write_bytes: Size = Size::kib(256), between(Size::kib(4), Size::mib(64));
        /// … or once the oldest of them has waited this long: with many partitions, a write for each of them.
        segment_write_after: Duration = secs(1), between(ms(1), secs(60));
        /// A segment is synced ahead of the checkpoint once so many of its bytes are not. What is left to the checkpoint is
        /// synced in one go, and the journal's syncs wait behind it: 2 MiB take a disk one or two milliseconds.
        segment_sync_bytes: Size = Size::mib(2), between(Size::kib(64), Size::gib(1));
        /// Committed bytes of the whole node that may wait for their segments; beyond it apply waits.
        pending_bytes: Size = Size::mib(64), between(Size::mib(1), Size::gib(16));
        /// Segment files kept open. The limit of open files of the process must be higher.
        open_files: u32 = 1024, between(16, 1_000_000);
        /// Bytes of a segment between two entries of its index: a read scans at most this much to find its offset.
        index_interval_bytes: Size = Size::kib(4), between(Size::kib(1), Size::mib(1));
        /// Free bytes of the file system below which this node has no room for records: a leader takes them only while a
        /// majority of the replicas has room. Room is back at a sixteenth more. What is left is for offset commits, groups
        /// and the catalog, for journal files, and for the checkpoint without which nothing that retention deleted leaves
        /// the disk. The default is sixteen journal files. 0: no reserve.
        reserve_bytes: Size = Size::gib(1), between(Size(0), Size::gib(16 * 1024));
        /// … and below which it refuses the entries of other nodes as well, so that its own votes and checkpoints still
        /// find room; replicas here then fall behind until space returns. At most `reserve_bytes`. 0: no reserve.
        last_reserve_bytes: Size = Size::mib(512), between(Size(0), Size::gib(16 * 1024));
        /// Bytes per second at which segments that nobody reads are read and verified, so that damage is found and repaired
        /// while other nodes still have the bytes. 0: never. The default is a thousandth of what a disk gives.
        scrub_bytes_per_second: Size = Size::mib(4), between(Size(0), Size::gib(1));
        /// Everything is read once in this time, or as often as the rate above allows.
        scrub_interval: Duration = secs(86_400), between(ms(100), secs(365 * 86_400));
    }
}

section! {
    /// Elections, replication, checkpoints.
    ConsensusSection = "consensus" {
        /// Time between two heartbeats of a leader. At least three must fit into `election_max`, and it must
        /// be below `election_min`.
        heartbeat: Duration = ms(200), between(ms(10), secs(10));
        /// A follower that heard nothing for `election_max` waits a further random time between `election_min` and
        /// `election_max` and then starts an election. Lower values end an outage earlier, but a slow disk or a busy
        /// processor passes for a dead leader.
        election_min: Duration = ms(500), between(ms(20), secs(60));
        /// See `election_min`. With the defaults a killed leader is replaced after 1.4 to 1.9 s.
        election_max: Duration = ms(900), between(ms(40), secs(120));
        /// Most bytes of entries in one append request to a follower; one entry always fits.
        append_bytes: Size = Size::mib(1), between(Size::kib(64), Size::mib(16));
        /// A shard is checkpointed at the latest after this many bytes of journal: what a restart has to apply again.
        checkpoint_bytes: Size = Size::mib(64), between(Size::mib(1), Size::gib(16));
        /// … or this long after something was applied.
        checkpoint_interval: Duration = secs(30), between(ms(100), secs(3600));
        /// Bytes of entries kept in the journal below the checkpoint. A follower that lags by less goes on from the
        /// journal; one that lags by more pulls segments.
        kept_bytes: Size = Size::mib(64), between(Size(0), Size::gib(16));
        /// How often leaders are moved back to the nodes that prefer to lead them.
        balance_interval: Duration = secs(5), between(ms(100), secs(3600));
    }
}

section! {
    /// Traffic between the nodes.
    NetworkSection = "network" {
        /// Append requests of one shard to one follower that may wait for an answer.
        append_window: u32 = 64, between(1, 1024);
        /// … and their bytes; one request always fits.
        append_window_bytes: Size = Size::mib(8), between(Size::kib(64), Size::gib(1));
        /// Bytes of append requests of all shards to one node that may wait for an answer; one request of each shard always
        /// fits. So much may wait in the memory of a follower whose disk stands still, from each leader's node.
        node_window_bytes: Size = Size::mib(64), between(Size::kib(64), Size::gib(16));
        /// A follower that owes an answer and gives none for this long is connected to anew.
        append_idle: Duration = secs(2), between(ms(100), secs(60));
        /// Append streams of one node that are served at the same time; one for each shard that it leads.
        append_streams: u32 = 4096, between(1, 65_536);
        /// A follower learns of a commit with the next entries, or after this long if none follow. Commits of the catalog
        /// are told at once.
        commit_gather: Duration = ms(20), between(ms(1), ms(100));
        /// A heartbeat waits this long for those of other shards, to travel with them. It also delays reads that must see
        /// the latest commit.
        heartbeat_gather: Duration = ms(1), between(ms(1), ms(100));
        /// Shortest pause before a broken connection is tried again.
        reconnect_min: Duration = ms(50), between(ms(1), secs(60));
        /// Longest pause before a broken connection is tried again.
        reconnect_max: Duration = secs(1), between(ms(1), secs(60));
        /// Deadline of calls between nodes that bring none of their own.
        call_timeout: Duration = secs(2), between(ms(100), secs(60));
        /// A follower that pulls segments and moves no byte for this long starts again.
        pull_stall: Duration = secs(10), between(secs(1), secs(600));
        /// Bytes per second that this node gives to followers that pull segments, all together, so that catching up does
        /// not slow produce down.
        pull_rate: Size = Size::mib(128), between(Size::mib(1), Size::gib(64));
        /// While a follower pulls segments, entries that follow them are kept in the journal beyond `consensus.kept_bytes`,
        /// up to so many bytes for each shard that is pulled; a pull that lasts longer goes on with a newer list of segments.
        pull_kept_bytes: Size = Size::gib(1), between(Size(0), Size::gib(1024));
        /// Pulls that this node runs at the same time.
        pulls: u32 = 4, between(1, 64);
        /// Largest list of files that describes a shard to a follower.
        manifest_bytes: Size = Size::mib(256), between(Size::mib(1), Size::gib(4));
    }
}

section! {
    /// Requests of clients.
    BrokerSection = "broker" {
        /// Bytes of batches that wait for the disks of a quorum, of the whole node; more are refused at once, and clients try
        /// again.
        pending_bytes: Size = Size::mib(256), between(Size::mib(1), Size::gib(16));
        /// Most bytes of batches in one Raft entry, unless a single batch is larger; at most a quarter of a journal file.
        entry_bytes: Size = Size::kib(512), between(Size::kib(4), Size::mib(16));
        /// Large entries of one shard on the way at once. Small ones go one by one; meanwhile batches gather for the next.
        entries_in_flight: u32 = 8, between(1, 1024);
        /// How often the leader of a partition looks whether its oldest segments may go, by age or by size. Kafka looks as
        /// often.
        retention_interval: Duration = secs(300), between(ms(100), secs(24 * 3600));
        /// A producer that appended nothing for this long is forgotten: its next batch must begin a new sequence. Each one
        /// costs memory until then.
        producer_idle: Duration = secs(24 * 3600), between(secs(60), secs(90 * 24 * 3600));
        /// Committed offsets of a group without members are removed this long after its last member or commit, announced
        /// a day before. 0 s: they stay as long as their topics, so that nobody who was away begins in the wrong place.
        offset_retention: Duration = secs(0), between(secs(0), secs(3650 * 24 * 3600));
    }
}

section! {
    /// What this node shows of itself to Prometheus: GET /metrics, and GET /health, which is 200 while the node can do its
    /// work. deploy/ has a dashboard, alerts and a scrape configuration.
    MetricsSection = "metrics" {
        /// Where, over HTTP. The default is reached from this machine only: who reads it learns the names of all topics.
        address: String = "127.0.0.1:7201".to_owned(), address_or_off();
    }
}

impl MetricsSection {
    /// The address, unless it is off.
    #[must_use]
    pub fn listens_at(&self) -> Option<&str> {
        Some(self.address.as_str()).filter(|address| *address != OFF)
    }
}

section! {
    /// What this node writes about itself, to standard error.
    LogSection = "log" {
        /// Which lines: a level (error, warn, info, debug, trace), and levels by module. What the Raft library says is of use
        /// only to those who look for a fault in it.
        level: String = "info,openraft=error".to_owned(), not_empty();
        /// Their form: text for people, json for machines.
        format: String = "text".to_owned(), one_of(&["text", "json"]);
    }
}
