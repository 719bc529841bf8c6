//! Owns the one task that writes (S1, S4): it drains the queue into one buffer, writes and syncs it, and only then
//! completes the callbacks. A flush is issued only after the one before it is durable. It never decides what a log holds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::files::{JournalFile, Pool};
use super::flush::{Draft, Stamp};
use super::frame::{Fact, Frame};
use super::queue::{Queued, Shared};
use super::recovery::Recovered;
use super::recycle::Carrier;
use super::replay::settle;
use super::state::Place;
use super::{FlushCallback, JournalError, JournalOptions};
use crate::mutants;
use crate::storage::disk::{AlignedBuf, Disk};

/// A full disk is asked again after this pause.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// What one flush takes from the queue.
#[derive(Default)]
struct Batch {
    frames: Vec<Frame>,
    /// Of `frames`, how many came from the queue, and their bytes.
    fresh: usize,
    fresh_bytes: usize,
    /// Of `frames`, how many do not only repeat what the flush before said; the rest come last.
    firsts: usize,
    done: Vec<FlushCallback>,
}

/// Why the flusher woke.
#[derive(Debug, PartialEq, Eq)]
enum Wake {
    Work,
    Idle,
    Stop,
}

/// The flusher; a task of its own from `run` on.
pub(super) struct Flusher {
    pub(super) shared: Arc<Shared>,
    pub(super) options: JournalOptions,
    pool: Pool,
    carrier: Carrier,
    buf: AlignedBuf,
    /// Frames taken from the queue.
    taken: u64,
    /// The file being written, and where the next flush goes in it.
    file: Option<(u64, JournalFile)>,
    at: u64,
    /// Of the next flush. `file` here is the highest file number used.
    stamp: Stamp,
    /// Votes and doubts that the last flush did not only repeat itself, carried ones included: they are repeated in the next
    /// one (S3), so that one lost flush loses none.
    repeated: Vec<Frame>,
    /// It was started: a full disk is waited for.
    running: bool,
    /// The last flush said something, so an empty one must close it when nothing comes (S2).
    unclosed: bool,
}

impl Flusher {
    /// Writes the flush that makes a recovery sound: it contains the last one found and supersedes it (S2).
    pub(super) async fn start(
        disk: Arc<dyn Disk>,
        options: JournalOptions,
        recovered: Recovered,
    ) -> Result<Self, JournalError> {
        let Recovered { logs, chain, free, highest, repeat, .. } = recovered;
        let mut pool = Pool::new(disk, options.file_bytes, recovered.next_slot);
        for file in free {
            pool.put_back(file).await;
        }
        let doubtful = recovered.free_once_superseded;
        let stamp = Stamp {
            journal: recovered.journal.unwrap_or(options.new_journal_id),
            epoch: highest.epoch + 1,
            file: highest.file,
            number: highest.number + 1,
            oldest_live: recovered.oldest_live,
            base: recovered.base,
        };
        let mut flusher = Self {
            shared: Arc::new(Shared::new(logs, chain)),
            carrier: Carrier::default(),
            buf: AlignedBuf::with_capacity(options.flush_bytes + options.flush_bytes / 4),
            options,
            pool,
            taken: 0,
            file: None,
            at: 0,
            stamp,
            repeated: Vec::new(),
            running: false,
            unclosed: false,
        };
        let mut batch = Batch { firsts: repeat.len(), frames: repeat, ..Batch::default() };
        flusher.write(&mut batch).await?;
        for file in doubtful {
            flusher.pool.put_back(file).await;
        }
        Ok(flusher)
    }

    /// Runs until a flush fails or the journal is shut down.
    pub(super) async fn run(mut self) {
        self.running = true;
        let (why, unfinished) = loop {
            match self.wait().await {
                Wake::Stop if !self.unclosed => break (Ok(()), Vec::new()),
                Wake::Work => {
                    self.carrier.load(&self.shared, self.options.flush_bytes).await;
                }
                Wake::Idle | Wake::Stop => {}
            }
            let mut batch = self.gather();
            if let Err(error) = self.flush(&mut batch).await {
                tracing::error!(%error, "a journal flush has failed");
                break (Err(error.to_string()), batch.done);
            }
        };
        let shared = Arc::clone(&self.shared);
        // The disk is let go first: whoever waits for the end may open it again.
        self.pool.close().await;
        shared.close(&why, unfinished);
    }

    async fn wait(&self) -> Wake {
        loop {
            let woken = self.shared.wake.notified();
            {
                let state = self.shared.lock();
                if !state.queue.is_empty() || self.carrier.is_busy() {
                    return Wake::Work;
                }
                if state.stopping {
                    return Wake::Stop;
                }
            }
            if !self.unclosed {
                woken.await;
            } else if timeout(self.options.closing_flush_after, woken).await.is_err() {
                return Wake::Idle;
            }
        }
    }

    /// Takes from the queue what fits one flush, then what is carried: both under one hold of the lock, so a carried
    /// fact is true after everything that stands before it.
    fn gather(&mut self) -> Batch {
        let mut state = self.shared.lock();
        let mut batch = Batch::default();
        while let Some(step) = state.queue.pop_front() {
            match step {
                Queued::Done(done) => batch.done.push(done),
                Queued::Frame(frame) => {
                    let len = frame.encoded_len();
                    if batch.fresh_bytes > 0 && batch.fresh_bytes + len > self.options.flush_bytes {
                        state.queue.push_front(Queued::Frame(frame));
                        break;
                    }
                    batch.fresh_bytes += len;
                    batch.frames.push(frame);
                }
            }
        }
        batch.fresh = batch.frames.len();
        self.taken += batch.fresh as u64;
        self.carrier.confirm(self.taken);
        let room = self.options.flush_bytes.saturating_sub(batch.fresh_bytes);
        let carried = self.carrier.carry(&state, room);
        if carried.is_empty() {
            // What was to be carried may be gone since the last flush; without another look nothing would ever end it.
            self.carrier.choose(&state, self.options.file_bytes);
        }
        batch.frames.extend(carried);
        batch.firsts = batch.frames.len();
        let raises = self.carrier.raises_oldest(self.stamp.oldest_live);
        if batch.firsts > 0 || self.unclosed || raises {
            let known = |frame: &Frame| state.logs.replicas.contains_key(&frame.key);
            batch.frames.extend(self.repeated.drain(..).filter(known));
        }
        batch
    }

