//! The rules of names. Owns what a topic may be called. Never normalises a name.

/// Longest name of a topic, bytes.
pub const MAX_TOPIC_NAME: usize = 249;

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a topic's name has 1 to 249 characters of [A-Za-z0-9._-] and is neither \".\" nor \"..\"")]
pub struct InvalidTopicName;

/// Checks the name of a topic.
///
/// # Errors
/// When it is empty, too long, one of the two that mean folders, or has another character.
pub fn check_topic_name(name: &str) -> Result<(), InvalidTopicName> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let good = (1..=MAX_TOPIC_NAME).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(legal);
    if good { Ok(()) } else { Err(InvalidTopicName) }
}
