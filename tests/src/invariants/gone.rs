//! G2c: an offset before the beginning of its log is refused; no other record is given in its place.

use crate::history::Event;

pub(super) fn check(events: &[Event]) -> Vec<String> {
    let given = |event: &Event| match event {
        Event::ReadGone { partition, records } => {
            let (offset, value) = records.first()?;
            Some(format!(
                "partition {partition} gave {value} at {offset} to a reader before its beginning"
            ))
        }
        _ => None,
    };
    events.iter().filter_map(given).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_in_place_of_a_refusal_is_found() {
        let read = |records| Event::ReadGone { partition: 0, records };
        assert_eq!(check(&[read(Vec::new())]).len(), 0);
        assert_eq!(check(&[read(vec![(7, 70)])]).len(), 1);
    }
}
