//! Owns `group list`.

use clap::{Args, ValueEnum};
use regex::Regex;
use serde::Serialize;

use super::super::Context;
use super::super::output::{listed, or_dash, rendered, table};
use super::{EXIT_CODES, Exit, Failure};
use crate::admin::{GroupFilter, GroupListings, GroupState};

#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ListArguments {
    /// Only groups whose name matches this regular expression somewhere [default: all]
    #[arg(long = "match", value_name = "REGEX")]
    pattern: Option<Regex>,
    /// Only groups in one of these states [default: all]
    #[arg(long, value_enum, value_name = "STATE,…", value_delimiter = ',')]
    state: Vec<State>,
}

/// A state on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    /// Without members
    Empty,
    /// Every partition is with the member that should have it
    Stable,
    /// Some partitions are on their way
    Moving,
}

impl From<State> for GroupState {
    fn from(state: State) -> Self {
        match state {
            State::Empty => Self::Empty,
            State::Stable => Self::Stable,
            State::Moving => Self::Moving,
        }
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    group: String,
    state: &'static str,
    members: i32,
    generation: i32,
    committed_partitions: i32,
    assignor: String,
    coordinator: Option<i32>,
}

#[derive(Debug, Serialize)]
struct ListedGroups {
    groups: Vec<Listed>,
    /// Nodes whose groups are missing.
    silent_nodes: Vec<i32>,
}

pub(super) async fn run(
    arguments: &ListArguments,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let admin = context.global.connect().await?.admin();
    let filter = GroupFilter {
        states: arguments.state.iter().copied().map(GroupState::from).collect(),
        pattern: arguments.pattern.as_ref().map_or("", Regex::as_str).to_owned(),
    };
    let told = told(admin.list_groups(&filter).await?);
    context.out.either(&told, text)?;
    // A list that lacks groups must not look like one that is whole.
    Ok(if told.silent_nodes.is_empty() { Exit::Done } else { Exit::Different })
}

fn told(listings: GroupListings) -> ListedGroups {
    let groups = listings.groups.into_iter().map(|group| Listed {
        state: group.state.as_str(),
        group: group.group,
        members: group.members,
        generation: group.generation,
        committed_partitions: group.committed,
        assignor: group.assignor,
        coordinator: group.coordinator,
    });
    ListedGroups { groups: groups.collect(), silent_nodes: listings.silent_nodes }
}

fn text(told: &ListedGroups) -> String {
    let mut lines =
        table(["group", "state", "members", "generation", "committed", "assignor", "coordinator"]);
    for group in &told.groups {
        lines.add_row([
            group.group.clone(),
            group.state.to_owned(),
            group.members.to_string(),
            group.generation.to_string(),
            group.committed_partitions.to_string(),
            or_dash(Some(&group.assignor).filter(|assignor| !assignor.is_empty())),
            or_dash(group.coordinator),
        ]);
    }
    let mut text = if told.groups.is_empty() { "no groups".to_owned() } else { rendered(&lines) };
    if !told.silent_nodes.is_empty() {
        let nodes = listed(&told.silent_nodes);
        text.push_str(&format!(
            "\nNOT whole: groups of nodes that did not answer are missing: {nodes}"
        ));
    }
    text
}
