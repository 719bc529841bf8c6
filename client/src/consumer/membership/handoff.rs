//! Owns the coming and going of partitions: where they begin, when they flow, how they are drained and given up, and what is
//! lost. One partition's steps never touch another one. Never talks to the coordinator.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::hooks::{Call, Hook};
use super::listener::OwnedPartition;
use super::member::{Beginning, Holding, Key, Phase};
use super::task::{Done, Membership};
use crate::client::Client;
use crate::config::{AutoCommit, ConsumerConfig};
use crate::consumer::commit::{Cause, Offsets};
use crate::consumer::positions;
use crate::error::{ErrorClass, Result};
use crate::record::TopicPartition;

/// Where partitions begin, with the ownership under which they were asked for.
type Starts = Vec<(Key, i64, Result<i64>)>;

impl Membership {
    /// New partitions, and those that were reset.
    pub(super) fn begin(&mut self, beginnings: Vec<Beginning>) {
        if beginnings.is_empty() || self.leaves_behind(&beginnings) {
            return;
        }
        let mut known: Starts = Vec::new();
        let mut unknown: BTreeMap<Arc<str>, Vec<Beginning>> = BTreeMap::new();
        let metadata = self.core.client.metadata();
        for begin in beginnings {
            metadata.want(&begin.at.topic);
            if let Some(hint) = &begin.leader {
                metadata.hint(&begin.key.0, begin.at.partition, hint);
            }
            // Of a reset partition, nothing more of before.
            self.core.shared.lock().drain(&begin.at);
            match begin.committed {
                Some(offset) => known.push((begin.key, begin.fencing_epoch, Ok(offset))),
                None => unknown.entry(Arc::clone(&begin.at.topic)).or_default().push(begin),
            }
        }
        self.start(known);
        for begins in unknown.into_values() {
            let (client, config) = (self.core.client.clone(), Arc::clone(&self.core.config));
            self.work.push(Box::pin(async move {
                Done::Located(locate(&client, &config, begins).await)
            }));
        }
    }

    /// They are this member's and it is known where they begin: the application is told, then they flow.
    pub(super) fn start(&mut self, starts: Starts) {
        let mut news = Vec::new();
        for (key, fencing_epoch, start) in starts {
            let Some(holding) = self.member.holdings.get_mut(&key).filter(|holding| {
                holding.fencing_epoch == fencing_epoch && holding.phase == Phase::Starting
            }) else {
                continue;
            };
            let mut state = self.core.shared.lock();
            let place = (holding.at.clone(), key.0);
            state.take_on(place, fencing_epoch, start.as_ref().copied().unwrap_or(0));
            if let Err(error) = start {
                state.cannot_start(&holding.at, error);
            }
            (holding.phase, holding.told) = (Phase::Announcing, true);
            news.push((key, holding.owned()));
        }
        self.hooks.tell(Hook::Assigned, news);
        self.ring();
    }

    /// The application has been told.
    pub(super) fn told(&mut self, call: Call) {
        match call.hook {
            Hook::Lost => {}
            Hook::Assigned => {
                for (key, owned) in &call.partitions {
                    if let Some(holding) = self.member.holdings.get_mut(key)
                        && holding.phase == Phase::Announcing
                        && holding.fencing_epoch == owned.fencing_epoch
                    {
                        holding.phase = Phase::Flowing;
                        self.core.shared.lock().release(&owned.at, owned.fencing_epoch);
                    }
                }
                self.ring();
            }
            Hook::Revoked => {
                // Commits on the way, the listener's own among them, come before the place that is given up.
                let last = self.core.committer.submit(Offsets::new(), Cause::Revoke);
                self.work.push(Box::pin(async move {
                    let _ = last.await;
                    Done::Flushed(call.partitions)
                }));
            }
        }
    }

    /// Nothing more of these is handed out.
    pub(super) fn stop_flowing(&mut self, revoked: &[Key]) {
        for key in revoked {
            if let Some(holding) = self.member.holdings.get(key) {
                self.core.shared.lock().drain(&holding.at);
            }
        }
        self.ring();
    }

