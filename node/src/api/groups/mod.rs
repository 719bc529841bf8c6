//! The group service: members at their coordinator, operators anywhere. Owns the way of a call to the node that
//! coordinates, and lists that no single node knows. What a message means for the group is decided below.

mod listing;
mod reset;
mod session;

use futures::future::join_all;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::TopicPartition;
use waymark_proto::v1;
use waymark_proto::v1::group_service_client::GroupServiceClient;
use waymark_proto::v1::group_service_server::GroupService;

use super::Api;
use super::call::Call;
use super::convert::cluster::node;
use super::convert::fields::group;
use super::convert::group_history::{description, group_lag, undescribed};
use super::convert::groups::{refused, told, update};
use super::convert::offsets::{MAX_NOTE, commit_item};
use super::naming::bounded;
use super::refusal::{invalid, refuse};
use super::spread::ask_leaders;
use crate::broker::groups::seam::{MemberId, SharedGroups, Summary};

#[async_trait::async_trait]
impl GroupService for Api {
    type SessionStream = ReceiverStream<Result<v1::CoordinatorUpdate, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::MemberUpdate>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let call = Call::of(&request);
        Ok(Response::new(session::open(self, call, request.into_inner())))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::MemberUpdate>,
    ) -> Result<Response<v1::CoordinatorUpdate>, Status> {
        let call = Call::of(&request);
        let number = request.get_ref().message_number;
        match self.updated(&call, request.into_inner()).await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(failure) if failure.code == FailureCode::NotCoordinator => {
                Err(self.refused(&call, &failure))
            }
            Err(failure) => Ok(Response::new(refused(failure, number))),
        }
    }

    async fn list_groups(
        &self,
        request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let call = Call::of(&request);
        let listed = self.listed(&call, request.into_inner()).await;
        listed.map(Response::new).map_err(|failure| self.refused(&call, &failure))
    }

    async fn describe_groups(
        &self,
        request: Request<v1::DescribeGroupsRequest>,
    ) -> Result<Response<v1::DescribeGroupsResponse>, Status> {
        let call = Call::of(&request);
        let names = request.into_inner().group_ids;
        bounded(names.len())?;
        let described = names.iter().map(|name| self.described_group(&call, name));
        let mut groups = join_all(described).await;
        ask_leaders(self, &call, &names, &mut groups, |channel, part| {
            Box::pin(async move {
                let part = part.map(|group_ids| v1::DescribeGroupsRequest { group_ids });
                let answer = GroupServiceClient::new(channel).describe_groups(part).await?;
                Ok(answer.into_inner().groups)
            })
        })
        .await?;
        Ok(Response::new(v1::DescribeGroupsResponse { groups, ..Default::default() }))
    }

    async fn delete_groups(
        &self,
        request: Request<v1::DeleteGroupsRequest>,
    ) -> Result<Response<v1::DeleteGroupsResponse>, Status> {
        let call = Call::of(&request);
        let v1::DeleteGroupsRequest { group_ids: names, validate_only } = request.into_inner();
        bounded(names.len())?;
        let deleted = names.iter().map(|name| async {
            let failure = self.deleted(&call, name, validate_only).await.err().map(Failure::into);
            v1::GroupResult { group_id: name.clone(), failure }
        });
        let mut results = join_all(deleted).await;
        ask_leaders(self, &call, &names, &mut results, move |channel, part| {
            Box::pin(async move {
                let part =
                    part.map(|group_ids| v1::DeleteGroupsRequest { group_ids, validate_only });
                let answer = GroupServiceClient::new(channel).delete_groups(part).await?;
                Ok(answer.into_inner().results)
            })
        })
        .await?;
        Ok(Response::new(v1::DeleteGroupsResponse { results, ..Default::default() }))
    }

    async fn remove_members(
        &self,
        request: Request<v1::RemoveMembersRequest>,
    ) -> Result<Response<v1::RemoveMembersResponse>, Status> {
        let call = Call::of(&request);
        let removed = self.removed(&call, request.into_inner()).await;
        removed.map(Response::new).map_err(|failure| self.refused(&call, &failure))
    }

    async fn reset_offsets(
        &self,
        request: Request<v1::ResetOffsetsRequest>,
    ) -> Result<Response<v1::ResetOffsetsResponse>, Status> {
        let call = Call::of(&request);
        let reset = self.reset(&call, request.into_inner()).await;
        reset.map(Response::new).map_err(|failure| self.refused(&call, &failure))
    }

    async fn undo_offsets(
        &self,
        request: Request<v1::UndoOffsetsRequest>,
    ) -> Result<Response<v1::ResetOffsetsResponse>, Status> {
        let call = Call::of(&request);
        let undone = self.undo(&call, request.into_inner()).await;
        undone.map(Response::new).map_err(|failure| self.refused(&call, &failure))
    }

    async fn list_offset_history(
        &self,
        request: Request<v1::ListOffsetHistoryRequest>,
    ) -> Result<Response<v1::ListOffsetHistoryResponse>, Status> {
        let call = Call::of(&request);
        let told = self.history_of(&call, request.into_inner()).await;
        told.map(Response::new).map_err(|failure| self.refused(&call, &failure))
    }

    async fn list_group_events(
        &self,
        request: Request<v1::ListGroupEventsRequest>,
    ) -> Result<Response<v1::ListGroupEventsResponse>, Status> {
        let call = Call::of(&request);
        let told = self.events_of(&call, request.into_inner()).await;
        told.map(Response::new).map_err(|failure| self.refused(&call, &failure))
    }

    async fn get_lag(
        &self,
        request: Request<v1::GetLagRequest>,
    ) -> Result<Response<v1::GetLagResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let (names, next_page_token) = if request.group_ids.is_empty() {
            self.page_of_groups(&call, request.page_size, request.page_token)
                .await
                .map_err(|failure| self.refused(&call, &failure))?
        } else {
            bounded(request.group_ids.len())?;
            (request.group_ids, String::new())
        };
        let measured = self.groups().lags(&names, call.deadline).await;
        let told = names.iter().zip(measured);
        let name_of = |at| self.topic_name_of(at);
        let mut groups: Vec<v1::GroupLag> =
            told.map(|(name, lag)| group_lag(name, lag, &name_of)).collect();
        ask_leaders(self, &call, &names, &mut groups, |channel, part| {
            Box::pin(async move {
                let part =
                    part.map(|group_ids| v1::GetLagRequest { group_ids, ..Default::default() });
                let answer = GroupServiceClient::new(channel).get_lag(part).await?;
                Ok(answer.into_inner().groups)
            })
        })
        .await?;
        Ok(Response::new(v1::GetLagResponse { groups, next_page_token, ..Default::default() }))
    }
}

