//! Owns which of the member's messages the coordinator has answered, and since when this member was not heard, as far as it
//! can know: only the answer to a message proves that the coordinator heard it. What it sends on its own proves nothing.
//! Pure: never talks, and never looks at a clock.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Messages of the present stream without an answer, by number, with when each was sent.
    unanswered: BTreeMap<i64, Instant>,
    heard: Instant,
}

impl Exchange {
    pub(super) fn new(now: Instant) -> Self {
        Self { unanswered: BTreeMap::new(), heard: now }
    }

    /// Another stream: what was said on the one before is not answered any more.
    pub(super) fn begin(&mut self) {
        self.unanswered.clear();
    }

    pub(super) fn sent(&mut self, number: i64, now: Instant) {
        self.unanswered.insert(number, now);
    }

    /// The coordinator has taken a message, and counts this member's silence from no earlier than when that was sent.
    /// `false`: it answers nothing that waits.
    pub(super) fn answered(&mut self, number: i64) -> bool {
        let sent = self.unanswered.get(&number).copied();
        self.refused(number);
        self.heard = self.heard.max(sent.unwrap_or(self.heard));
        sent.is_some()
    }

    /// The coordinator has refused a message: it need not be waited for, and this member counts as unheard. Answers come in
    /// order, and messages that a later one replaced before they left get none.
    pub(super) fn refused(&mut self, number: i64) {
        if self.unanswered.contains_key(&number) {
            self.unanswered.retain(|waits, _| *waits > number);
        }
    }

    /// When the newest message was sent that the coordinator is known to have taken.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// When the oldest message was sent that waits for its answer.
    pub(super) fn asked(&self) -> Option<Instant> {
        self.unanswered.first_key_value().map(|(_, sent)| *sent)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_member_was_heard_when_it_sent_what_was_answered() {
        let start = Instant::now();
        let mut exchange = Exchange::new(start);
        exchange.sent(1, start + SECOND);
        exchange.sent(2, start + SECOND * 2);
        assert_eq!(exchange.asked(), Some(start + SECOND));
        assert!(exchange.answered(1));
        assert_eq!(exchange.heard(), start + SECOND);
        assert_eq!(exchange.asked(), Some(start + SECOND * 2));
        assert!(exchange.answered(2));
        assert_eq!((exchange.heard(), exchange.asked()), (start + SECOND * 2, None));
    }

    #[tokio::test]
    async fn what_answers_nothing_proves_nothing() {
        let start = Instant::now();
        let mut exchange = Exchange::new(start);
        exchange.sent(1, start + SECOND);
        for pushed_or_unknown in [0, 9] {
            assert!(!exchange.answered(pushed_or_unknown));
        }
        assert_eq!((exchange.heard(), exchange.asked()), (start, Some(start + SECOND)));
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer_and_no_sign_that_the_member_lives_on() {
        let start = Instant::now();
        let mut exchange = Exchange::new(start);
        exchange.sent(1, start + SECOND);
        exchange.refused(1);
        assert_eq!((exchange.heard(), exchange.asked()), (start, None));
    }

    #[tokio::test]
    async fn a_message_that_never_left_is_settled_with_the_one_that_replaced_it() {
        let start = Instant::now();
        let mut exchange = Exchange::new(start);
        exchange.sent(1, start);
        exchange.sent(2, start + SECOND);
        assert!(exchange.answered(2) && !exchange.answered(1));
        assert_eq!((exchange.heard(), exchange.asked()), (start + SECOND, None));
    }

    #[tokio::test]
    async fn a_new_stream_answers_nothing_of_the_old_one() {
        let start = Instant::now();
        let mut exchange = Exchange::new(start);
        exchange.sent(1, start);
        exchange.begin();
        exchange.sent(2, start + SECOND);
        assert_eq!(exchange.asked(), Some(start + SECOND));
        assert!(!exchange.answered(1));
    }
}
