//! The last leaks of real time and real randomness, closed for one thread: the C library's `getrandom`, `getentropy` and
//! `clock_gettime` are replaced by seeded ones there, and fall through to the kernel on every other thread. It is a net
//! under the explicit seams (clock, randomness, disk, dialling), never their substitute.
//!
//! Every run needs a fresh thread, because keys of hash maps and thread-local generators are seeded once per thread, and
//! a fresh process, because tokio drops tasks in an order that depends on process-wide task numbers.
#![allow(
    unsafe_code,
    reason = "these symbols are the C library's; nothing safe can stand in their place"
)]

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Simulated Unix time at the start of every run, seconds: any fixed date does.
pub const EPOCH_SECONDS: u64 = 1_700_000_000;
/// What the monotonic clock shows at the start of every run, seconds: not zero, so that code may subtract from it.
const BOOT_SECONDS: u64 = 1_000_000;
const STACK_BYTES: usize = 16 << 20;

thread_local! {
    // Constant and without a destructor: reading it never allocates, so it is safe inside the replaced functions.
    static STREAM: Cell<Option<u64>> = const { Cell::new(None) };
    static SINCE_START: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

static PANICS: AtomicU64 = AtomicU64::new(0);
/// Beginnings and ends of steps: odd while one is being taken.
static STEPS: AtomicU64 = AtomicU64::new(0);

/// Runs `body` on a fresh thread whose randomness and clock are a function of `seed` alone.
///
/// # Panics
/// When the body panics, with its panic.
pub fn run<T: Send + 'static>(seed: u64, body: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        STREAM.set(Some(seed));
        SINCE_START.set(Duration::ZERO);
        align_task_ids();
        let result = body();
        STREAM.set(None);
        result
    });
    let joined = thread.expect("a thread can be started").join();
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Moves the clock of this thread and lets the world take one step.
pub fn step<T>(elapsed: Duration, take: impl FnOnce() -> T) -> T {
    SINCE_START.set(elapsed);
    STEPS.fetch_add(1, Ordering::Relaxed);
    let taken = take();
    STEPS.fetch_add(1, Ordering::Relaxed);
    taken
}

/// The number of the step that is being taken just now, if one is: a run in which it stays the same has tasks that never
/// come to rest. Between steps, and after the last one, whoever judges may take all the time it needs.
#[must_use]
pub fn step_under_way() -> Option<u64> {
    let steps = STEPS.load(Ordering::Relaxed);
    (steps % 2 == 1).then_some(steps)
}

/// Counts panics of this process from now on. A runtime swallows the panic of a spawned task, so a run that only looked
/// at its own result would pass although a node fell over.
pub fn count_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        print(panic);
    }));
}

/// Panics since [`count_panics`].
#[must_use]
pub fn panics() -> u64 {
    PANICS.load(Ordering::SeqCst)
}

/// tokio keeps tasks in shards by their number modulo a power of two, and numbers them per process. A dropped runtime walks
/// the shards, so the order in which a crash closes sockets depends on how many tasks came before: start at a multiple.
fn align_task_ids() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a bare runtime needs nothing").block_on(async {
        loop {
            let task = tokio::spawn(async {});
            let number = task.id().to_string().parse().unwrap_or(63_u64);
            drop(task.await);
            if number % 64 == 63 {
                break;
            }
        }
    });
}

/// One step of `SplitMix64`: the next state and the number drawn.
fn draw(state: u64) -> (u64, u64) {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (state, z ^ (z >> 31))
}

/// Replaces the C library's function of this name.
///
/// # Safety
/// As the C library's: `buffer` points to `len` writable bytes.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, len: usize, flags: u32) -> isize {
    let Some(mut state) = STREAM.get() else {
        // SAFETY: the caller's contract is the kernel's.
        let filled = unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) };
        return isize::try_from(filled).unwrap_or(-1);
    };
    // SAFETY: the caller promises `len` writable bytes.
    let out = unsafe { std::slice::from_raw_parts_mut(buffer, len) };
    for chunk in out.chunks_mut(8) {
        let (next, drawn) = draw(state);
        state = next;
        chunk.copy_from_slice(&drawn.to_le_bytes()[..chunk.len()]);
    }
    STREAM.set(Some(state));
    isize::try_from(len).unwrap_or(-1)
}

/// Replaces the C library's function of this name.
///
/// # Safety
/// As the C library's: `buffer` points to `len` writable bytes.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn getentropy(buffer: *mut u8, len: usize) -> i32 {
    // SAFETY: the same contract.
    let filled = unsafe { getrandom(buffer, len, 0) };
    if usize::try_from(filled) == Ok(len) { 0 } else { -1 }
}

/// Replaces the C library's function of this name.
///
/// # Safety
/// As the C library's: `time` points to a writable `timespec`.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    if STREAM.get().is_none() {
        // SAFETY: the caller's contract is the kernel's.
        let outcome = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
        return i32::try_from(outcome).unwrap_or(-1);
    }
    let is_wall = matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE);
    let base = if is_wall { EPOCH_SECONDS } else { BOOT_SECONDS };
    let now = Duration::from_secs(base) + SINCE_START.get();
    // SAFETY: the caller promises a writable `timespec`.
    unsafe {
        (*time).tv_sec = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        (*time).tv_nsec = now.subsec_nanos().into();
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::hash_map::RandomState;
    use std::hash::BuildHasher;
    use std::time::{SystemTime, UNIX_EPOCH};

    fn view(seed: u64) -> (u64, u64) {
        run(seed, || (RandomState::new().hash_one(7), rand::random()))
    }

    #[test]
    fn one_seed_gives_one_view_of_randomness() {
        assert_eq!(view(1), view(1));
        assert_ne!(view(1), view(2));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the replaced clock is what is tested")]
    fn the_clock_moves_only_when_told() {
        let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let (start, later) = run(1, move || {
            let start = seconds();
            step(Duration::from_secs(5), || ());
            (start, seconds())
        });
        assert_eq!((start, later), (EPOCH_SECONDS, EPOCH_SECONDS + 5));
        assert!(seconds() > later, "other threads see the real clock");
    }
}
