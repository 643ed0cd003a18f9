//! Keys in, a screen in memory out.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use heartwatch_domain::ledger::Account;
use heartwatch_domain::publisher::HostName;
use heartwatch_domain::verdict::Verdict;

fn publisher(id: &str, verdict: Verdict, lost: u64) -> PublisherView {
    serde_json::from_value(serde_json::json!({
        "id": id, "host": HostName::parse("here").unwrap(), "pid": 812, "verdict": verdict, "since": "1970-01-01T00:00:01Z",
        "last_seen": "1970-01-01T00:00:02Z", "deadline_ms": 5_000, "summary": format!("{verdict}: because of {id}"),
        "ledger": Account { stored: 42, lost, ..Account::default() },
    }))
    .unwrap()
}

fn top() -> Top {
    let mut top = Top::new("http://here");
    let publishers = vec![
        publisher("anna", Verdict::Alive, 0),
        publisher("bert", Verdict::Dead, 7),
        publisher("carl", Verdict::Silent, 0),
    ];
    let view = serde_json::json!({"observer": {"state": "ok", "reason": ""}, "publishers": publishers, "sinks": []});
    let view = serde_json::from_value(view).unwrap();
    top.heard(view, Timestamp::from_nanos(3_000_000_000));
    top
}

fn screen(top: &mut Top) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(120, 12)).unwrap();
    terminal.draw(|frame| top.draw(frame, Timestamp::from_nanos(3_000_000_000))).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..120).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..12).map(line).collect()
}

#[test]
fn the_worst_comes_first_with_its_reason_and_what_is_left_of_the_deadline() {
    let lines = screen(&mut top());
    assert!(lines[0].contains("● live"), "{lines:#?}");
    assert!(lines[1].contains("1 dead") && lines[1].contains("7 rows lost"), "{lines:#?}");
    assert!(lines[4].starts_with("bert") && lines[4].contains("✗ dead") && lines[4].contains("because of bert"));
    assert!(lines[4].contains("███████·"), "{}", lines[4]);
    assert!(lines[5].starts_with("carl") && lines[6].starts_with("anna"), "{lines:#?}");
}

#[test]
fn keys_sort_filter_select_explain_and_quit() {
    let mut top = top();
    for key in ['s', '/', 'a', 'r', 'l'] {
        assert_eq!(top.press(Key::Char(key)), Wish::Draw);
    }
    assert!(screen(&mut top)[4].starts_with("carl"), "only carl has 'arl' in its name");
    assert_eq!(top.press(Key::Escape), Wish::Draw);
    assert!(screen(&mut top)[4].starts_with("anna"), "by name");
    top.press(Key::Down);
    assert_eq!(top.press(Key::Enter), Wish::Explain(PublisherId::parse("bert").unwrap()));
    top.unexplained("it has no reason".to_owned());
    assert!(screen(&mut top).iter().any(|line| line.contains("it has no reason")));
    assert_eq!(top.press(Key::Char('x')), Wish::Draw);
    assert_eq!(top.press(Key::Char('q')), Wish::Quit);
}

#[test]
fn a_lost_connection_is_said_with_the_age_of_what_is_shown() {
    let mut top = top();
    top.unheard("gone".to_owned());
    let lines = screen(&mut top);
    assert!(lines[0].contains("○ no connection; what you see is 0 ms old"), "{}", lines[0]);
}
