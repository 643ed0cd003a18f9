//! The MQTT transport and the embedded broker, against a real mosquitto and against each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use heartwatch_adapters::broker::{self, BrokerConfig, BrokerError, EmbeddedBroker};
use heartwatch_adapters::mqtt::{ConnectionOptions, MqttConfig, MqttTransport, Will, connect};
use heartwatch_domain::marks::SourceMark;
use heartwatch_ports::Delivery;
use heartwatch_ports::credentials::{ClientFiles, KeyPair, Login, Secret};
use heartwatch_ports::{Outgoing, Receipt, Transport, TransportError, TransportEvent};
use heartwatch_system::clock::Clock;
use support::mosquitto::{Mosquitto, MosquittoOptions, authority};
use support::{eventually, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

const DEADLINE: Duration = Duration::from_secs(20);

/// A transport and what it tells.
struct Client {
    transport: Arc<MqttTransport>,
    events: mpsc::Receiver<TransportEvent>,
}

fn config(url: &str, client_id: &str) -> MqttConfig {
    let options = ConnectionOptions {
        backoff_min: Duration::from_millis(50),
        backoff_max: Duration::from_millis(400),
        keep_alive: Duration::from_secs(2),
        ..ConnectionOptions::default()
    };
    MqttConfig { options, ..MqttConfig::new(url, client_id) }
}

/// The same but for some of its options.
fn with(mut config: MqttConfig, change: impl FnOnce(&mut ConnectionOptions)) -> MqttConfig {
    change(&mut config.options);
    config
}

fn open(config: MqttConfig, filters: &[&str]) -> Client {
    open_with_will(config, filters, None)
}

fn open_with_will(config: MqttConfig, filters: &[&str], will: Option<Will>) -> Client {
    let filters = filters.iter().map(|&filter| filter.to_owned()).collect();
    let (transport, events) = connect(config, filters, will, Clock::start()).unwrap();
    Client { transport, events }
}

impl Client {
    async fn event(&mut self) -> TransportEvent {
        timeout(DEADLINE, self.events.recv()).await.expect("an event in time").expect("the transport goes on")
    }

    /// The next `Connected`: its epoch, and whether the session was there.
    async fn connected(&mut self) -> (u64, bool) {
        loop {
            if let TransportEvent::Connected { connection_epoch, session_present } = self.event().await {
                return (connection_epoch, session_present);
            }
        }
    }

    /// The next `Disconnected`: its reason.
    async fn disconnected(&mut self) -> String {
        loop {
            match self.event().await {
                TransportEvent::Disconnected { reason, .. } => return reason,
                TransportEvent::Connected { .. } => panic!("connected"),
                TransportEvent::Delivery(_) => {}
            }
        }
    }

    async fn delivery(&mut self) -> Delivery {
        loop {
            match self.event().await {
                TransportEvent::Delivery(delivery) => return delivery,
                TransportEvent::Connected { .. } => {}
                TransportEvent::Disconnected { reason, .. } => panic!("disconnected: {reason}"),
            }
        }
    }

    /// Deliveries until there is none for a while.
    async fn deliveries_until_quiet(&mut self, quiet: Duration) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        while let Ok(event) = timeout(quiet, self.events.recv()).await {
            if let TransportEvent::Delivery(delivery) = event.expect("the transport goes on") {
                deliveries.push(delivery);
            }
        }
        deliveries
    }

    async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        let message = Outgoing { topic: topic.to_owned(), payload: payload.into(), at_least_once: true };
        timeout(DEADLINE, self.transport.publish(message)).await.expect("room in time").unwrap();
    }

    fn acknowledge(&self, deliveries: &[Delivery]) {
        self.transport.acknowledge(deliveries.iter().map(|delivery| delivery.receipt).collect());
    }
}

fn number(delivery: &Delivery) -> u32 {
    String::from_utf8_lossy(&delivery.payload).parse().unwrap()
}

/// Whether the transport knows that it has handed this message on before.
fn is_copy(delivery: &Delivery) -> bool {
    delivery.mark == Some(SourceMark::HandedOn)
}

