//! The client of Waymark: a producer, a consumer and administration, for tokio.
//!
//! ```no_run
//! use waymark_client::{Client, ClientConfig, ConsumerConfig, ProducerConfig, ProducerRecord};
//!
//! # async fn example() -> waymark_client::Result<()> {
//! let client = Client::connect(ClientConfig::new(["127.0.0.1:9092"])).await?;
//!
//! let producer = client.producer(ProducerConfig::default()).await?;
//! producer.send_and_wait(ProducerRecord::new("greetings").key("en").value("hello")).await?;
//!
//! let consumer = client.consumer(ConsumerConfig::default())?;
//! consumer.assign([("greetings", 0)]).await?;
//! consumer.seek_to_beginning(("greetings", 0)).await?;
//! let record = consumer.recv().await?;
//! assert_eq!(record.value.as_deref(), Some(&b"hello"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! Whole programs, with groups, a crash, and a database as the sink, are in the folder `examples` of this crate.
//!
//! # Layout
//!
//! - [`Client`] finds the cluster and keeps `metadata`; `connections` holds its channels.
//! - [`Producer`], [`Consumer`] and [`Admin`] are made from it.
//! - `retry` is the only place that decides to try again, by the class that every failure carries.
//! - `config` has every key, by builder and by Kafka's names.
//! - `answers` and `refusal` are the only readers of generated messages; `codec` is the layout of a batch.
//!
//! # Guarantees
//!
//! What a method promises when something fails is said by [`Error::class`]: not done, perhaps done, fenced, or to be
//! changed by the caller. Nothing waits without a deadline, and dropping never blocks.

#[cfg(feature = "cli")]
pub mod cli;
pub mod config;

mod admin;
mod answers;
mod client;
mod codec;
mod connections;
mod consumer;
mod environment;
mod error;
mod metadata;
mod partitioner;
mod producer;
mod record;
mod refusal;
mod retry;

pub use admin::{
    Actor, Admin, ClusterDescription, ConfigChange, ConfigEntry, ExpelCause, GroupDescription,
    GroupEvent, GroupEventKind, GroupFilter, GroupLag, GroupListing, GroupListings, GroupMember,
    GroupOffset, GroupReset, GroupState, Health, LeaderMove, ListedOffset, MemberPartition,
    MemberRemoval, MembersToRemove, NewTopic, NodeDescription, OffsetChange, OffsetChangeKind,
    OffsetHistory, OffsetMove, OffsetMoves, OffsetSpec, PartitionDescription, PartitionLag,
    PartitionVerdict, RecordsBefore, ReplicaDigest, ResetScope, ResetTo, Revoking, ServerInfo,
    TopicConfig, TopicDescription, TopicListing,
};
pub use async_trait::async_trait;
pub use client::Client;
pub use config::{
    Acks, Assignor, AutoCommit, ClientConfig, CommitAfter, Compression, ConsumerConfig,
    OffsetReset, ProducerConfig,
};
pub use consumer::{
    CommitFuture, Consumer, GroupMetadata, OwnedPartition, RebalanceContext, RebalanceListener,
    StartAt, Subscription,
};
pub use environment::{Clock, Random, SystemClock};
pub use error::{Error, ErrorClass, FailureCode, Refusal, Result};
pub use partitioner::{CustomPartitioner, Partitioner};
pub use producer::{Producer, SendFuture, TrySendError};
pub use record::{
    BatchReceipt, ConsumerRecord, Header, OffsetAndMetadata, OffsetAndTimestamp, ProducerRecord,
    RecordReceipt, TopicPartition,
};

/// Why a group did what it did: see [`Explanation`](explain::Explanation).
pub mod explain {
    pub use crate::admin::{
        Cause, Explanation, Facts, Finding, Gravity, Moved, Pending, Phase, PhaseName, Round,
        Trigger,
    };
}
