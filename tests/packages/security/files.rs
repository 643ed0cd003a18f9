//! Who may read what the program keeps, and what is said of secrets that everybody can read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::eventually;
use crate::support::heartwatch::{PATIENCE, PROGRAM, Program, RunOptions, Running, command_of, finished, fixture};

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

/// All that is below a directory, and it.
fn tree(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    if path.is_dir() {
        all.extend(std::fs::read_dir(path).unwrap().flat_map(|entry| tree(&entry.unwrap().path())));
    }
    all
}

/// What somebody else could open, with its mode.
fn open_to_others(path: &Path) -> Vec<String> {
    let open = tree(path).into_iter().filter(|path| mode(path) & 0o077 != 0);
    open.map(|path| format!("{} {:04o}", path.display(), mode(&path))).collect()
}

/// The program under an umask that hides nothing.
fn without_umask(directory: &Path, arguments: &str) -> Command {
    let mut command = command_of("sh", directory);
    command.args(["-c", &format!("umask 0; exec {PROGRAM} {arguments}")]);
    command
}

#[tokio::test]
async fn under_an_umask_of_0_all_that_is_kept_is_for_its_user_alone_but_what_a_program_writes_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "[[notify]]\nname = 'log'\ncommand = ['/bin/cat']\n\
         [[publisher]]\nid = 'csv'\ncsv = '{}'\ninterval = '50ms'\n\
         [[publisher]]\nid = 'inside'\ncsv = '{}'\ninterval = '50ms'\nrun = 'in-process'\n\
         [[publisher]]\nid = 'program'\nexec = \"sh -c 'echo x > written; exec {} --interval 0.1'\"\n",
        fixture("light-1.csv").display(),
        fixture("light-1.csv").display(),
        fixture("sensor.sh").display(),
    );
    std::fs::write(directory.path().join("heartwatch.toml"), config).unwrap();
    let mut monitor = Program::start(without_umask(
        directory.path(),
        "run --deadline 2s --web 127.0.0.1:0 --mqtt-listen 127.0.0.1:0 --data-dir data",
    ));
    let data = directory.path().join("data");
    let outbox = |id: &str| data.join("outbox").join(format!("{id}.sqlite"));
    let all_there = async || {
        ["csv", "inside", "program"].iter().all(|id| outbox(id).exists()) && data.join("journal.sqlite-wal").exists()
    };
    eventually("all files are there", PATIENCE, all_there).await;
    let written = directory.path().join("written");
    eventually("the program has written", PATIENCE, async || written.exists()).await;
    assert_eq!(open_to_others(&data), Vec::<String>::new());
    assert_eq!(mode(&written), 0o666, "a program that is not ours writes as its user wants");
    monitor.signal(rustix::process::Signal::TERM);
    assert!(monitor.exit(PATIENCE).await.success());
    assert_eq!(open_to_others(&data), Vec::<String>::new());
}

#[tokio::test]
async fn a_server_an_agent_and_a_publisher_keep_others_out_too() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let csv = fixture("light-1.csv");
    let port = crate::support::free_port();
    let _server = Program::start(without_umask(here, &format!("server --listen 127.0.0.1:{port} --data-dir server")));
    let _agent =
        Program::start(without_umask(here, &format!("agent --id a --server 127.0.0.1:{port} --data-dir agent")));
    let publish = format!("publish --id p --csv {} --mqtt mqtt://127.0.0.1:9 --data-dir publisher", csv.display());
    let _publisher = Program::start(without_umask(here, &publish));
    for (folder, file) in [("server", "received.log"), ("publisher", "outbox/p.sqlite")] {
        let file = here.join(folder).join(file);
        eventually(&format!("{} is there", file.display()), PATIENCE, async || file.exists()).await;
    }
    eventually("the agent's directory is there", PATIENCE, async || here.join("agent").exists()).await;
    for folder in ["server", "agent", "publisher"] {
        assert_eq!(open_to_others(&here.join(folder)), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_directory_of_an_earlier_version_is_closed_and_said() {
    let directory = tempfile::tempdir().unwrap();
    let mut monitor = Running::start_in(directory, RunOptions::default()).await;
    let data = monitor.directory().join("data");
    let journal = data.join("journal.sqlite");
    for (path, mode) in [(&data, 0o755), (&journal, 0o644)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    monitor.restart().await;
    monitor.program.says("(mode 0755): it is 0700 now").await;
    assert_eq!(open_to_others(&data), Vec::<String>::new());
}

#[tokio::test]
async fn a_secret_that_everybody_can_read_is_said_at_the_start_and_by_check() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let config = "[web]\ntoken_file = 'token'\n".to_owned();
    let monitor = Running::start_in(directory, RunOptions { config, ..RunOptions::default() }).await;
    let warning = format!("web.token_file: everybody on this machine can read the secret in {}", token.display());
    let warning = warning.replace(monitor.directory().to_str().unwrap(), "");
    let said = |text: &str| text.contains("web.token_file: everybody on this machine can read the secret in");
    assert!(said(&monitor.program.stderr()), "{warning}: {}", monitor.program.stderr());
    let checked = finished(monitor.directory(), &["check"], PATIENCE).await;
    assert!(said(&checked.stdout) || said(&checked.stderr), "{checked:?}");

    let asked = ["status", "--url", monitor.page(), "--token-file", "token"];
    let asked = finished(monitor.directory(), &asked, PATIENCE).await;
    assert!(asked.code == Some(0) && asked.stderr.contains("chmod 600"), "{asked:?}");

    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let checked = finished(monitor.directory(), &["check"], PATIENCE).await;
    assert!(!said(&checked.stdout) && !said(&checked.stderr), "{checked:?}");
}

#[tokio::test]
async fn a_session_is_for_https_only_where_a_proxy_stands_before_the_page() {
    for (secure, key) in [(false, ""), (true, "secure_cookies = true\n")] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("token"), "0123456789abcdef\n").unwrap();
        let config = format!("[web]\ntoken_file = 'token'\n{key}");
        let monitor = Running::start_in(directory, RunOptions { config, ..RunOptions::default() }).await;
        let session = format!("{}/api/session", monitor.page());
        let token = serde_json::json!({"token": "0123456789abcdef"});
        heartwatch_system::rustls_provider::install();
        let answer = reqwest::Client::new().post(session).json(&token).send().await.unwrap();
        let cookie = answer.headers().get("set-cookie").expect("a cookie").to_str().unwrap().to_owned();
        assert_eq!(cookie.contains("Secure"), secure, "{cookie}");
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    }
}
