//! Tests of the rows: what goes in comes back, and nothing that is damaged or refused leaves a trace.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use waymark_proto::ids::ShardId;

use super::*;
use crate::state::Command;
use crate::state::shard::EntryAt;
use crate::state::tests::arbitrary::{self, without_bugs};

type Table = BTreeMap<Vec<u8>, Vec<u8>>;

/// What storage keeps of drained rows.
fn keep(table: &mut Table, rows: Vec<Row>) {
    for row in rows {
        match row.value {
            Some(value) => table.insert(row.key, value),
            None => table.remove(&row.key),
        };
    }
}

fn restored(table: &Table) -> ShardState {
    let rows: Vec<(Vec<u8>, Vec<u8>)> = table.clone().into_iter().collect();
    ShardState::from_rows(ShardId::CATALOG, &rows).unwrap()
}

proptest! {
    #[test]
    fn a_state_comes_back_from_all_rows_drained_so_far(
        log in arbitrary::log(arbitrary::command()),
        drain_every in 1_usize..20,
    ) {
        let _alone = without_bugs();
        let mut state = ShardState::new(ShardId::CATALOG);
        let mut table = Table::new();
        for (number, (at, command)) in log.into_iter().enumerate() {
            state.apply(at, command);
            if number % drain_every == 0 {
                keep(&mut table, state.drain_rows());
                prop_assert_eq!(&restored(&table), &state);
            }
        }
        keep(&mut table, state.drain_rows());
        prop_assert_eq!(&restored(&table), &state);
        prop_assert!(state.drain_rows().is_empty(), "nothing is drained twice");
    }

    #[test]
    fn a_restored_state_goes_on_as_the_original(
        log in arbitrary::log(arbitrary::command()),
        cut in any::<prop::sample::Index>(),
    ) {
        let _alone = without_bugs();
        let mut original = ShardState::new(ShardId::CATALOG);
        let mut table = Table::new();
        let cut = cut.index(log.len());
        for (at, command) in &log[..cut] {
            original.apply(*at, command.clone());
        }
        keep(&mut table, original.drain_rows());
        let mut copy = restored(&table);
        for (at, command) in &log[cut..] {
            prop_assert_eq!(original.apply(*at, command.clone()), copy.apply(*at, command.clone()));
        }
        prop_assert_eq!(original.drain_rows(), copy.drain_rows());
        prop_assert_eq!(original, copy);
    }

    #[test]
    fn drained_rows_are_sorted_and_each_key_comes_once(log in arbitrary::log(arbitrary::command())) {
        let _alone = without_bugs();
        let mut state = ShardState::new(ShardId::CATALOG);
        for (at, command) in log {
            state.apply(at, command);
        }
        let rows = state.drain_rows();
        prop_assert!(rows.is_sorted_by(|a, b| a.key < b.key));
    }

    #[test]
    fn rows_that_no_state_wrote_are_an_error_or_a_state(
        tag in 0_u8..15,
        key in prop::collection::vec(any::<u8>(), 0..40),
        value in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let key = [vec![tag], key].concat();
        let _ = ShardState::from_rows(ShardId::CATALOG, &[(key, value)]);
    }

    #[test]
    fn a_damaged_row_never_panics_in_load_or_in_apply(
        log in arbitrary::log(arbitrary::command()),
        row in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut state = ShardState::new(ShardId::CATALOG);
        for (at, command) in &log {
            state.apply(*at, command.clone());
        }
        let mut table = Table::new();
        keep(&mut table, state.drain_rows());
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = table.into_iter().collect();
        let row = row.index(rows.len());
        if !rows[row].1.is_empty() {
            let at = at.index(rows[row].1.len());
            rows[row].1[at] = byte;
        }
        if let Ok(mut damaged) = ShardState::from_rows(ShardId::CATALOG, &rows) {
            for (at, command) in log {
                damaged.apply(at, command);
            }
        }
    }

    #[test]
    fn bytes_of_any_kind_apply_without_a_panic(
        entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20),
    ) {
        let mut state = ShardState::new(ShardId(3));
        for bytes in entries {
            let at = EntryAt { index: 1, term: 1, leader: Default::default() };
            let bytes = Bytes::from([vec![1], bytes].concat());
            state.apply_encoded(at, bytes);
        }
    }
}

#[test]
fn a_catalog_row_outside_of_shard_0_is_an_error() {
    let mut state = ShardState::new(ShardId::CATALOG);
    let at = EntryAt { index: 1, term: 1, leader: Default::default() };
    state.apply(at, Command::Catalog(arbitrary::found(3)));
    let rows = state.drain_rows().into_iter().map(|row| (row.key, row.value.unwrap()));
    let rows: Vec<_> = rows.collect();
    assert!(ShardState::from_rows(ShardId(1), &rows).is_err());
}
