//! Owns subscribing and its end, as the application sees it. The work is membership's.

use std::sync::Arc;

use tokio::time::Instant;

use super::membership::{self, GroupMetadata, RebalanceListener, Subscription};
use super::{Consumer, far_away};
use crate::error::{Error, Result};

impl Consumer {
    /// Reads these topics together with the other members of the group, which shares their partitions out. Replaces an
    /// earlier subscription, and its listener. Returns before anything is assigned; a topic that does not exist is read once
    /// it does.
    ///
    /// # Errors
    /// Without a `group.id`, for a subscription that names nothing, and while partitions are assigned by hand.
    pub async fn subscribe<S: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        self.subscribe_to(Subscription::topics(topics), None).await
    }

    /// As [`Self::subscribe`], to all topics whose whole name matches (RE2 syntax), those made later among them.
    ///
    /// # Errors
    /// As [`Self::subscribe`]. A pattern that the coordinator does not understand ends the membership: receiving says so.
    pub async fn subscribe_pattern(&self, pattern: impl Into<String>) -> Result<()> {
        self.subscribe_to(Subscription::pattern(pattern), None).await
    }

    /// As [`Self::subscribe`], with a listener that is told of partitions that come and go.
    ///
    /// # Errors
    /// As [`Self::subscribe`].
    pub async fn subscribe_with(
        &self,
        subscription: Subscription,
        listener: impl RebalanceListener,
    ) -> Result<()> {
        self.subscribe_to(subscription, Some(Arc::new(listener))).await
    }

    async fn subscribe_to(
        &self,
        subscription: Subscription,
        listener: Option<Arc<dyn RebalanceListener>>,
    ) -> Result<()> {
        subscription.check()?;
        let core = &self.core;
        core.config.group_id.as_ref().ok_or(Error::NoGroup)?;
        let mut membership = self.membership.lock().await;
        if self.stop.is_cancelled() {
            return Err(Error::Closed("the consumer"));
        }
        core.shared.lock().end(None);
        if let Some(member) = &*membership {
            core.standing.subscribed(Some(subscription.clone()));
            if member.subscribe(subscription.clone(), listener.clone()).await {
                return Ok(());
            }
        } else if !core.assignment().is_empty() {
            let words = "partitions are assigned by hand: assign none before subscribing";
            return Err(Error::SubscriptionConflict(words));
        }
        core.standing.subscribed(Some(subscription.clone()));
        let stop = self.stop.clone();
        *membership = Some(membership::start(core.clone(), subscription, listener, stop));
        Ok(())
    }

    /// Everything handed out is finished; leaves the group as [`Self::close`] does, and reads nothing from then on. Takes as
    /// long as the listener and the last commits, at most `drain.timeout.ms` and `request.timeout.ms`.
    ///
    /// # Errors
    /// As [`Self::close`]. The subscription has ended in any case.
    pub async fn unsubscribe(&self) -> Result<()> {
        let allowed = self.core.config.drain_timeout + self.core.client.config().request_timeout;
        let deadline = Instant::now().checked_add(allowed).unwrap_or_else(far_away);
        drop(self.come_back());
        let mut membership = self.membership.lock().await;
        // Taken out only when it has left: a cancelled wait leaves it to the next call.
        let Some(member) = &*membership else { return Ok(()) };
        let outcome = member.leave(deadline).await;
        *membership = None;
        self.core.standing.subscribed(None);
        self.core.shared.lock().end(None);
        outcome
    }

    /// What is subscribed. `None`: nothing.
    #[must_use]
    pub fn subscription(&self) -> Option<Subscription> {
        self.core.standing.subscription()
    }

    /// Who this consumer is in its group. `None` without a subscription.
    #[must_use]
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        self.core.standing.metadata()
    }
}
