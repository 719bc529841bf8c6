//! One produce stream: requests are handed over in order, outcomes come back as they are known, and receipts leave in the
//! order of each partition, many in one response. Owns the stream's bytes in flight; when they are used up it stops reading,
//! which is the client's back-pressure. Never ends for one batch's failure.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use waymark_proto::failure::Failure;
use waymark_proto::v1;

use super::Api;
use super::convert::produce::{Door, receipt, refused_receipt, terms};
use super::logs::{Appended, Appending, SharedLogs};
use super::notice::notice;
use super::receipts::{Receipts, Ticket};
use super::status::translated;

/// Bytes of one stream whose outcome is not known yet.
pub(super) const WINDOW_BYTES: usize = 64 << 20;
/// What a batch costs beside its bytes, so that very small ones are bounded too.
const BATCH_COST: usize = 512;
/// Receipts of one response: well below what any library receives by default.
const RECEIPTS_AT_ONCE: usize = 4_096;
/// Responses that wait for the transport.
const RESPONSES_WAITING: usize = 4;

type Responses = mpsc::Sender<Result<v1::ProduceResponse, Status>>;
/// What became of a batch, and the bytes that it gives back.
type Landed = (Ticket, usize, Result<Appended, Failure>);

/// A batch on its way. A stream has one for each of its batches, so that it is not boxed once more.
struct Flight {
    ticket: Ticket,
    cost: usize,
    outcome: Appending,
}

impl Future for Flight {
    type Output = Landed;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Landed> {
        let (ticket, cost) = (self.ticket, self.cost);
        self.outcome.poll_unpin(cx).map(|outcome| (ticket, cost, outcome))
    }
}

/// Serves a stream until the client has half-closed and every batch has its receipt.
pub(super) fn open(
    api: &Api,
    requests: Streaming<v1::ProduceRequest>,
) -> ReceiverStream<Result<v1::ProduceResponse, Status>> {
    let (out, responses) = mpsc::channel(RESPONSES_WAITING);
    let session = Session {
        logs: api.logs().clone(),
        flights: FuturesUnordered::new(),
        in_flight: 0,
        receipts: Receipts::default(),
        leaving: Vec::new(),
    };
    let draining = api.draining();
    tokio::spawn(async move {
        // An error means that the client is gone: what is in flight is decided without a listener.
        let _ = session.run(requests, out, draining).await;
    });
    ReceiverStream::new(responses)
}

struct Session {
    logs: SharedLogs,
    /// Batches handed over, bounded by `in_flight`.
    flights: FuturesUnordered<Flight>,
    /// Cost of all flights, at most [`WINDOW_BYTES`] unless a single request is larger.
    in_flight: usize,
    receipts: Receipts,
    /// Receipts that may be sent.
    leaving: Vec<v1::BatchReceipt>,
}

/// The client is gone.
struct Gone;

impl Session {
    async fn run(
        mut self,
        mut requests: Streaming<v1::ProduceRequest>,
        out: Responses,
        draining: CancellationToken,
    ) -> Result<(), Gone> {
        let (mut waiting, mut open, mut told) = (None, true, false);
        let mut broken = None;
        loop {
            if let Some(request) = waiting.take_if(|request| self.has_room(request)) {
                self.hand_over(request);
            }
            self.send(&out).await?;
            if !open && waiting.is_none() && self.flights.is_empty() {
                return end(&out, broken).await;
            }
            tokio::select! {
                biased;
                Some(landed) = self.flights.next() => self.land(landed),
                () = draining.cancelled(), if !told => {
                    told = true;
                    send(&out, v1::ProduceResponse { notice: Some(notice()), ..Default::default() }).await?;
                }
                request = requests.message(), if open && waiting.is_none() => match request {
                    Ok(Some(request)) => waiting = Some(request),
                    Ok(None) => open = false,
                    // What was handed over before still gets its receipts.
                    Err(status) => (open, broken) = (false, translated(&status)),
                },
                () = out.closed() => return Err(Gone),
            }
        }
    }

    /// A request that is larger than the window is taken once nothing else is in flight.
    fn has_room(&self, request: &v1::ProduceRequest) -> bool {
        let cost: usize = request.batches.iter().map(cost).sum();
        self.in_flight == 0 || self.in_flight + cost <= WINDOW_BYTES
    }

    fn hand_over(&mut self, request: v1::ProduceRequest) {
        let terms = match terms(&request) {
            Ok(terms) => terms,
            Err(failure) => {
                let refused = |batch: v1::ProduceBatch| refused_receipt(batch.tag, failure.clone());
                self.leaving.extend(request.batches.into_iter().map(refused));
                return;
            }
        };
        let deadline = Instant::now() + terms.timeout;
        let mut door = Door::default();
        for batch in request.batches {
            let (tag, cost) = (batch.tag, cost(&batch));
            let passed = door.pass(batch, deadline, |append| self.logs.append(append));
            let ticket = self.receipts.expect(passed.lane, tag);
            match passed.taken {
                Ok(outcome) => {
                    self.in_flight += cost;
                    self.flights.push(Flight { ticket, cost, outcome });
                }
                Err(failure) => {
                    let refused = refused_receipt(tag, failure);
                    self.receipts.settle(ticket, refused, &mut self.leaving);
                }
            }
        }
    }

    /// Takes one outcome and every other that is there already: one entry of the log often decides many batches.
    fn land(&mut self, first: Landed) {
        let mut landed = Some(first);
        while let Some((ticket, cost, outcome)) = landed.take() {
            self.in_flight -= cost;
            let tag = ticket.tag();
            self.receipts.settle(ticket, receipt(tag, outcome), &mut self.leaving);
            if self.leaving.len() < RECEIPTS_AT_ONCE {
                landed = self.flights.next().now_or_never().flatten();
            }
        }
    }

    async fn send(&mut self, out: &Responses) -> Result<(), Gone> {
        while !self.leaving.is_empty() {
            let at_once = self.leaving.len().min(RECEIPTS_AT_ONCE);
            let receipts = self.leaving.drain(..at_once).collect();
            send(out, v1::ProduceResponse { receipts, ..Default::default() }).await?;
        }
        Ok(())
    }
}

fn cost(batch: &v1::ProduceBatch) -> usize {
    batch.batch.len() + BATCH_COST
}

/// Ends the stream: well, or with what was wrong with the last message.
async fn end(out: &Responses, broken: Option<Status>) -> Result<(), Gone> {
    match broken {
        Some(status) => out.send(Err(status)).await.map_err(|_| Gone),
        None => Ok(()),
    }
}

async fn send(out: &Responses, response: v1::ProduceResponse) -> Result<(), Gone> {
    out.send(Ok(response)).await.map_err(|_| Gone)
}
