//! Topics that are deleted while others make them anew under their names.

use waymark_client::FailureCode;

use crate::fake::{Fake, TOPIC, TOPIC_ID};

const ANEW: [u8; 16] = [9; 16];

#[tokio::test]
async fn a_repeated_deletion_spares_the_topic_that_was_made_anew() {
    let fake = Fake::start(1);
    fake.lock().made_anew_unheard = Some(ANEW);
    let admin = fake.client().await.admin();
    let outcomes = admin.delete_topics([TOPIC]).await.unwrap();
    assert!(outcomes[0].is_ok(), "the first attempt has deleted it: {outcomes:?}");
    let old = TOPIC_ID.to_vec();
    assert_eq!(fake.lock().deletions, [(old.clone(), true), (old, false)]);
}

#[tokio::test]
async fn a_deletion_means_the_topic_that_there_is_when_it_sets_out() {
    let fake = Fake::start(1);
    fake.lock().made_anew = Some(ANEW);
    let admin = fake.client().await.admin();
    let outcomes = admin.delete_topics(["nothing", TOPIC]).await.unwrap();
    let code = outcomes[0].as_ref().unwrap_err().code();
    assert_eq!(code, Some(FailureCode::TopicNotFound));
    assert!(outcomes[1].is_ok(), "{outcomes:?}");
    assert_eq!(fake.lock().deletions, [(ANEW.to_vec(), true)]);
}
