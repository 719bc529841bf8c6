//! Owns the one lock of the journal and what is under it: the logs in memory and the queue of the flusher. Something is
//! made visible and queued under one hold of the lock, so the order on disk is the order in which readers saw it. It never
//! waits and never touches a file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot, watch};
use waymark_proto::ids::ReplicaKey;

use super::files::JournalFile;
use super::frame::{Fact, Frame};
use super::numbers::JournalNumbers;
use super::state::{Logs, NOWHERE};
use super::{FlushCallback, JournalError};

/// A step of the flusher's queue.
pub(super) enum Queued {
    /// To be written.
    Frame(Frame),
    /// To be called once everything before it is durable.
    Done(FlushCallback),
}

/// Everything under the lock.
pub(super) struct State {
    pub(super) logs: Logs,
    /// Not bounded here: `append` cannot wait. Whoever admits entries bounds them by `queued_bytes`.
    pub(super) queue: VecDeque<Queued>,
    /// Bytes of the queue's frames, and of the flush under way.
    pub(super) queued_bytes: usize,
    /// Frames ever queued.
    pub(super) queued_frames: u64,
    /// The chain, by file number; the last one is being written.
    pub(super) files: BTreeMap<u64, JournalFile>,
    /// The file written last, and how much of it is durable; all of those before it is.
    pub(super) durable_to: (u64, u64),
    /// Replicas forgotten since the start: nothing may bring one back.
    forgotten: BTreeSet<ReplicaKey>,
    /// Entries that recycling could not read: whoever can mend them is to be asked.
    pub(super) unreadable: BTreeSet<(ReplicaKey, u64)>,
    /// Why nothing more is accepted.
    closed: Option<String>,
    /// The flusher ends once the queue is empty.
    pub(super) stopping: bool,
}

/// What all handles and the flusher share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes the flusher.
    pub(super) wake: Notify,
    /// Why the flusher has ended: `Some(Err)` after a failed flush, `Some(Ok)` after a shutdown. Written by its task alone.
    pub(super) ended: watch::Sender<Option<Result<(), String>>>,
    pub(super) numbers: JournalNumbers,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(logs: Logs, files: BTreeMap<u64, JournalFile>) -> Self {
        let state = State {
            logs,
            queue: VecDeque::new(),
            queued_bytes: 0,
            queued_frames: 0,
            files,
            durable_to: (NOWHERE, 0),
            forgotten: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            closed: None,
            stopping: false,
        };
        Self {
            state: Mutex::new(state),
            wake: Notify::new(),
            ended: watch::Sender::new(None),
            numbers: JournalNumbers::default(),
        }
    }

    /// A panic under the lock would be a bug; the state behind it is still the best there is to refuse work with.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a step and waits until it and all before it are durable.
    pub(super) async fn wait_for(
        &self,
        queue: impl FnOnce(&mut State) -> Result<(), JournalError> + Send,
    ) -> Result<(), JournalError> {
        let (tell, told) = oneshot::channel();
        {
            let mut state = self.lock();
            queue(&mut state)?;
            state.queue.push_back(Queued::Done(Box::new(move |result| {
                // Whoever waited may have given up.
                let _ = tell.send(result);
            })));
        }
        self.wake.notify_one();
        match told.await {
            Ok(result) => result.map_err(|error| JournalError::Failed(error.to_string())),
            Err(_) => Err(JournalError::Failed("the journal's flusher is gone".to_owned())),
        }
    }

    /// Ends the journal for every caller, queued and to come (S4).
    pub(super) fn close(&self, why: &Result<(), String>, unfinished: Vec<FlushCallback>) {
        let text = match why {
            Ok(()) => "the journal was shut down".to_owned(),
            Err(text) => text.clone(),
        };
        let queue = {
            let mut state = self.lock();
            state.closed = Some(text.clone());
            state.queued_bytes = 0;
            std::mem::take(&mut state.queue)
        };
        self.ended.send_replace(Some(why.clone()));
        let queued = queue.into_iter().filter_map(|step| match step {
            Queued::Frame(_) => None,
            Queued::Done(done) => Some(done),
        });
        for done in unfinished.into_iter().chain(queued) {
            done(Err(io::Error::other(text.clone())));
        }
    }
}

impl State {
    /// Refuses what comes after the end, and what comes for a replica that was forgotten.
    pub(super) fn check_open(&self, key: Option<ReplicaKey>) -> Result<(), JournalError> {
        if let Some(why) = &self.closed {
            return Err(JournalError::Failed(why.clone()));
        }
        match key.filter(|key| self.forgotten.contains(key)) {
            Some(key) => Err(JournalError::Forgotten { key }),
            None => Ok(()),
        }
    }

    /// Queues a fact that is written for the first time.
    pub(super) fn push(&mut self, key: ReplicaKey, fact: Fact) {
        let frame = Frame { key, carried: false, fact };
        self.queued_bytes += frame.encoded_len();
        self.queued_frames += 1;
        self.queue.push_back(Queued::Frame(frame));
    }

    /// Queues a fact that stood in the journal before, or belongs to what did.
    pub(super) fn push_carried(&mut self, key: ReplicaKey, fact: Fact) {
        let frame = Frame { key, carried: true, fact };
        self.queued_bytes += frame.encoded_len();
        self.queued_frames += 1;
        self.queue.push_back(Queued::Frame(frame));
    }

    /// Forgets a replica, when it is known.
    pub(super) fn forget(&mut self, key: ReplicaKey) {
        self.forgotten.insert(key);
        if self.logs.forget(key) {
            self.push(key, Fact::Forget);
        }
    }
}
