//! The page in a real browser, over a real monitor: a publisher is killed, the monitor goes and comes
//! back, thousands of publishers, dark and narrow, and whether everybody can use it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::process::{Command, Stdio};
use std::time::Duration;

use heartwatch_domain::beat::Heartbeat;
use heartwatch_domain::publisher::{HostName, Incarnation};
use heartwatch_formats::envelope::{HeartbeatNote, encode_heartbeat};
use support::browser::Browser;
use support::heartwatch::{RunOptions, Running, fixture, publish};

const SOON: Duration = Duration::from_secs(20);

/// Three publishers of its own: two that work, one that never comes.
fn options() -> RunOptions {
    let csv = |number| fixture(&format!("light-{number}.csv")).display().to_string();
    let config = format!(
        "[[publisher]]\nid = 'light-1'\ncsv = '{}'\ninterval = '100ms'\n\
         [[publisher]]\nid = 'light-2'\ncsv = '{}'\ninterval = '200ms'\n[[publisher]]\nid = 'boiler'\n",
        csv(1),
        csv(2)
    );
    RunOptions { config, deadline: Duration::from_secs(5), ..RunOptions::default() }
}

fn row(publisher: &str) -> String {
    format!(
        "[...document.querySelectorAll('.body .row')].find((row) => row.querySelector('.name').textContent === '{publisher}')"
    )
}

fn verdict_is(publisher: &str, verdict: &str) -> String {
    format!("{}?.querySelector('.badge').dataset.verdict === '{verdict}'", row(publisher))
}

