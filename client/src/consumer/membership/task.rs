//! Owns the membership task: its loop, its connection to the coordinator, and when a message is due. Everything that takes
//! time (finding the coordinator, start offsets, the listener, commits) runs beside the loop and reports to it, so that
//! nothing delays a heartbeat. Never decides what an update means: that is `updates`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use waymark_proto::v1 as wire;

use super::coordinator;
use super::exchange::Exchange;
use super::handle::{Command, Handle};
use super::hooks::{Call, Hooks, Next};
use super::leaving::Leaving;
use super::listener::{OwnedPartition, RebalanceListener};
use super::member::{Key, Member};
use super::session::{Heard, Session};
use super::standing::GroupMetadata;
use super::subscription::Subscription;
use crate::consumer::commit::member_id;
use crate::consumer::core::Core;
use crate::error::{Error, Result};
use crate::retry::{Backoff, LEADER_PAUSE};

/// Work beside the loop that has ended.
pub(super) enum Done {
    Found(Result<Arc<str>>),
    /// Where partitions begin that had nothing committed.
    Located(Vec<(Key, i64, Result<i64>)>),
    Told(Call),
    Flushed(Vec<(Key, OwnedPartition)>),
    Left(Result<()>),
    Nothing,
}

pub(super) type Work = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The way to the coordinator.
#[derive(Debug)]
pub(super) enum Link {
    Down {
        not_before: Instant,
        hint: Option<Arc<str>>,
    },
    Finding,
    Up(Session),
    /// Membership has ended, or never begins until the application acts.
    Closed,
}

/// See the module.
pub(super) struct Membership {
    pub(super) core: Core,
    pub(super) member: Member,
    pub(super) hooks: Hooks,
    pub(super) link: Link,
    pub(super) backoff: Backoff,
    pub(super) work: FuturesUnordered<Work>,
    pub(super) leaving: Option<Leaving>,
    pub(super) exchange: Exchange,
    /// When the next message is due.
    pub(super) say_at: Instant,
    /// How often the coordinator wants to hear, and after which silence it goes on without this member.
    pub(super) interval: Duration,
    pub(super) session_timeout: Duration,
    /// Expelled: joins again when the application comes for more than this many times.
    pub(super) parked: Option<i64>,
    /// The coordinator may know of this member id.
    pub(super) introduced: bool,
    events: mpsc::Sender<(u64, Heard)>,
    /// Of the latest session.
    number: u64,
}

/// Commands that wait, updates that wait: both are answered at once.
const QUEUE: usize = 16;
/// Until the coordinator says how often it wants to hear.
const FIRST_INTERVAL: Duration = Duration::from_secs(3);
/// The shortest patience with a coordinator that does not answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Starts the task; it ends with `stop`, and after it has left the group.
pub(in crate::consumer) fn start(
    core: Core,
    subscription: Subscription,
    listener: Option<Arc<dyn RebalanceListener>>,
    stop: CancellationToken,
) -> Handle {
    let (commands, orders) = mpsc::channel(QUEUE);
    let (events, heard) = mpsc::channel(QUEUE);
    let rack = core.client.config().rack.clone();
    let id = new_id(&core);
    let mut hooks = Hooks::default();
    hooks.listen(listener);
    let now = Instant::now();
    let membership = Membership {
        member: Member::new(&core.config, rack, id, subscription),
        hooks,
        link: Link::Down { not_before: now, hint: None },
        backoff: Backoff::new(core.client.config()),
        work: FuturesUnordered::new(),
        leaving: None,
        exchange: Exchange::new(now),
        say_at: now,
        interval: FIRST_INTERVAL,
        session_timeout: core.config.session_timeout,
        parked: None,
        introduced: false,
        events,
        number: 0,
        core,
    };
    membership.publish();
    membership.look_for_topics();
    tokio::spawn(membership.run(orders, heard, stop));
    Handle::new(commands)
}

/// A random UUID of the client's own stream of random numbers.
fn new_id(core: &Core) -> Arc<str> {
    member_id(core.client.config().random.next_id()).into()
}

