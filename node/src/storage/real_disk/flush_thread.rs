//! Owns the one thread that writes and syncs journal flushes. Every acknowledgement waits for such a flush, and one takes less
//! time than the handing over to a pool of threads, whose lock is shared with all other work. A flush is issued only after
//! the one before it (S1), so one thread is enough. It never decides what is written where.

use std::io;
use std::sync::mpsc;

use tokio::sync::oneshot;

use crate::storage::disk::AlignedBuf;

type Outcome = (io::Result<()>, AlignedBuf);
type Job = Box<dyn FnOnce() + Send>;

/// The thread's queue. The thread ends with the last clone.
#[derive(Debug, Clone)]
pub(super) struct FlushThread {
    /// Bounded by its users, each of which waits for the outcome of its flush before the next: a node's one journal.
    jobs: mpsc::Sender<Job>,
}

impl FlushThread {
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let work = move || queue.into_iter().for_each(|job| job());
        std::thread::Builder::new().name("wm-flush".to_owned()).spawn(work)?;
        Ok(Self { jobs })
    }

    /// Runs a call with a buffer, which comes back with the outcome.
    pub(super) async fn run(
        &self,
        data: AlignedBuf,
        call: impl FnOnce(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> Outcome {
        let (tell, told) = oneshot::channel();
        let job = move || {
            let result = call(data.as_slice());
            // Nobody acknowledges what is told to nobody.
            let _ = tell.send((result, data));
        };
        // Refused by a thread that has ended, the job is dropped at once: kept, it would leave `told` waiting for ever.
        drop(self.jobs.send(Box::new(job)));
        match told.await {
            Ok(outcome) => outcome,
            Err(_) => (Err(io::Error::other("the flush thread has ended")), AlignedBuf::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_died_fails_flushes_and_leaves_none_waiting() {
        let thread = FlushThread::start().unwrap();
        let buffer = || {
            let mut data = AlignedBuf::default();
            data.extend_from_slice(b"flush");
            data
        };
        let (written, data) = thread.run(buffer(), |_| Err(io::Error::other("no room"))).await;
        assert_eq!(written.unwrap_err().to_string(), "no room");
        assert_eq!(data.as_slice(), b"flush");
        for _ in 0..2 {
            let (written, _) = thread.run(buffer(), |_| panic!("the disk driver's bug")).await;
            assert!(written.unwrap_err().to_string().contains("has ended"));
        }
    }
}
