//! The group commands from their words to their output, against a coordinator that answers what a test has put in it.

#![allow(clippy::disallowed_methods, reason = "a test fixture")]

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use clap::Parser;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use waymark_client::cli::{self, Call, Exit, Output};
use waymark_proto::transport::{self, BoxedIo, Connecting, Dial, Purpose};
use waymark_proto::v1 as wire;
use wire::{FailureCode as Code, RetryClass as Class};

/// What the coordinator answers, and what it was asked.
#[derive(Debug, Clone, Default)]
struct Desk {
    groups: Vec<wire::GroupDescription>,
    lag: Vec<wire::GroupLag>,
    events: Vec<wire::GroupEvent>,
    moves: wire::ResetOffsetsResponse,
    deletion: Option<wire::Failure>,
    /// Refuses that many calls as if it were not ready.
    loading: u32,
    resets: Vec<wire::ResetOffsetsRequest>,
    undos: Vec<wire::UndoOffsetsRequest>,
    /// What becomes of the next resets and undos; those beyond are answered.
    turns: VecDeque<Turn>,
    pages: Vec<String>,
}

/// How a move goes wrong.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// The group was moved between the look at it and the move: by somebody else, or by a move whose answer was lost.
    MovedSince,
    /// Nobody hears what became of it.
    AnswerLost,
}

