//! Owns the patience with a disk that does not let a replica open: what cannot be read now may be read in a moment, and a
//! node that stops takes all its other replicas with it. Damage is not waited for. Never builds anything.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use waymark_proto::ids::ReplicaKey;

use crate::mutants;
use crate::storage::shard_store::{ShardStore, Store, StoreError};

/// A disk that refuses for so long has to be looked at by somebody.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MOST: Duration = Duration::from_secs(2);

/// Opens what a replica stored, again while the disk refuses.
pub(super) async fn open_store(store: &Store, key: ReplicaKey) -> Result<ShardStore, StoreError> {
    let until = Instant::now() + PATIENCE;
    let mut pause = PAUSE;
    loop {
        let error = match store.open_shard(key).await {
            Err(error @ StoreError::Io { .. }) => error,
            done => return done,
        };
        // After a sync that failed nothing opens before a restart (S4).
        let hopeless = store.sync_failed() || mutants::planted!("open-without-patience");
        if hopeless || Instant::now() + pause > until {
            return Err(error);
        }
        tracing::warn!(shard = %key.shard, %error, "a replica cannot be opened, trying again");
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
}
