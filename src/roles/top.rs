//! `heartwatch top`: a running monitor, full screen.

use std::io::IsTerminal as _;
use std::time::Duration;

use futures_util::StreamExt as _;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use crate::roles::cli::AskArgs;
use crate::roles::client::monitor;
use heartwatch_console::top::{Key, Top, Wish};
use heartwatch_system::clock::Clock;

/// How often the monitor is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How often what counts live is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(250);
/// How long the keyboard is waited for before the thread looks whether it is still wanted.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Shows a monitor until `q` or Ctrl-C.
///
/// # Errors
/// When this is no terminal, or it cannot be drawn on.
pub(super) async fn top(args: &AskArgs) -> anyhow::Result<u8> {
    anyhow::ensure!(
        std::io::stdout().is_terminal() && std::io::stdin().is_terminal(),
        "`heartwatch top` needs a terminal: in a pipe use `heartwatch status`"
    );
    let monitor = monitor(args)?;
    let mut top = Top::new(args.url.as_str().trim_end_matches('/'));
    let clock = Clock::start();
    let (pressed, mut keys) = mpsc::channel(64);
    let mut terminal = ratatui::try_init()?;
    let keyboard = tokio::task::spawn_blocking(move || read_keys(&pressed));
    let (news, mut answers) = mpsc::channel(1);
    let asking = {
        let monitor = monitor.clone();
        actix_rt::spawn(async move {
            while news.send(monitor.status().await).await.is_ok() {
                // a change is shown at once, everything else once a second
                let change = async {
                    match monitor.follow(u64::MAX).await {
                        Ok(changes) => drop(std::pin::pin!(changes).next().await),
                        Err(_) => std::future::pending().await,
                    }
                };
                let _ = tokio::time::timeout(ASK_EVERY, change).await;
            }
        })
    };
    let mut drawing = tokio::time::interval(DRAW_EVERY);
    drawing.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let result = loop {
        if let Err(error) = terminal.draw(|frame| top.draw(frame, clock.wall())) {
            break Err(error);
        }
        tokio::select! {
            _ = drawing.tick() => {}
            Some(answer) = answers.recv() => match answer {
                Ok(view) => top.heard(view, clock.wall()),
                Err(error) => top.unheard(error.to_string()),
            },
            key = keys.recv() => match key.map(|key| top.press(key)) {
                Some(Wish::Draw) => {}
                Some(Wish::Explain(publisher)) => match monitor.explain(&publisher).await {
                    Ok(view) => top.explained(&view, clock.wall()),
                    Err(error) => top.unexplained(error.to_string()),
                },
                Some(Wish::Quit) | None => break Ok(()),
            },
        }
    };
    asking.abort();
    drop(keys);
    ratatui::try_restore()?;
    let _ = keyboard.await;
    result?;
    Ok(0)
}

/// Reads the keyboard until nobody wants it any more.
fn read_keys(pressed: &mpsc::Sender<Key>) {
    while !pressed.is_closed() {
        match event::poll(KEY_WAIT) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(_) => return,
        }
        let Ok(event) = event::read() else { return };
        let Event::Key(key) = event else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        let key = match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Char('q'),
            KeyCode::Char(c) => Key::Char(c),
            KeyCode::Enter => Key::Enter,
            KeyCode::Esc => Key::Escape,
            KeyCode::Backspace => Key::Backspace,
            KeyCode::Up => Key::Up,
            KeyCode::Down => Key::Down,
            KeyCode::PageUp => Key::PageUp,
            KeyCode::PageDown => Key::PageDown,
            KeyCode::Home => Key::Home,
            KeyCode::End => Key::End,
            _ => continue,
        };
        if pressed.blocking_send(key).is_err() {
            return;
        }
    }
}
