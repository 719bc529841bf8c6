//! The group's part of the demonstration: three consumers share the topic while records flow; one joins late, one is killed,
//! one leaves. Owns the order of it.
//!
//! | file | owns |
//! |---|---|
//! | `member` | a consumer that reads, and its two ways to end |
//! | `flow` | the records |
//! | `book` | what was read once, again, never |
//! | `told` | assignments and the group's own story on the screen |

mod book;
mod flow;
mod member;
mod told;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use waymark_client::{Admin, Client, GroupDescription, GroupState, TopicPartition};

pub(super) use book::GroupReport;

use super::super::Failure;
use super::read::{GROUP, ends};
use super::screen::{Screen, grouped, lasted};
use book::Book;
use flow::Flow;
use member::{Member, SESSION, SharedBook, lock};

/// How long members read on between two changes.
const READ_ON: Duration = Duration::from_millis(1200);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A commit that was on its way when its member was killed has arrived after this.
const ON_THE_WAY: Duration = Duration::from_millis(1500);
/// How often the wait for a session's end is told.
const TELL_EVERY: Duration = Duration::from_secs(2);
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
const READ_WITHIN: Duration = Duration::from_secs(20);

#[allow(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn failed(error: waymark_client::Error) -> Failure {
    Failure::because("group", error)
}

/// What one step leaves to the next.
struct Share<'a> {
    screen: &'a Screen,
    client: &'a Client,
    addresses: Vec<String>,
    all: &'a [TopicPartition],
    /// Where reading begins: where the group has committed.
    starts: BTreeMap<i32, i64>,
    book: SharedBook,
    /// What each member calls itself, by its id.
    names: BTreeMap<String, String>,
    members: Vec<Member>,
}

/// How the kill went.
struct Kill {
    member_id: String,
    uncommitted: u64,
    taken_over: Duration,
}

/// Shares the topic among three consumers and reports what was found. The group goes on where it has committed: at the
/// end of the topic.
pub(super) async fn share(
    screen: &Screen,
    (client, addresses): (&Client, Vec<String>),
    all: &[TopicPartition],
) -> Result<GroupReport, Failure> {
    let starts = ends(client, all).await?;
    let book = SharedBook::new(Book::starting_at(&starts).into());
    let (names, members) = (BTreeMap::new(), Vec::new());
    let mut share = Share { screen, client, addresses, all, starts, book, names, members };
    let flow = Flow::start(client.clone());
    share.begin().await?;
    share.join_late().await?;
    let kill = share.kill().await?;
    share.leave().await?;
    let sent = flow.stop().await?;
    let ends = share.read_to_the_end().await?;
    let generation = share.settled().await?.generation;
    let explained = share.explain(&kill).await?;
    for member in share.members.drain(..) {
        member.leave().await?;
    }
    let counts = lock(&share.book).counts(&share.starts, &ends);
    let report = GroupReport {
        records: sent,
        counts,
        uncommitted_at_kill: kill.uncommitted,
        taken_over_ms: u64::try_from(kill.taken_over.as_millis()).unwrap_or(u64::MAX),
        generation,
        explained,
    };
    screen.group(&report);
    Ok(report)
}

