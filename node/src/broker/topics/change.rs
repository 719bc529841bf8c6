//! Owns changes of topics that exist: deletion, more partitions, settings. Each is committed in the catalog first and then
//! spread by the driver; never undone because a caller stopped waiting.

use std::time::Duration;

use tokio::time::Instant;
use waymark_proto::failure::{Failure, FailureCode};

use super::plan::{grown, resettled};
use crate::broker::Core;
use crate::broker::admin::{Change, NamedTopic, NewConfigs, Topic};
use crate::state::CatalogCommand;

/// A deletion is decided once the catalog has it; its caller is kept at most this long for the partitions to be gone.
const GONE_PATIENCE: Duration = Duration::from_secs(5);

impl Core {
    pub(in crate::broker) async fn delete_topic(
        &self,
        named: &NamedTopic,
        change: Change,
    ) -> Result<Topic, Failure> {
        let topic = self.topic(named).await?;
        if change.validate_only {
            return Ok(topic);
        }
        let command = CatalogCommand::DeleteTopic { topic: topic.id };
        self.change_catalog(command, FailureCode::InvalidArgument, change.deadline).await?;
        let patience = change.deadline.min(Instant::now() + GONE_PATIENCE);
        let gone =
            |catalog: &crate::state::Catalog| catalog.topic(topic.id).is_none().then_some(());
        self.catalog_shows(gone, patience).await?;
        self.spread_news(patience).await;
        Ok(topic)
    }

    pub(in crate::broker) async fn add_partitions(
        &self,
        named: &NamedTopic,
        total: i32,
        change: Change,
    ) -> Result<Topic, Failure> {
        let planned = grown(self.topic(named).await?, total)?;
        if change.validate_only {
            return Ok(planned);
        }
        let topic = planned.id;
        let command = CatalogCommand::AddPartitions { topic, total };
        self.change_topic(topic, command, FailureCode::InvalidPartitions, change).await
    }

    pub(in crate::broker) async fn alter_configs(
        &self,
        configs: NewConfigs,
        change: Change,
    ) -> Result<Topic, Failure> {
        let named = NamedTopic { name: None, id: Some(configs.topic) };
        let planned = resettled(self.topic(&named).await?, &configs, change.validate_only)?;
        if change.validate_only {
            return Ok(planned);
        }
        let expected_version = configs.expected_version.and_then(|it| u64::try_from(it).ok());
        let (topic, ops) = (configs.topic, configs.ops);
        let command = CatalogCommand::AlterTopic { topic, ops, expected_version };
        self.change_topic(topic, command, FailureCode::InvalidConfig, change).await
    }
}
