//! The units of deploy/systemd: how much they leave open, whether their instructions work, and whether the program and what
//! it starts can live with their restrictions. No systemd runs here: `confine.py` does to a process what a unit says.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use heartwatch_adapters::monitor::Monitor;
use heartwatch_domain::verdict::Verdict;
use heartwatch_formats::api::StatusView;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::heartwatch::{PATIENCE, PROGRAM, Program, children_of, command_of, fixture};
use crate::support::{eventually, free_port, installed};

const UNITS: [&str; 3] = ["heartwatch", "heartwatch-server", "heartwatch-agent"];
/// What `systemd-analyze security` may say at most: 0 is closed, 10 is open.
const EXPOSURE_MAX: f64 = 2.0;
/// Whom a service with DynamicUser= is like: nobody.
const NOBODY: u32 = 65_534;

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd").join(format!("{name}.service"))
}

/// The values of a key of a unit, in its order.
fn values(unit: &str, key: &str) -> Vec<String> {
    let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.map(ToOwned::to_owned).collect()
}

/// Whether the restrictions of a unit can be imitated here.
fn can_confine() -> bool {
    let library = ["/usr/lib/x86_64-linux-gnu/libseccomp.so.2", "/lib/x86_64-linux-gnu/libseccomp.so.2"];
    let library = library.into_iter().find(|path| Path::new(path).exists()).unwrap_or(library[0]);
    installed("/usr/bin/systemd-analyze") && installed("/usr/bin/python3") && installed(library)
}

/// A directory that the confined user owns, with the program in it.
fn home() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("heartwatch");
    if std::fs::hard_link(PROGRAM, &program).is_err() {
        std::fs::copy(PROGRAM, &program).unwrap();
    }
    give(directory.path());
    directory
}

/// Gives a file to the confined user, where we may.
fn give(path: &Path) {
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// A command under the restrictions of a unit.
fn confined(unit_file: &Path, directory: &Path, words: &[&str]) -> Command {
    let mut command = command_of("/usr/bin/python3", directory);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages/security/confine.py")).arg(unit_file);
    command.args(["--user", &NOBODY.to_string(), "--"]).args(words).env("HOME", directory);
    command
}

/// What stands for systemd, which wants to hear that a service is ready.
struct Heard(Arc<Mutex<String>>);

impl Heard {
    fn by(command: &mut Command, directory: &Path) -> Self {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "2000000");
        let heard = Arc::<Mutex<String>>::default();
        let into = heard.clone();
        // always, as systemd does: whoever tells it something waits until there is room
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(bytes) = socket.recv(&mut buffer) {
                let mut heard = into.lock().unwrap();
                heard.push_str(&String::from_utf8_lossy(&buffer[..bytes]));
                heard.push('\n');
            }
        });
        Self(heard)
    }

    /// Waits for both that it is ready and that it is well.
    async fn ready(&self, program: &mut Program) {
        eventually("it is ready and well", PATIENCE, async || {
            assert!(program.runs(), "it has ended: {}", program.stderr());
            let heard = self.0.lock().unwrap();
            heard.contains("READY=1") && heard.contains("WATCHDOG=1")
        })
        .await;
    }
}

#[test]
fn every_unit_is_closed_as_far_as_it_works_and_systemd_understands_it() {
    if !installed("/usr/bin/systemd-analyze") {
        return;
    }
    for name in UNITS {
        let said =
            Command::new("systemd-analyze").args(["security", "--offline=yes", "--no-pager"]).arg(unit(name)).output();
        let said = String::from_utf8_lossy(&said.unwrap().stdout).into_owned();
        let exposure = said
            .split("Overall exposure level for")
            .nth(1)
            .and_then(|rest| rest.split(": ").nth(1)?.split_whitespace().next()?.parse::<f64>().ok());
        let exposure = exposure.unwrap_or_else(|| panic!("no exposure in: {said}"));
        assert!(exposure <= EXPOSURE_MAX, "{name}: {exposure}\n{said}");

        // the program need not be installed where the tests run
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join(format!("{name}.service"));
        let text = std::fs::read_to_string(unit(name)).unwrap();
        std::fs::write(&copy, text.replace("/usr/local/bin/heartwatch", "/bin/true")).unwrap();
        let said = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output().unwrap();
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        let about_it: Vec<&str> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(about_it.is_empty(), "{said}");
    }
}

