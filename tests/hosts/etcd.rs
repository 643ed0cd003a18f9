//! The client of etcd against real ones: values, leases, watches, and members that are killed or stopped.
#![cfg(feature = "hosts")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong in a helper fails its test"
)]

use crate::support;
use std::sync::Arc;
use std::time::Duration;

use heartwatch_fleet::etcd::Etcd as Client;
use heartwatch_ports::credentials::{Login, Secret};
use heartwatch_ports::servers::EtcdConfig;
use heartwatch_ports::{ConfigSource, Keys, LeaseId, StoreError};
use support::etcd::Etcd;
use support::eventually;

const PATIENCE: Duration = Duration::from_secs(60);

fn client(etcd: &Etcd) -> Arc<Client> {
    Arc::new(Client::new(EtcdConfig::new(etcd.urls())).unwrap())
}

fn one(key: &str) -> Keys {
    Keys::One(key.to_owned())
}

async fn value(client: &Client, key: &str) -> Option<String> {
    let read = client.read(one(key)).await.unwrap();
    read.values.into_iter().next().map(|stored| String::from_utf8(stored.value).unwrap())
}

#[tokio::test]
async fn values_leases_and_watches() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let client = client(&etcd);

    assert_eq!(value(&client, "/a").await, None);
    assert!(client.create("/a".to_owned(), b"1".to_vec()).await.unwrap());
    assert!(!client.create("/a".to_owned(), b"2".to_vec()).await.unwrap(), "it is there already");
    assert_eq!(value(&client, "/a").await.unwrap(), "1");
    client.put("/a/b".to_owned(), b"3".to_vec(), None).await.unwrap();
    let below = client.read(Keys::Prefix("/a/".to_owned())).await.unwrap();
    assert_eq!(below.values.iter().map(|stored| stored.key.as_str()).collect::<Vec<_>>(), ["/a/b"]);
    assert!(client.delete("/a/b".to_owned()).await.unwrap());
    assert!(!client.delete("/a/b".to_owned()).await.unwrap());

    // A change before the watch is not overlooked: it is asked from the revision that was read.
    let read = client.read(one("/a")).await.unwrap();
    etcd.put("/a", "by another program");
    client.await_change(one("/a"), read.revision).await.unwrap();
    assert_eq!(value(&client, "/a").await.unwrap(), "by another program");

    // Written only over what was read.
    let read = client.read(one("/a")).await.unwrap();
    let revision = read.values[0].revision;
    assert!(client.replace("/a".to_owned(), b"first".to_vec(), revision).await.unwrap());
    assert!(!client.replace("/a".to_owned(), b"second".to_vec(), revision).await.unwrap(), "it has changed since");
    assert!(!client.replace("/a".to_owned(), b"third".to_vec(), 0).await.unwrap(), "it is there");
    assert!(!client.replace("/none".to_owned(), b"fourth".to_vec(), revision).await.unwrap(), "it is not there");
    assert_eq!((value(&client, "/a").await.as_deref(), value(&client, "/none").await), (Some("first"), None));

    // A compaction makes the past unwatchable; that means "look", not an error.
    for n in 0..5 {
        etcd.put("/a", &n.to_string());
    }
    let newest = client.read(one("/a")).await.unwrap().revision;
    etcd.ctl(&["compaction", &newest.to_string()]);
    client.await_change(one("/a"), read.revision).await.unwrap();

    // A lease that is kept alive keeps its key, one that is not takes it along.
    let lease = client.grant(Duration::from_secs(2)).await.unwrap();
    client.put("/lease".to_owned(), b"here".to_vec(), Some(lease)).await.unwrap();
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        client.keep_alive(lease).await.unwrap();
    }
    assert_eq!(value(&client, "/lease").await.unwrap(), "here");
    let revision = client.read(one("/lease")).await.unwrap().revision;
    client.await_change(one("/lease"), revision).await.unwrap();
    assert_eq!(value(&client, "/lease").await, None, "its lease has expired");
    assert_eq!(client.keep_alive(lease).await, Err(StoreError::LeaseGone));
    let under = client.put("/lease".to_owned(), vec![], Some(LeaseId(4711))).await;
    assert_eq!(under, Err(StoreError::LeaseGone), "a lease that nobody granted");
}

#[tokio::test]
async fn three_members_one_killed_and_the_leader_stopped() {
    let Some(mut etcd) = Etcd::start(3).await else { return };
    let client = client(&etcd);
    client.put("/a".to_owned(), b"1".to_vec(), None).await.unwrap();
    let lease = client.grant(Duration::from_secs(60)).await.unwrap();

    let leader = etcd.leader().await;
    let follower = (0..3).find(|member| *member != leader).unwrap();
    etcd.kill(follower);
    let writes = async |value: &'static str| {
        eventually("etcd takes a value", PATIENCE, async || {
            client.put("/a".to_owned(), value.into(), None).await.is_ok()
        })
        .await;
    };
    writes("one is killed").await;
    assert_eq!(value(&client, "/a").await.unwrap(), "one is killed");
    etcd.restart(follower).await;

    // The leader's connections stay open and say nothing; the others choose a new one.
    let leader = etcd.leader().await;
    let revision = client.read(one("/a")).await.unwrap().revision;
    let watching = client.clone();
    let watch = tokio::spawn(async move {
        loop {
            // A watch at the stopped member ends by itself; the next question goes to another one.
            if watching.await_change(one("/a"), revision).await.is_ok() {
                let read = watching.read(one("/a")).await;
                if read.is_ok_and(|read| read.values[0].revision > revision) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    etcd.pause(leader);
    writes("the leader is stopped").await;
    eventually("the lease lives on", PATIENCE, async || client.keep_alive(lease).await.is_ok()).await;
    tokio::time::timeout(PATIENCE, watch).await.expect("the watch hears of the change").unwrap();
    etcd.resume(leader);
    eventually("all are one again", PATIENCE, async || value(&client, "/a").await.is_some()).await;
    assert_eq!(value(&client, "/a").await.unwrap(), "the leader is stopped");
}

#[tokio::test]
async fn whoever_asks_while_a_token_ends_is_answered() {
    let Some(mut etcd) = Etcd::start(1).await else { return };
    etcd.ask_for_login("hunter2");
    let login = Login { user: "root".to_owned(), password: Secret::new("hunter2") };
    // one who waits for another's login waits for a slow hash
    let config = EtcdConfig { login: Some(login), attempt_timeout: PATIENCE, ..EtcdConfig::new(etcd.urls()) };
    let client = Arc::new(Client::new(config).unwrap());
    client.put("/a".to_owned(), b"1".to_vec(), None).await.unwrap();

    for _ in 0..3 {
        // A member that starts again knows no token of before.
        etcd.restart(0).await;
        let answers = futures_util::future::join_all((0..64).map(|_| client.read(one("/a")))).await;
        for answer in answers {
            assert_eq!(answer.unwrap().values.len(), 1);
        }
    }
}
