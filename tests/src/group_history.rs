//! What is written down of a consumer group: what its members were told and did, what an operator asked for and was told,
//! and what was done to them from outside. Nothing is judged here.

/// One thing of the group of the run. Members are numbered: each start of a process is another one. A fencing epoch's lower
/// half is the generation that gave the partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "a field's name means the same in every variant")]
pub enum GroupEvent {
    /// A process begins, and will join.
    Started { member: u32 },
    /// The group knows it by this id from now on.
    Named { member: u32, id: String },
    /// It leaves as it should.
    Leaving { member: u32 },
    /// Its process dies.
    Crashed { member: u32 },
    /// Nothing it sends or is sent arrives from now on.
    CutOff { member: u32 },
    /// It has been cut off for longer than its session.
    Overdue { member: u32 },
    /// It is joined to everyone again.
    Healed { member: u32 },
    /// A node is struck by a fault.
    NodeFault,
    /// From now on the cluster may be away for longer than a session, so that members lose it.
    Outages,
    /// A member was told that a partition is its own.
    Owned { member: u32, partition: u32, fence: u64 },
    /// A member was told that it has lost a partition without handing it over.
    Lost { member: u32, partition: u32, fence: u64 },
    /// A member was given a record.
    HandedOut { member: u32, partition: u32, offset: u64, fence: u64 },
    /// A member is done with a record.
    Finished { partition: u32, offset: u64 },
    /// A member commits; the number is the commit's own.
    Commit { commit: u64, partition: u32, offset: u64, fence: u64 },
    /// It was told that this commit counts.
    Committed { commit: u64 },
    /// An operator moves the committed offset of a partition.
    ResetAsked { partition: u32, to: u64 },
    /// It was told that this is done, in this generation.
    ResetDone { partition: u32, to: u64, generation: u32 },
    /// The group was asked for, every partition being where it should be.
    Described { generation: u32, members: Vec<String> },
    /// It never came to have so many members, every partition being where it should be.
    Unsettled { members: usize },
    /// The group's events tell of an expulsion.
    Expelled { id: String, cause: ExpelledFor },
    /// The ledger of a partition, oldest first; whole: nothing of it was dropped yet.
    Ledger { partition: u32, facts: Vec<Fact>, whole: bool },
}

/// Why the group says that it expelled a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpelledFor {
    /// It was connected, and silent.
    Silence,
    /// Its connection broke, and it did not come back.
    Crash,
    /// Anything else.
    Other,
}

/// One fact of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// `None`: nothing was committed.
    pub before: Option<u64>,
    /// `None`: nothing is committed any more.
    pub after: Option<u64>,
    /// Somebody asked for it: no commit of a member.
    pub asked: bool,
}

/// The generation that gave a partition.
#[must_use]
pub fn generation_of(fence: u64) -> u64 {
    fence & u64::from(u32::MAX)
}