#[tokio::test]
async fn the_restrictions_are_in_force_here_and_node_and_java_cannot_live_with_one_that_the_monitor_leaves_out() {
    if !can_confine() || !installed("/usr/bin/node") || !installed("/usr/bin/java") {
        return;
    }
    let directory = home();
    let run = |name: &str, words: &[&str]| confined(&unit(name), directory.path(), words).output().unwrap();
    for forbidden in [
        ["unshare", "-r", "true"].as_slice(),
        &["chrt", "-f", "1", "true"],
        &["nice", "-n", "-1", "sh", "-c", "test $(nice) -lt 0"],
        &["sh", "-c", "mkdir x && chmod 4755 x"],
    ] {
        assert!(!run("heartwatch", forbidden).status.success(), "{forbidden:?} is allowed");
    }
    let programs: [&[&str]; 2] = [&["node", "-e", "console.log(1 + 1)"], &["java", "-version"]];
    for program in programs {
        let runs = run("heartwatch", program);
        assert!(runs.status.success(), "{program:?}: {runs:?}");
        let memory = run("heartwatch-agent", program);
        assert!(
            !memory.status.success(),
            "{program:?} lives with MemoryDenyWriteExecute=: the monitor's unit can have it"
        );
    }
}

const NODE: &str = "let n = 0; setInterval(() => console.log(`${1.5 + n % 3} ${5000000 + n} ${++n}`), 50);\n";
const JAVA: &str = "public class Sensor {
    public static void main(String[] words) throws Exception {
        for (long n = 1; ; n++) {
            System.out.println((1.5 + n % 3) + \" \" + (5000000 + n) + \" \" + n);
            System.out.flush();
            Thread.sleep(50);
        }
    }
}
";

async fn status(page: &str, token: Option<&str>) -> Option<StatusView> {
    let monitor = Monitor::at(page.parse().unwrap()).unwrap().with_token(token.map(ToOwned::to_owned));
    monitor.status().await.ok()
}

/// Waits until all of these are alive and have stored rows.
async fn until_all_store(page: &str, token: Option<&str>, publishers: &[&str]) {
    let mut last = String::new();
    let stores = async |last: &mut String| {
        let Some(status) = status(page, token).await else { return false };
        *last = format!("{:?}", status.publishers);
        let good = |id: &&str| {
            let view = status.publishers.iter().find(|view| view.id.as_str() == *id);
            view.is_some_and(|view| view.verdict == Verdict::Alive && view.ledger.received >= 10)
        };
        publishers.iter().all(good)
    };
    eventually(&format!("{publishers:?} are stored"), 2 * PATIENCE, async || stores(&mut last).await).await;
}

#[tokio::test]
async fn the_monitor_and_children_in_node_and_java_live_with_the_restrictions_of_its_unit() {
    if !can_confine() || !installed("/usr/bin/node") || !installed("/usr/bin/javac") {
        return;
    }
    let directory = home();
    let here = directory.path();
    std::fs::write(here.join("sensor.js"), NODE).unwrap();
    std::fs::write(here.join("Sensor.java"), JAVA).unwrap();
    let series = here.join("light-1.csv");
    std::fs::copy(fixture("light-1.csv"), &series).unwrap();
    let config = "[[publisher]]\nid = 'csv'\ncsv = 'light-1.csv'\ninterval = '50ms'\n\
                  [[publisher]]\nid = 'node'\nexec = 'node sensor.js'\ninterval = '1s'\n\
                  [[publisher]]\nid = 'java'\nexec = 'java Sensor.java'\ninterval = '1s'\n\
                  [[publisher]]\nid = 'inside'\nexec = 'node sensor.js'\ninterval = '1s'\nrun = 'in-process'\n\
                  [[publisher]]\nid = 'host'\nsystem = true\ninterval = '200ms'\n";
    std::fs::write(here.join("heartwatch.toml"), config).unwrap();
    let program = here.join("heartwatch");
    let web = format!("127.0.0.1:{}", free_port());
    let words = [program.to_str().unwrap(), "run", "--deadline", "20s", "--web", &web, "--mqtt-listen", "127.0.0.1:0"];
    let mut command = confined(&unit("heartwatch"), here, &words);
    let heard = Heard::by(&mut command, here);
    let mut monitor = Program::start(command);
    heard.ready(&mut monitor).await;
    until_all_store(&format!("http://{web}"), None, &["csv", "node", "java", "inside", "host"]).await;
    let said = monitor.stderr();
    assert!(!said.contains("not permitted") && !said.contains("ERROR"), "{said}");

    let children = children_of(monitor.pid());
    assert!(children.len() >= 5, "{children:?}");
    monitor.signal(Signal::TERM);
    assert!(monitor.exit(PATIENCE).await.success());
    crate::support::heartwatch::all_ended(&children).await;
}

