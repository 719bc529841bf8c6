//! One session of a member: its messages in, each answered, and whatever changes for it in between. Owns what the member
//! was last told, so that only news is sent. The end of a session is no leave.

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::v1;

use super::super::Api;
use super::super::call::Call;
use super::super::convert::groups::{refused, told};

const MESSAGES_WAITING: usize = 4;
/// Answers no message.
const PUSHED: i64 = 0;

type Answers = mpsc::Sender<Result<v1::CoordinatorUpdate, Status>>;

/// Serves a session until either side ends it.
pub(super) fn open(
    api: &Api,
    call: Call,
    messages: Streaming<v1::MemberUpdate>,
) -> ReceiverStream<Result<v1::CoordinatorUpdate, Status>> {
    let (out, answers) = mpsc::channel(MESSAGES_WAITING);
    let session = Session { api: api.clone(), call, out, member: None, last: None };
    tokio::spawn(session.serve(messages));
    ReceiverStream::new(answers)
}

/// Who is at the other end, from its first message on.
struct Seat {
    group: String,
    member: String,
    changes: watch::Receiver<u64>,
}

struct Session {
    api: Api,
    call: Call,
    out: Answers,
    member: Option<Seat>,
    /// What the member knows: its assignment, and what it was asked to give up.
    last: Option<(Option<v1::Assignment>, Vec<v1::Revoke>)>,
}

impl Session {
    async fn serve(mut self, mut messages: Streaming<v1::MemberUpdate>) {
        let draining = self.api.draining();
        loop {
            let out = self.out.clone();
            let goes_on = tokio::select! {
                message = messages.message() => match message {
                    Ok(Some(message)) => self.hear(message).await,
                    Ok(None) | Err(_) => false,
                },
                () = changed(self.member.as_mut()) => self.look().await,
                () = out.closed() => false,
                // The member's next session finds the coordinator of then.
                () = draining.cancelled() => false,
            };
            if !goes_on {
                break;
            }
        }
        self.leave_seat();
    }

    async fn hear(&mut self, message: v1::MemberUpdate) -> bool {
        let seat = self.new_seat(&message);
        let (leaves, number) = (message.leave != 0, message.message_number);
        // A session outlives every deadline; each of its messages has one of its own.
        let call = self.call.again();
        let answer = match self.api.updated(&call, message).await {
            Ok(answer) => answer,
            Err(failure) => return self.send_failure(failure, number).await,
        };
        // Only who is a member is known to be connected.
        if let Some(seat) = seat {
            self.leave_seat();
            self.api.groups().connected(&seat.group, &seat.member, true);
            self.member = Some(seat);
        }
        self.last = Some(known(&answer));
        self.out.send(Ok(answer)).await.is_ok() && !leaves
    }

    /// Something changed in the group: the member is told if that concerns it.
    async fn look(&mut self) -> bool {
        let Some(seat) = &self.member else { return true };
        if self.last.is_none() {
            return true;
        }
        match self.api.groups().look(&seat.group, &seat.member).await {
            Ok(now) => {
                let answer = told(&now, Vec::new(), PUSHED);
                if self.last.as_ref().is_some_and(|last| same(last, &known(&answer))) {
                    return true;
                }
                self.last = Some(known(&answer));
                self.out.send(Ok(answer)).await.is_ok()
            }
            Err(failure) => self.send_failure(failure, PUSHED).await,
        }
    }

    /// What the member may do about it stands in the failure. Where another node coordinates, this session is over.
    async fn send_failure(&mut self, failure: Failure, answers: i64) -> bool {
        let over = matches!(
            failure.code,
            FailureCode::NotCoordinator
                | FailureCode::MemberFenced
                | FailureCode::UnknownMember
                | FailureCode::InstanceFenced
        );
        self.out.send(Ok(refused(failure, answers))).await.is_ok() && !over
    }

    /// Who speaks, if that is news. Changes are listened for from before the message is taken, so that none is missed.
    fn new_seat(&self, message: &v1::MemberUpdate) -> Option<Seat> {
        let same = self
            .member
            .as_ref()
            .is_some_and(|seat| seat.group == message.group_id && seat.member == message.member_id);
        if same {
            return None;
        }
        let (group, member) = (message.group_id.clone(), message.member_id.clone());
        let changes = self.api.groups().changes(&group);
        Some(Seat { group, member, changes })
    }

    fn leave_seat(&mut self) {
        if let Some(seat) = self.member.take() {
            self.api.groups().connected(&seat.group, &seat.member, false);
        }
    }
}

async fn changed(seat: Option<&mut Seat>) {
    let Some(seat) = seat else { return std::future::pending().await };
    // Its sender lives as long as the node.
    if seat.changes.changed().await.is_err() {
        std::future::pending().await
    }
}

fn known(answer: &v1::CoordinatorUpdate) -> (Option<v1::Assignment>, Vec<v1::Revoke>) {
    (answer.assignment.clone(), answer.revoke.clone())
}

/// Whether a member would learn nothing. Committed offsets are of use only with a partition that is new to it, and time
/// that has passed is no news.
fn same(
    (before, revoked): &(Option<v1::Assignment>, Vec<v1::Revoke>),
    (after, revoking): &(Option<v1::Assignment>, Vec<v1::Revoke>),
) -> bool {
    let held = |it: &Option<v1::Assignment>| -> Vec<(bytes::Bytes, Option<i32>, i64)> {
        let all = it.iter().flat_map(|it| &it.partitions);
        all.map(|it| (it.topic_id.clone(), it.partition, it.fencing_epoch)).collect()
    };
    let asked = |it: &[v1::Revoke]| -> Vec<(bytes::Bytes, Option<i32>)> {
        it.iter().map(|it| (it.topic_id.clone(), it.partition)).collect()
    };
    held(before) == held(after) && asked(revoked) == asked(revoking)
}