async fn embedded() -> EmbeddedBroker {
    broker::start(BrokerConfig { listen: "127.0.0.1:0".parse().unwrap(), ..BrokerConfig::default() }).await.unwrap()
}

#[tokio::test]
async fn twenty_thousand_messages_through_the_embedded_broker_acknowledged_by_hand() {
    const MESSAGES: u32 = 20_000;
    let broker = embedded().await;
    let mut monitor = open(config(&broker.url(), "monitor"), &["load/+"]);
    assert_eq!(monitor.connected().await, (1, false));
    let publisher = open(config(&broker.url(), "publisher"), &[]);
    let publishing = async {
        for number in 1..=MESSAGES {
            publisher.publish("load/a", number.to_string()).await;
        }
    };
    let taking = async {
        let mut held: Vec<Receipt> = Vec::new();
        for expected in 1..=MESSAGES {
            let delivery = monitor.delivery().await;
            assert_eq!(number(&delivery), expected);
            assert_eq!(delivery.receipt.connection_epoch, 1);
            held.push(delivery.receipt);
            // in batches, each backwards: the transport has to put them in order
            if held.len() == 40 || expected == MESSAGES {
                held.reverse();
                for receipt in held.drain(..) {
                    monitor.transport.acknowledge(vec![receipt, receipt]);
                }
            }
        }
    };
    tokio::join!(publishing, taking);
    monitor.transport.disconnect().await;

    // the broker has taken every acknowledgement
    let mut monitor = open(config(&broker.url(), "monitor"), &["load/+"]);
    assert_eq!(monitor.connected().await, (1, true));
    assert_eq!(monitor.deliveries_until_quiet(Duration::from_millis(300)).await.len(), 0);
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_after_the_broker_was_killed() {
    let options = MosquittoOptions {
        persistence: true,
        lines: "max_queued_messages 0\nmax_inflight_messages 50\n".to_owned(),
        ..MosquittoOptions::default()
    };
    let Some(mut broker) = Mosquitto::start_with(options).await else { return };
    let mut monitor = open(config(&broker.url(), "monitor"), &["load/+"]);
    monitor.connected().await;
    let publisher = open(config(&broker.url(), "publisher"), &[]);
    for number in 1..=100 {
        publisher.publish("load/a", number.to_string()).await;
    }
    let mut first = Vec::new();
    while first.len() < 40 {
        first.push(monitor.delivery().await);
    }
    monitor.acknowledge(&first[..20]);
    // the broker takes the acknowledgements, sends more, and writes it all down
    monitor.deliveries_until_quiet(Duration::from_millis(1_500)).await;
    assert_eq!(broker.log().matches("Received PUBACK from monitor").count(), 20);

    broker.kill();
    let reason = monitor.disconnected().await;
    assert!(!reason.is_empty());
    broker.restart().await;
    assert_eq!(monitor.connected().await, (2, true));
    let again = monitor.deliveries_until_quiet(Duration::from_millis(500)).await;
    let numbers: Vec<u32> = again.iter().map(number).collect();
    // mosquitto 2.0.11 keeps to its window only roughly
    assert!(numbers.len() >= 50, "{numbers:?}");
    assert!(numbers.iter().copied().eq((21..).take(numbers.len())), "{numbers:?}");
    let copies: Vec<u32> = again.iter().filter(|delivery| is_copy(delivery)).map(number).collect();
    assert!(copies.len() + 20 >= first.len() && copies.iter().copied().eq((21..).take(copies.len())), "{copies:?}");

    // receipts of the first connection have the same packet ids; they must not count for the second
    monitor.acknowledge(&first[20..]);
    monitor.deliveries_until_quiet(Duration::from_millis(500)).await;
    assert_eq!(broker.log().matches("Received PUBACK from monitor").count(), 20);
    broker.kill();
    broker.restart().await;
    assert_eq!(monitor.connected().await, (3, true));
    let mut numbers = Vec::new();
    while numbers.len() < 80 {
        let delivery = monitor.delivery().await;
        numbers.push(number(&delivery));
        monitor.acknowledge(&[delivery]);
    }
    assert_eq!(numbers, (21..=100).collect::<Vec<_>>());
    monitor.transport.disconnect().await;
    // it writes its file at each of them, and on a slow disk it reads the last ones long after we have gone
    let acknowledged = async || broker.log().matches("Received PUBACK from monitor").count() == 20 + 80;
    eventually("the broker has read every acknowledgement", Duration::from_secs(60), acknowledged).await;
    let mut monitor = open(config(&broker.url(), "monitor"), &["load/+"]);
    monitor.connected().await;
    assert_eq!(monitor.deliveries_until_quiet(Duration::from_millis(300)).await.len(), 0);
}

/// It is known whatever packet ids and flags a broker gives it.
#[tokio::test]
async fn what_the_embedded_broker_sends_again_after_a_broken_connection_is_known() {
    let broker = embedded().await;
    let port: u16 = broker.url().rsplit(':').next().unwrap().parse().unwrap();
    let between = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", between.local_addr().unwrap());
    let cut = Arc::new(tokio::sync::Notify::new());
    let is_cut = Arc::clone(&cut);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = between.accept().await.unwrap();
            let mut broker = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut broker) => {}
                () = is_cut.notified() => {}
            }
        }
    });
    let mut monitor = open(config(&url, "monitor"), &["load/+"]);
    monitor.connected().await;
    let publisher = open(config(&broker.url(), "publisher"), &[]);
    for number in [1, 2, 3, 4, 4, 5, 6] {
        publisher.publish("load/a", number.to_string()).await;
    }
    let mut first = Vec::new();
    while first.len() < 7 {
        first.push(monitor.delivery().await);
    }
    assert!(!first.iter().any(is_copy), "the same content again is another message");
    monitor.acknowledge(&first[..3]);
    // the broker has them before the connection breaks
    monitor.deliveries_until_quiet(Duration::from_millis(300)).await;
    cut.notify_one();
    monitor.disconnected().await;
    assert!(monitor.connected().await.1);
    publisher.publish("load/a", "5").await;
    let mut again = Vec::new();
    while again.len() < 5 {
        again.push(monitor.delivery().await);
    }
    let seen: Vec<_> = again.iter().map(|delivery| (number(delivery), is_copy(delivery))).collect();
    assert_eq!(seen, [(4, true), (4, true), (5, true), (6, true), (5, false)]);
}

