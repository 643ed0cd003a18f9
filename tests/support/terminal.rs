//! A pseudo terminal with a program at it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use tokio::time::Instant;

use super::eventually;
use super::heartwatch::PATIENCE;

/// The key that goes back in history.
pub const UP: &str = "\x1b[A";
/// The key that completes.
pub const TAB: &str = "\t";
/// The key that ends a line.
pub const ENTER: &str = "\r";
/// The key that ends the input.
pub const CONTROL_D: &str = "\x04";

/// The terminal, and the program that runs at it.
pub struct Terminal {
    keyboard: File,
    line: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
    child: Child,
    before: String,
}

impl Terminal {
    /// Starts a program at a terminal of its own.
    pub fn start(mut command: Command) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let line =
            rustix::fs::open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        tcsetwinsize(&line, Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let before = modes(&line);
        let end = || line.try_clone().unwrap();
        command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().unwrap();
        let keyboard = File::from(keyboard);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, all) = (keyboard.try_clone().unwrap(), shown.clone());
        std::thread::spawn(move || {
            let mut some = [0; 4_096];
            // at the end of the terminal this is an error
            while let Ok(bytes) = screen.read(&mut some) {
                all.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&some[..bytes]);
            }
        });
        Self { keyboard, line, shown, child, before }
    }

    /// Everything that was shown, with the escape sequences in it.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Presses keys and waits until this text is shown once more than before.
    pub async fn press_for(&mut self, keys: &str, text: &str) {
        let times = |shown: &str| shown.matches(text).count();
        let before = times(&self.shown());
        self.press(keys);
        self.until(text, |shown| times(shown) > before).await;
    }

    /// Waits until this text is shown.
    pub async fn shows(&self, text: &str) {
        self.until(text, |shown| shown.contains(text)).await;
    }

    async fn until(&self, text: &str, is_there: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_there(&self.shown()) {
            assert!(Instant::now() < deadline, "'{text}' was not shown: {:?}", self.shown());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether lines are edited: then the terminal is not as it was.
    pub async fn until_edited(&self) {
        eventually("a line is edited", PATIENCE, async || modes(&self.line) != self.before).await;
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the program's end; the terminal has to be as it was before.
    pub async fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        for _ in 0..PATIENCE.as_millis() / 20 {
            status = self.child.try_wait().unwrap();
            if status.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let status = status.unwrap_or_else(|| panic!("it did not end: {:?}", self.shown()));
        assert_eq!(modes(&self.line), self.before, "the terminal is not as it was: {:?}", self.shown());
        status
    }
}

/// What the terminal makes of bytes.
fn modes(line: &OwnedFd) -> String {
    let now = tcgetattr(line).unwrap();
    format!("{:?} {:?} {:?}", now.local_modes, now.input_modes, now.output_modes)
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
