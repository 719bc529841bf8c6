//! Owns the one lock around the state, and the bells by which its users wake one another.

use std::sync::Arc;

use super::State;

/// The state and its bells.
#[derive(Debug)]
pub(in crate::consumer) struct SharedState {
    state: std::sync::Mutex<State>,
    /// Rung by the driver when there is something to hand out.
    pub(in crate::consumer) data: tokio::sync::Notify,
    /// Rung by the application when the driver has something to do.
    pub(in crate::consumer) changed: tokio::sync::Notify,
    /// Rung by the application when membership waits for it, see [`State::watch`].
    pub(in crate::consumer) returned: tokio::sync::Notify,
}

impl SharedState {
    pub(in crate::consumer) fn new(check_crcs: bool) -> Arc<Self> {
        Arc::new(Self {
            state: std::sync::Mutex::new(State::new(check_crcs)),
            data: tokio::sync::Notify::new(),
            changed: tokio::sync::Notify::new(),
            returned: tokio::sync::Notify::new(),
        })
    }

    pub(in crate::consumer) fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
