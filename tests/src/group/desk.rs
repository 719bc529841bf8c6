//! A desk where the group's offsets are moved while anything happens: one order after the other, each asked until it is
//! answered. What was asked and told is written down. Never decides what to move, or when.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use super::seam::{GroupOperator, Moved};
use crate::cluster::Cluster;
use crate::group_history::{Fact, GroupEvent, stood_at};
use crate::history::History;
use crate::subject::Subject;
use crate::tally::Tally;

const ASK_AGAIN: Duration = Duration::from_millis(100);
/// It looks for an order this often.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Orders that wait; what comes on top is not carried out.
const MOST_WAITING: usize = 4;

/// What happened to the offsets of groups, as in a batch's table.
pub(crate) const MOVES: [&str; 2] = ["offsets-reset", "offsets-undone"];

/// Something to be done to the offsets of the running group.
#[derive(Debug, Clone)]
pub(super) enum Order {
    /// These partitions go there.
    Reset(Vec<(u32, u64)>),
    /// Partitions go back to where they stood when one of them was moved before, if one was.
    Undo,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Order>,
    /// One is carried out.
    busy: bool,
}

/// See the module. A clone is the same desk.
#[derive(Debug, Clone, Default)]
pub(super) struct Desk(Arc<Mutex<State>>);

impl Desk {
    pub(super) fn open(
        cluster: &mut Cluster,
        subject: &Arc<dyn Subject>,
        (history, tally): (&History, &Tally),
    ) -> Self {
        let desk = Self::default();
        let orders = desk.clone();
        let mut clerk = Clerk {
            operator: subject.operator(cluster.draw(0, u64::MAX)),
            history: history.clone(),
            tally: tally.clone(),
            random: SmallRng::seed_from_u64(cluster.draw(0, u64::MAX)),
        };
        cluster.client(async move {
            loop {
                let Some(order) = orders.take() else {
                    sleep(LOOK_AGAIN).await;
                    continue;
                };
                clerk.carry_out(order).await;
                orders.lock().busy = false;
            }
        });
        desk
    }

    pub(super) fn give(&self, order: Order) {
        let mut state = self.lock();
        if state.waiting.len() < MOST_WAITING {
            state.waiting.push_back(order);
        }
    }

    /// What waits is not carried out any more.
    pub(super) fn clear(&self) {
        self.lock().waiting.clear();
    }

    /// Whether every order was carried out.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        !state.busy && state.waiting.is_empty()
    }

    fn take(&self) -> Option<Order> {
        let mut state = self.lock();
        let order = state.waiting.pop_front();
        state.busy = order.is_some();
        order
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who sits there.
struct Clerk {
    operator: Box<dyn GroupOperator>,
    history: History,
    tally: Tally,
    random: SmallRng,
}

impl Clerk {
    async fn carry_out(&mut self, order: Order) {
        match order {
            Order::Reset(targets) => {
                self.note_asked(&targets, false);
                let moved = until_ok(&mut self.operator, async |it| it.reset(&targets).await).await;
                self.note_done(moved);
                self.tally.count(MOVES[0]);
            }
            Order::Undo => {
                let ledger = until_ok(&mut self.operator, async |it| it.ledger().await).await;
                let Some((at_ms, targets)) = self.draw_undo(&ledger) else { return };
                self.note_asked(&targets, true);
                let undo = async |it: &mut dyn GroupOperator| it.undo(at_ms, &targets).await;
                let moved = until_ok(&mut self.operator, undo).await;
                self.note_done(moved);
                self.tally.count(MOVES[1]);
            }
        }
    }

    /// When one of the partitions was moved, and where the others stood then. Of a partition whose ledger was written by clocks
    /// that jumped back, nobody can say that.
    fn draw_undo(&mut self, ledger: &[(u32, Vec<Fact>)]) -> Option<(i64, Vec<(u32, u64)>)> {
        let in_order = ledger.iter().filter(|(_, facts)| facts.is_sorted_by_key(|it| it.time_ms));
        let asked = in_order.clone().flat_map(|(_, facts)| facts).filter(|fact| fact.asked);
        let moments: Vec<i64> = asked.map(|fact| fact.time_ms.1).collect();
        let drawn = self.random.random_range(0..moments.len().max(1));
        let at_ms = *moments.get(drawn)?;
        let stood = in_order.filter_map(|(at, facts)| Some((*at, stood_at(facts, at_ms)?)));
        let targets: Vec<(u32, u64)> = stood.collect();
        // An undo that names none means all.
        (!targets.is_empty()).then_some((at_ms, targets))
    }

    fn note_asked(&self, targets: &[(u32, u64)], undo: bool) {
        for (partition, to) in targets.iter().copied() {
            self.history.note(GroupEvent::ResetAsked { partition, to, undo });
        }
    }

    fn note_done(&self, Moved { generation, offsets }: Moved) {
        for (partition, to) in offsets {
            self.history.note(GroupEvent::ResetDone { partition, to, generation });
        }
    }
}

async fn until_ok<T>(
    operator: &mut Box<dyn GroupOperator>,
    ask: impl AsyncFn(&mut dyn GroupOperator) -> io::Result<T>,
) -> T {
    loop {
        match ask(&mut **operator).await {
            Ok(answer) => return answer,
            Err(error) => {
                tracing::debug!(%error, "asked in vain");
                sleep(ASK_AGAIN).await;
            }
        }
    }
}
