//! Owns `consume --group`: reading as a member, saying what comes and goes, leaving in an orderly way. The group shares the
//! partitions out; printing is the reader's.

use async_trait::async_trait;

use super::super::Context;
use super::super::exit::{Exit, Failure};
use super::super::spot::Spot;
use super::reader::{LAST_COMMIT, Printed, Reader};
use super::{ConsumeArguments, ended, ends, partitions};
use crate::admin::words;
use crate::client::Client;
use crate::config::ConsumerConfig;
use crate::consumer::{OwnedPartition, RebalanceContext, RebalanceListener, Subscription};
use crate::record::TopicPartition;

pub(super) async fn run(
    arguments: ConsumeArguments,
    (client, config): (Client, ConsumerConfig),
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let group = arguments.group.as_deref().unwrap_or_default();
    if arguments.from.is_some_and(|from| from != Spot::Committed) {
        return Err(Failure::unusable(format!(
            "a member begins where its group is: move the group with waymark group reset {group} --to WHERE, or name --partition; a group without offsets begins at the end with -X auto.offset.reset=latest"
        )));
    }
    // A name that is misspelt would be waited for in silence.
    let all = match arguments.topic {
        Some(_) => partitions(&client, &arguments).await?,
        None => Vec::new(),
    };
    let ends = if arguments.exit_at_end { ends(&client, &all).await? } else { Vec::new() };
    let mut subscription = Subscription::topics(arguments.topic.clone());
    if let Some(pattern) = &arguments.pattern {
        subscription = subscription.and_pattern(pattern);
    }
    let (commits, quiet) = (arguments.commits(), arguments.quiet);
    let mut reader = Reader::new(client.consumer(config)?, arguments, ends);
    let teller = Teller { printed: reader.printed.clone(), commits, quiet };
    reader.consumer.subscribe_with(subscription, teller).await?;
    let read = reader.read(context).await;
    let flushed = context.out.flush();
    // Leaving tells the listener, which commits what was printed.
    let left = reader.consumer.close(LAST_COMMIT).await;
    read.and(flushed)?;
    left?;
    ended(context)
}

/// Says what comes and goes, and commits what goes.
#[derive(Debug)]
struct Teller {
    printed: Printed,
    commits: bool,
    quiet: bool,
}

impl Teller {
    fn say(&self, what: &str, partitions: &[OwnedPartition]) {
        if !self.quiet {
            eprintln!("{}", sentence(what, partitions));
        }
    }
}

/// `assigned orders/0,2`.
fn sentence(what: &str, partitions: &[OwnedPartition]) -> String {
    let places: Vec<TopicPartition> = partitions.iter().map(|owned| owned.at.clone()).collect();
    format!("{what} {}", words::partitions(&places))
}

#[async_trait]
impl RebalanceListener for Teller {
    async fn assigned(&self, _: &RebalanceContext, partitions: &[OwnedPartition]) {
        // After a reset, what was printed before is not where the group is.
        self.printed.take(partitions.iter().map(|owned| &owned.at));
        self.say("assigned", partitions);
    }

    async fn revoked(&self, context: &RebalanceContext, partitions: &[OwnedPartition]) {
        let offsets = self.printed.take(partitions.iter().map(|owned| &owned.at));
        if self.commits
            && !offsets.is_empty()
            && let Err(error) = context.commit_offsets(offsets).await
        {
            // Not to be silenced: records will be printed twice.
            eprintln!("not committed, will be printed again: {error}");
        }
        self.say("revoked", partitions);
    }

    async fn lost(&self, _: &RebalanceContext, partitions: &[OwnedPartition]) {
        self.printed.take(partitions.iter().map(|owned| &owned.at));
        self.say("lost", partitions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_is_one_line() {
        let owned = |partition| OwnedPartition {
            at: TopicPartition::new("orders", partition),
            fencing_epoch: 1,
        };
        assert_eq!(sentence("revoked", &[owned(2), owned(0)]), "revoked orders/0,2");
    }
}