    /// Goes on with partitions that are to be given up: the application is told when it has nothing of them in hand. Past
    /// the deadline they are lost.
    pub(super) fn drain(&mut self, now: Instant) {
        let (mut parting, mut overdue, mut untold) = (Vec::new(), Vec::new(), Vec::new());
        let mut state = self.core.shared.lock();
        for (key, holding) in &mut self.member.holdings {
            match holding.phase {
                Phase::Draining { .. } if !holding.told => untold.push(*key),
                Phase::Draining { deadline } | Phase::Parting { deadline } if now >= deadline => {
                    overdue.push(*key);
                }
                Phase::Draining { deadline } => {
                    if state.has_in_hand(&holding.at) {
                        state.watch();
                    } else {
                        holding.phase = Phase::Parting { deadline };
                        parting.push((*key, holding.owned()));
                    }
                }
                _ => {}
            }
        }
        drop(state);
        self.hooks.tell(Hook::Revoked, parting);
        for key in untold {
            self.leave_behind(&key, false);
        }
        if !overdue.is_empty() {
            tracing::warn!(group = %self.member.group(), "partitions were not given up in time");
            self.lose(&overdue);
        }
    }

    /// Deadlines of what is being given up.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> + '_ {
        self.member.held().filter_map(|(_, holding)| match holding.phase {
            Phase::Draining { deadline } | Phase::Parting { deadline } => Some(deadline),
            _ => None,
        })
    }

    /// The application knows, and its commits are decided: the coordinator gets the partitions back.
    pub(super) fn give_up(&mut self, partitions: &[(Key, OwnedPartition)]) {
        for (key, owned) in partitions {
            let parting = self.member.holdings.get(key).is_some_and(|holding| {
                matches!(holding.phase, Phase::Parting { .. })
                    && holding.fencing_epoch == owned.fencing_epoch
            });
            if parting {
                self.leave_behind(key, self.core.config.auto_commit != AutoCommit::Disabled);
            }
        }
    }

    fn leave_behind(&mut self, key: &Key, with_place: bool) {
        let Some(holding) = self.member.holdings.get(key) else { return };
        let place = self.core.shared.lock().let_go(&holding.at);
        // Of an ownership that never came to flow there is no place.
        let same = |epoch: Option<i64>| epoch == Some(holding.fencing_epoch);
        let place = place.filter(|place| with_place && same(place.fencing_epoch));
        self.member.give_up(key, place, self.core.committer.next_sequence());
        self.say_at = Instant::now();
        self.ring();
    }

    /// The coordinator has taken these away.
    pub(super) fn taken_away(&mut self, keys: &[Key]) {
        self.lose(keys);
        for key in keys {
            self.member.holdings.remove(key);
        }
    }

    fn lose(&mut self, keys: &[Key]) {
        let mut gone = Vec::new();
        for key in keys {
            let Some(holding) = self.member.holdings.get(key) else { continue };
            gone.push(holding.clone());
            self.member.give_up(key, None, 0);
        }
        if !gone.is_empty() {
            self.say_at = Instant::now();
            self.lost(gone);
        }
    }

    /// Nothing more of these, neither records nor commits.
    pub(super) fn lost(&mut self, gone: Vec<Holding>) {
        let mut news = Vec::new();
        for holding in gone {
            self.core.shared.lock().let_go(&holding.at);
            if holding.told {
                news.push((holding.key, holding.owned()));
            }
        }
        self.hooks.tell(Hook::Lost, news);
        self.ring();
    }

    /// Partitions for which a commit was refused.
    pub(super) fn drop_disowned(&mut self) {
        let refused = self.core.standing.take_disowned();
        let matches = |holding: &Holding| {
            refused.iter().any(|(at, epoch)| *at == holding.at && *epoch == holding.fencing_epoch)
        };
        let keys = self.member.held().filter(|(_, holding)| matches(holding)).map(|(key, _)| *key);
        let keys: Vec<Key> = keys.collect();
        self.lose(&keys);
    }

    fn ring(&self) {
        self.core.shared.changed.notify_one();
    }
}

/// Where partitions of one topic begin that have nothing committed. Tried until it is known or known to be impossible.
async fn locate(client: &Client, config: &ConsumerConfig, begins: Vec<Beginning>) -> Starts {
    let all: Vec<TopicPartition> = begins.iter().map(|begin| begin.at.clone()).collect();
    let found = loop {
        let found = positions::by_policy(client, config, &all).await;
        let again = found.as_ref().is_err_and(|error| {
            matches!(error.class(), ErrorClass::Retryable | ErrorClass::Ambiguous)
        });
        if !again {
            break found;
        }
        tokio::time::sleep(client.config().retry_backoff_max).await;
    };
    let start = |begin: Beginning| {
        let offset = match &found {
            Ok(found) => found.get(&begin.at).cloned().unwrap_or(Ok(0)),
            Err(error) => Err(error.clone().about_topic(&begin.at.topic)),
        };
        (begin.key, begin.fencing_epoch, offset)
    };
    begins.into_iter().map(start).collect()
}
