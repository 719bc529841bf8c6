//! What an operator wants to know of the group: every question is asked until it is answered, and the answer is written
//! down. Never moves anything, and never decides when.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::GROUP;
use super::seam::{Description, GroupOperator};
use crate::cluster::{Broken, Cluster};
use crate::group_history::GroupEvent;
use crate::history::{Event, History};
use crate::subject::Subject;
use crate::workload::SETTLE;

const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Facts of a partition that a ledger keeps, folded or not, before it drops the oldest.
const LEDGER: usize = 64;
/// Sessions of members that are gone, and hand-offs, are over by then.
const UNTIL_STABLE: Duration = Duration::from_secs(20);

/// See the module.
pub(super) struct Office {
    subject: Arc<dyn Subject>,
    history: History,
}

impl Office {
    pub(super) fn new(subject: &Arc<dyn Subject>, history: &History) -> Self {
        Self { subject: Arc::clone(subject), history: history.clone() }
    }

    /// Asks until there is an answer.
    fn ask<T: 'static>(
        &mut self,
        cluster: &mut Cluster,
        question: impl AsyncFn(&mut dyn GroupOperator) -> io::Result<T> + 'static,
    ) -> Result<T, Broken> {
        let mut operator = self.subject.operator(cluster.draw(0, u64::MAX));
        let answer = Arc::new(Mutex::new(None));
        let told = Arc::clone(&answer);
        cluster.client(async move {
            let answer = loop {
                match question(&mut *operator).await {
                    Ok(answer) => break answer,
                    Err(error) => {
                        tracing::debug!(%error, "asked in vain");
                        sleep(ASK_AGAIN).await;
                    }
                }
            };
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        });
        let taken = || answer.lock().unwrap_or_else(PoisonError::into_inner);
        cluster.run_until(SETTLE, || taken().is_some())?;
        let answer = taken().take();
        answer.ok_or_else(|| Broken("an operator gets no answer about the group".to_owned()))
    }

    /// Waits until so many members share everything out, and writes the group down.
    pub(super) fn wait_until_stable(
        &mut self,
        cluster: &mut Cluster,
        members: usize,
    ) -> Result<(), Broken> {
        let end = cluster.elapsed() + UNTIL_STABLE;
        while cluster.elapsed() < end {
            let seen = self.ask(cluster, async |operator| operator.describe().await)?;
            if seen.stable && seen.members.len() == members {
                let Description { generation, members, .. } = seen;
                self.history.note(GroupEvent::Described { generation, members });
                return Ok(());
            }
            cluster.run_for(ASK_AGAIN)?;
        }
        self.history.note(GroupEvent::Unsettled { members });
        Ok(())
    }

    /// Writes the ledger down: now, because its older facts are folded in time.
    pub(super) fn read_ledger(&mut self, cluster: &mut Cluster) -> Result<(), Broken> {
        let ledger = self.ask(cluster, async |operator| operator.ledger().await)?;
        for (partition, facts) in ledger {
            let whole = facts.len() < LEDGER;
            self.history.note(GroupEvent::Ledger { partition, facts, whole });
        }
        Ok(())
    }

    /// Writes down what can only be known at the end.
    pub(super) fn close_the_books(&mut self, cluster: &mut Cluster) -> Result<(), Broken> {
        self.read_ledger(cluster)?;
        let committed = self.ask(cluster, async |operator| operator.committed().await)?;
        for (partition, offset) in committed {
            self.history.note(Event::CommittedSeen { group: GROUP, partition, offset });
        }
        let expelled = self.ask(cluster, async |operator| operator.expelled().await)?;
        for (id, cause) in expelled {
            self.history.note(GroupEvent::Expelled { id, cause });
        }
        Ok(())
    }
}
