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
    /// Its application hangs at what it was given; its connections are as always.
    Stuck { member: u32 },
    /// It has been cut off for longer than its session.
    Overdue { member: u32 },
    /// It goes on where it hung.
    WentOn { member: u32 },
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
    /// An operator moves the committed offset of a partition; an undo: to where the ledger says that it stood.
    ResetAsked { partition: u32, to: u64, undo: bool },
    /// It was told that this is done, in this generation, and where it went.
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
    /// It worked on the same records for too long.
    Work,
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
    /// When, by the coordinator's clock, Unix ms: the first and the last of the commits that it stands for.
    pub time_ms: (i64, i64),
}

/// Where an offset stood at a time, by the facts of its ledger; `None`: nothing was committed, or they do not tell exactly.
#[must_use]
pub fn stood_at(facts: &[Fact], at_ms: i64) -> Option<u64> {
    let later = facts.partition_point(|fact| fact.time_ms.1 <= at_ms);
    let is_amidst = facts.get(later).is_some_and(|next| next.time_ms.0 <= at_ms);
    let last = facts.get(later.checked_sub(1)?)?;
    last.after.filter(|_| !is_amidst)
}

/// The generation that gave a partition.
#[must_use]
pub fn generation_of(fence: u64) -> u64 {
    fence & u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_stood_where_the_last_fact_before_left_it_unless_that_was_folded_away() {
        let fact = |after, first, last| Fact {
            before: None,
            after: Some(after),
            asked: false,
            time_ms: (first, last),
        };
        let facts = [fact(3, 10, 10), fact(7, 20, 30)];
        let stood = [9, 10, 19, 20, 29, 30, 31].map(|at| stood_at(&facts, at));
        assert_eq!(stood, [None, Some(3), Some(3), None, None, Some(7), Some(7)]);
    }
}
