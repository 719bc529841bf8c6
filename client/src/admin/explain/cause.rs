//! Owns the closed list of causes: how grave each is, and what to do about it.

use super::super::groups::{ExpelCause, GroupEventKind};

/// What can be behind a change of a group, or wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "cli", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Cause {
    /// The group came to be.
    Created,
    /// A member joined.
    Joined,
    /// A member left for good.
    Left,
    /// A member left to return.
    Away,
    /// A new process took a seat that waited for it.
    Returned,
    /// Expelled: connected, but silent.
    Heartbeat,
    /// Expelled: at work on the same records for too long.
    Progress,
    /// Expelled: its connection broke and it did not come back.
    Crash,
    /// Expelled by an operator.
    Operator,
    /// Expelled: left to return, and did not.
    DidNotReturn,
    /// Expelled: another process took over its instance.
    Replaced,
    /// Expelled, for a cause that this client does not know.
    Expelled,
    /// A member wants other topics.
    SubscriptionChanged,
    /// Topics came, went, or got more partitions.
    TopicsChanged,
    /// Partitions are shared out in another way.
    AssignorChanged,
    /// A partition was not given up in time.
    DrainOverdue,
    /// A partition was given up in time, but slowly.
    SlowDrain,
    /// An operator moved offsets.
    OffsetsReset,
    /// An operator put offsets back.
    OffsetsUndone,
    /// An operator removed offsets.
    OffsetsDeleted,
    /// Offsets will be removed.
    ExpiryAnnounced,
    /// Offsets were removed.
    OffsetsExpired,
    /// Another node coordinates the group.
    CoordinatorChanged,
    /// The same seat comes and goes.
    CrashLoop,
    /// A member will soon be expelled for its progress.
    SlowProgress,
    /// A member will soon be expelled for its silence.
    GoingSilent,
    /// A member has been asked for partitions and still holds them.
    Draining,
    /// Members without partitions.
    IdleMembers,
    /// Partitions that nobody owns.
    Unowned,
    /// The lag grows.
    FallingBehind,
    /// Retention will remove what is unread.
    LossAhead,
    /// Retention has removed what was unread.
    RecordsLost,
    /// How far it is behind is not known.
    LagUnknown,
}

/// How grave something is; the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "cli", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Gravity {
    /// Records are lost or not read.
    Urgent,
    /// Work is repeated or slow; somebody should look.
    Warning,
    /// Good to know.
    Note,
}