#[tokio::test]
async fn a_server_and_an_agent_live_with_the_restrictions_of_their_units() {
    if !can_confine() {
        return;
    }
    let (of_server, of_agent) = (home(), home());
    let program = |home: &TempDir| home.path().join("heartwatch").to_str().unwrap().to_owned();
    let (listen, web) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let path = program(&of_server);
    let words = [path.as_str(), "server", "--listen", &listen, "--web", &web, "--data-dir", "state"];
    let mut command = confined(&unit("heartwatch-server"), of_server.path(), &words);
    let heard = Heard::by(&mut command, of_server.path());
    let mut server = Program::start(command);
    heard.ready(&mut server).await;

    let path = program(&of_agent);
    let words = [path.as_str(), "agent", "--id", "web-1", "--server", &listen, "--data-dir", "state"];
    let mut agent = Program::start(confined(&unit("heartwatch-agent"), of_agent.path(), &words));
    until_all_store(&format!("http://{web}"), None, &["web-1"]).await;
    // a process of another user, seen through /proc, a pidfd and kill(2)
    let said = format!("{}{}", server.stderr(), agent.stderr());
    assert!(!said.contains("not permitted") && !said.contains("ERROR"), "{said}");
    for program in [&mut agent, &mut server] {
        program.signal(Signal::TERM);
        assert!(program.exit(PATIENCE).await.success());
    }
}

/// A root directory into which the instructions of a unit install.
struct Root {
    directory: TempDir,
    unit: String,
}

impl Root {
    /// Follows the instructions at the beginning of a unit; what speaks to systemd is left out. The answer is what is left:
    /// what is to be done once it runs.
    fn install(name: &str) -> (Self, Vec<String>) {
        let directory = home();
        let text = std::fs::read_to_string(unit(name)).unwrap();
        let mut steps: Vec<String> =
            text.lines().filter_map(|line| line.strip_prefix("#     ")).map(ToOwned::to_owned).collect();
        assert!(steps.len() >= 5, "{steps:?}");
        let start = steps.iter().position(|step| step.starts_with("systemctl enable --now")).expect("it is started");
        let afterwards = steps.split_off(start + 1);
        let root = Self { directory, unit: String::new() };
        std::fs::create_dir_all(root.path("/usr/local/bin")).unwrap();
        for step in steps.iter().filter(|step| !step.starts_with("systemctl ")) {
            let step = step.replace("target/release/heartwatch", PROGRAM);
            let done = root.shell(&step);
            assert!(done.status.success(), "{name}: {step}: {done:?}");
        }
        let installed = std::fs::read_to_string(root.path(&format!("/etc/systemd/system/{name}.service"))).unwrap();
        (Self { unit: installed, ..root }, afterwards)
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.directory.path().join(absolute.trim_start_matches('/'))
    }

    /// A text whose absolute paths begin in this root.
    fn moved(&self, text: &str) -> String {
        let root = self.directory.path().to_str().unwrap();
        ["/usr/local/", "/etc/", "/var/lib/", "/run/credentials/"]
            .iter()
            .fold(text.to_owned(), |text, path| text.replace(path, &format!("{root}{path}")))
    }

    fn shell(&self, step: &str) -> std::process::Output {
        let path = format!("{}:{}", self.path("/usr/local/bin").display(), std::env::var("PATH").unwrap());
        let mut shell = command_of("sh", Path::new(env!("CARGO_MANIFEST_DIR")));
        shell.args(["-c", &self.moved(step)]).env("PATH", path).output().unwrap()
    }

