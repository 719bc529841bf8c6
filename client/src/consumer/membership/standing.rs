//! Owns what is known of this consumer's place in its group, for those who only ask: who commits, what is subscribed, which
//! partitions a commit was refused for. Membership writes it. Never decides anything.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::subscription::Subscription;
use crate::record::TopicPartition;

/// Who this consumer is in its group, as of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    /// `group.id`.
    pub group_id: Arc<str>,
    /// Made by this client, another one each time it joins anew.
    pub member_id: Arc<str>,
    /// The generation of the group that this member has taken on. `None`: it is not a member now.
    pub generation: Option<i32>,
    /// `group.instance.id`.
    pub instance_id: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct Known {
    subscription: Option<Subscription>,
    metadata: Option<GroupMetadata>,
    /// Partitions whose commits were refused, with the ownership they were made under; at most one per partition read.
    disowned: Vec<(TopicPartition, i64)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::consumer) struct Standing(Mutex<Known>);

impl Standing {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::consumer) fn subscription(&self) -> Option<Subscription> {
        self.lock().subscription.clone()
    }

    pub(in crate::consumer) fn is_subscribed(&self) -> bool {
        self.lock().subscription.is_some()
    }

    pub(in crate::consumer) fn metadata(&self) -> Option<GroupMetadata> {
        self.lock().metadata.clone()
    }

    pub(in crate::consumer) fn subscribed(&self, subscription: Option<Subscription>) {
        let mut known = self.lock();
        if subscription.is_none() {
            (known.metadata, known.disowned) = (None, Vec::new());
        }
        known.subscription = subscription;
    }

    pub(super) fn is(&self, metadata: GroupMetadata) {
        self.lock().metadata = Some(metadata);
    }

    /// A commit of this ownership was refused.
    pub(in crate::consumer) fn disown(&self, at: TopicPartition, fencing_epoch: i64) {
        let mut known = self.lock();
        if !known.disowned.iter().any(|(known, _)| *known == at) {
            known.disowned.push((at, fencing_epoch));
        }
    }

    pub(super) fn take_disowned(&self) -> Vec<(TopicPartition, i64)> {
        std::mem::take(&mut self.lock().disowned)
    }
}