impl Membership {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut events: mpsc::Receiver<(u64, Heard)>,
        stop: CancellationToken,
    ) {
        let shared = Arc::clone(&self.core.shared);
        loop {
            let left = self.step(Instant::now());
            if left {
                return;
            }
            let wake = self.wake();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some((number, heard)) = events.recv() => {
                    if number == self.number && matches!(self.link, Link::Up(_)) {
                        self.hear(heard);
                    }
                }
                Some(command) = commands.recv() => self.obey(command),
                Some(done) = self.work.next(), if !self.work.is_empty() => self.done(done),
                () = shared.returned.notified() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Subscribe { subscription, listener } => {
                self.member.subscription = subscription;
                self.hooks.listen(listener);
                self.say_at = Instant::now();
                if matches!(self.link, Link::Closed) {
                    self.core.shared.lock().end(None);
                    self.link = Link::Down { not_before: self.say_at, hint: None };
                }
                self.look_for_topics();
            }
            Command::Leave { deadline, reply } => self.begin_leaving(deadline, reply),
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Found(found) => self.found(found),
            Done::Located(starts) => self.start(starts),
            Done::Told(call) => {
                self.hooks.done();
                self.told(call);
            }
            Done::Flushed(partitions) => self.give_up(&partitions),
            Done::Left(outcome) => self.left(outcome),
            Done::Nothing => {}
        }
    }

    /// Does all that is due; `true` when the group is left.
    fn step(&mut self, now: Instant) -> bool {
        self.drop_disowned();
        if self.member.epoch.is_some() && now >= self.exchange.heard() + self.session_timeout {
            self.expelled("the coordinator has answered nothing for the session timeout");
        }
        self.drain(now);
        self.tell();
        if self.leave(now) {
            return true;
        }
        let patience = self.patience();
        if let (Link::Up(session), Some(asked)) = (&self.link, self.exchange.asked())
            && now >= asked + patience
        {
            tracing::warn!(group = %self.member.group(), "the coordinator does not answer");
            self.core.client.abandon_session(&session.address);
            self.link = Link::Down { not_before: now, hint: None };
        }
        self.unpark();
        self.connect(now);
        self.say(now);
        false
    }

    /// When something is due of its own.
    fn wake(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let mut wake = far;
        if self.member.epoch.is_some() {
            wake = wake.min(self.exchange.heard() + self.session_timeout);
        }
        match &self.link {
            Link::Down { not_before, .. } if self.may_connect() => wake = wake.min(*not_before),
            Link::Up(_) => {
                wake = wake.min(self.say_at);
                let asked = self.exchange.asked();
                wake = wake.min(asked.map_or(far, |asked| asked + self.patience()));
            }
            Link::Down { .. } | Link::Finding | Link::Closed => {}
        }
        let leaving = self.leaving.as_ref().map(|leaving| leaving.deadline);
        self.deadlines().chain(leaving).fold(wake, Instant::min)
    }

    fn patience(&self) -> Duration {
        self.interval.max(PATIENCE).min(self.session_timeout / 3)
    }

    /// Runs the listener's next call, or passes over it where there is no listener.
    fn tell(&mut self) {
        loop {
            match self.hooks.next(&self.core, self.core.config.max_poll_interval) {
                Next::Nothing => return,
                Next::Done(call) => self.told(call),
                Next::Run(running) => {
                    self.work.push(Box::pin(async move { Done::Told(running.await) }));
                }
            }
        }
    }

    /// An expelled member joins again when the application comes for records.
    fn unpark(&mut self) {
        let Some(asks_then) = self.parked else { return };
        let mut state = self.core.shared.lock();
        let (asks, waits) = state.progress();
        if waits || asks != asks_then {
            self.parked = None;
        } else {
            state.watch();
        }
    }

    /// Neither while the application is away, nor to join only to leave.
    fn may_connect(&self) -> bool {
        let joins = self.member.epoch.is_none();
        self.parked.is_none() && !(joins && self.leaving.is_some())
    }

    fn connect(&mut self, now: Instant) {
        let Link::Down { not_before, hint } = &self.link else { return };
        if now < *not_before || !self.may_connect() {
            return;
        }
        if let Some(address) = hint.clone() {
            return self.open(&address, now);
        }
        self.link = Link::Finding;
        let (client, group) = (self.core.client.clone(), self.member.group());
        let allowed = client.config().request_timeout;
        self.work.push(Box::pin(async move {
            let group = &group;
            let found = client
                .quick_call(("finding the coordinator", allowed), |link, timeout| async move {
                    coordinator::find(&link, group, timeout).await
                })
                .await;
            Done::Found(found)
        }));
    }

    fn found(&mut self, found: Result<Arc<str>>) {
        if !matches!(self.link, Link::Finding) {
            return;
        }
        match found {
            Ok(address) => self.open(&address, Instant::now()),
            Err(error) => self.broken(error),
        }
    }

    fn open(&mut self, address: &Arc<str>, now: Instant) {
        let link = match self.core.client.session(address) {
            Ok(link) => link,
            Err(error) => return self.broken(error),
        };
        self.number += 1;
        self.introduced = true;
        self.exchange.begin();
        let first = self.message(now);
        let session = Session::open(link, self.number, first, self.events.clone());
        self.link = Link::Up(session);
    }

    /// Sends all that there is to say, when it is time.
    fn say(&mut self, now: Instant) {
        if now < self.say_at || !matches!(self.link, Link::Up(_)) {
            return;
        }
        let message = self.message(now);
        if let Link::Up(session) = &self.link {
            session.send(message);
        }
    }

    /// The next message, to be sent at once.
    fn message(&mut self, now: Instant) -> wire::MemberUpdate {
        let (asks, waits) = self.core.shared.lock().progress();
        let message = self.member.message((!waits).then_some(asks));
        self.exchange.sent(message.message_number, now);
        self.say_at = now + self.interval;
        message
    }

    /// The connection or the stream failed: tried again, unless the failure says that this is no use.
    pub(super) fn broken(&mut self, error: Error) {
        let pause = self.backoff.pause(&self.core.client.config().random);
        self.link = Link::Down { not_before: Instant::now() + pause.min(LEADER_PAUSE), hint: None };
        match error {
            Error::Refused(refusal) => self.refused(&refusal),
            error => {
                tracing::info!(group = %self.member.group(), %error, "session with the coordinator ended");
            }
        }
    }

    /// Another member from now on: all partitions are gone without a hand-over.
    pub(super) fn lose_everything(&mut self) {
        let id = new_id(&self.core);
        let gone = self.member.begin_anew(id);
        self.lost(gone);
        self.introduced = false;
        self.publish();
    }

    pub(super) fn publish(&self) {
        self.core.standing.is(GroupMetadata {
            group_id: self.member.group(),
            member_id: Arc::clone(&self.member.id),
            generation: self.member.epoch,
            instance_id: self.member.instance(),
        });
    }

    /// Says once which topics are not there (yet).
    fn look_for_topics(&self) {
        let client = self.core.client.clone();
        let names = self.member.subscription.names().to_vec();
        self.work.push(Box::pin(async move {
            for name in names {
                let topic = name.as_str().into();
                let found = client.topic(&topic, client.config().request_timeout).await;
                if let Err(Error::UnknownTopic { .. }) = found.map_err(|e| e.about_topic(&topic)) {
                    tracing::warn!(topic = name, "subscribed, but there is no such topic yet");
                }
            }
            Done::Nothing
        }));
    }
}
