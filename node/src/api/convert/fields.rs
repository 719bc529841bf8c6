//! Checks of single fields: present, not negative, of the right length, known. Owns the rules that all messages share.
//! Never guesses: what is missing or unknown is refused by the field's name.

use std::time::Duration;

use bytes::Bytes;
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{PartitionId, TopicId, TopicPartition};
use waymark_proto::v1;

use crate::api::admin::NamedTopic;
use crate::api::refusal::{invalid, missing, refuse, unsupported};

/// Longest id of a group, member, instance or client, bytes.
pub(in crate::api) const MAX_ID: usize = 1_024;

/// A value that must be there and not negative.
pub(in crate::api) fn count<T: Copy + Default + PartialOrd>(
    field: &str,
    value: Option<T>,
) -> Result<T, Failure> {
    optional(field, value)?.ok_or_else(|| missing(field))
}

/// A value that may be absent but not negative.
pub(in crate::api) fn optional<T: Copy + Default + PartialOrd>(
    field: &str,
    value: Option<T>,
) -> Result<Option<T>, Failure> {
    match value {
        Some(value) if value < T::default() => {
            Err(invalid(field, "0 or more; absence says \"none\""))
        }
        other => Ok(other),
    }
}

/// A size or count where 0 stands for a default.
pub(in crate::api) fn or_default(
    field: &str,
    value: i32,
    default: usize,
) -> Result<usize, Failure> {
    match usize::try_from(value) {
        Ok(0) => Ok(default),
        Ok(value) => Ok(value),
        Err(_) => Err(invalid(field, "0 or more")),
    }
}

/// A relative time where 0 stands for a default; `None` then.
pub(in crate::api) fn timeout(
    field: &str,
    ms: i32,
    most: Duration,
) -> Result<Option<Duration>, Failure> {
    let ms = u64::try_from(ms).map_err(|_| invalid(field, "0 or more"))?;
    let timeout = Duration::from_millis(ms);
    if timeout > most {
        return Err(invalid(field, &format!("at most {} ms", most.as_millis())));
    }
    Ok((ms > 0).then_some(timeout))
}

/// A partition number.
pub(in crate::api) fn partition(field: &str, value: Option<i32>) -> Result<PartitionId, Failure> {
    count(field, value).map(PartitionId)
}

/// A topic id that must be there.
pub(in crate::api) fn topic_id(field: &str, bytes: &Bytes) -> Result<TopicId, Failure> {
    if bytes.is_empty() {
        return Err(missing(field));
    }
    match TopicId::from_slice(bytes) {
        Ok(id) if !id.is_reserved() => Ok(id),
        Ok(_) => Err(invalid(field, "an id that is not reserved")),
        Err(_) => Err(invalid(field, "16 bytes")),
    }
}

/// A partition of a topic known by its id, as in messages that carry data.
pub(in crate::api) fn by_id(bytes: &Bytes, number: Option<i32>) -> Result<TopicPartition, Failure> {
    let topic = topic_id("topic_id", bytes)?;
    Ok(TopicPartition { topic, partition: partition("partition", number)? })
}

/// A reference to a topic.
pub(in crate::api) fn topic(
    field: &str,
    given: Option<&v1::TopicRef>,
) -> Result<NamedTopic, Failure> {
    let given = given.ok_or_else(|| missing(field))?;
    let id = match given.topic_id.is_empty() {
        true => None,
        false => Some(topic_id(field, &given.topic_id)?),
    };
    let name = (!given.name.is_empty()).then(|| given.name.clone());
    if name.is_none() && id.is_none() {
        return Err(missing(field));
    }
    if let Some(name) = &name {
        topic_name(name)?;
    }
    Ok(NamedTopic { name, id })
}

/// The name of a topic.
pub(in crate::api) fn topic_name(name: &str) -> Result<(), Failure> {
    waymark_proto::names::check_topic_name(name)
        .map_err(|error| refuse(FailureCode::InvalidTopicName, error.to_string()))
}

/// The id of a group.
pub(in crate::api) fn group(id: &str) -> Result<&str, Failure> {
    if id.is_empty() {
        return Err(refuse(FailureCode::InvalidGroupId, "group_id is missing"));
    }
    if id.len() > MAX_ID {
        return Err(refuse(FailureCode::InvalidGroupId, "group_id must be at most 1024 bytes"));
    }
    Ok(id)
}

/// The value of an enum that this node knows.
pub(in crate::api) fn known<E: TryFrom<i32>>(field: &str, value: i32) -> Result<E, Failure> {
    E::try_from(value).map_err(|_| unsupported(format!("{field}: {value} is not known here")))
}