#[tokio::test]
async fn an_outage_is_told_once_and_what_was_queued_goes_out_after_it() {
    let Some(mut broker) = Mosquitto::start().await else { return };
    let mut publisher =
        open(MqttConfig { send_queue_messages_max: 10, ..config(&broker.url(), "publisher") }, &["nothing"]);
    publisher.connected().await;
    broker.kill();
    publisher.disconnected().await;
    let message =
        |number: u32| Outgoing { topic: "load/a".to_owned(), payload: number.to_string().into(), at_least_once: true };
    for number in 1..=10 {
        publisher.transport.try_publish(message(number)).unwrap();
    }
    assert_eq!(publisher.transport.try_publish(message(11)), Err(TransportError::Full { messages_max: 10 }));
    assert!(timeout(Duration::from_secs(2), publisher.events.recv()).await.is_err(), "said more than once");

    broker.restart().await;
    let mut monitor = open(config(&broker.url(), "monitor"), &["load/+"]);
    // whoever comes first: the messages wait at nobody when nobody has subscribed
    let (reconnected, _) = tokio::join!(publisher.connected(), monitor.connected());
    assert_eq!(reconnected.0, 2);
    publisher.publish("load/a", "12").await;
    loop {
        let delivery = monitor.delivery().await;
        monitor.acknowledge(std::slice::from_ref(&delivery));
        if number(&delivery) == 12 {
            break;
        }
    }
}

