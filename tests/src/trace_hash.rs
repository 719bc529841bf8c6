//! Owns the fingerprint of a run: a hash over every tracing event of all crates, with its fields and its simulated time.
//! Equal hash, equal run. It never looks at wall time, thread or address.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, span};
use waymark_node::consensus::acked;
use waymark_node::reached;

use crate::acks::Acks;
use crate::log_lines::Unexpected;
use crate::tally::Tally;

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The hash of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// FNV-1a over the lines.
    pub hash: u64,
    /// Events hashed.
    pub events: u64,
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x} of {} events", self.hash, self.events)
    }
}

#[derive(Debug)]
struct State {
    fingerprint: Fingerprint,
    dump: Option<BufWriter<File>>,
}

/// A subscriber that hashes instead of printing, counts the states that nodes say they reached, and keeps their acks and what
/// nobody expected. Clones share the hash.
#[derive(Debug, Clone)]
pub struct TraceHash {
    state: Arc<Mutex<State>>,
    level: Level,
    reached: Tally,
    acks: Acks,
    unexpected: Unexpected,
}

impl TraceHash {
    /// Hashes events up to `level`; writes them to `dump` as well when it is given, to be compared by `diff`. What nobody
    /// expects goes to `unexpected`, which knows.
    ///
    /// # Errors
    /// When the dump cannot be created.
    pub fn new(
        level: Level,
        dump: Option<&Path>,
        reached: &Tally,
        unexpected: Unexpected,
    ) -> io::Result<Self> {
        let dump = dump.map(File::create).transpose()?.map(BufWriter::new);
        let fingerprint = Fingerprint { hash: FNV_BASIS, events: 0 };
        let state = Arc::new(Mutex::new(State { fingerprint, dump }));
        let reached = reached.clone();
        Ok(Self { state, level, reached, acks: Acks::default(), unexpected })
    }

    /// What nodes call done, for whoever compares it with what is.
    #[must_use]
    pub fn acks(&self) -> &Acks {
        &self.acks
    }

    /// The lines so far that nobody expected.
    #[must_use]
    pub fn unexpected(&self) -> Vec<String> {
        self.unexpected.lines()
    }

    /// The hash so far; flushes the dump.
    ///
    /// # Panics
    /// When the dump cannot be written.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dump) = &mut state.dump {
            dump.flush().expect("the dump of a trace can be written");
        }
        state.fingerprint
    }
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

struct Counted<'a>(&'a Tally);

impl Visit for Counted<'_> {
    fn record_str(&mut self, _: &Field, state: &str) {
        self.0.count(state);
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl Subscriber for TraceHash {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
            || [reached::TARGET, acked::TARGET].contains(&metadata.target())
    }

    /// What nodes reach is told at the lowest level.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        if metadata.target() == reached::TARGET {
            event.record(&mut Counted(&self.reached));
        }
        if metadata.target() == acked::TARGET {
            self.acks.note(event);
        }
        if *metadata.level() > self.level {
            return;
        }
        let mut line = String::with_capacity(128);
        let now = turmoil::sim_elapsed();
        let _ = write!(line, "{now:?} {} {}", metadata.level(), metadata.target());
        event.record(&mut Fields(&mut line));
        self.unexpected.judge(metadata, &line);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let hashed = line.bytes().fold(state.fingerprint.hash, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
        });
        state.fingerprint = Fingerprint { hash: hashed, events: state.fingerprint.events + 1 };
        if let Some(dump) = &mut state.dump {
            writeln!(dump, "{line}").expect("the dump of a trace can be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(offset: u64) -> Fingerprint {
        let hash = TraceHash::new(Level::TRACE, None, &Tally::default(), Unexpected::default());
        let hash = hash.unwrap();
        tracing::subscriber::with_default(hash.clone(), || tracing::info!(offset, "appended"));
        hash.fingerprint()
    }

    #[test]
    fn equal_events_hash_equally_and_a_changed_field_shows() {
        assert_eq!(hash_of(1), hash_of(1));
        assert_ne!(hash_of(1), hash_of(2));
        assert_eq!(hash_of(1).events, 1);
    }
}
