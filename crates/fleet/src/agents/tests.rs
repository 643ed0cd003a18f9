//! Ways that fail as no real one can be made to: the time is tokio's own, paused.

use std::sync::atomic::AtomicUsize;

use super::*;

/// A way whose agents do what the test says: nothing, or an answer under some name.
struct Way {
    name: &'static str,
    knows: bool,
    answers_as: Option<&'static str>,
    fails: bool,
    handed: AtomicUsize,
    answers: mpsc::Sender<AgentAnswer>,
}

impl AgentChannel for Way {
    fn name(&self) -> &'static str {
        self.name
    }
    fn knows(&self, _: &PublisherId) -> bool {
        self.knows
    }
    fn hand<'a>(&'a self, _: &'a PublisherId, command: &'a Command, _: Duration) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            self.handed.fetch_add(1, Ordering::SeqCst);
            if self.fails {
                return Err("no connection".to_owned());
            }
            if let Some(name) = self.answers_as {
                let output = r#"{"state":"stopped","looked_at":"2026-01-01T00:00:00Z"}"#.to_owned();
                let result = CommandResult { id: command.id.clone(), success: true, output };
                self.answers.send(AgentAnswer { agent: id(name), result }).await.unwrap();
            }
            Ok(())
        })
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

const WITHIN: Duration = Duration::from_secs(2);

fn id(name: &str) -> PublisherId {
    PublisherId::parse(name).unwrap()
}

fn join(agents: &Agents, name: &'static str, knows: bool, answers_as: Option<&'static str>, fails: bool) -> Arc<Way> {
    let (answers, answers_end) = mpsc::channel(8);
    let way = Arc::new(Way { name, knows, answers_as, fails, handed: AtomicUsize::new(0), answers });
    agents.ask_over(way.clone(), answers_end);
    way
}

async fn probe(agents: &Agents) -> Result<ProbeAnswer, String> {
    let process = ProcessIdentity { pid: 7, start_ticks: 8, boot_id: "b".into() };
    agents.probe(&id("agent-1"), &process, WITHIN).await
}

fn handed(way: &Way) -> usize {
    way.handed.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn an_agent_is_asked_where_it_is_known_and_elsewhere_when_nothing_comes_back() {
    let agents = Agents::new(Clock::start());
    assert!(probe(&agents).await.unwrap_err().contains("no way"));
    let mqtt = join(&agents, "MQTT", false, None, false);
    let kafka = join(&agents, "Kafka", true, Some("agent-1"), false);
    assert!(probe(&agents).await.is_ok());
    assert_eq!((handed(&mqtt), handed(&kafka)), (0, 1), "it is known over Kafka");

    // A new way of that name, on which it is silent: the other one is asked after half of the time.
    let silent = join(&agents, "Kafka", true, None, false);
    let reason = probe(&agents).await.unwrap_err();
    assert!(reason.contains("over Kafka within 2 s") && reason.contains("over MQTT within 1 s"), "{reason}");
    assert_eq!((handed(&mqtt), handed(&silent)), (1, 1));
    let mqtt = join(&agents, "MQTT", false, Some("agent-1"), false);
    assert!(probe(&agents).await.is_ok());
    assert!(probe(&agents).await.is_ok());
    assert_eq!((handed(&mqtt), handed(&silent)), (2, 2), "the second time where it answered before");
}

#[tokio::test(start_paused = true)]
async fn a_way_that_fails_costs_no_time_and_the_reason_is_told() {
    let agents = Agents::new(Clock::start());
    let _failing = join(&agents, "Kafka", true, None, true);
    let before = Instant::now();
    assert_eq!(probe(&agents).await.unwrap_err(), "over Kafka: no connection");
    join(&agents, "MQTT", false, Some("agent-1"), false);
    assert!(probe(&agents).await.is_ok());
    assert_eq!(Instant::now(), before, "nobody was waited for");
}

#[tokio::test(start_paused = true)]
async fn who_was_not_asked_has_no_answer() {
    let agents = Agents::new(Clock::start());
    join(&agents, "MQTT", false, Some("agent-2"), false);
    assert!(probe(&agents).await.unwrap_err().contains("did not answer over MQTT"));
    // The right agent, on a way on which it was not asked.
    agents.close_way("MQTT").await;
    let way = join(&agents, "Kafka", false, None, false);
    let probing = tokio::spawn({
        let agents = agents.clone();
        async move { probe(&agents).await }
    });
    while handed(&way) == 0 {
        tokio::task::yield_now().await;
    }
    let asked = locked(&agents.shared.waiting).keys().next().unwrap().clone();
    let result = CommandResult { id: asked, success: true, output: String::new() };
    agents.shared.answered("gRPC", AgentAnswer { agent: id("agent-1"), result });
    assert!(probing.await.unwrap().unwrap_err().contains("did not answer over Kafka"));
    assert!(locked(&agents.shared.waiting).is_empty(), "nothing is left of it");
}