#[tokio::test]
async fn a_broker_that_forgets_everything_under_load_does_not_stop_the_flow() {
    let Some(mut broker) = Mosquitto::start().await else { return };
    let publisher = open(config(&broker.url(), "publisher"), &["confirm"]);
    let mut monitor = open(config(&broker.url(), "monitor"), &["load/+"]);
    monitor.connected().await;
    let publishing = async {
        for number in 1..=3_000u32 {
            publisher.publish("load/a", number.to_string()).await;
            if number % 1_000 == 0 {
                broker.kill();
                broker.restart().await;
            }
        }
        // the last ones may be lost, too: as an outbox would, send until it has come
        loop {
            publisher.publish("load/a", "3001").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let taking = async {
        let mut seen = BTreeSet::new();
        loop {
            if let TransportEvent::Delivery(delivery) = monitor.event().await {
                monitor.acknowledge(std::slice::from_ref(&delivery));
                seen.insert(number(&delivery));
                if seen.contains(&3_001) {
                    return seen;
                }
            }
        }
    };
    let seen = tokio::select! { never = publishing => never, seen = taking => seen };
    assert!(seen.len() > 500, "only {} came", seen.len());
}

#[tokio::test]
async fn a_broker_that_hangs_is_noticed_and_found_again() {
    let Some(broker) = Mosquitto::start().await else { return };
    let mut monitor = open(
        with(config(&broker.url(), "monitor"), |options| options.keep_alive = Duration::from_secs(1)),
        &["load/+"],
    );
    monitor.connected().await;
    broker.pause();
    let begin = Instant::now();
    monitor.disconnected().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    broker.resume();
    monitor.connected().await;
}

#[tokio::test]
async fn tls_with_an_authority_and_a_client_certificate() {
    let Some(broker) = Mosquitto::start_with(MosquittoOptions { tls: true, ..MosquittoOptions::default() }).await
    else {
        return;
    };
    let own = KeyPair { certificate_file: broker.file("client.pem"), key_file: broker.file("client.key") };
    let tls = ClientFiles { ca_file: Some(broker.file("ca.pem")), own: Some(own) };
    let good = with(config(&broker.url(), "monitor"), |options| options.tls = tls);
    let mut client = open(good.clone(), &["load/+"]);
    assert_eq!(client.connected().await.0, 1);
    client.publish("load/a", "1").await;
    assert_eq!(number(&client.delivery().await), 1);

    let nobody = MqttConfig { client_id: "nobody".to_owned(), ..good.clone() };
    let nobody = with(nobody, |options| options.tls.own = None);
    open(nobody, &["load/+"]).disconnected().await;

    let elsewhere = tempfile::tempdir().unwrap();
    authority(elsewhere.path());
    let distrustful = MqttConfig { client_id: "distrustful".to_owned(), ..good.clone() };
    let distrustful = with(distrustful, |options| options.tls.ca_file = Some(elsewhere.path().join("ca.pem")));
    let reason = open(distrustful, &["load/+"]).disconnected().await;
    assert!(reason.contains("TLS failed") && reason.contains("certificate"), "{reason}");

    let pair = KeyPair { certificate_file: broker.file("client.pem"), key_file: broker.file("server.key") };
    let swapped = with(good.clone(), |options| options.tls.own = Some(pair));
    assert!(swapped.validate().unwrap_err().to_string().contains("TLS"), "a key of another certificate");
    let no_certificate = with(good, |options| options.tls.ca_file = Some(broker.file("client.key")));
    assert!(no_certificate.validate().unwrap_err().to_string().contains("client.key"));
}

#[tokio::test]
async fn user_and_password() {
    let user = Some(("anna".to_owned(), "s+cr€t".to_owned()));
    let Some(broker) = Mosquitto::start_with(MosquittoOptions { user, ..MosquittoOptions::default() }).await else {
        return;
    };
    let anna = |password: &str| Some(Login { user: "anna".to_owned(), password: Secret::new(password) });
    let good = with(config(&broker.url(), "anna-1"), |options| options.login = anna("s+cr€t"));
    assert_eq!(open(good.clone(), &["load/+"]).connected().await.0, 1);
    let url = format!("mqtt://anna:s+cr%E2%82%ACt@127.0.0.1:{}", broker.port());
    let in_url = with(MqttConfig { url, ..good.clone() }, |options| options.login = None);
    assert_eq!(open(in_url, &["load/+"]).connected().await.0, 1);
    let wrong = with(good, |options| options.login = anna("guess"));
    assert!(!format!("{wrong:?}").contains("guess"));
    let reason = open(wrong, &["load/+"]).disconnected().await;
    assert!(reason.contains("password"), "{reason}");
}

#[tokio::test]
async fn an_oversized_message_is_delivered_and_breaks_nothing() {
    let embedded = embedded().await;
    let mosquitto = Mosquitto::start().await;
    for url in [Some(embedded.url()), mosquitto.as_ref().map(Mosquitto::url)].into_iter().flatten() {
        let mut monitor = open(config(&url, "monitor"), &["load/+"]);
        monitor.connected().await;
        let publisher =
            open(with(config(&url, "publisher"), |options| options.message_bytes_max = 4 * 1024 * 1024), &[]);
        publisher.publish("load/a", vec![b'x'; 2 * 1024 * 1024]).await;
        publisher.publish("load/a", "2").await;
        let large = monitor.delivery().await;
        assert_eq!(large.payload.len(), 2 * 1024 * 1024);
        let small = monitor.delivery().await;
        assert_eq!((number(&small), small.receipt.connection_epoch), (2, 1));
        monitor.acknowledge(&[large, small]);
        monitor.transport.disconnect().await;
        let mut monitor = open(config(&url, "monitor"), &["load/+"]);
        assert!(monitor.connected().await.1);
        assert_eq!(monitor.deliveries_until_quiet(Duration::from_millis(300)).await.len(), 0);

        let too_large = Outgoing { topic: "load/a".to_owned(), payload: vec![0; 5 * 1024 * 1024], at_least_once: true };
        let refused = publisher.transport.try_publish(too_large).unwrap_err().to_string();
        assert!(refused.contains("load/a") && refused.contains("4194304"), "{refused}");
        let wildcard = Outgoing { topic: "load/#".to_owned(), payload: Vec::new(), at_least_once: true };
        assert!(matches!(publisher.transport.try_publish(wildcard), Err(TransportError::Unsendable { .. })));
    }
}

#[tokio::test]
async fn the_last_will_is_published_when_the_end_was_not_in_order_and_only_then() {
    let embedded = embedded().await;
    let mosquitto = Mosquitto::start().await;
    for url in [Some(embedded.url()), mosquitto.as_ref().map(Mosquitto::url)].into_iter().flatten() {
        let mut monitor = open(config(&url, "monitor"), &["wills/+", "load/+"]);
        monitor.connected().await;
        let will = |name: &str| Some(Will { topic: format!("wills/{name}"), payload: b"1".to_vec() });

        let mut orderly = open_with_will(config(&url, "orderly"), &[], will("orderly"));
        orderly.connected().await;
        for number in 1..=500 {
            orderly.publish("load/a", number.to_string()).await;
        }
        // everything that is queued goes out before the goodbye
        orderly.transport.disconnect().await;
        let mut seen = 0;
        while seen < 500 {
            let delivery = monitor.delivery().await;
            assert_eq!(delivery.topic, "load/a");
            monitor.acknowledge(&[delivery]);
            seen += 1;
        }
        let after_the_end = Outgoing { topic: "load/a".to_owned(), payload: Vec::new(), at_least_once: true };
        assert_eq!(orderly.transport.try_publish(after_the_end), Err(TransportError::Closed));

        let mut torn = open_with_will(config(&url, "torn"), &[], will("torn"));
        torn.connected().await;
        drop(torn);
        assert_eq!(monitor.delivery().await.topic, "wills/torn");
        assert_eq!(monitor.deliveries_until_quiet(Duration::from_millis(300)).await.len(), 0);
    }
}

#[tokio::test]
async fn a_slow_consumer_costs_qos_0_messages_only_and_the_connection_stays() {
    let lines = "max_inflight_messages 0\nmax_queued_messages 0\n".to_owned();
    let Some(broker) = Mosquitto::start_with(MosquittoOptions { lines, ..MosquittoOptions::default() }).await else {
        return;
    };
    let slow = MqttConfig { event_queue_messages_max: 2_000, ..config(&broker.url(), "monitor") };
    let slow = with(slow, |options| options.keep_alive = Duration::from_secs(1));
    let mut monitor = open(slow, &["load/+"]);
    monitor.connected().await;
    let publisher = open(config(&broker.url(), "publisher"), &[]);
    for number in 1..=1_000 {
        publisher.publish("load/a", number.to_string()).await;
    }
    for number in 1_001..=6_000 {
        let message = Outgoing { topic: "load/a".to_owned(), payload: number.to_string().into(), at_least_once: false };
        publisher.transport.publish(message).await.unwrap();
    }
    // nobody takes anything for several keep-alives
    tokio::time::sleep(Duration::from_secs(4)).await;
    let deliveries = monitor.deliveries_until_quiet(Duration::from_millis(500)).await;
    monitor.acknowledge(&deliveries);
    assert!(deliveries.iter().all(|delivery| delivery.receipt.connection_epoch == 1));
    let numbers: BTreeSet<u32> = deliveries.iter().map(number).collect();
    assert!((1..=1_000).all(|number| numbers.contains(&number)), "QoS 1 is never dropped");
    assert!(monitor.transport.dropped() > 0);
    assert_eq!(deliveries.len() as u64 + monitor.transport.dropped(), 6_000);

    // more QoS 1 messages than the queue has room for: they wait at the broker, and all come
    for number in 1..=6_000 {
        publisher.publish("load/a", number.to_string()).await;
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut numbers = BTreeSet::new();
    while numbers.len() < 6_000 {
        let delivery = monitor.delivery().await;
        assert_eq!(delivery.receipt.connection_epoch, 1, "pings go on while nothing is read");
        numbers.insert(number(&delivery));
        monitor.acknowledge(&[delivery]);
    }
}

#[tokio::test]
async fn both_ways_at_once_at_full_speed() {
    let broker = embedded().await;
    let both = |id: &str| MqttConfig { inflight_messages_max: 10, ..config(&broker.url(), id) };
    let mut left = open(both("left"), &["to-left"]);
    let mut right = open(both("right"), &["to-right"]);
    left.connected().await;
    right.connected().await;
    let one_way = async |client: &mut Client, to: &str| {
        let transport = Arc::clone(&client.transport);
        let publishing = async {
            for number in 1..=3_000 {
                let payload = number.to_string().into();
                let message = Outgoing { topic: to.to_owned(), payload, at_least_once: true };
                transport.publish(message).await.unwrap();
            }
        };
        let taking = async {
            for _ in 1..=3_000 {
                let delivery = client.delivery().await;
                client.acknowledge(&[delivery]);
            }
        };
        tokio::join!(publishing, taking);
    };
    let sides = async { tokio::join!(one_way(&mut left, "to-right"), one_way(&mut right, "to-left")) };
    timeout(DEADLINE, sides).await.expect("they block each other");
}

/// What one connection sends back, answer by answer.
async fn false_broker(answers: &'static [&'static [u8]]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                let mut request = [0; 1_000];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer).await;
            }
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
    });
    url
}