impl Cause {
    /// In the words that JSON and text share.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Away => "away",
            Self::Returned => "returned",
            Self::Heartbeat => "heartbeat",
            Self::Progress => "progress",
            Self::Crash => "crash",
            Self::Operator => "operator",
            Self::DidNotReturn => "did_not_return",
            Self::Replaced => "replaced",
            Self::Expelled => "expelled",
            Self::SubscriptionChanged => "subscription_changed",
            Self::TopicsChanged => "topics_changed",
            Self::AssignorChanged => "assignor_changed",
            Self::DrainOverdue => "drain_overdue",
            Self::SlowDrain => "slow_drain",
            Self::OffsetsReset => "offsets_reset",
            Self::OffsetsUndone => "offsets_undone",
            Self::OffsetsDeleted => "offsets_deleted",
            Self::ExpiryAnnounced => "expiry_announced",
            Self::OffsetsExpired => "offsets_expired",
            Self::CoordinatorChanged => "coordinator_changed",
            Self::CrashLoop => "crash_loop",
            Self::SlowProgress => "slow_progress",
            Self::GoingSilent => "going_silent",
            Self::Draining => "draining",
            Self::IdleMembers => "idle_members",
            Self::Unowned => "unowned",
            Self::FallingBehind => "falling_behind",
            Self::LossAhead => "loss_ahead",
            Self::RecordsLost => "records_lost",
            Self::LagUnknown => "lag_unknown",
        }
    }

    /// What began a change; `None` for what follows from one, such as a partition that moves.
    pub(super) fn of(kind: GroupEventKind) -> Option<Self> {
        Some(match kind {
            GroupEventKind::Created => Self::Created,
            GroupEventKind::Joined => Self::Joined,
            GroupEventKind::Left => Self::Left,
            GroupEventKind::Away => Self::Away,
            GroupEventKind::Returned => Self::Returned,
            GroupEventKind::Expelled(cause) => Self::of_expulsion(cause),
            GroupEventKind::SubscriptionChanged => Self::SubscriptionChanged,
            GroupEventKind::TopicsChanged => Self::TopicsChanged,
            GroupEventKind::AssignorChanged => Self::AssignorChanged,
            GroupEventKind::OffsetsReset => Self::OffsetsReset,
            GroupEventKind::OffsetsUndone => Self::OffsetsUndone,
            GroupEventKind::OffsetsDeleted => Self::OffsetsDeleted,
            GroupEventKind::ExpiryAnnounced => Self::ExpiryAnnounced,
            GroupEventKind::OffsetsExpired => Self::OffsetsExpired,
            GroupEventKind::CoordinatorChanged => Self::CoordinatorChanged,
            GroupEventKind::RevokeAsked
            | GroupEventKind::Assigned
            | GroupEventKind::DrainOverdue
            | GroupEventKind::Unknown => return None,
        })
    }

    fn of_expulsion(cause: ExpelCause) -> Self {
        match cause {
            ExpelCause::Heartbeat => Self::Heartbeat,
            ExpelCause::Progress => Self::Progress,
            ExpelCause::Crash => Self::Crash,
            ExpelCause::Operator => Self::Operator,
            ExpelCause::DidNotReturn => Self::DidNotReturn,
            ExpelCause::Replaced => Self::Replaced,
            ExpelCause::Unknown => Self::Expelled,
        }
    }

    /// Whether partitions may change owners because of it.
    pub(super) fn moves_partitions(self) -> bool {
        !matches!(
            self,
            Self::Created
                | Self::Away
                | Self::Returned
                | Self::Replaced
                | Self::OffsetsReset
                | Self::OffsetsUndone
                | Self::OffsetsDeleted
                | Self::ExpiryAnnounced
                | Self::OffsetsExpired
                | Self::CoordinatorChanged
        )
    }

    /// How grave it is.
    #[must_use]
    pub fn gravity(self) -> Gravity {
        match self {
            Self::CrashLoop | Self::Unowned | Self::LossAhead | Self::RecordsLost => {
                Gravity::Urgent
            }
            Self::Heartbeat
            | Self::Progress
            | Self::Crash
            | Self::DidNotReturn
            | Self::Expelled
            | Self::DrainOverdue
            | Self::SlowDrain
            | Self::SlowProgress
            | Self::GoingSilent
            | Self::FallingBehind
            | Self::ExpiryAnnounced
            | Self::OffsetsExpired
            | Self::LagUnknown => Gravity::Warning,
            _ => Gravity::Note,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        let known = self.about_members().or_else(|| self.about_the_group());
        known.or_else(|| self.about_now()).unwrap_or("nothing to do")
    }

    /// Of members that come and go.
    fn about_members(self) -> Option<&'static str> {
        Some(match self {
            Self::Created => "nothing to do",
            Self::Joined | Self::Left => {
                "nothing to do: a planned change; what moved was handed over without repeated work"
            }
            Self::Away => {
                "nothing to do, if it is restarting: its partitions wait for it until its session timeout has passed"
            }
            Self::Returned => {
                "nothing to do: a restart under the same group.instance.id moves nothing"
            }
            Self::Heartbeat => {
                "the process was there but did not run: look for a paused or starved process (garbage collection, a throttled or swapping host, a blocked async runtime) and for a bad network; only then raise session.timeout.ms"
            }
            Self::Progress => {
                "the handler needs longer than it may: raise max.poll.interval.ms, or make the batch smaller (max.poll.records), or the handler faster"
            }
            Self::Crash => {
                "look at the member's host and at its log: it crashed, was killed or was cut off; give it a group.instance.id if it is meant to restart, so that its partitions wait for it"
            }
            Self::Operator => {
                "somebody decided this; a process that still runs joins again: stop it, if it should stay out"
            }
            Self::DidNotReturn => {
                "it said that it would be back and was not in time: see why it did not start again, or raise session.timeout.ms if a restart takes that long"
            }
            Self::Replaced => {
                "expected, if the old process was being replaced; if not, two processes use the same group.instance.id: give each its own"
            }
            Self::Expelled => {
                "see the group's coordinator's log; this client is older than the cluster and does not know the cause"
            }
            _ => return None,
        })
    }

    /// Of what is done to the group as a whole.
    fn about_the_group(self) -> Option<&'static str> {
        Some(match self {
            Self::SubscriptionChanged => {
                "expected while a new version is rolled out; all members should then read the same topics"
            }
            Self::TopicsChanged => {
                "nothing to do: new partitions and topics that match are picked up"
            }
            Self::AssignorChanged => {
                "expected while a new version is rolled out; the newest member that names an assignor decides"
            }
            Self::DrainOverdue => {
                "records since its last commit were read twice: raise drain.timeout.ms, or finish faster after a revoke (smaller max.poll.records, commit more often)"
            }
            Self::SlowDrain => {
                "the new owner waited for it: finish faster after a revoke (smaller max.poll.records, a faster handler), or accept the pause"
            }
            Self::OffsetsReset => {
                "somebody moved the offsets; take it back with: waymark group undo GROUP --to TIME"
            }
            Self::OffsetsUndone => {
                "somebody put the offsets back; see the ledger with: waymark group history GROUP"
            }
            Self::OffsetsDeleted => {
                "somebody removed offsets; members begin there by auto.offset.reset; set them with: waymark group reset GROUP"
            }
            Self::ExpiryAnnounced => {
                "start a member, or commit offsets from outside, before that date; or let the group keep its offsets for longer"
            }
            Self::OffsetsExpired => {
                "the group was without members for longer than its offsets are kept; members begin by auto.offset.reset; choose the place with: waymark group reset GROUP"
            }
            _ => return None,
        })
    }

    /// Of how it is now, and of what needs nothing.
    fn about_now(self) -> Option<&'static str> {
        Some(match self {
            Self::CoordinatorChanged => {
                "nothing to do: no member, no offset and no partition was lost by it"
            }
            Self::CrashLoop => {
                "the process starts and dies again and again: stop restarting it, read its log from the first failure, and mend that"
            }
            Self::SlowProgress => {
                "it will be expelled soon: raise max.poll.interval.ms, or make the batch smaller (max.poll.records), or the handler faster"
            }
            Self::GoingSilent => {
                "it will be expelled soon: see whether its process is paused, starved or cut off"
            }
            Self::Draining => {
                "wait: past its deadline it is fenced and the new owner begins at the last committed offset"
            }
            Self::IdleMembers => {
                "there are more members than partitions: stop some, or give the topics more partitions"
            }
            Self::Unowned => "nobody reads these: see that a member subscribes to their topics",
            Self::FallingBehind => {
                "producers are faster than the group: add members (up to one for each partition), more partitions, or a faster handler"
            }
            Self::LossAhead => {
                "catch up before that: add members or a faster handler; or raise retention.ms and retention.bytes of the topics"
            }
            Self::RecordsLost => {
                "these records are gone; raise retention.ms and retention.bytes of the topics, or hold retention for this group"
            }
            Self::LagUnknown => "leaders did not answer; see: waymark cluster health",
            _ => return None,
        })
    }
}
