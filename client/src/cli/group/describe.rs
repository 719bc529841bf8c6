//! Owns `group describe`: a group's head and a line for each partition. Its JSON can be given to `group reset --from-file`.

use clap::Args;
use regex::Regex;
use serde::Serialize;

use super::super::Context;
use super::super::output::{or_dash, time};
use super::rows::{self, PartitionRow, Totals, row, totals};
use super::{EXIT_CODES, Exit, Failure, about, chosen, finished};
use crate::admin::{GroupDescription, GroupLag};

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct DescribeArguments {
    /// Groups by name
    #[arg(value_name = "GROUP", required_unless_present = "pattern")]
    groups: Vec<String>,
    /// Also groups whose name matches this regular expression somewhere
    #[arg(long = "match", value_name = "REGEX")]
    pattern: Option<Regex>,
    /// Only partitions of this topic [default: all]
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
}

#[derive(Debug, Serialize)]
struct Described {
    group: String,
    state: &'static str,
    generation: i32,
    assignor: String,
    coordinator: Option<i32>,
    members: usize,
    empty_since_ms: Option<i64>,
    expires_time_ms: Option<i64>,
    #[serde(flatten)]
    totals: Totals,
    partitions: Vec<PartitionRow>,
}

pub(super) async fn run(
    arguments: &DescribeArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let admin = context.global.connect().await?.admin();
    let groups = chosen(&admin, &arguments.groups, arguments.pattern.as_ref()).await?;
    let described = admin.describe_groups(groups.iter().cloned()).await?;
    let lags = admin.group_lag(groups.iter().cloned()).await?;
    let mut failure = None;
    for ((name, group), lag) in groups.iter().zip(described).zip(lags) {
        match group.and_then(|group| Ok((group, lag?))) {
            Ok((group, lag)) => {
                let told = told(group, &lag, arguments.topic.as_deref());
                context.out.either(&told, text)?;
            }
            Err(error) => {
                failure.get_or_insert_with(|| about(name, &error));
            }
        }
    }
    finished(failure, context)
}

fn told(group: GroupDescription, lag: &GroupLag, topic: Option<&str>) -> Described {
    let wanted = |name: &str| topic.is_none_or(|topic| topic == name);
    Described {
        state: group.state.as_str(),
        group: group.group,
        generation: group.generation,
        assignor: group.assignor,
        coordinator: group.coordinator,
        members: group.members.len(),
        empty_since_ms: group.empty_since_ms,
        expires_time_ms: group.expires_time_ms,
        totals: totals(lag),
        partitions: lag.partitions.iter().filter(|p| wanted(&p.at.topic)).map(row).collect(),
    }
}

fn text(told: &Described) -> String {
    let mut head = format!(
        "group {}  state {}  members {}  generation {}  assignor {}  coordinator {}\n{}",
        told.group,
        told.state,
        told.members,
        told.generation,
        or_dash(Some(&told.assignor).filter(|assignor| !assignor.is_empty())),
        or_dash(told.coordinator),
        told.totals.text()
    );
    if let Some(since) = told.empty_since_ms {
        head.push_str(&format!("\nwithout members since {}", time(since)));
    }
    if let Some(at) = told.expires_time_ms {
        head.push_str(&format!("\noffsets will be removed on {}", time(at)));
    }
    if told.partitions.is_empty() {
        return format!("{head}\nit owns no partition and has committed nothing");
    }
    format!("{head}\n{}", rows::text(&told.partitions))
}
