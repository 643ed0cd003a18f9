//! Each fault, injected and healed again.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use tokio::time::sleep;

use super::by_hand::{Fate, Sent, send_once};
use super::chance::Chance;
use super::damage::damage;
use super::full_disk::FullDisk;
use super::influx_line::Answer;
use super::kinds::RowFault;
use super::plan::Injection;
use super::publisher::{Mode, Publisher, State};
use super::testbed::{DATA, DATA_ELSEWHERE, DEVICE, JOURNAL_BYTES_SMALL, PROGRAM, Testbed};
use super::wrong_clock::WrongClock;
use crate::prove::proxy::{LinkMode, Proxy};
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::reading::{FieldValue, Reading};
use heartwatch_formats::envelope::{Prefix, TopicKind, encode_readings};
use heartwatch_servers::server::Server;
use heartwatch_system::clock::Clock;

/// How long a program may take to end in order before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it is before a killed program starts again, where the fault is not the kill itself.
const START_AGAIN: Duration = Duration::from_millis(50);

/// Messages of a device's burst.
const BURST_MESSAGES: u64 = 60;
/// The monitor's data directory on a full disk.
const DATA_ON_FULL_DISK: &str = "data-on-full-disk";
/// Lines of a program.
const LINES: u64 = 20;
/// How long the publisher of a program that has ended may take to end as well.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether a publisher has given out a number.
const LOOKS_MAX: u32 = 40;
/// Rows sent by hand in the name of a publisher begin here: its own files are shorter.
const FIRST_ROW_BY_HAND: u64 = 50_000;
/// Most seconds by which a clock is wrong.
const CLOCK_STEP_SECONDS_MAX: u64 = 7_200;

/// How a publisher works when it is started again, by chance.
pub(super) fn mode(chance: u64) -> Mode {
    match chance % 8 {
        0 => Mode::FullSpeed,
        number => Mode::Paced(Duration::from_millis(10 + 5 * number)),
    }
}

