//! The fetch service's long poll: one pass over the positions, and if there is too little, a wait for their high
//! watermarks and another pass. Never polls by time.

use futures::future::select_all;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use waymark_proto::failure::Failure;
use waymark_proto::v1;
use waymark_proto::v1::fetch_service_server::FetchService;

use super::Api;
use super::call::Call;
use super::convert::fetch::{
    Limits, data, failed, limit_too_small, marks, position, request_limits,
};
use super::cursors::Position;
use super::fetch_stream;
use super::frame::{Fit, Frame};
use super::logs::{Batches, Marks, SharedLogs};
use super::notice::notice;
use super::status::whole_call;

#[async_trait::async_trait]
impl FetchService for Api {
    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<v1::FetchResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let limits = request_limits(&request).map_err(|failure| whole_call(&failure))?;
        let positions: Vec<_> = request.positions.iter().map(position).collect();
        let until = call.deadline_within(Some(limits.max_wait));
        let frame = poll(self.logs(), &positions, limits, until).await;
        let notice = self.draining().is_cancelled().then(notice);
        let answer = v1::FetchResponse { data: frame.data, notice, ..Default::default() };
        Ok(Response::new(answer))
    }

    type FetchStreamStream = ReceiverStream<Result<v1::FetchFrame, Status>>;

    async fn fetch_stream(
        &self,
        request: Request<Streaming<v1::FetchControl>>,
    ) -> Result<Response<Self::FetchStreamStream>, Status> {
        Ok(Response::new(fetch_stream::open(self, request.into_inner())))
    }
}

type Asked = Result<Position, Failure>;

/// Answers once there is enough, something failed, or the time is up.
async fn poll(logs: &SharedLogs, positions: &[Asked], limits: Limits, until: Instant) -> Frame {
    loop {
        let pass = pass(logs, positions, limits).await;
        let enough = pass.frame.bytes >= limits.min_bytes || pass.failed || pass.idle.is_empty();
        if enough || Instant::now() >= until {
            return pass.frame;
        }
        let wakes = pass.idle.iter().map(|(at, seen)| logs.changed(*at, *seen));
        if timeout_at(until, select_all(wakes)).await.is_err() {
            return pass.frame;
        }
    }
}

struct Pass {
    frame: Frame,
    failed: bool,
    /// Partitions that were read to their end, and where they stood.
    idle: Vec<(waymark_proto::ids::TopicPartition, Marks)>,
}

async fn pass(logs: &SharedLogs, positions: &[Asked], limits: Limits) -> Pass {
    let frame = Frame::new(limits.max_bytes, limits.max_message_bytes);
    let mut pass = Pass { frame, failed: false, idle: Vec::new() };
    for (cursor, position) in (0i32..).zip(positions) {
        if !pass.frame.has_entry_room() {
            break;
        }
        let read = match (position, pass.frame.room()) {
            (Err(failure), _) => Err(failure.clone()),
            (Ok(position), Some(room)) => {
                let room = position.max_bytes.map_or(room, |own| own.min(room));
                logs.read(position.read(room)).await
            }
            // Full: the rest learn where they stand.
            (Ok(position), None) => {
                if let Some(now) = logs.marks(position.at) {
                    pass.frame.push(marks(cursor, now));
                }
                continue;
            }
        };
        match read {
            Ok(read) => pass.take(cursor, position, read),
            Err(failure) => pass.fail(cursor, failure),
        }
    }
    pass
}

impl Pass {
    fn take(&mut self, cursor: i32, position: &Asked, read: Batches) {
        match self.frame.fits(read.bytes.len()) {
            Fit::Yes => {
                let caught_up = read.next_offset >= read.marks.high_watermark;
                if let (true, Ok(position)) = (caught_up, position) {
                    self.idle.push((position.at, read.marks));
                }
                self.frame.push(data(cursor, read));
            }
            Fit::Later => self.frame.push(marks(cursor, read.marks)),
            Fit::Never(needed) => self.fail(cursor, limit_too_small(needed)),
        }
    }

    fn fail(&mut self, cursor: i32, failure: Failure) {
        self.failed = true;
        self.frame.push(failed(cursor, failure));
    }
}
