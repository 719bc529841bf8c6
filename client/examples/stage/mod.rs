//! Owns what every example needs around its subject: the cluster, a topic of its own, waiting, and a verdict at the end. It
//! never hides a call that an example is there to show.

#![allow(dead_code, reason = "each example is a program of its own and uses a part")]

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use waymark_client::{Client, ClientConfig, NewTopic, Result};

pub(crate) type Outcome<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What `waymark dev` listens on.
const LOCAL: &str = "127.0.0.1:7001";
/// An example takes seconds; who waits longer waits for something that will not come.
const LIMIT: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Runs an example, and says in one sentence what did not hold.
pub(crate) async fn run(example: impl Future<Output = Outcome>) -> ExitCode {
    let outcome = match timeout(LIMIT, Box::pin(example)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("this example has not ended within {} s", LIMIT.as_secs()).into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The cluster that `WAYMARK_BOOTSTRAP` names (`HOST:PORT,…`), or that of `waymark dev`.
pub(crate) fn cluster() -> ClientConfig {
    let addresses = std::env::var("WAYMARK_BOOTSTRAP").unwrap_or_else(|_| LOCAL.to_owned());
    ClientConfig::new(addresses.split(',').map(str::to_owned))
}

/// A number given as the only argument, or this one.
pub(crate) fn size_or(default: u32) -> Outcome<u32> {
    let Some(word) = std::env::args().nth(1) else { return Ok(default) };
    match word.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("the argument is a number from 1 on, not {word:?}").into()),
    }
}

/// Creates a topic that only this run uses, so that a second run begins from nothing.
pub(crate) async fn fresh_topic(client: &Client, subject: &str, partitions: i32) -> Result<String> {
    let name = format!("{subject}-{}", uuid::Uuid::new_v4().simple());
    client.admin().create_topic(NewTopic::new(&name).partitions(partitions)).await?;
    println!("topic {name} with {partitions} partitions");
    Ok(name)
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) -> Outcome {
    let deadline = Instant::now() + LIMIT / 2;
    while !holds() {
        if Instant::now() > deadline {
            return Err(format!("{what}: waited for in vain").into());
        }
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Goes on only if this holds.
pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(otherwise().into()) }
}
