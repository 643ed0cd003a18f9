//! The publisher's loops, with a connection that only notes what is sent, and a disk that stands still.

use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use tokio::time::advance;

use super::*;
use crate::sources::csv::CsvConfig;
use heartwatch_domain::beat::Heartbeat;
use heartwatch_formats::envelope::{Message, PAYLOAD_BYTES_MAX, TopicKind, decode};
use heartwatch_ports::{BoxFuture, Outgoing, Receipt, TransportError};

/// Takes everything.
#[derive(Default)]
struct Taken(Mutex<Vec<Outgoing>>);

impl Transport for Taken {
    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<(), TransportError>> {
        Box::pin(async move { self.try_publish(message) })
    }

    fn try_publish(&self, message: Outgoing) -> Result<(), TransportError> {
        self.0.lock().unwrap().push(message);
        Ok(())
    }

    fn acknowledge(&self, _: Vec<Receipt>) {}

    /// As long as a broker may take.
    fn disconnect(&self) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(1_900)))
    }
}

impl Taken {
    /// What was sent since the last call: the heartbeats, and how many messages of readings.
    fn take(&self) -> (Vec<Heartbeat>, usize) {
        let (mut heartbeats, mut readings) = (Vec::new(), 0);
        for message in self.0.lock().unwrap().drain(..) {
            if message.topic.ends_with("/readings") {
                readings += 1;
                continue;
            }
            let publisher = PublisherId::parse("light").unwrap();
            match decode(TopicKind::Heartbeat, &publisher, &message.payload) {
                Ok(Message::Heartbeat(note)) => heartbeats.push(note.heartbeat),
                other => panic!("{}: {other:?}", message.topic),
            }
        }
        (heartbeats, readings)
    }
}

/// One that publishes three rows again and again, one every half a second.
fn engine(clock: Clock, sent: &Arc<Taken>) -> SendLoop {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "1\n2\n3\n").unwrap();
    let config = PublisherConfig {
        id: PublisherId::parse("light").unwrap(),
        host: HostName::parse("here").unwrap(),
        prefix: Prefix::default(),
        incarnation: Incarnation(1),
        feed: Feed {
            interval: Duration::from_millis(500),
            outbox_bytes_max: 1_000_000,
            ..Feed::new(CsvConfig::new(file.path()).into())
        },
        heartbeat: Duration::from_secs(1),
        is_agent: false,
        batch_readings_max: 500,
        message_bytes_max: PAYLOAD_BYTES_MAX,
        delivery: DeliveryLimits::default(),
        confirm_grace: Duration::ZERO,
        outbox: None,
    };
    SendLoop::new(prepare(config, clock).unwrap(), sent.clone(), clock, None).unwrap()
}

async fn connects(events: &mpsc::Sender<TransportEvent>, connection_epoch: u64) {
    let connected = TransportEvent::Connected { connection_epoch, session_present: false };
    events.send(connected).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_a_goodbye() {
    let (clock, sent) = (Clock::start(), Arc::new(Taken::default()));
    let (events, mut comes) = mpsc::channel(8);
    connects(&events, 1).await;
    let (stop, stopped) = watch::channel(None);
    let ends = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        stop.send_replace(Some(Instant::now()));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = engine(clock, &sent).run(&mut comes, stopped) => {}
        () = ends => {}
    }
    let topics: Vec<String> = sent.0.lock().unwrap().iter().map(|message| message.topic.clone()).collect();
    let heartbeats = topics.iter().filter(|topic| topic.ends_with("/heartbeat")).count();
    assert!(heartbeats >= 5 && topics.last().unwrap().ends_with("/goodbye"), "{topics:?}");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_stands_still_silences_nobody() {
    let clock = Clock::start();
    let sent = Arc::new(Taken::default());
    let engine = engine(clock, &sent);
    // Whatever the worker is asked to do from now on does not return.
    let worker = engine.worker.clone();
    let (has_it, had) = sync_channel(1);
    let (release, released) = sync_channel::<()>(1);
    let holder = std::thread::spawn(move || {
        let _held = worker.lock().unwrap();
        has_it.send(()).unwrap();
        let _ = released.recv();
    });
    had.recv().unwrap();

    let (events, mut comes) = mpsc::channel(8);
    connects(&events, 1).await;
    let (_stop, stopped) = watch::channel(None);
    let minute = async || {
        for _ in 0..600 {
            advance(Duration::from_millis(100)).await;
            tokio::task::yield_now().await;
        }
    };
    let check = async {
        minute().await;
        let (heartbeats, readings) = sent.take();
        assert!(heartbeats.len() >= 60 && readings == 0, "{}, {readings}", heartbeats.len());
        let told = heartbeats.last().unwrap();
        let stalled = told.outbox_stalled.unwrap();
        assert!(!told.idle && (58..=60).contains(&stalled.as_secs()), "{told:?}");

        // The broker goes and comes back meanwhile: it is spoken to over the new connection.
        let at = clock.wall();
        events.send(TransportEvent::Disconnected { reason: String::new(), at }).await.unwrap();
        minute().await;
        assert_eq!(sent.take().0.len(), 0);
        connects(&events, 2).await;
        minute().await;
        assert!(sent.take().0.len() >= 60);

        release.send(()).unwrap();
        holder.join().unwrap();
        let (mut heartbeats, mut readings) = (Vec::new(), 0);
        while readings < 3 || heartbeats.last().is_none_or(|told: &Heartbeat| told.outbox_stalled.is_some()) {
            // real time, too: a thread has to get its turn
            std::thread::yield_now();
            advance(Duration::from_millis(100)).await;
            let (more, sent) = sent.take();
            heartbeats.extend(more);
            readings += sent;
        }
    };
    tokio::select! {
        ended = engine.run(&mut comes, stopped) => panic!("{ended:?}"),
        () = check => {}
    }
}
