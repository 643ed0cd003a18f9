//! A real Chromium without a window, driven over its DevTools protocol
//! (<https://chromedevtools.github.io/devtools-protocol/>).
//!
//! A client of our own: the tests need a handful of commands, and the crates that know all of them take
//! minutes to build.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::installed;

/// Debian's.
const CHROMIUM: &str = "/usr/bin/chromium";
const PATIENCE: Duration = Duration::from_secs(30);

/// A browser with one page. It ends when this goes out of scope.
pub struct Browser {
    process: Child,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
    /// What the page has complained about: exceptions, and errors in its console.
    pub complaints: Vec<String>,
    _directory: TempDir,
}

impl Browser {
    /// Starts one; none when Chromium is not installed, which is said.
    pub async fn start() -> Option<Self> {
        if !installed(CHROMIUM) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(CHROMIUM);
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--hide-scrollbars",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--lang=en-GB",
            "--remote-debugging-port=0",
            "about:blank",
        ]);
        command.arg(format!("--user-data-dir={}", directory.path().display()));
        command
            .env("LANGUAGE", "en_GB")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn().unwrap();
        let port = port_of(directory.path()).await;
        // installs what the HTTP client needs
        heartwatch_adapters::monitor::Monitor::at("http://127.0.0.1".parse().unwrap()).unwrap();
        let list = reqwest::get(format!("http://127.0.0.1:{port}/json/list")).await.unwrap();
        let list: Value = list.json().await.unwrap();
        let page = list.as_array().unwrap().iter().find(|target| target["type"] == "page").unwrap();
        let (socket, _) = connect_async(page["webSocketDebuggerUrl"].as_str().unwrap()).await.unwrap();
        let mut browser = Self { process, socket, next_id: 0, complaints: Vec::new(), _directory: directory };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.command(&format!("{domain}.enable"), json!({})).await;
        }
        browser.size(1280, 800).await;
        Some(browser)
    }

    /// One command and its result.
    pub async fn command(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let request = json!({"id": id, "method": method, "params": params}).to_string();
        self.socket.send(Message::text(request)).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = tokio::time::timeout_at(deadline, self.socket.next()).await;
            let message = message.unwrap_or_else(|_| panic!("{method} took too long")).unwrap().unwrap();
            let Message::Text(text) = message else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            let params = &answer["params"];
            match answer["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
                // a request that fails while the monitor is away is what some tests are about
                Some("Log.entryAdded")
                    if params["entry"]["level"] == "error" && params["entry"]["source"] != "network" =>
                {
                    self.complaints.push(params["entry"]["text"].to_string());
                }
                _ => {}
            }
        }
    }

    /// The size of the window in CSS pixels.
    pub async fn size(&mut self, width: u32, height: u32) {
        let params = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.command("Emulation.setDeviceMetricsOverride", params).await;
    }

    /// Whether the system prefers dark colours.
    pub async fn dark(&mut self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let params = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.command("Emulation.setEmulatedMedia", params).await;
    }

    /// Opens an address.
    pub async fn open(&mut self, url: &str) {
        self.command("Page.navigate", json!({"url": url})).await;
    }

    /// The value of an expression, awaited where it is a promise.
    pub async fn value(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.command("Runtime.evaluate", params).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// The text of the first element like this; empty when there is none.
    pub async fn text(&mut self, selector: &str) -> String {
        let found = self.value(&format!("document.querySelector({})?.textContent ?? ''", json!(selector))).await;
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true; panics with what the page shows when it takes too long.
    pub async fn until(&mut self, expression: &str, within: Duration) {
        let end = Instant::now() + within;
        loop {
            // while a page is being loaded there may be nothing to ask
            let params = json!({"expression": format!("Boolean({expression})"), "returnByValue": true});
            if self.command("Runtime.evaluate", params).await["result"]["value"] == true {
                return;
            }
            if Instant::now() >= end {
                let shown = self.text("body").await;
                panic!(
                    "not within {within:?}: {expression}\ncomplaints: {:?}\nthe page shows: {shown}",
                    self.complaints
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Presses a key, as `Tab` or `Enter`.
    pub async fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            _ => 0,
        };
        for kind in ["rawKeyDown", "keyUp"] {
            let params = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.command("Input.dispatchKeyEvent", params).await;
            if key == "Enter" && kind == "rawKeyDown" {
                let params = json!({"type": "char", "key": key, "text": "\r"});
                self.command("Input.dispatchKeyEvent", params).await;
            }
        }
    }

    /// What the window shows, as PNG.
    pub async fn picture(&mut self) -> Vec<u8> {
        let answer = self.command("Page.captureScreenshot", json!({"format": "png"})).await;
        base64::engine::general_purpose::STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()
    }
}

async fn port_of(directory: &Path) -> u16 {
    let end = Instant::now() + PATIENCE;
    loop {
        let port = std::fs::read_to_string(directory.join("DevToolsActivePort"));
        if let Some(port) = port.ok().and_then(|text| text.lines().next()?.parse().ok()) {
            return port;
        }
        assert!(Instant::now() < end, "Chromium does not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
