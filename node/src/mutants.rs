//! Planted bugs: owns the switch by which a test puts one known bug into the product, to prove that the tests would
//! find it. Without the cargo feature `mutants`, and outside of unit tests, the switch is a constant and every planted bug
//! compiles to nothing. It never holds a bug itself: each stands where it would really be made, behind
//! `mutants::planted!("its-name")`.
//!
//! One bug at a time and one for the whole process, so a test that plants one must not share its process with others
//! that run at the same moment: hold the guard `Planted`, which serialises all planting tests of a process.

#[cfg(any(test, feature = "mutants"))]
pub use switch::{Planted, plant, seclude};

/// Whether the bug of this name is planted: the one way to ask, so that a search for it lists all planted bugs.
macro_rules! planted {
    ($name:literal) => {
        $crate::mutants::is_active($name)
    };
}
pub(crate) use planted;

/// What `planted!` asks. Always `false` in a build without the feature `mutants`.
#[cfg(not(any(test, feature = "mutants")))]
#[inline]
#[must_use]
pub const fn is_active(name: &str) -> bool {
    let _ = name;
    false
}

/// What `planted!` asks. Always `false` in a build without the feature `mutants`.
#[cfg(any(test, feature = "mutants"))]
#[must_use]
pub fn is_active(name: &str) -> bool {
    switch::is_planted(name)
}

#[cfg(any(test, feature = "mutants"))]
mod switch {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

    /// The fast path: code under test asks on every write, so it must not take a lock when nothing is planted.
    static ANY: AtomicBool = AtomicBool::new(false);
    /// The bug planted now; written only by the holder of [`TURN`]'s write half.
    static NAME: RwLock<Option<&'static str>> = RwLock::new(None);
    /// A planting test holds it exclusively, a test that must see no bug holds it shared.
    static TURN: RwLock<()> = RwLock::new(());

    /// Plants a bug until the guard is dropped. Waits for other tests that plant or are secluded.
    pub fn plant(name: &'static str) -> Planted {
        let turn = TURN.write().unwrap_or_else(PoisonError::into_inner);
        set(Some(name));
        Planted { _turn: turn }
    }

    /// Keeps all bugs out while the guard lives: for tests that share a process with tests that plant.
    pub fn seclude() -> RwLockReadGuard<'static, ()> {
        TURN.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_planted(name: &str) -> bool {
        ANY.load(Ordering::Relaxed)
            && *NAME.read().unwrap_or_else(PoisonError::into_inner) == Some(name)
    }

    fn set(name: Option<&'static str>) {
        *NAME.write().unwrap_or_else(PoisonError::into_inner) = name;
        ANY.store(name.is_some(), Ordering::SeqCst);
    }

    /// A planted bug; dropping it takes the bug out again.
    #[derive(Debug)]
    #[must_use = "the bug is planted only while this lives"]
    pub struct Planted {
        _turn: RwLockWriteGuard<'static, ()>,
    }

    impl Drop for Planted {
        fn drop(&mut self) {
            set(None);
        }
    }
}
