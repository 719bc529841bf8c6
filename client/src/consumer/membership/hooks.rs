//! Owns the order of what the application is told: one call of its listener at a time, each in a task of its own, so that a
//! slow or broken listener costs no heartbeat. Never decides what there is to tell.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::listener::{OwnedPartition, RebalanceContext, RebalanceListener};
use super::member::Key;
use crate::consumer::core::Core;

/// What the application is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    Assigned,
    Revoked,
    Lost,
}

/// One call of the listener.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) hook: Hook,
    pub(super) partitions: Vec<(Key, OwnedPartition)>,
}

/// Calls that wait; at most three per partition and ownership.
#[derive(Default)]
pub(super) struct Hooks {
    listener: Option<Arc<dyn RebalanceListener>>,
    waiting: VecDeque<Call>,
    running: bool,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("waiting", &self.waiting)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

/// What to do next.
pub(super) enum Next {
    /// There is no listener: told already.
    Done(Call),
    /// To be driven; [`Hooks::done`] is called when it has ended.
    Run(std::pin::Pin<Box<dyn Future<Output = Call> + Send>>),
    Nothing,
}

impl Hooks {
    pub(super) fn listen(&mut self, listener: Option<Arc<dyn RebalanceListener>>) {
        self.listener = listener;
    }

    pub(super) fn tell(&mut self, hook: Hook, partitions: Vec<(Key, OwnedPartition)>) {
        if !partitions.is_empty() {
            self.waiting.push_back(Call { hook, partitions });
        }
    }

    pub(super) fn next(&mut self, core: &Core, limit: Duration) -> Next {
        if self.running {
            return Next::Nothing;
        }
        let Some(call) = self.waiting.pop_front() else { return Next::Nothing };
        let Some(listener) = &self.listener else { return Next::Done(call) };
        self.running = true;
        let context = RebalanceContext::new(core.clone(), call.hook);
        Next::Run(Box::pin(run(Arc::clone(listener), context, call, limit)))
    }

    pub(super) fn done(&mut self) {
        self.running = false;
    }

    /// Whether everything has been told.
    pub(super) fn are_idle(&self) -> bool {
        !self.running && self.waiting.is_empty()
    }
}

async fn run(
    listener: Arc<dyn RebalanceListener>,
    context: RebalanceContext,
    call: Call,
    limit: Duration,
) -> Call {
    let partitions: Vec<OwnedPartition> = call.partitions.iter().map(|(_, p)| p.clone()).collect();
    let hook = call.hook;
    let task = AbortOnDropHandle::new(tokio::spawn(async move {
        match hook {
            Hook::Assigned => listener.assigned(&context, &partitions).await,
            Hook::Revoked => listener.revoked(&context, &partitions).await,
            Hook::Lost => listener.lost(&context, &partitions).await,
        }
    }));
    match tokio::time::timeout(limit, task).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(?hook, %error, "the rebalance listener panicked"),
        Err(_) => tracing::error!(?hook, ?limit, "the rebalance listener was given up"),
    }
    call
}
