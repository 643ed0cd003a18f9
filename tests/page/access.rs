//! Who may see the page and who may change something, over real requests; and the API against its
//! description.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

use crate::support;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use support::heartwatch::{PROGRAM, RunOptions, Running, command, finished, fixture};

fn client() -> Client {
    heartwatch_adapters::monitor::Monitor::at("http://127.0.0.1".parse().unwrap()).unwrap();
    Client::builder().build().unwrap()
}

/// A line of a users file, as the program prints it.
fn web_user(name: &str, role: &str, password: &str) -> String {
    let mut program = Command::new(PROGRAM);
    program.args(["web-user", name, "--role", role]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut program = program.spawn().unwrap();
    program.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn one_publisher() -> String {
    format!("[[publisher]]\nid = 'light-1'\ncsv = '{}'\ninterval = '100ms'\n", fixture("light-1.csv").display())
}

#[actix_rt::test]
async fn on_loopback_without_credentials_only_this_machine_and_its_own_page_get_through() {
    let monitor = Running::start(RunOptions { config: one_publisher(), ..RunOptions::default() }).await;
    let (page, http) = (monitor.page(), client());
    monitor.until("light-1", heartwatch_domain::verdict::Verdict::Alive).await;
    let status = |host: &'static str| {
        let request = http.get(format!("{page}/api/status")).header("Host", host);
        async { request.send().await.unwrap().status() }
    };
    assert_eq!(status("localhost:8080").await, StatusCode::OK);
    assert_eq!(status("evil.example").await, StatusCode::FORBIDDEN, "DNS rebinding");

    let probe = format!("{page}/api/publishers/light-1/probe");
    let answer = http.post(&probe).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "a program on this machine needs nothing");
    let report: Value = answer.json().await.unwrap();
    assert!(report["found"].as_str().unwrap().starts_with("PID "), "{report}");
    let from_elsewhere = http.post(&probe).header("Origin", "https://evil.example").send().await.unwrap();
    assert_eq!(from_elsewhere.status(), StatusCode::FORBIDDEN);
    let without_csrf = http.post(&probe).header("Origin", page).send().await.unwrap();
    assert_eq!(without_csrf.status(), StatusCode::FORBIDDEN);
    let session: Value = http.get(format!("{page}/api/session")).send().await.unwrap().json().await.unwrap();
    assert_eq!((&session["login"], &session["role"]), (&json!(false), &json!("operator")));
    let csrf = session["csrf"].as_str().unwrap();
    let ours = http.post(&probe).header("Origin", page).header("X-Heartwatch-Csrf", csrf).send().await.unwrap();
    assert_eq!(ours.status(), StatusCode::OK);
    let nobodys = http.post(format!("{page}/api/publishers/nobody/restart")).send().await.unwrap();
    assert_eq!(nobodys.status(), StatusCode::CONFLICT);

    let head = http.get(page).send().await.unwrap();
    let policy = head.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let tag = head.headers()["etag"].clone();
    let again = http.get(page).header("If-None-Match", tag).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
}

#[actix_rt::test]
async fn the_charting_library_is_compressed_lasting_and_the_one_that_the_page_asks_for() {
    let monitor = Running::start(RunOptions::default()).await;
    let script = std::fs::read_to_string("src/web/assets/plot.js").unwrap();
    let name = script.split('"').find(|part| part.starts_with("assets/chart-")).unwrap();
    let answer = client().get(format!("{}/{name}", monitor.page())).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{name}");
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert!(answer.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    let body = answer.bytes().await.unwrap();
    assert!(body.len() < 80_000, "{} bytes", body.len());
    let mut script = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&body[..]), &mut script).unwrap();
    assert!(script.contains("Chart.js v4.5.1") && script.contains("MIT"), "its banner names it and its licence");
}

