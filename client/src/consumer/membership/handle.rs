//! Owns how the consumer gives orders to its membership task. Never decides what becomes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::listener::RebalanceListener;
use super::subscription::Subscription;
use crate::error::Result;

/// What the application asks of its membership.
pub(super) enum Command {
    Subscribe { subscription: Subscription, listener: Option<Arc<dyn RebalanceListener>> },
    Leave { deadline: Instant, reply: oneshot::Sender<Result<()>> },
}

/// The membership task as the consumer sees it.
#[derive(Debug)]
pub(in crate::consumer) struct Handle {
    commands: mpsc::Sender<Command>,
    /// Set for good by whoever asks to leave.
    leaving: AtomicBool,
}

impl Handle {
    pub(super) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands, leaving: AtomicBool::new(false) }
    }

    /// `false`: the task has ended, after it has left if it was about to.
    pub(in crate::consumer) async fn subscribe(
        &self,
        subscription: Subscription,
        listener: Option<Arc<dyn RebalanceListener>>,
    ) -> bool {
        if self.leaving.load(Ordering::Relaxed) {
            self.commands.closed().await;
        }
        self.commands.send(Command::Subscribe { subscription, listener }).await.is_ok()
    }

    /// Gives everything up and leaves. Cancelling the wait does not take that back.
    pub(in crate::consumer) async fn leave(&self, deadline: Instant) -> Result<()> {
        self.leaving.store(true, Ordering::Relaxed);
        let (reply, outcome) = oneshot::channel();
        if self.commands.send(Command::Leave { deadline, reply }).await.is_err() {
            return Ok(());
        }
        outcome.await.unwrap_or(Ok(()))
    }
}
