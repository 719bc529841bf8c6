//! Topics: found, made, changed, removed. Owns the way to the catalog and back, and the wait until a change can be used.
//!
//! | file | owns |
//! |---|---|
//! | `lookup` | finding topics |
//! | `catalog` | changes proposed and seen, looks at the newest catalog |
//! | `create` | what a new topic may be |
//! | `change`, `plan` | changes of topics that exist, and what they would make of them |
//! | `driver` | topics on their way through the shards |

mod catalog;
mod change;
mod create;
pub(super) mod driver;
mod lookup;
mod plan;

pub(super) use catalog::Barrier;

use waymark_proto::failure::{Failure, FailureCode};

use super::refusal::failure;

/// A failure that says what it is about.
fn about(subject: impl Into<String>, code: FailureCode, message: impl Into<String>) -> Failure {
    let mut failure = failure(code, message);
    failure.subject = subject.into();
    failure
}