#[tokio::test]
async fn a_refused_subscription_is_not_a_connection() {
    const CONNACK: &[u8] = &[0x20, 2, 0, 0];
    let refusing = false_broker(&[CONNACK, &[0x90, 3, 0, 1, 0x80]]).await;
    let reason = open(config(&refusing, "monitor"), &["load/+"]).disconnected().await;
    assert!(reason.contains("refuses our subscriptions to load/+"), "{reason}");
    // one of two is enough to hear something; the other is in the log
    let half = false_broker(&[CONNACK, &[0x90, 4, 0, 1, 0x80, 1]]).await;
    assert_eq!(open(config(&half, "monitor"), &["secret/+", "load/+"]).connected().await.0, 1);
    let silent = false_broker(&[CONNACK]).await;
    let hasty = MqttConfig { connect_timeout: Duration::from_secs(1), ..config(&silent, "monitor") };
    let reason = open(hasty, &["load/+"]).disconnected().await;
    assert!(reason.contains("subscription"), "{reason}");
    let web = false_broker(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]).await;
    open(config(&web, "monitor"), &["load/+"]).disconnected().await;
}

/// A broker with so much for its client that it never pauses: not before it was asked to subscribe, nor for a while after that.
/// A real one does so when a session has more in it than can be read in the time for which its answer is waited for.
fn flooding_broker(after_subscribe: Duration) -> String {
    use std::io::{Read as _, Write as _};
    // session present
    const CONNACK: &[u8] = &[0x20, 2, 1, 0];
    const PUBLISH: &[u8] = b"\x30\x0a\x00\x06load/a17";
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut reading = stream.try_clone().unwrap();
            let _ = reading.read(&mut [0; 1_000]);
            let (asks, asked) = std::sync::mpsc::sync_channel(1);
            std::thread::spawn(move || {
                let mut packet = [0; 1_000];
                while let Ok(length @ 1..) = reading.read(&mut packet) {
                    // SUBSCRIBE, and the number that it has
                    if let Some(at) = packet[..length].iter().position(|byte| *byte == 0x82) {
                        let _ = asks.send([packet[at + 2], packet[at + 3]]);
                    }
                }
            });
            let flood = PUBLISH.repeat(1_000);
            let mut subscribed = None;
            let _ = stream.write_all(CONNACK);
            while stream.write_all(&flood).is_ok() {
                subscribed = subscribed.or_else(|| Some((asked.try_recv().ok()?, Instant::now())));
                if let Some(([high, low], at)) = subscribed
                    && at.elapsed() >= after_subscribe
                {
                    let _ = stream.write_all(&[0x90, 3, high, low, 1]);
                    break;
                }
            }
            let _ = stream.flush();
        }
    });
    url
}

