//! Each fault, injected and healed again.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use tokio::time::sleep;

use super::daemon::Daemon;
use super::influx_line::Answer;
use super::plan::{Injection, RowFault};
use super::publisher::{Mode, Publisher, State};
use super::stage::{JOURNAL_BYTES_SMALL, Stage};
use crate::roles::prove::proxy::{Line, Proxy};

/// How long a program may take to end in order before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it is before a killed program starts again, where the fault is not the kill itself.
const START_AGAIN: Duration = Duration::from_millis(50);

/// Most seconds by which a clock is wrong.
const CLOCK_STEP_SECONDS_MAX: u64 = 7_200;

/// What chance decides beside the plan's times.
struct Chance(u64);

impl Chance {
    /// A number below `below`; a different one each time.
    const fn next(&mut self, below: u64) -> u64 {
        let number = self.0 % below;
        // the generator of Knuth's MMIX
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407).rotate_left(17);
        number
    }
}

/// How a publisher works when it is started again, by chance.
pub fn mode(chance: u64) -> Mode {
    match chance % 8 {
        0 => Mode::FullSpeed,
        number => Mode::Paced(Duration::from_millis(10 + 5 * number)),
    }
}

impl Stage {
    /// Injects one fault and heals it.
    ///
    /// # Errors
    /// When something cannot be signalled, started or written.
    pub async fn inject(&self, injection: &Injection) -> anyhow::Result<()> {
        let Injection { fault, after, lasting, chance } = *injection;
        let mut chance = Chance(chance);
        let index = usize::try_from(chance.next(self.publishers.len() as u64)).unwrap_or(0);
        let publisher = self.publishers.get(index).context("a stage has publishers")?;
        sleep(after).await;
        match fault {
            RowFault::PublisherKill
            | RowFault::PublisherStop
            | RowFault::PublisherRestart
            | RowFault::OutboxTorn
            | RowFault::OutboxFlipped
            | RowFault::OutboxFull => self.with_publisher(fault, publisher, lasting, &mut chance).await,
            RowFault::MonitorKill
            | RowFault::MonitorStop
            | RowFault::MonitorRestart
            | RowFault::JournalTorn
            | RowFault::JournalFlipped => self.with_monitor(fault, lasting, &mut chance).await,
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
                let line = if fault == RowFault::LineCut { Line::Torn } else { Line::Frozen };
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
        }
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
            RowFault::OutboxTorn | RowFault::OutboxFlipped => {
                publisher.kill(state)?;
                state.truth.is_damaged();
                damage(&publisher.outbox, fault == RowFault::OutboxTorn, chance)?;
                sleep(START_AGAIN).await;
                publisher.start(state, again)
            }
            RowFault::OutboxFull => {
                publisher.kill(state)?;
                publisher.line.set(Line::Cut);
                publisher.start(state, Mode::SmallOutbox { gives_up: chance.next(2) == 0 })?;
                sleep(lasting).await;
                publisher.line.set(Line::Open);
                Ok(())
            }
            _ => {
                publisher.kill(state)?;
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
            return monitor.start();
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
        match fault {
            RowFault::JournalTorn | RowFault::JournalFlipped => {
                monitor.kill();
                damage(&self.journal, fault == RowFault::JournalTorn, chance)?;
                sleep(START_AGAIN).await;
                monitor.start()
            }
            _ => through_signals(fault, &mut monitor, lasting).await,
        }
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
        publisher.kill(&mut state)?;
        publisher.start(&mut state, Mode::FullSpeed)?;
        sleep(lasting + Duration::from_millis(500)).await;
        line.set(Answer::Own);
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

/// The clock of one program, wrong by what a file says: through libfaketime, which answers for the system.
struct WrongClock {
    library: String,
    file: PathBuf,
}

impl WrongClock {
    fn new(library: &Path, folder: &Path, name: &str) -> anyhow::Result<Self> {
        let library = library.to_str().context("the path of libfaketime")?.to_owned();
        Ok(Self { library, file: folder.join(format!("{name}.clock")) })
    }

    /// So many seconds behind or ahead from now on.
    fn set(&self, step: &str) -> anyhow::Result<()> {
        let part = self.file.with_extension("part");
        std::fs::write(&part, step).and_then(|()| std::fs::rename(&part, &self.file)).context("cannot set the clock")
    }

    fn variables(&self) -> [(&str, &str); 4] {
        [
            ("LD_PRELOAD", self.library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().unwrap_or_default()),
            ("FAKETIME_NO_CACHE", "1"),
            // the clock that decides does not step
            ("DONT_FAKE_MONOTONIC", "1"),
        ]
    }
}

async fn through_line(line: &Proxy, how: Line, lasting: Duration) {
    line.set(how);
    sleep(lasting).await;
    line.set(Line::Open);
}

async fn through_signals(fault: RowFault, daemon: &mut Daemon, lasting: Duration) -> anyhow::Result<()> {
    match fault {
        RowFault::BrokerStop | RowFault::MonitorStop | RowFault::InfluxStop => {
            daemon.signal(Signal::STOP)?;
            sleep(lasting).await;
            daemon.signal(Signal::CONT)
        }
        RowFault::BrokerRestart | RowFault::MonitorRestart | RowFault::InfluxRestart => {
            daemon.end(END_TIMEOUT).await?;
            daemon.start()
        }
        _ => {
            daemon.kill();
            sleep(lasting).await;
            daemon.start()
        }
    }
}

/// Tears off the end of an SQLite file or of its log, or flips one bit of it.
fn damage(file: &Path, torn: bool, chance: &mut Chance) -> anyhow::Result<()> {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    let files: Vec<(PathBuf, u64)> = [PathBuf::from(log), file.to_owned()]
        .into_iter()
        .filter_map(|path| Some((path.clone(), std::fs::metadata(&path).ok()?.len())))
        .filter(|(_, length)| *length > 0)
        .collect();
    let Some((path, length)) = files.get(usize::try_from(chance.next(files.len().max(1) as u64)).unwrap_or(0)) else {
        return Ok(());
    };
    let mut file = File::options().read(true).write(true).open(path).with_context(|| path.display().to_string())?;
    if torn {
        // most often a few bytes or pages, now and then a quarter of the file
        let most = [64, 8 * 1024, 64 * 1024, length / 4].map(|most| most.clamp(1, *length));
        let most = most.get(usize::try_from(chance.next(4)).unwrap_or(0)).copied().unwrap_or(1);
        file.set_len(length - 1 - chance.next(most))?;
    } else {
        let at = chance.next(*length);
        let mut byte = [0];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut byte)?;
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&[byte[0] ^ (1 << chance.next(8))])?;
    }
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_cuts_the_end_or_flips_one_bit() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        let whole = vec![7_u8; 10_000];
        for seed in 0..200 {
            std::fs::write(&file, &whole).unwrap();
            damage(&file, true, &mut Chance(seed * 7_919)).unwrap();
            let left = std::fs::read(&file).unwrap();
            assert!(left.len() < whole.len() && whole.starts_with(&left));
            std::fs::write(&file, &whole).unwrap();
            damage(&file, false, &mut Chance(seed * 7_919)).unwrap();
            let bits: u32 = std::fs::read(&file).unwrap().iter().map(|byte| (byte ^ 7).count_ones()).sum();
            assert_eq!(bits, 1);
        }
    }
}
