//! A real HTTP server that takes webhooks and pings, and behaves as a test wants it to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

use super::eventually;
use super::heartwatch::PATIENCE;

/// How the receiver treats one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers with this status.
    Answer(u16),
    /// Takes it and says nothing.
    Hang,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// `Content-Encoding`.
    pub encoding: String,
    /// `X-Heartwatch-Delivery`.
    pub delivery: String,
    /// `X-Heartwatch-Signature`.
    pub signature: String,
    /// Its body, unpacked.
    pub body: Vec<u8>,
}

impl Received {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Debug, Default)]
struct State {
    received: Mutex<Vec<Received>>,
    behaviours: Mutex<VecDeque<Behaviour>>,
}

/// The server; it ends when this goes out of scope.
#[derive(Debug)]
pub struct Receiver {
    /// Its address.
    pub url: String,
    state: Arc<State>,
    stop: Option<std::sync::mpsc::SyncSender<()>>,
}

impl Receiver {
    /// Starts it on a free port. The first requests are treated so, all others are answered with 204.
    pub fn start(behaviours: &[Behaviour]) -> Self {
        Self::start_on(0, behaviours)
    }

    /// The same on a given port.
    pub fn start_on(port: u16, behaviours: &[Behaviour]) -> Self {
        let state =
            Arc::new(State { behaviours: Mutex::new(behaviours.iter().copied().collect()), ..State::default() });
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (stop, stopped) = std::sync::mpsc::sync_channel(1);
        let shared = state.clone();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = HttpServer::new(move || {
                    App::new().app_data(web::Data::from(shared.clone())).default_service(web::to(receive))
                })
                .workers(1)
                .disable_signals()
                .shutdown_timeout(0)
                .listen(listener)
                .unwrap()
                .run();
                let handle = server.handle();
                std::thread::spawn(move || {
                    let _ = stopped.recv();
                    actix_web::rt::System::new().block_on(handle.stop(false));
                });
                server.await.unwrap();
            });
        });
        Self { url, state, stop: Some(stop) }
    }

    /// What has come so far.
    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub async fn until(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} requests have come"), PATIENCE, async || self.received().len() >= count).await;
        self.received()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.try_send(());
        }
        if std::thread::panicking() {
            for received in self.received() {
                eprintln!("--- received: {} {}", received.delivery, String::from_utf8_lossy(&received.body));
            }
        }
    }
}

async fn receive(request: HttpRequest, body: web::Bytes, state: web::Data<State>) -> HttpResponse {
    let header =
        |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    state.received.lock().unwrap().push(Received {
        method: request.method().to_string(),
        path: request.path().to_owned(),
        encoding: header("content-encoding"),
        delivery: header("x-heartwatch-delivery"),
        signature: header("x-heartwatch-signature"),
        body: body.to_vec(),
    });
    let behaviour = state.behaviours.lock().unwrap().pop_front();
    match behaviour.unwrap_or(Behaviour::Answer(204)) {
        Behaviour::Answer(status) => {
            let status = actix_web::http::StatusCode::from_u16(status).unwrap();
            HttpResponse::build(status).body("the receiver's words")
        }
        Behaviour::Hang => {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            HttpResponse::Ok().finish()
        }
    }
}
