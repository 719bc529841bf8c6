//! What tests of one program share of a machine: its cores, by turns, and its ports.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

use crate::cluster::LOOK_AGAIN;

/// Two clusters of a debug build fill two cores, because each mostly waits: more of them would only measure each other.
static TURNS: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];
/// Every port that was given to a node. Between here and there it is free for a moment, and nobody else may be given it.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Keeps a third cluster away for as long as it is held.
pub(crate) struct Turn(
    #[allow(dead_code, reason = "it is there to be held")] MutexGuard<'static, ()>,
);

impl Turn {
    /// Waits until fewer than two clusters run.
    #[allow(
        clippy::disallowed_methods,
        reason = "nothing else waits on the runtime of a test that has not begun"
    )]
    pub(crate) fn wait() -> Self {
        loop {
            for turn in &TURNS {
                match turn.try_lock() {
                    Ok(held) => return Self(held),
                    // A test failed with it, and its cluster is gone.
                    Err(TryLockError::Poisoned(held)) => return Self(held.into_inner()),
                    Err(TryLockError::WouldBlock) => {}
                }
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Ports that nobody has, and that no other test is given.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    // All are held until all are chosen: the system might choose one twice.
    let mut held = Vec::new();
    std::array::from_fn(|_| {
        loop {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            held.push(listener);
            if given.insert(port) {
                return port;
            }
        }
    })
}