#[actix_rt::test]
async fn credentials_are_asked_for_and_roles_and_forgeries_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let users =
        format!("{}{}", web_user("ada", "operator", "correct horse"), web_user("eve", "read-only", "battery staple"));
    std::fs::write(directory.path().join("users"), users).unwrap();
    std::fs::write(directory.path().join("token"), "operators-secret\n").unwrap();
    let config = format!("[web]\nusers_file = 'users'\ntoken_file = 'token'\n{}", one_publisher());
    let environment = vec![("HEARTWATCH_WEB_READ_ONLY_TOKEN".to_owned(), "the-readers-secret".to_owned())];
    let monitor = Running::start_in(directory, RunOptions { config, environment, ..RunOptions::default() }).await;
    let (page, http) = (monitor.page(), client());
    let status = format!("{page}/api/status");
    let probe = format!("{page}/api/publishers/light-1/probe");
    assert_eq!(http.get(&status).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(http.get(format!("{page}/metrics")).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    for public in ["/", "/assets/main.js", "/healthz", "/api/session"] {
        assert_eq!(http.get(format!("{page}{public}")).send().await.unwrap().status(), StatusCode::OK, "{public}");
    }

    // programs show a token
    let with = |token: &'static str| http.get(&status).bearer_auth(token).send();
    assert_eq!(with("wrong").await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(with("the-readers-secret").await.unwrap().status(), StatusCode::OK);
    let wait = || async {
        let answer: Value = with("operators-secret").await.unwrap().json().await.unwrap();
        answer["publishers"][0]["verdict"] == "alive"
    };
    support::eventually("light-1 is alive", Duration::from_secs(20), wait).await;
    let act = |token: &'static str| http.post(&probe).bearer_auth(token).send();
    assert_eq!(act("the-readers-secret").await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(act("operators-secret").await.unwrap().status(), StatusCode::OK);

    // and so does the command line
    let without = finished(monitor.directory(), &["status", "--url", page], Duration::from_secs(20)).await;
    assert!(without.code == Some(1) && without.stderr.contains("HEARTWATCH_TOKEN"), "{without:?}");
    let told =
        finished(monitor.directory(), &["status", "--url", page, "--token-file", "token"], Duration::from_secs(20))
            .await;
    assert!(told.code == Some(0) && told.stdout.contains("light-1"), "{told:?}");
    let mut by_variable = command(monitor.directory());
    by_variable.args(["status", "--url", page]).env("HEARTWATCH_TOKEN", "the-readers-secret");
    assert!(by_variable.output().unwrap().status.success());

    // people log in; the cookie alone changes nothing
    let log_in = |user: &'static str, password: &'static str| {
        http.post(format!("{page}/api/session")).json(&json!({"user": user, "password": password})).send()
    };
    assert_eq!(log_in("ada", "wrong").await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(log_in("nobody", "correct horse").await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let answer = log_in("ada", "correct horse").await.unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains("Secure"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let session: Value = answer.json().await.unwrap();
    assert_eq!(session["role"], "operator");
    let csrf = session["csrf"].as_str().unwrap().to_owned();
    assert_eq!(http.get(&status).header("Cookie", &cookie).send().await.unwrap().status(), StatusCode::OK);
    let forged = http.post(&probe).header("Cookie", &cookie).send().await.unwrap();
    assert_eq!(forged.status(), StatusCode::FORBIDDEN);
    let own = http.post(&probe).header("Cookie", &cookie).header("X-Heartwatch-Csrf", &csrf).send().await.unwrap();
    assert_eq!(own.status(), StatusCode::OK);
    let reader = log_in("eve", "battery staple").await.unwrap();
    let readers_cookie = reader.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let readers: Value = reader.json().await.unwrap();
    let tried = http
        .post(&probe)
        .header("Cookie", readers_cookie)
        .header("X-Heartwatch-Csrf", readers["csrf"].as_str().unwrap());
    assert_eq!(tried.send().await.unwrap().status(), StatusCode::FORBIDDEN, "she may look and not change");
    http.delete(format!("{page}/api/session")).header("Cookie", &cookie).send().await.unwrap();
    assert_eq!(http.get(&status).header("Cookie", &cookie).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);

    // guessing is slowed down
    let mut refused = StatusCode::OK;
    for _ in 0..40 {
        if refused == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        refused = log_in("ada", "guess guess").await.unwrap().status();
    }
    assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS);
    assert!(
        !monitor.program.stderr().contains("correct horse") && !monitor.program.stderr().contains("operators-secret")
    );
}

#[actix_rt::test]
async fn an_open_address_without_credentials_is_refused_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["run", "--web", "0.0.0.0:0", "--mqtt-listen", "127.0.0.1:0"];
    let refused = finished(directory.path(), &arguments, Duration::from_secs(20)).await;
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(refused.stderr.contains("--web") && refused.stderr.contains("token_file"), "{}", refused.stderr);
    std::fs::write(directory.path().join("users"), "ada:operator:plain").unwrap();
    std::fs::write(directory.path().join("heartwatch.toml"), "[web]\nlisten = '0.0.0.0:0'\nusers_file = 'users'\n")
        .unwrap();
    let checked = finished(directory.path(), &["check"], Duration::from_secs(20)).await;
    assert_eq!(checked.code, Some(78));
    assert!(
        checked.stdout.contains("heartwatch.toml:3: web.users_file") && checked.stdout.contains("line 1"),
        "{}",
        checked.stdout
    );
    assert!(!checked.stdout.contains("web.listen"), "there are users, only not readable ones: {}", checked.stdout);
}

#[actix_rt::test]
async fn a_client_that_asks_too_often_is_slowed_down_and_who_asks_after_its_health_is_not() {
    let monitor = Running::start(RunOptions::default()).await;
    let http = client();
    let limited = until_slowed_down(|| http.get(monitor.page())).await;
    assert!(limited.headers().contains_key("retry-after"));
    // what takes the files of the page takes nothing from the rest
    let answer = http.get(format!("{}/api/status", monitor.page())).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    for _ in 0..400 {
        let answer = http.get(format!("{}/healthz", monitor.page())).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
    // the command line waits as long as it is told to
    until_slowed_down(|| http.get(format!("{}/api/status", monitor.page()))).await;
    let told = finished(monitor.directory(), &["status", "--url", monitor.page()], Duration::from_secs(30)).await;
    assert_eq!(told.code, Some(0), "{told:?}");
}

/// Asks as fast as it can until it is told to slow down.
async fn until_slowed_down(request: impl Fn() -> reqwest::RequestBuilder) -> reqwest::Response {
    for _ in 0..2_000 {
        let answer = request().send().await.unwrap();
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            return answer;
        }
    }
    panic!("2,000 requests at once went through");
}

/// A monitor with a token for operators.
async fn with_a_token(web: &str) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "operators-long-secret\n").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = format!("[web]\ntoken_file = 'token'\n{web}\n{}", one_publisher());
    Running::start_in(directory, RunOptions { config, ..RunOptions::default() }).await
}

/// `heartwatch status` with the operator's token.
async fn asks_for_status(monitor: &Running) {
    let arguments = ["status", "--url", monitor.page(), "--token-file", "token"];
    let told = finished(monitor.directory(), &arguments, Duration::from_secs(30)).await;
    assert!(told.code == Some(0) && told.stderr.is_empty(), "{told:?}");
}

#[actix_rt::test]
async fn clients_that_send_slowly_shut_nobody_out_and_are_closed() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let monitor = with_a_token("").await;
    let address = monitor.page().trim_start_matches("http://");
    let body =
        "POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n{";
    let second_head = "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHo";
    let mut slow = Vec::new();
    for n in 0_usize..300 {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        // more of the first than there are places, as in the field
        let sent = [body, second_head, "GET /"][n.saturating_sub(260) % 3];
        // one that was closed already for a later one
        let _ = stream.write_all(sent.as_bytes()).await;
        slow.push(stream);
    }
    asks_for_status(&monitor).await;
    let ready =
        client().get(format!("{}/readyz", monitor.page())).timeout(Duration::from_secs(10)).send().await.unwrap();
    assert!(ready.status() == StatusCode::OK || ready.status() == StatusCode::SERVICE_UNAVAILABLE);
    monitor.program.says("a connection was closed to make room").await;

    // each byte comes soon after the one before it, and no request becomes whole
    let closed = slow.into_iter().map(|mut stream| async move {
        let mut answer = Vec::new();
        loop {
            let _ = stream.write_all(b"a").await;
            let read = tokio::time::timeout(Duration::from_millis(500), stream.read_buf(&mut answer)).await;
            if matches!(read, Ok(Ok(0) | Err(_))) {
                break;
            }
        }
    });
    let all = futures_util::future::join_all(closed);
    tokio::time::timeout(Duration::from_secs(90), all).await.expect("all of them are closed");
    let metrics = client().get(format!("{}/metrics", monitor.page())).bearer_auth("operators-long-secret");
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    let count = |name: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("heartwatch_page_connections{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
    };
    // Of 300 an address may have 96. How many make room, and how many a deadline ends before, depends on the machine.
    let (evicted, slow) = (count("_evicted_total"), count("_slow_total"));
    assert!(evicted > 0 && slow > 0 && count("") < 10, "{metrics}");
}

#[actix_rt::test]
async fn who_loops_without_a_credential_slows_down_nobody_who_has_one() {
    let monitor = with_a_token("").await;
    let (page, http) = (monitor.page(), client());
    let wrong = || http.get(format!("{page}/api/status")).bearer_auth("wrong");
    let loops: Vec<_> = ["/", "/", "/api/session", "/api/status"]
        .map(|path| {
            let (http, url) = (http.clone(), format!("{page}{path}"));
            actix_rt::spawn(async move {
                loop {
                    let _ = http.get(&url).send().await;
                }
            })
        })
        .into();
    until_slowed_down(|| http.get(page)).await;
    until_slowed_down(|| http.get(format!("{page}/api/session"))).await;
    until_slowed_down(wrong).await;
    for _ in 0..3 {
        asks_for_status(&monitor).await;
    }
    for path in ["readyz", "healthz"] {
        let answer = http.get(format!("{page}/{path}")).bearer_auth("wrong").send().await.unwrap();
        assert_ne!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
    loops.iter().for_each(|task| task.abort());
}

#[actix_rt::test]
async fn wrong_tokens_are_slowed_down_as_wrong_passwords_are_and_who_was_refused_is_logged() {
    let monitor = with_a_token("").await;
    let (page, http) = (monitor.page(), client());
    // on a path that everybody may have, too
    let shown = |path: &str| http.get(format!("{page}{path}")).bearer_auth("wrong").send();
    let mut refused = 0;
    while shown("/").await.unwrap().status() != StatusCode::TOO_MANY_REQUESTS {
        refused += 1;
        assert!(refused < 20, "20 wrong tokens went through");
    }
    // the same ones, shown in another way
    until_slowed_down(|| http.get(format!("{page}/api/status")).bearer_auth("wrong")).await;
    until_slowed_down(|| http.post(format!("{page}/api/session")).json(&json!({"token": "wrong"}))).await;
    let by_form = http.post(format!("{page}/api/session")).json(&json!({"token": "operators-long-secret"})).send();
    assert_eq!(by_form.await.unwrap().status(), StatusCode::OK, "a right one gets in all the same");

    let log_in = |user: &str| {
        http.post(format!("{page}/api/session")).json(&json!({"user": user, "password": "guess guess"})).send()
    };
    assert_eq!(log_in("ada\nforged line").await.unwrap().status(), StatusCode::UNAUTHORIZED);
    monitor.program.says(r#"a login was refused client=127.0.0.1 user="ada\nforged line""#).await;
}

#[actix_rt::test]
async fn a_trusted_proxy_says_who_asks_and_nobody_behind_a_proxy_is_on_this_machine() {
    let monitor = with_a_token("trusted_proxies = ['127.0.0.0/8']").await;
    let (page, http) = (monitor.page(), client());
    let from = |address: &'static str| http.get(page).header("X-Forwarded-For", address);
    // what a client says before its proxy is not believed
    until_slowed_down(|| from("203.0.113.8, 203.0.113.7")).await;
    assert_eq!(from("203.0.113.8").send().await.unwrap().status(), StatusCode::OK);
    until_slowed_down(|| from("203.0.113.7")).await;
    let wrong = from("203.0.113.9").bearer_auth("wrong").send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::OK, "the page itself is for everybody");
    monitor.program.says("a token was refused client=203.0.113.9").await;

    let open = Running::start(RunOptions::default()).await;
    let by_proxy = http.get(format!("{}/api/status", open.page())).header("X-Forwarded-For", "127.0.0.1");
    let refused = by_proxy.send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(refused.text().await.unwrap().contains("comes through a proxy"));
}

/// Answers of the running API against the schemas of its description.
#[actix_rt::test]
async fn what_the_api_answers_is_what_its_description_says() {
    let monitor = Running::start(RunOptions { config: one_publisher(), ..RunOptions::default() }).await;
    monitor.until("light-1", heartwatch_domain::verdict::Verdict::Alive).await;
    let http = client();
    let get = |path: String| {
        let request = http.get(format!("{}{path}", monitor.page()));
        async { request.send().await.unwrap() }
    };
    let description: Value = get("/api/openapi.json".to_owned()).await.json().await.unwrap();
    let arguments = [
        ("/api/publishers/{id}", "/api/publishers/light-1"),
        ("/api/publishers/{id}/readings", "/api/publishers/light-1/readings?points=20"),
        ("/api/recent", "/api/recent?publishers=light-1,nobody"),
        ("/api/events", "/api/events?newest=true&to=alive,dead&limit=5"),
    ];
    let mut checked = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        let answers = &methods["get"]["responses"];
        let Some(schema) = answers["200"]["content"]["application/json"]["schema"].as_object() else { continue };
        let asked = arguments.iter().find(|(known, _)| known == path).map_or(path.as_str(), |(_, asked)| asked);
        let answer: Value = get(asked.to_owned()).await.json().await.unwrap();
        // the whole document, so that its references are found
        let mut schema = Value::Object(schema.clone());
        schema["components"] = description["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let wrong: Vec<String> =
            validator.iter_errors(&answer).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{asked}: {wrong:?}\n{answer}");
        checked += 1;
    }
    assert!(checked >= 10, "only {checked} paths were checked");
    for (path, status) in [
        ("/api/publishers/nobody", 404),
        ("/api/publishers/a%20b", 400),
        ("/api/events?since=x", 400),
        ("/api/events?newest=true&to=ill", 400),
        ("/api/publishers/light-1/readings?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", 400),
        ("/nothing", 404),
    ] {
        let answer = get(path.to_owned()).await;
        assert_eq!(answer.status(), status, "{path}");
        let error: Value = answer.json().await.unwrap();
        assert!(error["error"].is_string(), "{path}: {error}");
    }
}

/// schemathesis (<https://schemathesis.io>) makes up requests from the description and judges the answers.
#[actix_rt::test]
async fn schemathesis_finds_no_answer_that_is_not_described() {
    let tools = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis-4");
    let program = tools.join("bin/st");
    if !program.exists() && std::env::var_os("HEARTWATCH_REQUIRE_SERVICES").is_some() {
        println!("skipped: schemathesis comes from PyPI, and here only Debian packages and crates are installed");
        return;
    }
    if !program.exists() {
        let run = |program: &str, arguments: &[&str]| {
            let mut tool = Command::new(program);
            tool.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            tool.status().is_ok_and(|status| status.success())
        };
        let made = run("python3", &["-m", "venv", tools.to_str().unwrap()])
            && run(tools.join("bin/pip").to_str().unwrap(), &["install", "--quiet", "schemathesis>=4,<5"]);
        if !made {
            println!("skipped: schemathesis, because pip does not reach PyPI");
            return;
        }
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), "operators-secret").unwrap();
    let config = format!("[web]\ntoken_file = 'token'\n{}", one_publisher());
    let monitor = Running::start_in(directory, RunOptions { config, ..RunOptions::default() }).await;
    let mut tool = tokio::process::Command::new(program);
    tool.args([
        "run",
        &format!("{}/api/openapi.json", monitor.page()),
        "--header",
        "Authorization: Bearer operators-secret",
    ]);
    tool.args([
        "--exclude-path",
        "/api/stream",
        "--exclude-path",
        "/api/session",
        "--max-examples",
        "12",
        "--rate-limit",
        "40/s",
    ]);
    tool.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    tool.args(["--phases", "examples,fuzzing", "--seed", "1", "--suppress-health-check", "all"])
        .current_dir(monitor.directory());
    let output = tool.output().await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}
