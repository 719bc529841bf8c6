//! Owns the only retry decision of the client: from an error's class and one deadline to "again, after this pause" or
//! "give up". Never performs a call.

use std::time::Duration;

use tokio::time::Instant;
use waymark_proto::v1 as wire;

use crate::config::ClientConfig;
use crate::environment::Random;
use crate::error::{Error, ErrorClass};

/// Pauses that double from the first to the longest, each between half and the whole of its step.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        Self { first: config.retry_backoff, longest: config.retry_backoff_max, attempts: 0 }
    }

    /// The next pause. Jitter keeps the clients of a failed node from coming back all at once.
    pub(crate) fn pause(&mut self, random: &Random) -> Duration {
        let step = self.first.saturating_mul(1 << self.attempts.min(16)).min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        let half = step / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(random.below(spread.saturating_add(1)))
    }

    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// The longest pause where only a leader has to be found: elections take about a second, and what is waited for is not a
/// node's mercy but its answer.
pub(crate) const LEADER_PAUSE: Duration = Duration::from_millis(150);

/// No answer, however wrong, makes a client silent for longer.
const LONGEST_THROTTLE: Duration = Duration::from_secs(30);

/// For how long an answer asks to send nothing more of its kind.
pub(crate) fn throttle(throttle_ms: i32) -> Duration {
    let asked = Duration::from_millis(u64::try_from(throttle_ms).unwrap_or(0));
    asked.min(LONGEST_THROTTLE)
}

/// Whether repeating a call whose outcome is unknown can do harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Reads, and writes that carry what makes a repetition harmless: a sequence, an id, an expected value.
    Harmless,
    /// Writes that are refused where somebody was faster, an earlier attempt of their own included. What such an attempt did
    /// stays unknown when the next one is refused.
    Conditional,
    /// Anything else: an unknown outcome is the caller's to judge.
    Harmful,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Again after a pause of at least this; `elsewhere`: not blindly at the same node, look at hint and metadata first.
    Again { pause: Duration, elsewhere: bool },
    /// Count as success.
    Done,
    /// Not again.
    GiveUp,
}

/// The decision for one failure, before any deadline.
pub(crate) fn judge(error: &Error, repeat: Repeat) -> Verdict {
    match error {
        Error::Refused(refusal) => match refusal.retry {
            // A leader that is cut off from the others takes itself for one as long as that lasts: they know the next one.
            wire::RetryClass::Retry => Verdict::Again {
                pause: refusal.retry_after,
                elsewhere: refusal.code == wire::FailureCode::NoQuorum,
            },
            wire::RetryClass::Reroute => {
                Verdict::Again { pause: refusal.retry_after, elsewhere: true }
            }
            wire::RetryClass::UnknownOutcome if repeat != Repeat::Harmful => {
                Verdict::Again { pause: refusal.retry_after, elsewhere: true }
            }
            wire::RetryClass::Done => Verdict::Done,
            _ => Verdict::GiveUp,
        },
        Error::Transport { sent, .. } if !sent || repeat != Repeat::Harmful => {
            Verdict::Again { pause: Duration::ZERO, elsewhere: true }
        }
        Error::Timeout { ambiguous, .. } if !ambiguous || repeat != Repeat::Harmful => {
            Verdict::Again { pause: Duration::ZERO, elsewhere: true }
        }
        _ => Verdict::GiveUp,
    }
}

/// One operation's retries under one deadline.
#[derive(Debug)]
pub(crate) struct Retry {
    what: &'static str,
    allowed: Duration,
    deadline: Instant,
    backoff: Backoff,
    repeat: Repeat,
    /// Set when any attempt so far may have been executed: then a timeout, or a refusal, is ambiguous even if the last attempt
    /// was not.
    perhaps_done: bool,
}

impl Retry {
    pub(crate) fn new(
        what: &'static str,
        config: &ClientConfig,
        allowed: Duration,
        repeat: Repeat,
    ) -> Self {
        let deadline = Instant::now() + allowed;
        let backoff = Backoff::new(config);
        Self { what, allowed, deadline, backoff, repeat, perhaps_done: false }
    }

