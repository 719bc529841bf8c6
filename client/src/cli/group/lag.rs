//! Owns `group lag`: groups in a line each, or the partitions of those that are named.

use clap::Args;
use regex::Regex;
use serde::Serialize;

use super::super::Context;
use super::super::output::{rendered, table};
use super::rows::{self, PartitionRow, Totals, row, totals};
use super::{EXIT_CODES, Exit, Failure, about, chosen, finished};
use crate::admin::{Admin, GroupLag};
use crate::error::Result;

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct LagArguments {
    /// Groups by name [default: all groups, a line each]
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,
    /// Groups whose name matches this regular expression somewhere
    #[arg(long = "match", value_name = "REGEX")]
    pattern: Option<Regex>,
    /// Each partition, where no group is named too
    #[arg(long)]
    partitions: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct ToldLag {
    pub(super) group: String,
    pub(super) state: &'static str,
    #[serde(flatten)]
    pub(super) totals: Totals,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) partitions: Vec<PartitionRow>,
}

pub(super) fn told(lag: &GroupLag, partitions: bool) -> ToldLag {
    let rows = if partitions { lag.partitions.iter().map(row).collect() } else { Vec::new() };
    ToldLag {
        group: lag.group.clone(),
        state: lag.state.as_str(),
        totals: totals(lag),
        partitions: rows,
    }
}

/// The lag of the groups named, or of all if none is.
pub(super) async fn ask(
    admin: &Admin,
    groups: Vec<String>,
) -> Result<Vec<(String, Result<GroupLag>)>> {
    if groups.is_empty() {
        return admin.all_group_lag().await;
    }
    let lags = admin.group_lag(groups.iter().cloned()).await?;
    Ok(groups.into_iter().zip(lags).collect())
}

pub(super) async fn run(
    arguments: &LagArguments,
    context: &mut Context<'_>,
) -> std::result::Result<Exit, Failure> {
    let admin = context.global.connect().await?.admin();
    let named = !arguments.groups.is_empty();
    let groups = chosen(&admin, &arguments.groups, arguments.pattern.as_ref()).await?;
    let nothing_matches = groups.is_empty() && arguments.pattern.is_some();
    let lags = if nothing_matches { Vec::new() } else { ask(&admin, groups).await? };
    let mut failure = None;
    let mut all = Vec::new();
    for (group, lag) in lags {
        match lag {
            Ok(lag) => all.push(told(&lag, named || arguments.partitions)),
            Err(error) => {
                failure.get_or_insert_with(|| about(&group, &error));
            }
        }
    }
    if context.out.is_json() {
        for lag in &all {
            context.out.json(lag)?;
        }
    } else if named || arguments.partitions {
        for lag in &all {
            let head = format!("group {}  state {}  {}", lag.group, lag.state, lag.totals.text());
            context.out.line(format!("{head}\n{}", rows::text(&lag.partitions)))?;
        }
    } else {
        context.out.line(summary(&all))?;
    }
    finished(failure, context)
}

/// A line for each group.
pub(super) fn summary(all: &[ToldLag]) -> String {
    let mut lines =
        table(["group", "state", "lag", "lag time", "catching up/s", "time to loss", "unknown"]);
    for lag in all {
        let mut cells = vec![lag.group.clone(), lag.state.to_owned()];
        cells.extend(lag.totals.cells());
        lines.add_row(cells);
    }
    if all.is_empty() { "no groups".to_owned() } else { rendered(&lines) }
}
