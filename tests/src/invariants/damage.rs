//! G6: whatever rots on disks, nobody is given it for a record. That damage is noticed and repaired is the profile's business,
//! which waits for it.

use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let given = |event: &Event| match event {
        Event::DamageGiven { what } => Some(format!("a reader was given damaged bytes: {what}")),
        _ => None,
    };
    events.iter().filter_map(given).collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::history::History;

    #[test]
    fn damage_that_somebody_was_given_is_found_and_a_refusal_is_not() {
        let history = History::default();
        let refused: io::Result<()> = Err(io::Error::other("under repair"));
        history.note_damage(refused).unwrap_err();
        assert_eq!(check(&history.snapshot()).len(), 0);
        let damaged: io::Result<()> = Err(io::Error::new(io::ErrorKind::InvalidData, "a checksum"));
        history.note_damage(damaged).unwrap_err();
        assert_eq!(check(&history.snapshot()).len(), 1);
    }
}