    async fn flush(&mut self, batch: &mut Batch) -> Result<(), JournalError> {
        let raises = self.carrier.raises_oldest(self.stamp.oldest_live);
        if !batch.frames.is_empty() || self.unclosed || raises {
            self.unclosed = batch.fresh > 0;
            self.write(batch).await?;
        }
        for done in batch.done.drain(..) {
            done(Ok(()));
        }
        Ok(())
    }

    /// Encodes, writes and syncs one flush, then notes where everything stands.
    async fn write(&mut self, batch: &mut Batch) -> Result<(), JournalError> {
        let draft = Draft::encode(&batch.frames, &mut self.buf);
        let file = self.room_for(draft.total_len()).await?;
        self.stamp.oldest_live = self.carrier.oldest_live(self.stamp.oldest_live, self.stamp.file);
        let header = draft.seal(self.stamp, &mut self.buf);
        if mutants::planted!("ack-before-fsync") {
            batch.done.drain(..).for_each(|done| done(Ok(())));
        }
        let began = Instant::now();
        let written = self.put_down(&file).await;
        if !mutants::planted!("failed-write-is-done") {
            written.map_err(|source| file.failed(source))?;
        }
        self.shared.numbers.flushed(header.total_len, began.elapsed());
        let at = u32::try_from(self.at).expect("files are below 4 GiB");
        self.at += u64::from(header.total_len);
        self.note(batch, &draft, Place { file: self.stamp.file, at }).await;
        self.pool.filled(self.at);
        self.stamp.base = header.link();
        self.stamp.number += 1;
        // One entry far above the usual must not keep its room for ever.
        if self.buf.capacity() > 4 * self.options.flush_bytes {
            self.buf = AlignedBuf::with_capacity(self.options.flush_bytes);
        }
        Ok(())
    }

    /// What was encoded comes to its place, durable.
    async fn put_down(&mut self, file: &JournalFile) -> io::Result<()> {
        let buf = std::mem::take(&mut self.buf);
        let (written, buf) = if mutants::planted!("failed-sync-is-done") {
            let (written, buf) = file.write.write_blocks(self.at, buf).await;
            let _ = file.write.sync().await;
            (written, buf)
        } else {
            file.write.write_blocks_and_sync(self.at, buf).await
        };
        self.buf = buf;
        written
    }

    /// The file that has room for the next flush: the current one, or a fresh one.
    async fn room_for(&mut self, len: u64) -> Result<JournalFile, JournalError> {
        if let Some((_, file)) = &self.file
            && self.at + len <= file.bytes
        {
            return Ok(file.clone());
        }
        let file = self.fresh_file().await?;
        if len > file.bytes {
            let what = format!("a flush of {len} bytes does not fit a journal file");
            return Err(JournalError::Failed(what));
        }
        self.stamp.file += 1;
        self.at = 0;
        self.file = Some((self.stamp.file, file.clone()));
        self.shared.lock().files.insert(self.stamp.file, file.clone());
        self.pool.prepare();
        Ok(file)
    }

    /// A disk without room for one more file is waited for (S19): nothing of the flush was written, so nothing is in doubt.
    /// At a start and at the end nobody waits, because nobody could say stop.
    async fn fresh_file(&mut self) -> Result<JournalFile, JournalError> {
        let mut waits = false;
        loop {
            match self.pool.take().await {
                Err(error)
                    if self.running
                        && error.is_full_disk()
                        && !self.shared.lock().stopping
                        && !mutants::planted!("full-disk-ends-the-journal") =>
                {
                    if !std::mem::replace(&mut waits, true) {
                        tracing::error!(%error, "the journal waits for room on the disk");
                    }
                    sleep(FULL_PAUSE).await;
                }
                taken => {
                    if waits && taken.is_ok() {
                        tracing::warn!("the journal has room again");
                    }
                    return taken;
                }
            }
        }
    }

    /// After the sync: places, cache, and files that nothing needs any more.
    async fn note(&mut self, batch: &mut Batch, draft: &Draft, flush_at: Place) {
        let released = {
            let mut state = self.shared.lock();
            let frames = (batch.frames.as_slice(), batch.firsts);
            settle(&mut state.logs, frames, &draft.starts, flush_at);
            state.durable_to = (flush_at.file, self.at);
            state.logs.evict();
            state.queued_bytes = state.queued_bytes.saturating_sub(batch.fresh_bytes);
            let kept = state.files.split_off(&self.stamp.oldest_live);
            let released = std::mem::replace(&mut state.files, kept);
            self.carrier.earn(batch.fresh_bytes as u64, self.options.file_bytes);
            self.carrier.choose(&state, self.options.file_bytes);
            released
        };
        let firsts =
            if mutants::planted!("carried-vote-stands-once") { batch.fresh } else { batch.firsts };
        for Frame { key, fact, .. } in &batch.frames[..firsts] {
            if let Fact::Vote(_) | Fact::Doubt(_) = fact {
                self.repeated.push(Frame { key: *key, carried: true, fact: fact.clone() });
            }
        }
        for file in released.into_values() {
            self.pool.put_back(file).await;
        }
    }
}
