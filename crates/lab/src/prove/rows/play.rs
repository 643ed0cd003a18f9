//! The rounds of one stage. Whatever fails in the laboratory is noted and the next round begins: only where a stage
//! cannot be put right any more its rounds end, and what is left out is said.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use indicatif::ProgressBar;
use tokio::time::Instant;

use super::audit::{Excuse, audit};
use super::faults;
use super::kinds::RowFault;
use super::outbox_file::OutboxFile;
use super::plan::Round;
use super::publisher::{Mode, Publisher, State};
use super::tally::Tally;
use super::testbed::Testbed;

/// How long after healing every row has to be stored or named: nothing here measures time, and the machine may be loaded.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(240);
/// It is waited no longer once nothing has changed for so long.
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// How often it is looked at whether it is so.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a publisher may take to end in order when a round is over.
const END_TIMEOUT: Duration = Duration::from_secs(12);
/// How often rows are counted before a round is left uncounted.
const COUNTS_MAX: u32 = 5;
/// After so many rounds in a row that could not be counted the rest of a stage is left out.
const ROUNDS_FAILED_MAX: u32 = 3;

/// One round, as it was played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RoundOutcome {
    /// The plan.
    pub round: Round,
    /// What came of it.
    pub tally: Tally,
    /// From healing until every row was stored or named.
    pub settled_within: Duration,
}

/// What one stage has found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Its rounds.
    pub outcomes: Vec<RoundOutcome>,
    /// The last count.
    pub tally: Tally,
    /// What is wrong with the rows or with a program that is examined.
    pub complaints: Vec<String>,
    /// What the laboratory could not do.
    pub laboratory: Vec<String>,
    /// Faults that were not injected.
    pub not_injected: u64,
}

impl Findings {
    fn leave_out(&mut self, rounds: &[Round]) {
        self.not_injected += rounds.iter().map(|round| round.injections.len() as u64).sum::<u64>();
    }
}

/// Plays all rounds of a stage that was started, or could not be.
pub(super) async fn play(
    name: &str,
    stage: anyhow::Result<Testbed>,
    rounds: &[Round],
    seed: u64,
    progress: &ProgressBar,
) -> Findings {
    let mut findings = Findings::default();
    let stage = match stage {
        Ok(stage) => stage,
        Err(error) => {
            findings.laboratory.push(format!("stage {name} could not be started: {error:#}"));
            findings.leave_out(rounds);
            return findings;
        }
    };
    let mut random = fastrand::Rng::with_seed(seed ^ rounds.len() as u64);
    let mut failed_in_a_row = 0;
    for (number, round) in rounds.iter().enumerate() {
        progress.set_message(format!("{name}: {}", round.kind.map_or("several at once", RowFault::words)));
        let place = format!("stage {name}, round {} ({})", number + 1, round.kind.map_or("several", RowFault::words));
        let earlier = rounds.iter().take(number).flat_map(|round| &round.injections);
        let was_damaged = earlier.into_iter().any(|injection| injection.fault.destroys());
        let mut found = Noted { was_damaged, ..Noted::default() };
        let counted = play_round(&stage, round, &mut random, findings.tally, &mut found).await;
        let (tally, settled_within, failed) = match counted {
            Ok((tally, settled_within)) => (tally, settled_within, None),
            Err(error) => (findings.tally, Duration::ZERO, Some(error)),
        };
        let news = tally.since(findings.tally);
        found.judge(round, news);
        findings.tally = tally;
        findings.complaints.extend(found.complaints.into_iter().map(|complaint| format!("{place}: {complaint}")));
        findings.laboratory.extend(found.laboratory.into_iter().map(|trouble| format!("{place}: {trouble}")));
        findings.outcomes.push(RoundOutcome { round: round.clone(), tally: news, settled_within });
        progress.inc(round.injections.len() as u64);
        let Some(error) = failed else {
            failed_in_a_row = 0;
            continue;
        };
        findings.laboratory.push(format!("{place}: not counted: {error:#}"));
        failed_in_a_row += 1;
        if failed_in_a_row == ROUNDS_FAILED_MAX {
            let left = rounds.get(number + 1..).unwrap_or_default();
            findings.leave_out(left);
            findings.laboratory.push(format!("stage {name} ended after round {} of {}", number + 1, rounds.len()));
            break;
        }
    }
    findings
}

/// What is noted in one round.
#[derive(Debug, Default)]
struct Noted {
    complaints: Vec<String>,
    laboratory: Vec<String>,
    /// Whether anything was damaged or full in a round before.
    was_damaged: bool,
    /// What the count has to say where it is not whole.
    of_count: Vec<String>,
}

