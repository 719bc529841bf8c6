//! The features that a caller may require by name: each field whose loss would weaken a promise. Owns the list. All of them
//! are in the first release, so all are active on every node; a later one becomes active by a decision of the cluster.

/// Names, sorted.
pub(super) const ACTIVE: [&str; 8] = [
    "commit-seq",
    "conditional-append",
    "conditional-commit",
    "fencing-epoch",
    "idempotent-produce",
    "leader-epoch-fence",
    "reset-generation",
    "topic-version",
];

pub(super) fn is_active(name: &str) -> bool {
    ACTIVE.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_so_that_every_name_is_found() {
        assert!(ACTIVE.is_sorted());
        assert!(ACTIVE.iter().all(|name| is_active(name)));
        assert!(!is_active("transactions"));
    }
}