impl Share<'_> {
    fn admin(&self) -> Admin {
        self.client.admin()
    }

    async fn join(&mut self, name: &'static str) -> Result<(), Failure> {
        let member = Member::join(self.addresses.clone(), name, &self.book).await?;
        self.members.push(member);
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        self.join("consumer-a").await?;
        self.join("consumer-b").await?;
        let group = self.settled().await?;
        self.screen.line("consumer-a and consumer-b join, while 500 records a second flow");
        self.assignments(&group);
        sleep(READ_ON).await;
        Ok(())
    }

    async fn join_late(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        self.join("consumer-c").await?;
        let group = self.settled().await?;
        self.screen.line(&format!("consumer-c joins late: {}", lasted(began.elapsed())));
        self.assignments(&group);
        sleep(READ_ON).await;
        Ok(())
    }

    /// Nobody is told of it: the group must notice by itself.
    async fn kill(&mut self) -> Result<Kill, Failure> {
        let group = self.settled().await?;
        let victim = self.members.remove(1);
        let name = victim.name;
        let seat = group.members.into_iter().find(|member| member.client_id == name);
        let seat = seat.ok_or_else(|| Failure(format!("{name} is not in its group")))?;
        let owned: Vec<i32> = seat.assigned.iter().map(|owned| owned.at.partition).collect();
        victim.kill().await;
        let began = Instant::now();
        lock(&self.book).killed(&owned);
        self.screen.line(&format!(
            "{name} is killed; after {} s of silence the group goes on without it",
            SESSION.as_secs()
        ));
        sleep(ON_THE_WAY).await;
        let committed = self.committed().await?;
        let uncommitted = lock(&self.book).uncommitted(&committed);
        let group = self.noticed(began).await?;
        let taken_over = began.elapsed();
        self.screen.line(&format!("taken over after {}", lasted(taken_over)));
        self.assignments(&group);
        sleep(READ_ON).await;
        Ok(Kill { member_id: seat.member_id, uncommitted, taken_over })
    }

    /// Waits until the group goes on without who was killed, and tells that it does.
    async fn noticed(&mut self, began: Instant) -> Result<GroupDescription, Failure> {
        let read = |share: &Self| lock(&share.book).distinct(&share.starts);
        let (before, mut tell) = (read(self), began + TELL_EVERY);
        while began.elapsed() < SETTLED_WITHIN {
            if let Some(group) = self.is_settled(self.members.len()).await? {
                return Ok(group);
            }
            if Instant::now() >= tell {
                tell += TELL_EVERY;
                self.screen.aside(&format!(
                    "{:.0} s   what it had waits; the others have read {} records meanwhile",
                    began.elapsed().as_secs_f64(),
                    grouped(usize::try_from(read(self) - before).unwrap_or(usize::MAX)),
                ));
            }
            sleep(LOOK_AGAIN).await;
        }
        Err(Failure("the group does not notice that a member is gone".to_owned()))
    }

    async fn committed(&self) -> Result<BTreeMap<i32, i64>, Failure> {
        let listed = self.admin().list_group_offsets(GROUP).await.map_err(failed)?;
        Ok(listed.into_iter().map(|it| (it.at.partition, it.position.offset)).collect())
    }

    async fn leave(&mut self) -> Result<(), Failure> {
        let member = self.members.remove(0);
        let (name, began) = (member.name, Instant::now());
        member.leave().await?;
        let group = self.settled().await?;
        self.screen.line(&format!("{name} leaves in an orderly way: {}", lasted(began.elapsed())));
        self.assignments(&group);
        sleep(READ_ON).await;
        Ok(())
    }

    async fn read_to_the_end(&self) -> Result<BTreeMap<i32, i64>, Failure> {
        let ends = ends(self.client, self.all).await?;
        let deadline = Instant::now() + READ_WITHIN;
        // What is not read by then is counted as lost.
        while !lock(&self.book).is_at(&ends) && Instant::now() < deadline {
            sleep(LOOK_AGAIN).await;
        }
        Ok(ends)
    }

    /// The group, once it has all its members and every partition is with one of them.
    async fn settled(&mut self) -> Result<GroupDescription, Failure> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        while Instant::now() < deadline {
            if let Some(group) = self.is_settled(self.members.len()).await? {
                return Ok(group);
            }
            sleep(LOOK_AGAIN).await;
        }
        let within = SETTLED_WITHIN.as_secs();
        Err(Failure(format!("the group has not settled within {within} s")))
    }

    async fn is_settled(&mut self, members: usize) -> Result<Option<GroupDescription>, Failure> {
        let group = self.admin().describe_group(GROUP).await.map_err(failed)?;
        for member in &group.members {
            self.names.insert(member.member_id.clone(), member.client_id.clone());
        }
        let owned: usize = group.members.iter().map(|member| member.assigned.len()).sum();
        let settled = group.state == GroupState::Stable
            && group.members.len() == members
            && owned == self.all.len();
        Ok(settled.then_some(group))
    }
}