    /// Does what systemd does at a start: the environment, credentials, the state's directory, and ExecStart.
    fn command(&self, name: &str, more: &[(&str, String)]) -> Command {
        let credentials = self.path(&format!("/run/credentials/{name}.service"));
        std::fs::create_dir_all(&credentials).unwrap();
        for credential in values(&self.unit, "LoadCredential") {
            let (id, from) = credential.split_once(':').unwrap();
            let copy = credentials.join(id);
            std::fs::copy(self.path(from), &copy).unwrap_or_else(|error| panic!("{from}: {error}"));
            std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o400)).unwrap();
            give(&copy);
        }
        let state = self.path(&format!("/var/lib/{}", values(&self.unit, "StateDirectory")[0]));
        std::fs::create_dir_all(&state).unwrap();
        give(&state);
        let mut variables = BTreeMap::new();
        let mut set = |line: &str| {
            let (variable, value) = line.split_once('=').unwrap();
            variables.insert(variable.to_owned(), value.to_owned());
        };
        values(&self.unit, "Environment").iter().for_each(|line| set(line));
        for file in values(&self.unit, "EnvironmentFile") {
            let text = match std::fs::read_to_string(self.path(file.trim_start_matches('-'))) {
                Ok(text) => text,
                Err(_) if file.starts_with('-') => String::new(),
                Err(error) => panic!("{file}: {error}"),
            };
            text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).for_each(&mut set);
        }
        let start = values(&self.unit, "ExecStart").remove(0).replace("%H", "this-host");
        let start = variables.iter().fold(start, |start, (name, value)| start.replace(&format!("${name}"), value));
        let start = self.moved(&start);
        let words: Vec<&str> = start.split_whitespace().collect();
        let mut command = confined(&unit(name), &state, &words);
        command.envs(variables.iter().map(|(name, value)| (name, self.moved(value))));
        command.envs(more.iter().map(|(name, value)| (name, value)));
        command
    }
}

#[tokio::test]
async fn the_instructions_of_the_monitors_unit_work_when_they_are_followed() {
    if !can_confine() || !installed("/usr/bin/openssl") {
        return;
    }
    let (root, afterwards) = Root::install("heartwatch");
    // as a user would: other ports than those of whoever runs here already
    let page = format!("127.0.0.1:{}", free_port());
    let lines = format!("HEARTWATCH_WEB={page}\nHEARTWATCH_MQTT_LISTEN=127.0.0.1:{}\n", free_port());
    std::fs::write(root.path("/etc/heartwatch/environment"), lines).unwrap();
    let mut command = root.command("heartwatch", &[]);
    let heard = Heard::by(&mut command, root.directory.path());
    let mut monitor = Program::start(command);
    heard.ready(&mut monitor).await;
    assert!(status(&format!("http://{page}"), None).await.is_none(), "the page asks for the token");
    assert_eq!(afterwards, ["heartwatch status --token-file /etc/heartwatch/web-token"]);
    let asked = root.shell(&format!("HEARTWATCH_URL=http://{page} {}", afterwards[0]));
    assert!(asked.status.success(), "{asked:?}");
    let state = root.path("/var/lib/heartwatch");
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(state.join("journal.sqlite").exists());
    monitor.signal(Signal::TERM);
    assert!(monitor.exit(PATIENCE).await.success(), "{}", monitor.stderr());
}

#[tokio::test]
async fn the_instructions_of_the_servers_and_the_agents_units_work_when_they_are_followed() {
    if !can_confine() {
        return;
    }
    let (root, _) = Root::install("heartwatch-server");
    let (listen, web) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let more = [("HEARTWATCH_SERVER_LISTEN", listen.clone()), ("HEARTWATCH_WEB", web.clone())];
    let mut command = root.command("heartwatch-server", &more);
    let heard = Heard::by(&mut command, root.directory.path());
    let mut server = Program::start(command);
    heard.ready(&mut server).await;

    let (root, _) = Root::install("heartwatch-agent");
    let file = root.path("/etc/heartwatch/agent.env");
    let text = std::fs::read_to_string(&file).unwrap();
    // to a server instead of a broker, as the file says
    let text = text.replace("\nHEARTWATCH_MQTT=", "\n# HEARTWATCH_MQTT=");
    std::fs::write(&file, format!("{text}AGENT_OPTIONS=--server {listen}\n")).unwrap();
    let agent = Program::start(root.command("heartwatch-agent", &[]));
    until_all_store(&format!("http://{web}"), None, &["this-host"]).await;
    drop(agent);
}