impl Testbed {
    /// Injects one fault and heals it.
    ///
    /// # Errors
    /// When something cannot be signalled, started or written.
    pub(super) async fn inject(&self, injection: &Injection) -> anyhow::Result<()> {
        let Injection { fault, after, lasting, chance } = *injection;
        let mut chance = Chance::new(chance);
        let index = usize::try_from(chance.next(self.publishers.len() as u64)).unwrap_or(0);
        let publisher = self.publishers.get(index).context("a stage has publishers")?;
        sleep(after).await;
        match fault {
            RowFault::PublisherKill
            | RowFault::PublisherStop
            | RowFault::PublisherRestart
            | RowFault::OutboxTorn
            | RowFault::OutboxFlipped
            | RowFault::OutboxLogCut
            | RowFault::OutboxLogFlipped
            | RowFault::OutboxLogHeader
            | RowFault::OutboxFileCut
            | RowFault::OutboxFileFlipped
            | RowFault::OutboxFull => self.with_publisher(fault, publisher, lasting, &mut chance).await,
            RowFault::MonitorKill
            | RowFault::MonitorStop
            | RowFault::MonitorRestart
            | RowFault::JournalTorn
            | RowFault::JournalFlipped
            | RowFault::JournalLogCut
            | RowFault::JournalLogFlipped
            | RowFault::JournalLogHeader
            | RowFault::JournalFileCut
            | RowFault::JournalFileFlipped => self.with_monitor(fault, lasting, &mut chance).await,
            RowFault::JournalFull => self.fill_journal(publisher, lasting).await,
            RowFault::BrokerKill | RowFault::BrokerStop | RowFault::BrokerRestart => {
                let broker = self.broker.as_ref().context("this stage has no broker of its own")?;
                through_signals(fault, &mut *broker.lock().await, lasting).await
            }
            RowFault::InfluxKill | RowFault::InfluxStop | RowFault::InfluxRestart => {
                let influxd = self.influxd.as_ref().context("this stage has no InfluxDB")?;
                through_signals(fault, &mut *influxd.lock().await, lasting).await
            }
            RowFault::InfluxRefuses => self.influx_answers(Answer::Refused, lasting).await,
            RowFault::InfluxHangs => self.influx_answers(Answer::Never, lasting).await,
            RowFault::InfluxError => self.influx_answers(Answer::Error, lasting).await,
            RowFault::InfluxPartial => self.influx_answers(Answer::Partial, lasting).await,
            RowFault::InfluxAnswerLost => self.influx_answers(Answer::Lost, lasting).await,
            RowFault::LineCut | RowFault::LineFrozen => {
                let line = if fault == RowFault::LineCut { LinkMode::Torn } else { LinkMode::Frozen };
                // one of the publishers' lines, or the monitor's
                match &self.monitor_line {
                    Some((of_monitor, turn)) if chance.next(4) == 0 => {
                        let _turn = turn.lock().await;
                        through_line(of_monitor, line, lasting).await;
                    }
                    _ => {
                        let _turn = publisher.state.lock().await;
                        through_line(&publisher.line, line, lasting).await;
                    }
                }
                Ok(())
            }
            RowFault::ClockStep => self.step_clock(publisher, lasting, &mut chance).await,
            RowFault::BufferFlood => self.flood_buffer(publisher, lasting).await,
            RowFault::DeviceBurst => {
                self.burst(BURST_MESSAGES).await;
                Ok(())
            }
            RowFault::RedeliveryAfterKill => self.redeliver_after_kill(lasting).await,
            RowFault::NumberTaken => self.use_number_again(publisher, &mut chance).await,
            RowFault::Unsendable => self.print_unsendable(&mut chance).await,
            RowFault::MonitorMoves => self.move_monitor(lasting, &mut chance).await,
            RowFault::PublisherMoves => self.move_publisher(publisher, lasting, &mut chance).await,
            RowFault::DiskFullAtStart => {
                let mut monitor = self.monitor.lock().await;
                let done = self.fill_disk(&mut monitor, lasting).await;
                monitor.end(END_TIMEOUT).await?;
                monitor.spawn()?;
                done
            }
        }
    }