impl Noted {
    /// Compares what came of a round with what may have come of it.
    fn judge(&mut self, round: &Round, news: Tally) {
        if !news.is_whole() {
            self.complaints.append(&mut self.of_count);
        }
        if round.injections.iter().any(|injection| injection.fault.destroys()) {
            return;
        }
        let Tally { lost_named, found_after_all, .. } = news;
        if lost_named > 0 {
            self.complaints.push(format!("{lost_named} rows are lost, and nothing was damaged or full"));
        }
        // the record of a loss may come late, of what was damaged in a round before
        if found_after_all > 0 && !self.was_damaged {
            self.complaints
                .push(format!("the ledger calls {found_after_all} rows lost that are stored, and nothing was damaged"));
        }
    }
}

/// The count after a round, and how long it took from healing until every row was stored or named.
async fn play_round(
    stage: &Testbed,
    round: &Round,
    random: &mut fastrand::Rng,
    before: Tally,
    found: &mut Noted,
) -> anyhow::Result<(Tally, Duration)> {
    let by_hand_before = stage.device.lock().await.by_hand.len();
    for publisher in &stage.publishers {
        let mut state = publisher.state.lock().await;
        publisher.kill(&mut state);
        if let Err(error) = publisher.start(&mut state, faults::mode(random.u64(..))) {
            found.laboratory.push(format!("{} did not start: {error:#}", publisher.id));
        }
    }
    let injected = join_all(round.injections.iter().map(|injection| stage.inject(injection))).await;
    for (injection, injected) in round.injections.iter().zip(injected) {
        if let Err(error) = injected {
            found.laboratory.push(format!("{}: {error:#}", injection.fault.words()));
        }
    }
    found.complaints.append(&mut *stage.complaints.lock().await);
    let is_small = round.injections.iter().any(|injection| injection.fault.makes_journal_small());
    let healed = stage.heal(is_small, &mut found.complaints, &mut found.laboratory).await;
    let begin = Instant::now();
    go_quiet(stage, found).await;
    healed?;
    if let Err(reason) = settle(stage).await {
        found.complaints.push(reason);
    }
    let settled_within = begin.elapsed();
    let broker_died = round.injections.iter().any(|injection| injection.fault.may_end_broker(stage.broker.is_some()));
    let journal_damaged = round.injections.iter().any(|injection| injection.fault.damages_journal());
    let way_broken = round.kind != Some(RowFault::NumberTaken);
    let number_taken = round.injections.iter().any(|injection| injection.fault == RowFault::NumberTaken);
    let by_hand = number_taken || stage.device.lock().await.by_hand.len() > by_hand_before;
    for left in (0..COUNTS_MAX).rev() {
        found.of_count.clear();
        let excuse = Excuse { broker_died: broker_died && left == 0, journal_damaged, way_broken };
        match audit(stage, excuse, &mut found.of_count).await {
            // what a device has sent may be on its way, and nobody knows of it
            Ok(tally) if left == 0 || !by_hand || tally.since(before).is_whole() => return Ok((tally, settled_within)),
            Err(error) if left == 0 => return Err(error),
            _ => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
    anyhow::bail!("nothing was counted")
}

/// Ends the publishers in order and starts each once more, to say what it still knows and to send what it
/// still has.
async fn go_quiet(stage: &Testbed, found: &mut Noted) {
    let quiet = stage.publishers.iter().map(async |publisher| {
        let mut state = publisher.state.lock().await;
        let failure = publisher.failure(&mut state);
        let mut ended = publisher.end(&mut state, END_TIMEOUT).await;
        if std::mem::take(&mut state.was_elsewhere) {
            ended = ended.and(clear_elsewhere(publisher, &mut state).await);
        }
        let started = publisher.start(&mut state, Mode::Quiet);
        (failure, ended.and(started).with_context(|| publisher.id.clone()).err())
    });
    for (failure, error) in join_all(quiet).await {
        found.complaints.extend(failure);
        found.laboratory.extend(error.map(|error| format!("{error:#}")));
    }
    let mut state = stage.program.state.lock().await;
    found.complaints.extend(stage.program.program_ended(&mut state, SETTLE_TIMEOUT).await);
}

/// The publisher sends what it still has elsewhere.
async fn clear_elsewhere(publisher: &Publisher, state: &mut State) -> anyhow::Result<()> {
    publisher.start_elsewhere(state, Mode::Quiet)?;
    let end = Instant::now() + SETTLE_TIMEOUT;
    loop {
        let is_empty = |outbox: OutboxFile| outbox.waiting.is_empty() && outbox.given_up == 0;
        publisher.look(state);
        let is_there = publisher.current(state).is_some_and(|(_, life)| life.last > 0);
        if is_there && OutboxFile::in_use(&publisher.outbox_elsewhere).is_ok_and(is_empty) {
            break;
        }
        anyhow::ensure!(Instant::now() < end, "what is elsewhere was not confirmed within {SETTLE_TIMEOUT:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    publisher.end(state, END_TIMEOUT).await?;
    state.was_elsewhere = false;
    Ok(())
}

/// Waits until nothing is missing, on its way or in an outbox any more. What has not come to rest in one round is a
/// complaint of that round, and is not waited for again.
async fn settle(stage: &Testbed) -> Result<(), String> {
    let (end, mut changed) = (Instant::now() + SETTLE_TIMEOUT, Instant::now());
    let (mut seen_settled, mut last) = (0, None);
    loop {
        let unsettled = unsettled(stage).await;
        // twice, so that what a publisher says at its start has been heard
        seen_settled = if unsettled.is_none() { seen_settled + 1 } else { 0 };
        if seen_settled >= 2 {
            return Ok(());
        }
        if last != unsettled {
            changed = Instant::now();
            last.clone_from(&unsettled);
        }
        if let Some(Unsettled { what, reason }) = unsettled
            && (Instant::now() >= end || changed.elapsed() >= STUCK_AFTER)
        {
            stage.never_settled.lock().await.insert(what);
            return Err(format!("not settled, and not any more for {:.0?}: {reason}", changed.elapsed()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What has not come to rest yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unsettled {
    /// Whose account or outbox.
    what: String,
    reason: String,
}

async fn unsettled(stage: &Testbed) -> Option<Unsettled> {
    let given_up = stage.never_settled.lock().await;
    let unsettled =
        |what: &str, reason: String| (!given_up.contains(what)).then(|| Unsettled { what: what.to_owned(), reason });
    for publisher in &stage.publishers {
        if let Some(reason) = publisher_unsettled(publisher).await
            && let Some(unsettled) = unsettled(&publisher.id, reason)
        {
            return Some(unsettled);
        }
    }
    if !given_up.contains(&stage.program.id)
        && let Some(reason) = program_unsettled(&stage.program).await
        && let Some(unsettled) = unsettled(&stage.program.id, reason)
    {
        return Some(unsettled);
    }
    let view = match stage.api.ledger().await {
        Ok(view) => view,
        Err(error) => return unsettled("the ledger", error.to_string()),
    };
    for publisher in &stage.publishers {
        let state = publisher.state.lock().await;
        let Some((incarnation, _)) = publisher.current(&state) else { continue };
        let known = view
            .accounts
            .iter()
            .find(|line| line.publisher.as_str() == publisher.id && line.incarnation == incarnation);
        if known.is_none_or(|line| line.account.produced == 0) {
            let reason = format!("the monitor has not heard of the quiet life of {}", publisher.id);
            return unsettled(&format!("{}'s quiet life", publisher.id), reason);
        }
    }
    let open = view.accounts.iter().find(|line| line.account.missing > 0 || line.account.buffered > 0)?;
    let whose = format!("{} incarnation {}", open.publisher, open.incarnation);
    let mut reason = format!("{whose}: {:?}", open.account);
    if open.publisher.as_str() == stage.program.id
        && open.account.missing > 0
        && let Some(error) = ask_program_again(&stage.program).await
    {
        reason = format!("{reason}; {error}");
    }
    unsettled(&whose, reason)
}

/// A program's publisher that has ended cannot be asked for what its earlier lives owe: it is started once more.
async fn ask_program_again(program: &Publisher) -> Option<String> {
    let mut state = program.state.lock().await;
    if program.works(&mut state) {
        return None;
    }
    program.start_program(&mut state, "").err().map(|error| error.to_string())
}

async fn publisher_unsettled(publisher: &Publisher) -> Option<String> {
    let mut state = publisher.state.lock().await;
    publisher.look(&mut state);
    if let Some(failure) = publisher.failure(&mut state) {
        return Some(failure);
    }
    let outbox = match publisher.outbox_in_use() {
        Ok(outbox) => outbox,
        Err(error) => return Some(format!("its outbox cannot be read: {error}")),
    };
    if !outbox.waiting.is_empty() || outbox.given_up > 0 {
        return Some(format!("its outbox holds {outbox:?}"));
    }
    let last = publisher.current(&state).map(|(_, life)| life.last);
    (last != Some(1)).then(|| format!("{} has not begun its quiet life", publisher.id))
}

/// Whether a program's publisher has sent everything; where it has ended before that it is started once more.
async fn program_unsettled(program: &Publisher) -> Option<String> {
    let mut state = program.state.lock().await;
    if state.truth.by_hand.is_empty() {
        return None;
    }
    let works = program.works(&mut state);
    if !works && let Some(failure) = program.program_ended(&mut state, Duration::ZERO).await {
        return Some(failure);
    }
    let left = if works { program.outbox_in_use().unwrap_or_default() } else { program.left() };
    // the same words as long as nothing of it has been sent
    let reason = format!("its outbox holds {:?}, {} given up", left.waiting, left.given_up);
    if works {
        return Some(reason);
    }
    if left.unreadable.is_empty() && left.waiting.is_empty() && left.given_up == 0 {
        return None;
    }
    let started = program.start_program(&mut state, "").err();
    Some(started.map_or(reason, |error| error.to_string()))
}
