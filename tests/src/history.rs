//! What the clients did and saw, in the order in which it happened: every call as its beginning and its end, which is an
//! answer, a refusal, or nothing that anybody knows. Clients only append here; nothing is judged.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::calls::{Call, Outcome};
use crate::group_history::GroupEvent;

/// What a client tried or was told. Every value is sent once at most, so that it names its record; a producer's values
/// rise in the order in which it sent them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "a field's name means the same in every variant")]
pub enum Event {
    /// A producer sends a value.
    AppendInvoked { partition: u32, producer: u32, value: u64 },
    /// It was acknowledged at this offset.
    AppendOk { partition: u32, offset: u64, value: u64 },
    /// It was refused and certainly not written.
    AppendFailed { partition: u32, value: u64 },
    /// Nobody knows: it may be written, now or later.
    AppendUnknown { partition: u32, value: u64 },
    /// A reader goes on at this offset of a partition, or at the first record behind it.
    Sought { reader: u32, partition: u32, offset: u64 },
    /// A reader was given this value at this offset, while faults may still go on. `None`: a member of a group, whose
    /// ownership decides where it reads.
    Read { reader: Option<u32>, partition: u32, offset: u64, value: u64 },
    /// After all faults: the whole partition, as each reader is given it now.
    Settled { partition: u32, records: Vec<(u64, u64)> },
    /// After all faults: what each replica of a partition holds, as one digest per node, and of how many there should be one.
    Compared { partition: u32, replicas: Vec<(u32, String)>, of: u32 },
    /// A group's offset was asked for after every earlier event, and this was the answer.
    CommittedSeen { group: u32, partition: u32, offset: u64 },
    /// A client calls; the number is the call's own.
    Invoked { call: u64, client: u32, what: Call },
    /// That call ended.
    Ended { call: u64, outcome: Outcome },
    /// Logs are kept to so many bytes from now on: what is at their beginning may go.
    LogsLimited { bytes: u64 },
    /// After all faults: where a partition's log begins, and how many bytes its records from there on have at most.
    LogStart { partition: u32, offset: u64, kept: u64 },
    /// After all faults: what was given to a reader who began before the beginning, instead of a refusal.
    ReadGone { partition: u32, records: Vec<(u64, u64)> },
    /// Somebody who reads was given bytes that are not those of a record, and what the client says of them.
    DamageGiven { what: String },
    /// Of the consumer group of the run.
    Group(GroupEvent),
}

impl From<GroupEvent> for Event {
    fn from(event: GroupEvent) -> Self {
        Self::Group(event)
    }
}

/// A shared, growing history. Clones write to the same one.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// With the simulated time of each, which never falls.
    events: Arc<Mutex<Vec<(Duration, Event)>>>,
    /// Counted beside, because a driver asks in every tick.
    acknowledged: Arc<AtomicUsize>,
    /// Offset and value of what was acknowledged last, by partition; for the same reason.
    last: Arc<Mutex<BTreeMap<u32, (u64, u64)>>>,
    calls: Arc<AtomicU64>,
    /// When a real run began; a simulation has its own time.
    begun: Option<Instant>,
}

impl History {
    /// Of a real run that begins now.
    #[must_use]
    pub fn real() -> Self {
        Self { begun: Some(Instant::now()), ..Self::default() }
    }

    /// Notes an event as the latest.
    pub fn note(&self, event: impl Into<Event>) {
        let event = event.into();
        if let Event::AppendOk { partition, offset, value } = event {
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
            self.last().insert(partition, (offset, value));
        }
        let mut events = self.events();
        // The driver stands outside of time: what it notes happened when the last thing did.
        let last = events.last().map_or(Duration::ZERO, |(at, _)| *at);
        let real = || self.begun.map_or(last, |begun| begun.elapsed());
        let now = turmoil::sim_elapsed().unwrap_or_else(real);
        events.push((now.max(last), event));
    }

    /// Notes it when what was read came damaged, which [`io::ErrorKind::InvalidData`] says. Hands on whatever was read.
    pub(crate) fn note_damage<T>(&self, read: io::Result<T>) -> io::Result<T> {
        read.inspect_err(|error| {
            if error.kind() == io::ErrorKind::InvalidData {
                self.note(Event::DamageGiven { what: error.to_string() });
            }
        })
    }

    /// A client calls; what it returns names the call.
    #[must_use]
    pub fn invoke(&self, client: u32, what: Call) -> u64 {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        self.note(Event::Invoked { call, client, what });
        call
    }

    /// A call ended.
    pub fn end(&self, call: u64, outcome: Outcome) {
        self.note(Event::Ended { call, outcome });
    }

    /// Everything so far, in order.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Event> {
        self.events().iter().map(|(_, event)| event.clone()).collect()
    }

    /// Everything so far, with when it happened.
    #[must_use]
    pub fn stamped(&self) -> Vec<(Duration, Event)> {
        self.events().clone()
    }

    /// How many appends were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// How many records were read so far, at the end as well as under load.
    #[must_use]
    pub fn read(&self) -> usize {
        let count = |(_, event): &(Duration, Event)| match event {
            Event::Read { .. } => 1,
            Event::Settled { records, .. } => records.len(),
            _ => 0,
        };
        self.events().iter().map(count).sum()
    }

    /// Offset and value of what was acknowledged last, by partition.
    #[must_use]
    pub fn last_acknowledged(&self) -> BTreeMap<u32, (u64, u64)> {
        self.last().clone()
    }

    /// Appends without an answer so far, the oldest first, each with when it began.
    #[must_use]
    pub fn unanswered(&self) -> Vec<(Duration, u32, u64)> {
        let mut open: BTreeMap<u64, (Duration, u32)> = BTreeMap::new();
        for (at, event) in self.events().iter() {
            match event {
                Event::AppendInvoked { partition, value, .. } => {
                    open.insert(*value, (*at, *partition));
                }
                Event::AppendOk { value, .. }
                | Event::AppendFailed { value, .. }
                | Event::AppendUnknown { value, .. } => drop(open.remove(value)),
                _ => {}
            }
        }
        let mut open: Vec<(Duration, u32, u64)> =
            open.into_iter().map(|(value, (at, partition))| (at, partition, value)).collect();
        open.sort_unstable();
        open
    }

    fn last(&self) -> MutexGuard<'_, BTreeMap<u32, (u64, u64)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn events(&self) -> MutexGuard<'_, Vec<(Duration, Event)>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
