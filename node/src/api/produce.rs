//! The produce service: a request's batches go to the broker in order, and each has its own receipt. Never waits for one
//! batch before it hands over the next.

use futures::future::join_all;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use waymark_proto::v1;
use waymark_proto::v1::produce_service_server::ProduceService;

use super::Api;
use super::call::Call;
use super::convert::produce::{Door, init_producer, receipt, terms};
use super::produce_stream;
use super::status::whole_call;

#[async_trait::async_trait]
impl ProduceService for Api {
    async fn produce(
        &self,
        request: Request<v1::ProduceRequest>,
    ) -> Result<Response<v1::ProduceResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let terms = terms(&request).map_err(|failure| whole_call(&failure))?;
        let deadline = call.deadline_within(Some(terms.timeout));
        let mut door = Door::default();
        let outcomes = request.batches.into_iter().map(|batch| {
            let tag = batch.tag;
            let passed = door.pass(batch, deadline, |append| self.logs().append(append));
            async move {
                let outcome = match passed.taken {
                    Ok(outcome) => outcome.await,
                    Err(failure) => Err(failure),
                };
                receipt(tag, outcome)
            }
        });
        // Collected before the first is awaited: every batch is handed over at once, in order.
        let outcomes: Vec<_> = outcomes.collect();
        let receipts = join_all(outcomes).await;
        Ok(Response::new(v1::ProduceResponse { receipts, ..v1::ProduceResponse::default() }))
    }

    type ProduceStreamStream = ReceiverStream<Result<v1::ProduceResponse, Status>>;

    async fn produce_stream(
        &self,
        request: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        Ok(Response::new(produce_stream::open(self, request.into_inner())))
    }

    async fn init_producer(
        &self,
        request: Request<v1::InitProducerRequest>,
    ) -> Result<Response<v1::InitProducerResponse>, Status> {
        let call = Call::of(&request);
        let known = init_producer(request.get_ref()).map_err(|failure| whole_call(&failure))?;
        let given = match known {
            Some((id, epoch)) => Ok((id, epoch.checked_add(1))),
            None => self.logs().new_producer_id(call.deadline).await.map(|id| (id, Some(0))),
        };
        let (id, epoch) = match given {
            // The last epoch is used up: a new id begins at epoch 0.
            Ok((_, None)) => self.logs().new_producer_id(call.deadline).await.map(|id| (id, 0)),
            Ok((id, Some(epoch))) => Ok((id, epoch)),
            Err(failure) => Err(failure),
        }
        .map_err(|failure| self.refused(&call, &failure))?;
        Ok(Response::new(v1::InitProducerResponse {
            producer_id: Some(id),
            producer_epoch: Some(i32::from(epoch)),
            ..v1::InitProducerResponse::default()
        }))
    }
}
