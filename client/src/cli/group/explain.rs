//! Owns `group explain`: gathers the facts; the story is made of them elsewhere.

use clap::Args;

use super::super::Context;
use super::super::spot::Moment;
use super::{EXIT_CODES, Exit, Failure, about};
use crate::admin::{Explanation, Facts};

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ExplainArguments {
    /// The group's name
    #[arg(value_name = "GROUP")]
    group: String,
    /// Only what happened since: RFC 3339, Unix ms, or a duration ago such as 90m [default: all that is kept]
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
}

pub(super) async fn run(
    arguments: &ExplainArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let client = context.global.connect().await?;
    let (admin, group) = (client.admin(), arguments.group.as_str());
    let since = arguments.since.map(|since| since.unix_ms(client.config().clock.now_ms()));
    let events = admin.group_events(group, since).await.map_err(|error| about(group, &error))?;
    // What happened is worth telling where the present is not known.
    let description = admin.describe_group(group).await.ok();
    let lag = admin.group_lag([group]).await.ok().and_then(|lags| lags.into_iter().next()?.ok());
    let facts =
        Facts { group, events: &events, description: description.as_ref(), lag: lag.as_ref() };
    context.out.either(&Explanation::of(facts), ToString::to_string)?;
    Ok(Exit::Done)
}
