//! Lists: groups of all nodes, the events and the ledger of one group, page by page. Owns how pages are cut.

use std::collections::BTreeSet;

use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::v1;
use waymark_proto::v1::group_service_client::GroupServiceClient;

use super::super::Api;
use super::super::call::Call;
use super::super::convert::fields::{group, optional};
use super::super::convert::group_history::{change, event, number_after, summary};
use super::super::convert::topics::{page_after, page_size, page_token};
use super::super::refusal::refuse;
use super::super::spread::ask_every_node;

impl Api {
    /// The groups that all nodes coordinate, or this one alone where another node asks.
    pub(super) async fn listed(
        &self,
        call: &Call,
        request: v1::ListGroupsRequest,
    ) -> Result<v1::ListGroupsResponse, Failure> {
        let size = page_size(request.page_size)?;
        let after = page_after(&request.page_token)?.to_owned();
        let pattern = regex::Regex::new(&request.pattern).map_err(|error| {
            refuse(FailureCode::InvalidPattern, format!("the pattern: {error}"))
        })?;
        let states: BTreeSet<i32> = request.states.iter().copied().collect();
        let wanted = |it: &v1::GroupSummary| {
            *it.group_id > *after
                && pattern.is_match(&it.group_id)
                && (states.is_empty() || states.contains(&it.state))
        };
        let own = self.groups().led();
        let own = own.iter().map(|it| summary(it, self.node_view(it)));
        let mut groups: Vec<v1::GroupSummary> = own.filter(wanted).collect();
        let mut silent_nodes = Vec::new();
        if call.may_hop() {
            let others = ask_every_node(self, call, request.clone(), |channel, part| {
                Box::pin(async move {
                    let answer = GroupServiceClient::new(channel).list_groups(part).await?;
                    Ok(answer.into_inner().groups)
                })
            });
            for (node, answered) in others.await {
                match answered {
                    Some(theirs) => groups.extend(theirs),
                    None => silent_nodes.push(node),
                }
            }
        }
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        // While a group's coordinator changes, two nodes may tell of it.
        groups.dedup_by(|a, b| a.group_id == b.group_id);
        let more = groups.len() > size;
        groups.truncate(size);
        let last = groups.last().filter(|_| more);
        let next_page_token = last.map_or_else(String::new, |it| page_token(&it.group_id));
        let none = v1::ListGroupsResponse::default();
        Ok(v1::ListGroupsResponse { groups, next_page_token, silent_nodes, ..none })
    }

    pub(super) async fn page_of_groups(
        &self,
        call: &Call,
        page_size: i32,
        page_token: String,
    ) -> Result<(Vec<String>, String), Failure> {
        let none = v1::ListGroupsRequest::default();
        let request = v1::ListGroupsRequest { page_size, page_token, ..none };
        let listed = self.listed(call, request).await?;
        let names = listed.groups.into_iter().map(|it| it.group_id).collect();
        Ok((names, listed.next_page_token))
    }

    pub(super) async fn history_of(
        &self,
        call: &Call,
        request: v1::ListOffsetHistoryRequest,
    ) -> Result<v1::ListOffsetHistoryResponse, Failure> {
        let name = group(&request.group_id)?;
        let size = page_size(request.page_size)?;
        let from = number_after(&request.page_token)?;
        let since = optional("since_ms", request.since_ms)?.unwrap_or_default();
        let mut places = Vec::new();
        for given in &request.partitions {
            places.push(self.named_partition(given.topic.as_ref(), given.partition).await?.1);
        }
        let told = self.groups().history(name, from, usize::MAX, call.deadline).await?;
        let (facts, exact_since_ms) = told;
        let mut wanted = facts.into_iter().filter(|(at, fact)| {
            fact.time_ms >= since && (places.is_empty() || places.contains(at))
        });
        let page: Vec<_> = wanted.by_ref().take(size).collect();
        let last = page.last().map(|(_, fact)| fact.sequence).filter(|_| wanted.next().is_some());
        let name_of = |at| self.topic_name_of(at);
        Ok(v1::ListOffsetHistoryResponse {
            changes: page.into_iter().map(|(at, fact)| change(at, fact, &name_of)).collect(),
            next_page_token: last.map_or_else(String::new, page_token),
            exact_since_ms,
            ..v1::ListOffsetHistoryResponse::default()
        })
    }

    pub(super) async fn events_of(
        &self,
        call: &Call,
        request: v1::ListGroupEventsRequest,
    ) -> Result<v1::ListGroupEventsResponse, Failure> {
        let name = group(&request.group_id)?;
        let size = page_size(request.page_size)?;
        let from = number_after(&request.page_token)?;
        let since = optional("since_ms", request.since_ms)?.unwrap_or_default();
        let events = self.groups().events(name, from, usize::MAX, call.deadline).await?;
        let mut wanted = events.into_iter().filter(|(_, event)| event.time_ms >= since);
        let page: Vec<_> = wanted.by_ref().take(size).collect();
        let last = page.last().map(|(number, _)| *number).filter(|_| wanted.next().is_some());
        let name_of = |at| self.topic_name_of(at);
        let events = page.into_iter().map(|(number, it)| event(number, it, &name_of)).collect();
        Ok(v1::ListGroupEventsResponse {
            events,
            next_page_token: last.map_or_else(String::new, page_token),
            ..v1::ListGroupEventsResponse::default()
        })
    }
}