impl Desk {
    /// The answer to a move.
    fn moved(&mut self) -> Answer<wire::ResetOffsetsResponse> {
        match self.turns.pop_front() {
            None => Ok(Response::new(self.moves.clone())),
            Some(Turn::AnswerLost) => Err(Status::unavailable("the connection is gone")),
            Some(Turn::MovedSince) => {
                self.groups[0].generation += 1;
                let failure = Some(failure(Code::ConditionFailed, Class::Fix));
                Ok(Response::new(wire::ResetOffsetsResponse { failure, ..Default::default() }))
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Fake {
    desk: Arc<Mutex<Desk>>,
    connections: mpsc::UnboundedSender<io::Result<BoxedIo>>,
}

impl Dial for Fake {
    fn connect(&self, _: &str) -> Connecting {
        let fake = self.clone();
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(1 << 20);
            fake.connections.send(Ok(BoxedIo::new(far, None))).unwrap();
            Ok(BoxedIo::new(near, None))
        })
    }
}

impl Fake {
    fn start(desk: Desk) -> Self {
        let (connections, receiver) = mpsc::unbounded_channel();
        let fake = Self { desk: Arc::new(Mutex::new(desk)), connections };
        let server = fake.clone();
        tokio::spawn(async move {
            let incoming = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
            transport::server(Purpose::Client)
                .add_service(wire::group_service_server::GroupServiceServer::new(server.clone()))
                .add_service(wire::cluster_service_server::ClusterServiceServer::new(server))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        fake
    }

    /// How the command ended, what it printed, and its error.
    async fn waymark(&self, line: &str) -> (Exit, String, String) {
        let mut words = vec!["waymark", "group"];
        words.extend(line.split(' '));
        words.extend(["--bootstrap", "alive:1", "--timeout", "5s"]);
        let Arguments { call: Call { command, mut global } } =
            Arguments::try_parse_from(words).unwrap();
        global.dial = Some(Arc::new(self.clone()));
        let (mut out, captured) = Output::captured(global.output);
        let outcome = cli::execute(command, &global, &mut out, CancellationToken::new()).await;
        drop(out);
        let (exit, error) = match outcome {
            Ok(exit) => (exit, String::new()),
            Err(failure) => (failure.exit(), failure.to_string()),
        };
        (exit, captured.text(), error)
    }
}

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    call: Call,
}

fn failure(code: Code, retry: Class) -> wire::Failure {
    let mut failure = wire::Failure::default();
    failure.set_code(code);
    failure.set_retry(retry);
    failure
}

fn topic(name: &str) -> Option<wire::TopicRef> {
    Some(wire::TopicRef { name: name.to_owned(), ..Default::default() })
}

fn missing() -> Status {
    Status::unimplemented("not in the box")
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl wire::group_service_server::GroupService for Fake {
    type SessionStream = tokio_stream::Empty<Result<wire::CoordinatorUpdate, Status>>;

    async fn session(
        &self,
        _: Request<tonic::Streaming<wire::MemberUpdate>>,
    ) -> Answer<Self::SessionStream> {
        Err(missing())
    }

    async fn heartbeat(&self, _: Request<wire::MemberUpdate>) -> Answer<wire::CoordinatorUpdate> {
        Err(missing())
    }

    /// One group a page.
    async fn list_groups(
        &self,
        request: Request<wire::ListGroupsRequest>,
    ) -> Answer<wire::ListGroupsResponse> {
        let mut desk = self.desk.lock().unwrap();
        let token = request.into_inner().page_token;
        let at = token.parse().unwrap_or(0_usize);
        desk.pages.push(token);
        let page = desk.groups.get(at).map(|group| wire::GroupSummary {
            group_id: group.group_id.clone(),
            state: group.state,
            ..Default::default()
        });
        let more = at + 1 < desk.groups.len();
        Ok(Response::new(wire::ListGroupsResponse {
            groups: page.into_iter().collect(),
            next_page_token: if more { (at + 1).to_string() } else { String::new() },
            silent_nodes: if more { Vec::new() } else { vec![3] },
            ..Default::default()
        }))
    }

    async fn describe_groups(
        &self,
        request: Request<wire::DescribeGroupsRequest>,
    ) -> Answer<wire::DescribeGroupsResponse> {
        let mut desk = self.desk.lock().unwrap();
        let loading = desk.loading > 0;
        desk.loading = desk.loading.saturating_sub(1);
        let groups = request.into_inner().group_ids.into_iter().map(|group_id| {
            if loading {
                let failure = Some(failure(Code::CoordinatorLoading, Class::Retry));
                return wire::GroupDescription { group_id, failure, ..Default::default() };
            }
            let found = desk.groups.iter().find(|group| group.group_id == group_id).cloned();
            let failure = Some(failure(Code::GroupNotFound, Class::Fix));
            found.unwrap_or(wire::GroupDescription { group_id, failure, ..Default::default() })
        });
        let groups = groups.collect();
        Ok(Response::new(wire::DescribeGroupsResponse { groups, ..Default::default() }))
    }

    async fn delete_groups(
        &self,
        request: Request<wire::DeleteGroupsRequest>,
    ) -> Answer<wire::DeleteGroupsResponse> {
        let refused = self.desk.lock().unwrap().deletion.clone();
        let results = request.into_inner().group_ids.into_iter().map(|group_id| {
            let failure = refused.clone().filter(|_| group_id == "busy");
            wire::GroupResult { group_id, failure }
        });
        let results = results.collect();
        Ok(Response::new(wire::DeleteGroupsResponse { results, ..Default::default() }))
    }

    async fn remove_members(
        &self,
        request: Request<wire::RemoveMembersRequest>,
    ) -> Answer<wire::RemoveMembersResponse> {
        let results = request.into_inner().member_ids.into_iter().map(|member_id| {
            let failure =
                (member_id == "gone").then(|| failure(Code::UnknownMember, Class::Fenced));
            wire::MemberResult { member_id, failure, ..Default::default() }
        });
        let results = results.collect();
        Ok(Response::new(wire::RemoveMembersResponse { results, ..Default::default() }))
    }

    async fn reset_offsets(
        &self,
        request: Request<wire::ResetOffsetsRequest>,
    ) -> Answer<wire::ResetOffsetsResponse> {
        let mut desk = self.desk.lock().unwrap();
        desk.resets.push(request.into_inner());
        desk.moved()
    }

    async fn undo_offsets(
        &self,
        request: Request<wire::UndoOffsetsRequest>,
    ) -> Answer<wire::ResetOffsetsResponse> {
        let mut desk = self.desk.lock().unwrap();
        desk.undos.push(request.into_inner());
        desk.moved()
    }

    async fn list_offset_history(
        &self,
        _: Request<wire::ListOffsetHistoryRequest>,
    ) -> Answer<wire::ListOffsetHistoryResponse> {
        let mut change =
            wire::OffsetChange { partition: Some(0), after: Some(7), ..Default::default() };
        change.topic = topic("t");
        change.set_kind(wire::OffsetChangeKind::Commit);
        change.set_cause(wire::CommitCause::Auto);
        let changes = vec![change];
        Ok(Response::new(wire::ListOffsetHistoryResponse { changes, ..Default::default() }))
    }

    async fn list_group_events(
        &self,
        _: Request<wire::ListGroupEventsRequest>,
    ) -> Answer<wire::ListGroupEventsResponse> {
        let events = self.desk.lock().unwrap().events.clone();
        Ok(Response::new(wire::ListGroupEventsResponse { events, ..Default::default() }))
    }

    async fn get_lag(&self, request: Request<wire::GetLagRequest>) -> Answer<wire::GetLagResponse> {
        let wanted = request.into_inner().group_ids;
        let mut groups = self.desk.lock().unwrap().lag.clone();
        groups.retain(|lag| wanted.is_empty() || wanted.contains(&lag.group_id));
        Ok(Response::new(wire::GetLagResponse { groups, ..Default::default() }))
    }
}

#[tonic::async_trait]
impl wire::cluster_service_server::ClusterService for Fake {
    async fn get_server_info(
        &self,
        _: Request<wire::GetServerInfoRequest>,
    ) -> Answer<wire::GetServerInfoResponse> {
        Ok(Response::new(wire::GetServerInfoResponse::default()))
    }

    type WatchMetadataStream = tokio_stream::Empty<Result<wire::GetMetadataResponse, Status>>;

    async fn watch_metadata(
        &self,
        _: Request<wire::WatchMetadataRequest>,
    ) -> Answer<Self::WatchMetadataStream> {
        Err(missing())
    }

    async fn find_coordinators(
        &self,
        _: Request<wire::FindCoordinatorsRequest>,
    ) -> Answer<wire::FindCoordinatorsResponse> {
        Err(missing())
    }

    async fn describe_cluster(
        &self,
        _: Request<wire::DescribeClusterRequest>,
    ) -> Answer<wire::DescribeClusterResponse> {
        Err(missing())
    }

    async fn get_health(
        &self,
        _: Request<wire::GetHealthRequest>,
    ) -> Answer<wire::GetHealthResponse> {
        Err(missing())
    }

    async fn verify_replicas(
        &self,
        _: Request<wire::VerifyReplicasRequest>,
    ) -> Answer<wire::VerifyReplicasResponse> {
        Err(missing())
    }

    async fn transfer_leaders(
        &self,
        _: Request<wire::TransferLeadersRequest>,
    ) -> Answer<wire::TransferLeadersResponse> {
        Err(missing())
    }

    async fn get_metadata(
        &self,
        _: Request<wire::GetMetadataRequest>,
    ) -> Answer<wire::GetMetadataResponse> {
        Err(missing())
    }
}

/// Two groups; of `g` partition 0 is known and partition 1 is not.
fn desk() -> Desk {
    let group = |name: &str| {
        let mut group = wire::GroupDescription { group_id: name.to_owned(), ..Default::default() };
        group.set_state(wire::GroupState::Stable);
        group
    };
    let known = wire::PartitionLag {
        topic: topic("t"),
        partition: Some(0),
        committed_offset: Some(5),
        high_watermark: 5,
        records: Some(0),
        behind_ms: Some(0),
        ..Default::default()
    };
    let unknown =
        wire::PartitionLag { topic: topic("t"), partition: Some(1), ..Default::default() };
    let partitions = vec![known, unknown];
    let lag = wire::GroupLag { group_id: "g".to_owned(), partitions, ..Default::default() };
    Desk { groups: vec![group("g"), group("h")], lag: vec![lag], ..Desk::default() }
}

fn moved(partition: i32, failure: Option<wire::Failure>) -> wire::OffsetMove {
    wire::OffsetMove {
        topic: topic("t"),
        partition: Some(partition),
        before: Some(10),
        after: Some(4),
        replayed: 6,
        failure,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_list_follows_its_pages_and_says_whose_groups_are_missing() {
    let fake = Fake::start(desk());
    let (exit, out, error) = fake.waymark("list --output json").await;
    assert_eq!((exit, error.as_str()), (Exit::Different, ""));
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&told["groups"][0]["group"], &told["groups"][1]["group"]),
        (&"g".into(), &"h".into())
    );
    assert_eq!(told["silent_nodes"], serde_json::json!([3]));
    assert_eq!(fake.desk.lock().unwrap().pages, ["", "1"]);
}

#[tokio::test]
async fn a_description_tells_no_lag_from_a_lag_that_is_not_known() {
    let fake = Fake::start(Desk { loading: 1, ..desk() });
    let (exit, out, error) = fake.waymark("describe g --output json").await;
    assert_eq!((exit, error.as_str()), (Exit::Done, ""));
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let partitions = &told["partitions"];
    assert_eq!((&partitions[0]["lag"], &partitions[0]["log_end"]), (&0.into(), &5.into()));
    assert!(partitions[1]["lag"].is_null() && partitions[1]["log_end"].is_null(), "{out}");
    assert_eq!(told["unknown_partitions"], 1);
}

#[tokio::test]
async fn a_group_that_does_not_exist_says_where_to_look() {
    let fake = Fake::start(desk());
    let (exit, _, error) = fake.waymark("members nope").await;
    assert_eq!(exit, Exit::Refused);
    assert!(error.contains("waymark group list"), "{error}");
}

#[tokio::test]
async fn a_group_with_members_is_not_deleted_and_says_what_to_do() {
    let refused = Some(failure(Code::GroupNotEmpty, Class::Fix));
    let fake = Fake::start(Desk { deletion: refused, ..desk() });
    let (exit, out, error) = fake.waymark("delete busy idle").await;
    assert_eq!((exit, out.as_str()), (Exit::Refused, "deleted group idle\n"));
    assert!(error.contains("waymark group remove-member busy --all"), "{error}");
}

#[tokio::test]
async fn a_reset_asks_for_what_was_written_and_tells_what_will_be_read_again() {
    let moves = vec![moved(0, None), moved(1, None)];
    let response = wire::ResetOffsetsResponse { moves, members: 3, ..Default::default() };
    let fake = Fake::start(Desk { moves: response, ..desk() });
    let (exit, out, error) = fake.waymark("reset g --topic t:1 --to 4 --dry-run --note why").await;
    assert_eq!((exit, error.as_str()), (Exit::Done, ""));
    let summary = "dry run, nothing changed: 12 records to replay, 0 records to skip; 3 members would go on from there";
    assert!(out.contains(summary), "{out}");
    let asked = fake.desk.lock().unwrap().resets.remove(0);
    assert!(asked.dry_run && asked.note == "why");
    assert_eq!((asked.targets[0].to(), asked.targets[0].offset), (wire::ResetTo::Offset, Some(4)));
    assert_eq!(asked.targets[0].partition.as_ref().unwrap().partition, Some(1));
}

#[tokio::test]
async fn a_reset_says_in_which_generation_the_group_was_seen() {
    let fake = Fake::start(Desk { turns: [Turn::MovedSince; 2].into(), ..desk() });
    let (exit, _, error) = fake.waymark("reset g --to 4").await;
    assert_eq!((exit, error.as_str()), (Exit::Done, ""));
    let asked = |fake: &Fake| -> Vec<Option<i32>> {
        let resets = std::mem::take(&mut fake.desk.lock().unwrap().resets);
        resets.iter().map(|it| it.seen_generation).collect()
    };
    assert_eq!(asked(&fake), [Some(0), Some(1), Some(2)]);
    let (exit, _, _) = fake.waymark("reset new --to 4").await;
    assert_eq!((exit, asked(&fake)), (Exit::Done, vec![Some(0)]), "there is no such group yet");
    let (exit, _, _) = fake.waymark("reset g --to 4 --dry-run").await;
    assert_eq!((exit, asked(&fake)), (Exit::Done, vec![None]));
}

#[tokio::test]
async fn an_undo_that_others_are_always_faster_than_is_refused() {
    let fake = Fake::start(Desk { turns: [Turn::MovedSince; 100].into(), ..desk() });
    let (exit, _, error) = fake.waymark("undo g --to 1h").await;
    assert_eq!(exit, Exit::Refused, "{error}");
    let undos = std::mem::take(&mut fake.desk.lock().unwrap().undos);
    let seen: Vec<Option<i32>> = undos.iter().map(|it| it.seen_generation).collect();
    assert_eq!(seen, [Some(0), Some(1), Some(2)]);
}

#[tokio::test]
async fn a_move_whose_answers_were_lost_is_not_told_as_refused() {
    let mut turns = VecDeque::from([Turn::AnswerLost]);
    turns.extend([Turn::MovedSince; 3]);
    for line in ["reset g --to 4", "undo g --to 1h"] {
        let fake = Fake::start(Desk { turns: turns.clone(), ..desk() });
        let (exit, _, error) = fake.waymark(line).await;
        assert_eq!(exit, Exit::Refused, "{line}: {error}");
        assert!(error.contains("an earlier attempt may have been done"), "{line}: {error}");
    }
}

#[tokio::test]
async fn what_describe_wrote_can_be_given_back_to_reset() {
    let fake = Fake::start(desk());
    let (_, out, _) = fake.waymark("describe g --output json").await;
    let path = std::env::temp_dir().join(format!("waymark-group-{}.json", std::process::id()));
    std::fs::write(&path, out).unwrap();
    let (exit, _, error) = fake.waymark(&format!("reset g --from-file {}", path.display())).await;
    std::fs::remove_file(&path).unwrap();
    assert_eq!((exit, error.as_str()), (Exit::Done, ""));
    let asked = fake.desk.lock().unwrap().resets.remove(0);
    assert_eq!(asked.targets.len(), 1, "a partition without a commit is no target");
    assert_eq!(asked.targets[0].offset, Some(5));
}

#[tokio::test]
async fn a_partition_that_was_not_moved_is_told_and_is_an_error() {
    let bad = failure(Code::PartitionNotFound, Class::Fix);
    let moves = vec![moved(0, None), moved(9, Some(bad))];
    let response =
        wire::ResetOffsetsResponse { moves, generation: Some(8), members: 1, ..Default::default() };
    let fake = Fake::start(Desk { moves: response, ..desk() });
    let (exit, out, _) = fake.waymark("undo g --to 1h").await;
    assert_eq!(exit, Exit::Refused);
    assert!(out.contains("NOT moved"), "{out}");
    assert!(out.contains("generation 8: 6 records to replay"), "{out}");
    assert!(out.contains("1 member goes on from there"), "{out}");
}

#[tokio::test]
async fn an_explanation_is_made_of_the_groups_own_events() {
    let mut event =
        wire::GroupEvent { member_id: "m".to_owned(), took_ms: Some(6000), ..Default::default() };
    event.set_kind(wire::GroupEventKind::Expelled);
    event.set_expel_cause(wire::ExpelCause::Heartbeat);
    let fake = Fake::start(Desk { events: vec![event], ..desk() });
    let (exit, out, _) = fake.waymark("explain g").await;
    assert_eq!(exit, Exit::Done);
    assert!(out.contains("m was expelled: connected, but without a heartbeat for 6 s"), "{out}");
    let (_, out, _) = fake.waymark("explain g --output json").await;
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["findings"][0]["cause"], "heartbeat");
}

#[tokio::test]
async fn expelling_tells_each_member_and_fails_for_one_that_is_not_there() {
    let fake = Fake::start(desk());
    let (exit, out, error) = fake.waymark("remove-member g --member here --member gone").await;
    assert_eq!((exit, out.as_str()), (Exit::Refused, "expelled here from group g\n"));
    assert!(error.contains("UNKNOWN_MEMBER"), "{error}");
}

#[tokio::test]
async fn history_and_watch_are_lines_where_nobody_watches() {
    let fake = Fake::start(desk());
    let (exit, out, _) = fake.waymark("history g").await;
    assert_eq!(exit, Exit::Done);
    assert!(out.contains("commit") && out.contains("AUTO"), "{out}");
    let (exit, out, _) = fake.waymark("watch g --interval 100ms -n 2").await;
    assert_eq!(exit, Exit::Done);
    assert_eq!(out.matches("group g  state").count(), 2, "{out}");
    assert!(!out.contains('\u{1b}'), "{out}");
}