    /// A burst of the device: rows without a time and without numbers.
    async fn burst(&self, messages: u64) {
        let mut device = self.device.lock().await;
        let first = device.by_hand.len() as u64 + 1;
        let rows = first..first + messages;
        let topic = format!("devices/{DEVICE}/row");
        let message = |row| (topic.clone(), format!(r#"{{"life":1,"row":{row}}}"#).into_bytes());
        let messages: Vec<_> = rows.clone().map(message).collect();
        let confirmed = send_once(self.broker_address, DEVICE, &messages).await;
        for (row, confirmed) in rows.zip(confirmed) {
            let fate = if confirmed { Fate::Taken } else { Fate::Unsure };
            device.by_hand.insert((1, row), Sent { fate, numbered: None });
        }
    }

    /// What the monitor takes and commits is not acknowledged to its broker when it is killed, and comes again.
    async fn redeliver_after_kill(&self, lasting: Duration) -> anyhow::Result<()> {
        let (line, turn) = self.monitor_line.as_ref().context("this stage has no broker of its own")?;
        let _turn = turn.lock().await;
        let mut monitor = self.monitor.lock().await;
        line.set(LinkMode::Unheard);
        self.burst(BURST_MESSAGES / 2).await;
        sleep(lasting).await;
        monitor.kill();
        line.set(LinkMode::Open);
        monitor.spawn()
    }

    /// A program prints lines, and some of them cannot be sent.
    async fn print_unsendable(&self, chance: &mut Chance) -> anyhow::Result<()> {
        let mut state = self.program.state.lock().await;
        let failure = self.program.program_ended(&mut state, PROGRAM_TIMEOUT).await;
        anyhow::ensure!(failure.is_none(), "{}", failure.unwrap_or_default());
        let first = state.truth.by_hand.len() as u64 + 1;
        let mut lines = String::new();
        for row in first..first + LINES {
            // the first one is good: what is behind it in the outbox is what may be blocked
            let unsendable = row > first && chance.next(4) == 0;
            let (tags, more) = if unsendable { unsendable_parts(chance.next(6)) } else { Default::default() };
            let _ = writeln!(lines, "{PROGRAM}{tags} life=1i,row={row}i{more}");
            let fate = if unsendable { Fate::Unsure } else { Fate::Taken };
            state.truth.by_hand.insert((1, row), Sent { fate, numbered: None });
        }
        self.program.start_program(&mut state, &lines)
    }

    /// The monitor ends, or is killed, and works in another data directory for a while.
    async fn move_monitor(&self, lasting: Duration, chance: &mut Chance) -> anyhow::Result<()> {
        let mut monitor = self.monitor.lock().await;
        *self.was_elsewhere.lock().await = true;
        for place in [DATA_ELSEWHERE, DATA] {
            if chance.next(2) == 0 {
                monitor.kill();
            }
            monitor.end(END_TIMEOUT).await?;
            monitor.start_in(DATA, place)?;
            if place == DATA_ELSEWHERE {
                sleep(lasting + Duration::from_millis(500)).await;
            }
        }
        Ok(())
    }

    /// The monitor starts on a full disk with its data, gets room later, and has its own disk again.
    async fn fill_disk(&self, monitor: &mut Server, lasting: Duration) -> anyhow::Result<()> {
        monitor.end(END_TIMEOUT).await?;
        let home = self.folder.join(DATA);
        let disk = FullDisk::with_copy_of(&home, &self.folder.join(DATA_ON_FULL_DISK))?;
        monitor.start_in(DATA, DATA_ON_FULL_DISK)?;
        sleep(lasting + Duration::from_millis(500)).await;
        let mut wrong = None;
        if monitor.ended_by_itself() {
            wrong = Some(format!("the monitor ended on a full disk: {}", monitor.last_words()));
        }
        disk.free()?;
        if wrong.is_none() {
            wrong =
                self.wait_until_it_answers(monitor).await.err().map(|error| format!("after a full disk: {error:#}"));
        }
        self.complaints.lock().await.extend(wrong);
        monitor.end(END_TIMEOUT).await?;
        disk.copy_back(&home)
    }

    /// The publisher ends, or is killed, and works in another data directory for a while.
    async fn move_publisher(
        &self,
        publisher: &Publisher,
        lasting: Duration,
        chance: &mut Chance,
    ) -> anyhow::Result<()> {
        let mut state = publisher.state.lock().await;
        let leave = async |state: &mut State, chance: &mut Chance| {
            if chance.next(2) == 0 {
                publisher.kill(state);
            }
            publisher.end(state, END_TIMEOUT).await
        };
        leave(&mut state, chance).await?;
        publisher.start_elsewhere(&mut state, mode(chance.next(u64::MAX)))?;
        sleep(lasting + Duration::from_millis(200)).await;
        leave(&mut state, chance).await?;
        publisher.start(&mut state, mode(chance.next(u64::MAX)))
    }

    /// Sends a reading under a number that the publisher has given out in this life.
    async fn use_number_again(&self, publisher: &Publisher, chance: &mut Chance) -> anyhow::Result<()> {
        let mut state = publisher.state.lock().await;
        let mut looks = 0;
        let (incarnation, start, last) = loop {
            publisher.look(&mut state);
            match publisher.current(&state) {
                Some((incarnation, life)) if life.said > 0 => break (incarnation, life.start, life.said),
                // one that is stopped or has come to its end may give out none any more
                _ if looks == LOOKS_MAX => return Ok(()),
                _ => looks += 1,
            }
            sleep(START_AGAIN).await;
        };
        let number = 1 + chance.next(last);
        let row = FIRST_ROW_BY_HAND + state.truth.by_hand.len() as u64;
        let field = |name: &str, value: u64| (name.to_owned(), FieldValue::Integer(value.cast_signed()));
        let reading = Reading {
            sequence: number,
            time: Clock::start().wall(),
            measurement: publisher.id.clone(),
            tags: Vec::new(),
            fields: vec![field("life", start), field("row", row)],
        };
        let topic = Prefix::default().topic(&PublisherId::parse(&publisher.id)?, TopicKind::Readings);
        let payloads = encode_readings(&HostName::parse("elsewhere")?, incarnation, &[reading], usize::MAX)?;
        let messages: Vec<_> = payloads.into_iter().map(|payload| (topic.clone(), payload)).collect();
        let confirmed = send_once(self.broker_address, "somebody-else", &messages).await;
        let fate = if confirmed == [true] { Fate::Taken } else { Fate::Unsure };
        state.truth.by_hand.insert((start, row), Sent { fate, numbered: Some((incarnation, number)) });
        Ok(())
    }

    async fn with_publisher(
        &self,
        fault: RowFault,
        publisher: &Publisher,
        lasting: Duration,
        chance: &mut Chance,
    ) -> anyhow::Result<()> {
        let mut state = publisher.state.lock().await;
        let state: &mut State = &mut state;
        let again = mode(chance.next(u64::MAX));
        match fault {
            RowFault::PublisherStop => {
                publisher.signal(state, Signal::STOP)?;
                sleep(lasting).await;
                publisher.signal(state, Signal::CONT)
            }
            RowFault::PublisherRestart => {
                publisher.end(state, END_TIMEOUT).await?;
                publisher.start(state, again)
            }
            fault if fault.damages_outbox() => {
                publisher.kill(state);
                state.truth.is_damaged(&publisher.left());
                damage(&publisher.outbox, fault, chance)?;
                sleep(START_AGAIN).await;
                publisher.start(state, again)
            }
            RowFault::OutboxFull => {
                publisher.kill(state);
                publisher.line.set(LinkMode::Cut);
                publisher.start(state, Mode::SmallOutbox { gives_up: chance.next(2) == 0 })?;
                sleep(lasting).await;
                publisher.line.set(LinkMode::Open);
                Ok(())
            }
            _ => {
                publisher.kill(state);
                sleep(lasting).await;
                publisher.start(state, again)
            }
        }
    }

    /// A life of a publisher, or now and then of the monitor, whose wall clock is wrong, goes back and
    /// goes forward. The life after it has the right one again.
    async fn step_clock(&self, publisher: &Publisher, lasting: Duration, chance: &mut Chance) -> anyhow::Result<()> {
        let library = self.faketime.as_ref().context("this stage has no clock to step")?;
        let steps = [chance.next(3), 0, 2].map(|way| match way {
            0 => format!("-{}", 1 + chance.next(CLOCK_STEP_SECONDS_MAX)),
            1 => "+0".to_owned(),
            _ => format!("+{}", 1 + chance.next(CLOCK_STEP_SECONDS_MAX)),
        });
        let clock = WrongClock::new(library, &self.folder, &publisher.id)?;
        if chance.next(4) == 0 {
            let mut monitor = self.monitor.lock().await;
            monitor.end(END_TIMEOUT).await?;
            clock.set(&steps[0])?;
            monitor.start_with(&clock.variables())?;
            for step in &steps[1..] {
                sleep(lasting / 2).await;
                clock.set(step)?;
            }
            sleep(lasting / 2).await;
            monitor.end(END_TIMEOUT).await?;
            return monitor.spawn();
        }
        let mut state = publisher.state.lock().await;
        publisher.end(&mut state, END_TIMEOUT).await?;
        clock.set(&steps[0])?;
        publisher.start_with(&mut state, mode(chance.next(u64::MAX)), &clock.variables())?;
        for step in &steps[1..] {
            sleep(lasting / 2).await;
            clock.set(step)?;
        }
        sleep(lasting / 2).await;
        publisher.end(&mut state, END_TIMEOUT).await?;
        publisher.start(&mut state, mode(chance.next(u64::MAX)))
    }

    async fn with_monitor(&self, fault: RowFault, lasting: Duration, chance: &mut Chance) -> anyhow::Result<()> {
        let mut monitor = self.monitor.lock().await;
        if fault.damages_journal() {
            monitor.kill();
            damage(&self.journal, fault, chance)?;
            sleep(START_AGAIN).await;
            return monitor.spawn();
        }
        through_signals(fault, &mut monitor, lasting).await
    }

    /// A small journal while InfluxDB takes nothing and a publisher sends as fast as it goes.
    async fn fill_journal(&self, publisher: &Publisher, lasting: Duration) -> anyhow::Result<()> {
        let mut state = publisher.state.lock().await;
        let mut monitor = self.monitor.lock().await;
        let line = self.influx_line.as_ref().context("this stage has no InfluxDB")?;
        let influxd = self.influxd.as_ref().context("this stage has no InfluxDB")?;
        let _turn = influxd.lock().await;
        monitor.kill();
        line.set(Answer::Refused);
        monitor.start_with(&[("HEARTWATCH_BUFFER_BYTES_MAX", JOURNAL_BYTES_SMALL)])?;
        publisher.kill(&mut state);
        publisher.start(&mut state, Mode::FullSpeed)?;
        sleep(lasting + Duration::from_millis(500)).await;
        line.set(Answer::Own);
        Ok(())
    }

    /// A small journal that is the store, while a publisher sends as fast as it goes.
    async fn flood_buffer(&self, publisher: &Publisher, lasting: Duration) -> anyhow::Result<()> {
        let mut state = publisher.state.lock().await;
        let mut monitor = self.monitor.lock().await;
        monitor.kill();
        monitor.start_with(&[("HEARTWATCH_BUFFER_BYTES_MAX", JOURNAL_BYTES_SMALL)])?;
        publisher.kill(&mut state);
        publisher.start(&mut state, Mode::Flood)?;
        sleep(lasting + Duration::from_millis(500)).await;
        Ok(())
    }

    async fn influx_answers(&self, answer: Answer, lasting: Duration) -> anyhow::Result<()> {
        let line = self.influx_line.as_ref().context("this stage has no InfluxDB")?;
        let influxd = self.influxd.as_ref().context("this stage has no InfluxDB")?;
        let _turn = influxd.lock().await;
        line.set(answer);
        sleep(lasting).await;
        line.set(Answer::Own);
        Ok(())
    }
}

/// Tags and fields of a line that no publisher can send as it is: what they are is the program's matter alone.
fn unsendable_parts(which: u64) -> (String, String) {
    match which {
        0 => (",host=web1".to_owned(), String::new()),
        1 => (",publisher=other".to_owned(), String::new()),
        2 => (format!(",long={}", "x".repeat(70_000)), String::new()),
        3 => (String::new(), (0..2_000).map(|number| format!(",f{number}=1i")).collect()),
        4 => (",control=a\u{1}b".to_owned(), String::new()),
        _ => (String::new(), ",time=5i".to_owned()),
    }
}

async fn through_line(line: &Proxy, how: LinkMode, lasting: Duration) {
    line.set(how);
    sleep(lasting).await;
    line.set(LinkMode::Open);
}

async fn through_signals(fault: RowFault, daemon: &mut Server, lasting: Duration) -> anyhow::Result<()> {
    match fault {
        RowFault::BrokerStop | RowFault::MonitorStop | RowFault::InfluxStop => {
            daemon.signal(Signal::STOP)?;
            sleep(lasting).await;
            daemon.signal(Signal::CONT)
        }
        RowFault::BrokerRestart | RowFault::MonitorRestart | RowFault::InfluxRestart => {
            daemon.end(END_TIMEOUT).await?;
            daemon.spawn()
        }
        _ => {
            daemon.kill();
            sleep(lasting).await;
            daemon.spawn()
        }
    }
}