impl Api {
    fn groups(&self) -> &SharedGroups {
        &self.parts.groups
    }

    /// A member's message, and its answer.
    async fn updated(
        &self,
        call: &Call,
        message: v1::MemberUpdate,
    ) -> Result<v1::CoordinatorUpdate, Failure> {
        let (given, number) = (message.final_offsets.clone(), message.message_number);
        let topics = self.topics_of(given.iter().map(|item| item.topic.as_ref())).await;
        // A topic that is gone refuses its own offset, not the member's whole message.
        let read = given.iter().map(|item| {
            let (_, at) = topics.partition(item.topic.as_ref(), item.partition)?;
            commit_item(at, item)
        });
        let read: Vec<Result<_, Failure>> = read.collect();
        let good = read.iter().flatten().cloned().collect();
        let actor = call.actor(&message.member_id);
        let update = update(message, good, actor)?;
        let mut answer = self.groups().update(update, call.deadline).await?;
        let mut stored = std::mem::take(&mut answer.final_offsets).into_iter();
        let outcomes = read.into_iter().map(|it| match it {
            Ok(_) => stored.next().unwrap_or(Ok(())),
            Err(failure) => Err(failure),
        });
        let given = given.into_iter().zip(outcomes).collect();
        Ok(told(&answer, given, number))
    }

    async fn described_group(&self, call: &Call, name: &str) -> v1::GroupDescription {
        let described = async {
            let group = group(name)?;
            self.groups().describe(group, call.deadline).await
        };
        match described.await {
            Ok(it) => {
                let coordinator = self.node_view(&it.summary);
                description(it, coordinator, &|at| self.topic_name_of(at))
            }
            Err(failure) => undescribed(name.to_owned(), failure),
        }
    }

    fn node_view(&self, it: &Summary) -> Option<v1::Node> {
        let nodes = self.admin().nodes();
        nodes.into_iter().find(|view| view.node == it.coordinator).map(node)
    }

    fn topic_name_of(&self, at: TopicPartition) -> String {
        self.admin().topic_name(at.topic).unwrap_or_default()
    }

    async fn deleted(&self, call: &Call, name: &str, validate_only: bool) -> Result<(), Failure> {
        let name = group(name)?;
        if validate_only {
            let described = self.groups().describe(name, call.deadline).await?;
            if described.summary.members == 0 {
                return Ok(());
            }
            let message = "the group has members: stop them first";
            return Err(refuse(FailureCode::GroupNotEmpty, message));
        }
        self.groups().delete(name, call.actor(""), call.deadline).await
    }

    async fn removed(
        &self,
        call: &Call,
        request: v1::RemoveMembersRequest,
    ) -> Result<v1::RemoveMembersResponse, Failure> {
        let name = group(&request.group_id)?;
        let named = !request.member_ids.is_empty() || !request.instance_ids.is_empty();
        if request.all == named {
            return Err(invalid("all", "set, or members named; not both, not neither"));
        }
        if request.note.len() > MAX_NOTE {
            return Err(invalid("note", "at most 1024 bytes"));
        }
        let members = self.groups().describe(name, call.deadline).await?.members;
        let mut gone: Vec<MemberId> = Vec::new();
        let mut results = Vec::new();
        let meant = |result: &v1::MemberResult| {
            members.iter().find(|it| {
                let by_instance = !result.instance_id.is_empty();
                (by_instance && it.instance == result.instance_id)
                    || (!by_instance && it.member == result.member_id)
            })
        };
        for mut result in named_members(&request, &members) {
            match meant(&result) {
                Some(member) => {
                    gone.push(member.member.as_str().into());
                    result.member_id.clone_from(&member.member);
                    result.instance_id.clone_from(&member.instance);
                }
                None => {
                    let stranger = refuse(FailureCode::UnknownMember, "not a member of the group");
                    result.failure = Some(stranger.into());
                }
            }
            results.push(result);
        }
        if !gone.is_empty() {
            let who = (call.actor(""), request.note.clone());
            self.groups().remove(name, gone, who, call.deadline).await?;
        }
        Ok(v1::RemoveMembersResponse { results, ..Default::default() })
    }
}

fn named_members(
    request: &v1::RemoveMembersRequest,
    members: &[crate::broker::groups::seam::MemberState],
) -> Vec<v1::MemberResult> {
    let by_id = |id: &str| v1::MemberResult { member_id: id.to_owned(), ..Default::default() };
    if request.all {
        return members.iter().map(|it| by_id(&it.member)).collect();
    }
    let seats = request
        .instance_ids
        .iter()
        .map(|id| v1::MemberResult { instance_id: id.clone(), ..v1::MemberResult::default() });
    request.member_ids.iter().map(|id| by_id(id)).chain(seats).collect()
}