    /// The most that the next attempt may take.
    pub(crate) fn attempt_timeout(&self, longest: Duration) -> Duration {
        longest.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// After a failed attempt: waits and returns `Ok(elsewhere)` for another one.
    ///
    /// # Errors
    /// The final error: the failure itself, or a timeout that carries it.
    pub(crate) async fn again(&mut self, error: Error, random: &Random) -> Result<bool, Error> {
        let unknown = error.class() == ErrorClass::Ambiguous;
        self.perhaps_done |= unknown && self.repeat != Repeat::Harmless;
        let Verdict::Again { pause, elsewhere } = judge(&error, self.repeat) else {
            return Err(if self.perhaps_done { error.after_unknown() } else { error });
        };
        let pause = pause.max(self.backoff.pause(random));
        if Instant::now() + pause >= self.deadline {
            return Err(self.timeout(Some(error), unknown));
        }
        tracing::debug!(what = self.what, %error, ?pause, "retrying");
        tokio::time::sleep(pause).await;
        Ok(elsewhere)
    }

    pub(crate) fn timeout(&self, last: Option<Error>, unknown: bool) -> Error {
        Error::Timeout {
            what: self.what,
            after: self.allowed,
            last: last.map(Box::new),
            ambiguous: unknown || self.perhaps_done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Refusal;
    use std::sync::Arc;

    fn refused(retry: wire::RetryClass) -> Error {
        Error::Refused(Arc::new(Refusal {
            code: wire::FailureCode::Internal,
            retry,
            message: String::new(),
            subject: String::new(),
            log_start_offset: None,
            high_watermark: None,
            expected: None,
            actual: None,
            limit: None,
            retry_after: Duration::ZERO,
            leader: None,
        }))
    }

    fn again(elsewhere: bool) -> Verdict {
        Verdict::Again { pause: Duration::ZERO, elsewhere }
    }

    #[test]
    fn every_retry_class_has_its_verdict() {
        use wire::RetryClass as C;
        let table = [
            (C::Retry, again(false), ErrorClass::Retryable),
            (C::Reroute, again(true), ErrorClass::Retryable),
            (C::UnknownOutcome, again(true), ErrorClass::Ambiguous),
            (C::Fenced, Verdict::GiveUp, ErrorClass::Fenced),
            (C::Fix, Verdict::GiveUp, ErrorClass::Rejected),
            (C::Fatal, Verdict::GiveUp, ErrorClass::Fatal),
            (C::Unspecified, Verdict::GiveUp, ErrorClass::Fatal),
            (C::Done, Verdict::Done, ErrorClass::Retryable),
        ];
        for (retry, verdict, class) in table {
            assert_eq!(judge(&refused(retry), Repeat::Harmless), verdict, "{retry:?}");
            assert_eq!(refused(retry).class(), class, "{retry:?}");
        }
    }

    #[test]
    fn a_node_without_a_quorum_is_not_asked_again_before_another_one() {
        let mut refusal = refused(wire::RetryClass::Retry);
        if let Error::Refused(refusal) = &mut refusal {
            Arc::get_mut(refusal).unwrap().code = wire::FailureCode::NoQuorum;
        }
        assert_eq!(judge(&refusal, Repeat::Harmful), again(true));
    }

    #[test]
    fn an_unknown_outcome_is_not_repeated_where_that_does_harm() {
        let unknown = refused(wire::RetryClass::UnknownOutcome);
        assert_eq!(judge(&unknown, Repeat::Harmful), Verdict::GiveUp);
        let broken = |sent| Error::Transport { address: "a".into(), message: "b".into(), sent };
        assert_eq!(judge(&broken(true), Repeat::Harmful), Verdict::GiveUp);
        assert_eq!(judge(&broken(false), Repeat::Harmful), again(true));
    }

    #[test]
    fn pauses_grow_to_the_longest_and_never_below_half_a_step() {
        let config = ClientConfig::new(["a:1"]);
        let (mut backoff, random) = (Backoff::new(&config), Random::seeded(3));
        let pauses: Vec<_> = (0..8).map(|_| backoff.pause(&random)).collect();
        assert!(pauses[0] >= config.retry_backoff / 2 && pauses[0] <= config.retry_backoff);
        assert!(pauses[7] >= config.retry_backoff_max / 2 && pauses[7] <= config.retry_backoff_max);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_says_nothing_of_an_earlier_attempt_that_was_conditional_too() {
        let config = ClientConfig::new(["a:1"]).seed(1);
        for (repeat, class) in
            [(Repeat::Conditional, ErrorClass::Ambiguous), (Repeat::Harmless, ErrorClass::Rejected)]
        {
            let mut retry = Retry::new("a test", &config, Duration::from_secs(5), repeat);
            let lost = Error::Transport { address: "a".into(), message: "b".into(), sent: true };
            assert!(retry.again(lost, &config.random).await.is_ok(), "{repeat:?} is repeated");
            let told = retry.again(refused(wire::RetryClass::Fix), &config.random).await;
            assert_eq!(told.unwrap_err().class(), class, "{repeat:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_deadline_bounds_all_attempts_and_names_the_last_failure() {
        let config = ClientConfig::new(["a:1"]).seed(1);
        let allowed = Duration::from_secs(5);
        let mut retry = Retry::new("a test", &config, allowed, Repeat::Harmless);
        let start = Instant::now();
        let error = loop {
            let failure = refused(wire::RetryClass::Retry);
            if let Err(error) = retry.again(failure, &config.random).await {
                break error;
            }
        };
        assert!(start.elapsed() <= allowed);
        assert!(
            matches!(&error, Error::Timeout { last: Some(_), ambiguous: false, .. }),
            "{error}"
        );
    }
}