#[actix_rt::test]
async fn a_killed_publisher_turns_within_a_second_and_a_lost_monitor_is_said_and_caught_up() {
    let Some(mut browser) = Browser::start().await else { return };
    let mut monitor = Running::start(options()).await;
    let directory = tempfile::tempdir().unwrap();
    let mut victim = publish(directory.path(), "victim", monitor.mqtt_url());
    browser.open(monitor.page()).await;
    for publisher in ["light-1", "light-2", "victim"] {
        browser.until(&verdict_is(publisher, "alive"), SOON).await;
    }
    assert_eq!(browser.text("#connection-words").await, "live");
    browser.until(&format!("{}.querySelector('.latest').textContent.startsWith('value ')", row("light-1")), SOON).await;

    victim.kill();
    browser.until(&verdict_is("victim", "dead"), Duration::from_secs(1)).await;
    let first = browser.text(".body .row .name").await;
    assert!(["victim", "boiler"].contains(&first.as_str()), "the worst is first, not {first}");
    // a screen reader hears of it
    browser.until("/victim is dead/.test(document.querySelector('#said').textContent)", SOON).await;
    browser.until("document.querySelector('.hour-chart canvas') && window.Chart", SOON).await;

    // the monitor goes: the page says so, and how old it is; what counts stands still
    monitor.program.kill();
    browser.until("!document.querySelector('#banner').hidden", SOON).await;
    browser.until("/What you see is \\d+ s old/.test(document.querySelector('#banner').textContent)", SOON).await;
    assert_eq!(browser.text("#connection-words").await, "no connection");

    // it comes back, and with it what has happened meanwhile
    monitor.restart().await;
    browser.until("document.querySelector('#connection-words').textContent === 'live'", SOON).await;
    browser.until("document.querySelector('#banner').hidden", SOON).await;
    browser.until(&verdict_is("light-1", "alive"), SOON).await;
    let mut again = publish(directory.path(), "victim", monitor.mqtt_url());
    browser.until(&verdict_is("victim", "alive"), SOON).await;
    again.kill();
    browser.until(&verdict_is("victim", "dead"), Duration::from_secs(1)).await;
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[actix_rt::test]
async fn one_publisher_is_explained_plotted_probed_and_restarted() {
    let Some(mut browser) = Browser::start().await else { return };
    let monitor = Running::start(options()).await;
    let before = monitor.until_publisher("light-2", "running", |view| view.pid.is_some()).await.pid;
    browser.open(&format!("{}/#/publisher/light-2", monitor.page())).await;
    browser.until("document.querySelector('.title .badge').dataset.verdict === 'alive'", SOON).await;
    browser.until("document.querySelectorAll('.plots canvas').length === 2 && window.Chart", SOON).await;
    let drawn = "Chart.getChart(document.querySelector('.plots canvas'))?.data.datasets[2].data.length > 2";
    browser.until(drawn, SOON).await;
    browser.until("/the deadline fits/.test(document.querySelector('.fits').textContent)", SOON).await;
    assert!(browser.text(".sentence").await.starts_with("Alive: "), "{}", browser.text(".sentence").await);

    // each action asks first
    browser.value("document.querySelector('[data-action=probe]').click()").await;
    browser.value("document.querySelector('dialog .primary').click()").await;
    browser.until("/^PID \\d+ is/.test(document.querySelector('dialog .outcome').textContent)", SOON).await;
    browser.value("document.querySelector('dialog').close()").await;
    browser.until("!document.querySelector('dialog')", SOON).await;
    browser.value("document.querySelector('[data-action=restart]').click()").await;
    browser.value("document.querySelector('dialog .primary').click()").await;
    browser.until("/being replaced/.test(document.querySelector('dialog .outcome').textContent)", SOON).await;
    monitor.until_publisher("light-2", "another process", |view| view.pid.is_some() && view.pid != before).await;
    browser.value("document.querySelector('dialog').close()").await;
    browser.until("!document.querySelector('dialog')", SOON).await;

    let chosen = "{ const box = document.querySelector('dialog select'); box.value = '240'; }";
    browser.value("document.querySelector('[data-action=maintenance]').click()").await;
    browser.value(chosen).await;
    browser.value("document.querySelector('dialog .primary').click()").await;
    browser.until("/The window is open/.test(document.querySelector('dialog .outcome').textContent)", SOON).await;
    browser.value("document.querySelector('dialog').close()").await;
    browser
        .until("/^maintenance until/.test(document.querySelector('[data-note=maintenance]')?.textContent)", SOON)
        .await;
    browser.until("document.querySelector('[data-action=end-maintenance]')", SOON).await;
    browser.value("document.querySelector('[data-action=end-maintenance]').click()").await;
    browser.value("document.querySelector('dialog .primary').click()").await;
    browser.until("/It has ended/.test(document.querySelector('dialog .outcome').textContent)", SOON).await;
    browser.value("document.querySelector('dialog').close()").await;
    browser.until("!document.querySelector('[data-note=maintenance]')", SOON).await;

    // what it was is in the events, with a link back
    browser.value("location.hash = '#/events?publisher=light-2'").await;
    browser.until("document.querySelectorAll('.plain tbody tr').length >= 3", SOON).await;
    browser.until("document.querySelector('.plain tbody a').hash === '#/publisher/light-2'", SOON).await;
    browser.value("location.hash = '#/ledger'").await;
    browser.until("/It balances/.test(document.querySelector('.balance').textContent)", SOON).await;
    browser.value("location.hash = '#/errors'").await;
    browser.until("/Every message could be read/.test(document.body.textContent)", SOON).await;
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[actix_rt::test]
async fn the_events_show_changes_with_who_was_told_and_what_went_wrong() {
    let Some(mut browser) = Browser::start().await else { return };
    let notify = "[[notify]]\nname = 'siren'\ncommand = ['/bin/cat']\nto = ['dead']\n\
                  [[notify]]\nname = 'desk'\nwebhook = 'http://127.0.0.1:1/'\nto = ['dead']\n";
    let monitor = Running::start(RunOptions { config: notify.to_owned(), ..options() }).await;
    let directory = tempfile::tempdir().unwrap();
    let mut victim = publish(directory.path(), "victim", monitor.mqtt_url());
    let another = publish(directory.path(), "another", monitor.mqtt_url());
    for publisher in ["victim", "another"] {
        monitor.until_publisher(publisher, "known as a process", |view| view.pid.is_some()).await;
    }
    let url: url::Url = monitor.mqtt_url().parse().unwrap();
    let options = rumqttc::MqttOptions::new("confused", url.host_str().unwrap(), url.port().unwrap());
    let (client, mut connection) = rumqttc::AsyncClient::new(options, 10);
    tokio::spawn(async move { while connection.poll().await.is_ok() {} });
    client.publish("heartwatch/v1/confused/readings", rumqttc::QoS::AtLeastOnce, false, "{").await.unwrap();
    browser.open(&format!("{}/#/events", monitor.page())).await;
    victim.kill();

    let rows = "[...document.querySelectorAll('.plain tbody tr')].map((row) => row.textContent)";
    for said in ["toldsiren", "not told yetdesk", "unreadable message", "→dead", "→alive"] {
        browser.until(&format!("{rows}.some((row) => row.includes('{said}'))"), SOON).await;
    }
    let choose = |id: &str, value: &str| {
        format!(
            "{{ const box = document.querySelector('#{id}'); box.value = '{value}'; box.dispatchEvent(new Event('{}')); }}",
            if id == "publisher" { "input" } else { "change" }
        )
    };
    browser.value(&choose("kind", "notice")).await;
    browser.until(&format!("{rows}.length >= 2 && {rows}.every((row) => /told/.test(row))"), SOON).await;
    browser.value(&choose("kind", "error")).await;
    browser.until(&format!("{rows}.length === 1 && {rows}[0].includes('unreadable')"), SOON).await;
    browser.value(&choose("kind", "")).await;
    browser.value(&choose("publisher", "another")).await;
    browser.until(&format!("{rows}.length === 1 && {rows}[0].includes('→alive')"), SOON).await;
    assert_eq!(browser.value("location.hash").await, "#/events?publisher=another");
    browser.value("location.hash = '#/errors'").await;
    browser.until("/siren command, ok: [12] told, 0 waiting/.test(document.body.textContent)", SOON).await;
    assert_eq!(browser.complaints, Vec::<String>::new());
    drop(another);
}

/// Heartbeats of many publishers, sent by one client, a few hundred at a time: the broker drops what it
/// cannot hand on, and this crowd keeps nothing to send again.
async fn crowd(monitor: &Running, publishers: usize) -> rumqttc::AsyncClient {
    let url: url::Url = monitor.mqtt_url().parse().unwrap();
    let mut options = rumqttc::MqttOptions::new("crowd", url.host_str().unwrap(), url.port().unwrap());
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut connection) = rumqttc::AsyncClient::new(options, 1_000);
    tokio::spawn(async move { while connection.poll().await.is_ok() {} });
    for number in 0..publishers {
        let note = HeartbeatNote {
            host: HostName::parse(&format!("host-{}", number % 7)).unwrap(),
            heartbeat: Heartbeat {
                is_agent: false,
                outbox_stalled: None,
                incarnation: Incarnation(1_700_000_000_000_000),
                process: None,
                sequence: 0,
                cursor: 0,
                idle: true,
                interval: Duration::from_secs(600),
            },
            confirmed: 0,
            earlier: Vec::new(),
            errors: Default::default(),
        };
        let topic = format!("heartwatch/v1/crowd-{number:05}/heartbeat");
        client.publish(topic, rumqttc::QoS::AtLeastOnce, false, encode_heartbeat(&note)).await.unwrap();
        if (number + 1) % 500 == 0 {
            let all = async || monitor.status().await.publishers.len() > number;
            support::eventually("the crowd is heard", Duration::from_secs(30), all).await;
        }
    }
    client
}

#[actix_rt::test]
async fn five_thousand_publishers_do_not_stutter() {
    let Some(mut browser) = Browser::start().await else { return };
    let monitor = Running::start(RunOptions { deadline: Duration::from_secs(900), ..RunOptions::default() }).await;
    let _client = crowd(&monitor, 5_000).await;
    browser.open(monitor.page()).await;
    browser
        .until("document.querySelector('.shown')?.textContent === '5,000 publishers'", Duration::from_secs(60))
        .await;
    let rows = browser.value("document.querySelectorAll('.body .row').length").await;
    assert!(rows.as_u64().unwrap() < 60, "only the visible rows exist, not {rows}");

    // Through the whole list in 120 steps: however far one scrolls, only what is seen is drawn. How long a
    // frame takes depends on what else the machine does: it is told, not judged.
    let scroll = "(async () => {
        const frame = () => new Promise((done) => requestAnimationFrame(done));
        let longest = 0, most = 0, before = await frame();
        const end = document.documentElement.scrollHeight;
        for (let step = 1; step <= 120; step += 1) {
            scrollTo(0, (end * step) / 120);
            const now = await frame();
            longest = Math.max(longest, now - before);
            most = Math.max(most, document.querySelectorAll('.body .row').length);
            before = now;
        }
        return { longest, most };
    })()";
    let scrolled = browser.value(scroll).await;
    println!("5,000 publishers: the longest pause between two frames while scrolling is {} ms", scrolled["longest"]);
    assert!(scrolled["most"].as_u64().unwrap() < 60, "{scrolled}");
    browser
        .until("[...document.querySelectorAll('.body .name')].some((name) => name.textContent === 'crowd-04999')", SOON)
        .await;

    let search = "document.querySelector('#search').value = 'crowd-0123'; document.querySelector('#search').dispatchEvent(new Event('input'))";
    browser.value(search).await;
    browser.until("document.querySelector('.shown').textContent === '10 of 5,000'", SOON).await;
    let host = "document.querySelector('#host').value = 'host-3'; document.querySelector('#host').dispatchEvent(new Event('change'))";
    browser.value(host).await;
    browser.until("/^[12] of 5,000$/.test(document.querySelector('.shown').textContent)", SOON).await;
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// What a person who sees badly, or has no mouse, would stumble over: checked by hand for every page.
const OWN_CHECKS: &str = r"(() => {
    const wrong = [];
    const visible = (of) => of.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && !of.closest('.unseen');
    const name = (of) => (of.getAttribute('aria-label') || of.labels?.[0]?.textContent || of.title || of.textContent || '').trim();
    for (const of of document.querySelectorAll('a, button, input, select, canvas, svg[role=img]'))
        if (visible(of) && !name(of)) wrong.push('no name: ' + of.outerHTML.slice(0, 120));
    const [h1] = document.querySelectorAll('h1');
    if (document.querySelectorAll('h1').length !== 1 || !h1.textContent.trim()) wrong.push('not one h1');
    for (const of of ['main', 'header', 'nav[aria-label]']) if (!document.querySelector(of)) wrong.push('no ' + of);
    if (document.documentElement.scrollWidth > innerWidth) wrong.push('wider than the window: ' + document.documentElement.scrollWidth);
    const ids = [...document.querySelectorAll('[id]')].map((of) => of.id);
    for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push('twice: #' + id);
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
    const light = ([r, g, b]) => { const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b); };
    const ground = (of) => { for (let at = of; at; at = at.parentElement) { const colour = rgba(getComputedStyle(at).backgroundColor); if (colour[3] > 0.99) return colour; } return rgba('white'); };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const of = node.parentElement;
        if (!node.data.trim() || !visible(of) || of.closest('button:disabled, script, noscript')) continue;
        const [a, b] = [light(rgba(getComputedStyle(of).color)), light(ground(of))].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        if (contrast < 4.5) wrong.push('contrast ' + contrast.toFixed(2) + ': ' + node.data.trim().slice(0, 40));
    }
    return [...new Set(wrong)];
})()";

