//! Finds the part of a history that a piece of evidence speaks of: the events that name the same values and offsets, with
//! when they happened. Never judges.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::history::Event;

/// Events that are shown for one piece of evidence.
const SHOWN: usize = 12;
/// Smaller numbers, as those of partitions and nodes, are in every event.
const TELLING: u64 = 16;

/// The first events that name what the evidence names, a line each.
#[must_use]
pub(crate) fn around(events: &[(Duration, Event)], evidence: &str) -> Vec<String> {
    let named = numbers(evidence);
    let tells = |(_, event): &&(Duration, Event)| match event {
        // Everything is in these.
        Event::Settled { .. } | Event::Compared { .. } => false,
        event => !numbers(&format!("{event:?}")).is_disjoint(&named),
    };
    let line = |(at, event): &(Duration, Event)| format!("{:>8.3} s  {event:?}", at.as_secs_f64());
    events.iter().filter(tells).take(SHOWN).map(line).collect()
}

fn numbers(text: &str) -> BTreeSet<u64> {
    let runs = text.split(|it: char| !it.is_ascii_digit());
    runs.filter_map(|run| run.parse().ok()).filter(|number| *number >= TELLING).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_of_a_lost_value_are_shown_and_no_others() {
        let at = Duration::from_millis(1_500);
        let sent = |value| Event::AppendInvoked { partition: 1, producer: 1, value };
        let acknowledged = Event::AppendOk { partition: 1, offset: 40, value: 777 };
        let events = [(at, sent(777)), (at, sent(778)), (at, acknowledged)];
        let shown = around(&events, "value 777 was acknowledged at partition 1 offset 40");
        assert_eq!(shown.len(), 2);
        assert!(shown[0].starts_with("   1.500 s  AppendInvoked"), "{shown:?}");
    }
}
