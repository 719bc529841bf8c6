//! What a profile of groups needs of the cluster under test: members, and an operator. The seam between the harness and the
//! product's client; it knows nothing of faults, and judges nothing.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;

use crate::group_history::{ExpelledFor, Fact};

/// When a member commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// By itself, from time to time.
    ByTime,
    /// By itself, whenever it comes for more.
    AfterEach,
    /// The application does, and waits for it.
    Waiting,
    /// The application does, and goes on.
    WithoutWaiting,
}

impl Manner {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ByTime, Self::AfterEach, Self::Waiting, Self::WithoutWaiting];
}

/// A partition comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is the member's own.
    Owned,
    /// It was handed over.
    GivenUp,
    /// It is another's already.
    Lost,
}

/// Told of each partition, with the fencing epoch of the ownership.
pub type Told = Arc<dyn Fn(Change, u32, u64) + Send + Sync>;

/// A record that a member was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Of which partition.
    pub partition: u32,
    /// At which offset.
    pub offset: u64,
    /// What it holds.
    pub value: u64,
    /// Under which ownership.
    pub fence: u64,
}

/// The next offset of a partition, and the ownership under which it was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Of which partition.
    pub partition: u32,
    /// The next to read.
    pub offset: u64,
    /// Under which ownership.
    pub fence: u64,
}

/// Whether a commit was acknowledged.
pub type Committing = Pin<Box<dyn Future<Output = bool> + Send>>;

/// A member of the run's group. It joins when it is first asked for records.
#[async_trait]
pub trait GroupMember: Send + Debug {
    /// The next records, or none after a while without any. To ask again says that those before are finished.
    ///
    /// # Errors
    /// When there are none to be had now; the caller tries again.
    async fn poll(&mut self) -> io::Result<Vec<Delivery>>;
    /// Under which id the group knows it, once it is a member.
    fn id(&self) -> Option<String>;
    /// Commits; on its way once it was polled.
    fn commit(&mut self, places: Vec<Place>) -> Committing;
    /// Leaves the group in an orderly way.
    async fn leave(&mut self);
}

/// The group as its coordinator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// How often it has changed.
    pub generation: u32,
    /// The ids of its members, sorted.
    pub members: Vec<String>,
    /// Every partition is with the member that should have it.
    pub stable: bool,
}

/// Offsets that were moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// In which generation.
    pub generation: u32,
    /// Where each partition went, in order; to 0 where nothing is committed any more.
    pub offsets: Vec<(u32, u64)>,
}

/// Who looks after the run's group. What it asks for twice is as if it were done once.
#[async_trait]
pub trait GroupOperator: Send + Debug {
    /// The group now.
    ///
    /// # Errors
    /// When nobody answers now; the caller tries again, as for all others.
    async fn describe(&mut self) -> io::Result<Description>;
    /// Who was expelled so far, and why.
    ///
    /// # Errors
    /// As [`Self::describe`].
    async fn expelled(&mut self) -> io::Result<Vec<(String, ExpelledFor)>>;
    /// The ledger of each partition.
    ///
    /// # Errors
    /// As [`Self::describe`].
    async fn ledger(&mut self) -> io::Result<Vec<(u32, Vec<Fact>)>>;
    /// What is committed, by partition.
    ///
    /// # Errors
    /// As [`Self::describe`].
    async fn committed(&mut self) -> io::Result<Vec<(u32, u64)>>;
    /// Moves committed offsets of the running group.
    ///
    /// # Errors
    /// As [`Self::describe`].
    async fn reset(&mut self, targets: &[(u32, u64)]) -> io::Result<Moved>;
    /// Puts committed offsets of the running group back to where they stood at a time of the ledger's, which should be these.
    ///
    /// # Errors
    /// As [`Self::describe`].
    async fn undo(&mut self, at_ms: i64, targets: &[(u32, u64)]) -> io::Result<Moved>;
}
