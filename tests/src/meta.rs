//! The test of the tests: the same seed twice, in two processes, with every event of all crates hashed. Where the two differ,
//! the first line that does is shown: something that no seed decides took part there.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::plan::Plan;
use crate::process::Simulation;

/// Whether a run repeats; what it shows is printed.
///
/// # Panics
/// When the traces cannot be written or read.
#[must_use]
pub fn repeats(plan: &Plan) -> bool {
    let fingerprint = |trace: Option<&Path>| {
        let simulation = Simulation {
            detailed: true,
            trace: trace.map(Path::to_owned),
            ..Simulation::new(plan.clone())
        };
        simulation.run().outcome.fingerprint
    };
    let [first, second] = both([None, None], fingerprint);
    if first == second && !first.is_empty() {
        println!("twice {first}");
        return true;
    }
    println!("{first:?} and {second:?}");
    // Traces are large and slow to write: only of what is known to differ.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let traces = [folder.path().join("first"), folder.path().join("second")];
    let [one, other] = traces.each_ref().map(PathBuf::as_path);
    both([Some(one), Some(other)], fingerprint);
    match first_difference(one, other) {
        Some((number, one, other)) => println!("line {number}:\n  {one}\n  {other}"),
        None => println!("no line differs in another two runs"),
    }
    false
}

/// Two runs at the same time.
fn both<T: Send>(of: [Option<&Path>; 2], run: impl Fn(Option<&Path>) -> T + Sync) -> [T; 2] {
    let run = &run;
    std::thread::scope(|scope| {
        let running = of.map(|trace| scope.spawn(move || run(trace)));
        running.map(|run| run.join().expect("a run ends with an outcome"))
    })
}

/// The first line that differs, by its number from 1; a trace that ends before the other differs there.
fn first_difference(one: &Path, other: &Path) -> Option<(usize, String, String)> {
    let lines = |path: &Path| BufReader::new(File::open(path).expect("a trace")).lines();
    let (mut one, mut other) = (lines(one), lines(other));
    for number in 1.. {
        let next = |lines: &mut std::io::Lines<BufReader<File>>| {
            lines.next().map(|line| line.expect("a trace can be read"))
        };
        let (one, other) = (next(&mut one), next(&mut other));
        if one.is_none() && other.is_none() {
            return None;
        }
        if one != other {
            let told = |line: Option<String>| line.unwrap_or_else(|| "(the end)".to_owned());
            return Some((number, told(one), told(other)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (one, other) = (write("one", "a\nb\nc\n"), write("other", "a\nx\nc\n"));
        let difference = first_difference(&one, &other);
        assert_eq!(difference, Some((2, "b".to_owned(), "x".to_owned())));
        assert_eq!(first_difference(&one, &one), None);
        let short = write("short", "a\nb\n");
        assert_eq!(
            first_difference(&one, &short),
            Some((3, "c".to_owned(), "(the end)".to_owned()))
        );
    }
}