/// axe-core (<https://github.com/dequelabs/axe-core>), as a Python package carries it; none, and said so,
/// where PyPI is not reached.
fn axe() -> Option<String> {
    let directory = std::env::temp_dir().join("heartwatch-axe-0.1.8");
    let script = directory.join("axe_playwright_python/axe.min.js");
    if !script.exists() {
        let wanted = ["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target"];
        let mut pip = Command::new("python3");
        pip.args(wanted).arg(&directory).arg("axe-playwright-python==0.1.8");
        let done = pip.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !done.is_ok_and(|status| status.success()) {
            println!("skipped: axe-core, because pip does not reach PyPI; our own checks ran");
            return None;
        }
    }
    std::fs::read_to_string(script).ok()
}

#[actix_rt::test]
async fn everybody_can_use_every_page_light_and_dark_wide_and_narrow() {
    let Some(mut browser) = Browser::start().await else { return };
    let monitor = Running::start(options()).await;
    let directory = tempfile::tempdir().unwrap();
    let mut victim = publish(directory.path(), "victim", monitor.mqtt_url());
    monitor.until_publisher("victim", "known as a process", |view| view.pid.is_some()).await;
    victim.kill();
    monitor.until("victim", heartwatch_domain::verdict::Verdict::Dead).await;
    monitor.until("boiler", heartwatch_domain::verdict::Verdict::NeverStarted).await;
    let axe = axe();
    browser.open(monitor.page()).await;
    browser.until(&verdict_is("victim", "dead"), SOON).await;
    if let Some(axe) = &axe {
        browser.value(axe).await;
    }
    for page in ["", "publisher/victim", "publisher/light-2", "events", "ledger", "errors"] {
        browser.value(&format!("location.hash = '#/{page}'")).await;
        browser
            .until("document.querySelector('main h1') && document.querySelector('main').children.length > 2", SOON)
            .await;
        browser.until("!/…$/.test(document.querySelector('.fact dd')?.textContent ?? '')", SOON).await;
        for (dark, width) in [(false, 1280), (true, 1280), (false, 390), (true, 390)] {
            browser.dark(dark).await;
            browser.size(width, 800).await;
            let place = format!("#/{page}, {width} wide, {}", if dark { "dark" } else { "light" });
            let wrong = browser.value(OWN_CHECKS).await;
            assert_eq!(wrong, serde_json::json!([]), "{place}");
            if axe.is_some() {
                let run = "axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] }).then((found) =>
                    found.violations.map((of) => of.id + ': ' + of.help + ' ' + of.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(' | ')))";
                assert_eq!(browser.value(run).await, serde_json::json!([]), "{place}");
            }
        }
    }

    // without a mouse: skip link, brand, the pages, the tools, the list, in the order that one sees
    browser.size(1280, 800).await;
    browser.open(&format!("{}/?keyboard#/", monitor.page())).await;
    browser.until(&verdict_is("victim", "dead"), SOON).await;
    browser.value("document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0)").await;
    let mut order = Vec::new();
    for _ in 0..16 {
        browser.press("Tab").await;
        let at = "document.activeElement.id || document.activeElement.className || document.activeElement.textContent.trim()";
        order.push(browser.value(at).await.as_str().unwrap_or_default().to_owned());
    }
    let place = |what: &str| order.iter().position(|at| at == what).unwrap_or_else(|| panic!("no {what} in {order:?}"));
    assert!(place("skip") < place("Events") && place("Events") < place("theme"), "{order:?}");
    assert!(place("theme") < place("search") && place("search") < place("name"), "{order:?}");
    browser.press("Enter").await;
    browser.until("location.hash.startsWith('#/publisher/')", SOON).await;
    // a new page is read from its beginning
    browser.until("document.activeElement.id === 'main'", SOON).await;
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[actix_rt::test]
async fn text_from_outside_is_shown_as_text() {
    let Some(mut browser) = Browser::start().await else { return };
    let monitor = Running::start(RunOptions::default()).await;
    let url: url::Url = monitor.mqtt_url().parse().unwrap();
    let options = rumqttc::MqttOptions::new("attacker", url.host_str().unwrap(), url.port().unwrap());
    let (client, mut connection) = rumqttc::AsyncClient::new(options, 10);
    tokio::spawn(async move { while connection.poll().await.is_ok() {} });
    let markup = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";
    // again and again: the monitor may not have subscribed yet
    tokio::spawn(async move {
        while client.publish("heartwatch/v1/evil/readings", rumqttc::QoS::AtLeastOnce, false, markup).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    browser.open(&format!("{}/#/errors", monitor.page())).await;
    browser
        .until(
            "[...document.querySelectorAll('.plain .code')].some((cell) => cell.textContent.includes('<script>'))",
            SOON,
        )
        .await;
    assert_eq!(browser.value("document.querySelectorAll('main img, main script').length").await, 0);
    assert_eq!(browser.value("document.title").await, "Errors – heartwatch");
    // and the policy of the page lets no inline script run
    browser.value("{ const script = document.createElement('script'); script.textContent = \"document.title='owned'\"; document.body.append(script); }").await;
    assert_eq!(browser.value("document.title").await, "Errors – heartwatch");
}
