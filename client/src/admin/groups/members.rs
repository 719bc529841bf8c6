//! Owns listing, describing and deleting groups, and expelling members. Who may stay is the coordinator's decision.

use waymark_proto::v1 as wire;

use super::model::description;
use super::{GroupDescription, GroupFilter, GroupListing, GroupListings, PAGE, service, some};
use crate::admin::{Admin, Outcomes, only};
use crate::error::Result;
use crate::refusal::check;
use crate::retry::Repeat;

/// Which members to expel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MembersToRemove {
    /// By member id.
    pub member_ids: Vec<String>,
    /// By instance id.
    pub instance_ids: Vec<String>,
    /// Every one.
    pub all: bool,
    /// Why; kept in the group's events.
    pub note: String,
}

/// What became of one member.
#[derive(Debug, Clone)]
pub struct MemberRemoval {
    /// Its member id; `None` where it was named by its instance and is not there.
    pub member_id: Option<String>,
    /// Its instance id, if it has one.
    pub instance_id: Option<String>,
    /// Whether it was expelled.
    pub outcome: Result<()>,
}

impl Admin {
    /// All groups that the filter lets through, by name.
    ///
    /// # Errors
    /// When the pattern is not legal or no node answers in time. Nodes that did not answer are no error: the answer names
    /// them.
    pub async fn list_groups(&self, filter: &GroupFilter) -> Result<GroupListings> {
        let mut all = GroupListings::default();
        let mut token = String::new();
        loop {
            let request = &filter.page(PAGE, token);
            let page = self
                .client
                .call("listing groups", Repeat::Harmless, |link, timeout| async move {
                    let call = link.call(request.clone(), timeout);
                    let answer = service(&link).list_groups(call).await;
                    let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
                    check(answer.failure.as_ref()).map(|()| answer)
                })
                .await?;
            all.groups.extend(page.groups.into_iter().map(GroupListing::from));
            all.silent_nodes.extend(page.silent_nodes);
            token = page.next_page_token;
            if token.is_empty() {
                all.silent_nodes.sort_unstable();
                all.silent_nodes.dedup();
                return Ok(all);
            }
        }
    }

    /// One group in detail.
    ///
    /// # Errors
    /// When it does not exist or no node answers in time.
    pub async fn describe_group(&self, group: impl Into<String>) -> Result<GroupDescription> {
        only(self.describe_groups([group]).await?)
    }

    /// Groups in detail.
    ///
    /// # Errors
    /// When no node answers in time; each group has its own outcome.
    pub async fn describe_groups<S: Into<String>>(
        &self,
        groups: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Result<GroupDescription>>> {
        let groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        self.each("describing groups", groups, |link, timeout, group_ids| async move {
            let call = link.call(wire::DescribeGroupsRequest { group_ids }, timeout);
            let answer = service(&link).describe_groups(call).await;
            let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
            check(answer.failure.as_ref())?;
            Ok(answer.groups.into_iter().map(description).collect())
        })
        .await
    }

    /// Deletes groups, with their offsets and their history. Only groups without members can be deleted.
    ///
    /// # Errors
    /// When no node answers in time; each group has its own outcome.
    pub async fn delete_groups<S: Into<String>>(
        &self,
        groups: impl IntoIterator<Item = S>,
        dry_run: bool,
    ) -> Result<Vec<Result<()>>> {
        let groups: Vec<String> = groups.into_iter().map(Into::into).collect();
        self.each("deleting groups", groups, |link, timeout, group_ids| async move {
            let request = wire::DeleteGroupsRequest { group_ids, validate_only: dry_run };
            let call = link.call(request, timeout);
            let answer = service(&link).delete_groups(call).await;
            let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
            check(answer.failure.as_ref())?;
            let outcomes: Outcomes<()> =
                answer.results.iter().map(|result| check(result.failure.as_ref())).collect();
            Ok(outcomes)
        })
        .await
    }

    /// Expels members of a group; their partitions go to others. A process that still runs joins anew: stop it first.
    ///
    /// # Errors
    /// When the group does not exist or no node answers in time; each member has its own outcome.
    pub async fn remove_group_members(
        &self,
        group: &str,
        members: MembersToRemove,
    ) -> Result<Vec<MemberRemoval>> {
        let request = &wire::RemoveMembersRequest {
            group_id: group.to_owned(),
            member_ids: members.member_ids,
            instance_ids: members.instance_ids,
            all: members.all,
            note: members.note,
        };
        // Every member once, even if the answer is lost: one that is gone already is told as not a member.
        let answer = self
            .client
            .call("expelling members", Repeat::Harmless, |link, timeout| async move {
                let call = link.call(request.clone(), timeout);
                let answer = service(&link).remove_members(call).await;
                let answer = answer.map_err(|s| link.failure(&s))?.into_inner();
                check(answer.failure.as_ref()).map(|()| answer)
            })
            .await?;
        let removal = |result: wire::MemberResult| MemberRemoval {
            outcome: check(result.failure.as_ref()),
            member_id: some(result.member_id),
            instance_id: some(result.instance_id),
        };
        Ok(answer.results.into_iter().map(removal).collect())
    }
}