#[tokio::test]
async fn a_backlog_without_a_pause_keeps_neither_a_subscription_nor_its_answer_from_coming() {
    let url = flooding_broker(Duration::from_millis(2_500));
    let connect_timeout = Duration::from_secs(1);
    let mut monitor = open(MqttConfig { connect_timeout, ..config(&url, "monitor") }, &["load/+"]);
    assert_eq!(monitor.connected().await, (1, true), "the first connection is the one that lasts");
}

#[tokio::test]
async fn a_port_taken_by_mosquitto_is_named_with_the_way_to_use_it() {
    let Some(mosquitto) = Mosquitto::start().await else { return };
    let listen = format!("127.0.0.1:{}", mosquitto.port()).parse().unwrap();
    let error = broker::start(BrokerConfig { listen, ..BrokerConfig::default() }).await.unwrap_err();
    assert!(matches!(error, BrokerError::Taken { by_broker: true, .. }));
    let text = error.to_string();
    assert!(text.contains(&format!("--mqtt mqtt://127.0.0.1:{}", mosquitto.port())), "{text}");
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_broker_that_is_away() {
    let nobody = format!("mqtt://127.0.0.1:{}", free_port());
    let mut client = open(config(&nobody, "monitor"), &["load/+"]);
    client.disconnected().await;
    let begin = Instant::now();
    client.transport.disconnect().await;
    assert!(begin.elapsed() < Duration::from_secs(1), "nothing was queued: {:?}", begin.elapsed());

    let timeout = Duration::from_secs(1);
    let mut client = open(MqttConfig { disconnect_timeout: timeout, ..config(&nobody, "monitor") }, &["load/+"]);
    client.disconnected().await;
    client.publish("load/a", "1").await;
    let begin = Instant::now();
    client.transport.disconnect().await;
    assert!(begin.elapsed() >= timeout && begin.elapsed() < 3 * timeout, "{:?}", begin.elapsed());
    assert!(client.events.recv().await.is_none(), "it has ended");
}
