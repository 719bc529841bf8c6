//! Owns what a command ends with: the closed list of exit codes, and errors as sentences that say what to do. Never
//! prints.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::error::{Error, FailureCode};

/// How a command ended, as the process tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; all is well.
    Done = 0,
    /// The cluster refused, or what was asked for could not be done.
    Refused = 1,
    /// The arguments, a setting or a file cannot be used. The same code as clap's.
    Unusable = 2,
    /// No node answered in time.
    Unreachable = 3,
    /// Replicas differ, or the cluster is not healthy.
    Different = 4,
    /// Ended by Ctrl-C.
    Interrupted = 130,
}

/// The exit codes, as help shows them.
pub const EXIT_CODES: &str = "Exit codes:
  0    done
  1    refused by the cluster, or failed
  2    arguments, a setting or a file that cannot be used
  3    no node answered in time
  4    replicas differ, or the cluster is not healthy
  130  interrupted by Ctrl-C";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// What the user gave cannot be used.
    pub(super) fn unusable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unusable, message)
    }

    pub(super) fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "")
    }

    /// What the process should end with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// There is nothing to say: the reader went away, or the user has stopped us.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

    /// An error of a call about a topic.
    pub(super) fn about_topic(topic: &str, error: &Error) -> Self {
        if error.is(FailureCode::TopicNotFound) {
            let advice = format!(
                "topic {topic:?} does not exist; create it with: waymark topic create {topic}"
            );
            return Self::new(Exit::Refused, advice);
        }
        if error.is(FailureCode::TopicExists) {
            let advice = format!(
                "topic {topic:?} exists already; see it with: waymark topic describe {topic}"
            );
            return Self::new(Exit::Refused, advice);
        }
        Self::from(error)
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let exit = match error {
            Error::Timeout { .. } | Error::Transport { .. } => Exit::Unreachable,
            Error::Config(_) | Error::NoGroup | Error::EmptySubscription => Exit::Unusable,
            _ if error.is(FailureCode::InvalidPattern) => Exit::Unusable,
            _ => Exit::Refused,
        };
        let advice = match error {
            Error::Config(_) => "; give it with -X key=value",
            Error::NoOffset { .. } => "; or begin at the first with -X auto.offset.reset=earliest",
            _ if exit == Exit::Unreachable && error.refusal().is_none() => {
                "; is the cluster running, and is --bootstrap HOST:PORT right?"
            }
            _ => advice(error.code()),
        };
        Self::new(exit, format!("{error}{advice}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

/// Standard output that nobody reads any more is how `head` says that it has enough: not an error.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Done, "");
        }
        Self::unusable(format!("cannot write: {error}"))
    }
}

fn advice(code: Option<FailureCode>) -> &'static str {
    match code {
        Some(FailureCode::TopicNotFound) => "; list topics with: waymark topic list",
        Some(FailureCode::NoQuorum | FailureCode::NoLeader) => {
            "; see what is missing with: waymark cluster health"
        }
        Some(FailureCode::StorageFull) => "; free space on the nodes, or delete topics or records",
        Some(FailureCode::GroupNotEmpty) => "; stop the group's members first",
        Some(FailureCode::InvalidReplication) => {
            "; see how many nodes there are with: waymark cluster describe"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_is_a_success_without_words() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit(), Exit::Done);
        assert!(failure.is_silent());
        assert!(!Failure::from(io::Error::from(io::ErrorKind::StorageFull)).is_silent());
    }

    #[test]
    fn every_exit_code_is_in_the_table() {
        let all = [
            Exit::Done,
            Exit::Refused,
            Exit::Unusable,
            Exit::Unreachable,
            Exit::Different,
            Exit::Interrupted,
        ];
        assert_eq!(EXIT_CODES.lines().count(), all.len() + 1);
        for exit in all {
            let code = format!("  {:<5}", exit as u8);
            assert!(EXIT_CODES.lines().any(|line| line.starts_with(&code)), "{exit:?}");
        }
    }

    #[test]
    fn a_group_that_cannot_go_on_says_whether_the_arguments_are_to_blame() {
        let exit = |error: Error| Failure::from(error).exit();
        assert_eq!(exit(Error::EmptySubscription), Exit::Unusable);
        assert_eq!(exit(Error::NoGroup), Exit::Unusable);
        let taken = Error::InstanceFenced { group: "g".into(), instance: "seat".into() };
        assert_eq!(exit(taken), Exit::Refused);
        assert_eq!(exit(Error::MemberFenced { group: "g".into() }), Exit::Refused);
    }

    #[test]
    fn silence_of_the_cluster_says_where_to_look() {
        let error = Error::Transport {
            address: "127.0.0.1:7001".into(),
            message: "connection refused".into(),
            sent: false,
        };
        let failure = Failure::from(error);
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert!(failure.to_string().contains("--bootstrap"), "{failure}");
    }
}
