use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, kill_process};
use tokio::time::Instant;

use super::*;

/// A real process, ended and collected at the end of its test.
struct Real(Child);

impl Real {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    fn sleeper() -> Self {
        Self::start(Command::new("sleep").arg("600"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn signal(&self, signal: Signal) {
        kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn table() -> HostProcesses {
    HostProcesses::new(Clock::start())
}

/// Looks until the state is the expected one, at most five seconds.
fn becomes(table: &HostProcesses, identity: &ProcessIdentity, expected: &ProcessState) -> ProbeAnswer {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let answer = table.look(identity);
        if answer.state == *expected {
            return answer;
        }
        assert!(Instant::now() < deadline, "still {:?}, not {expected:?}", answer.state);
        std::thread::yield_now();
    }
}

#[test]
fn a_working_process_runs_and_uses_cpu_time() {
    let table = table();
    let busy = Real::start(Command::new("sh").args(["-c", "while :; do :; done"]));
    let identity = table.identity(busy.pid()).unwrap();
    let earlier = becomes(&table, &identity, &ProcessState::Running);
    let deadline = Instant::now() + Duration::from_secs(5);
    while table.look(&identity).cpu_time <= earlier.cpu_time {
        assert!(Instant::now() < deadline, "no CPU time is seen");
    }
    assert!(earlier.looked_at.as_nanos() > 0);
}

#[test]
fn a_waiting_process_sleeps_and_a_stopped_one_is_stopped() {
    let table = table();
    let sleeper = Real::sleeper();
    let identity = table.identity(sleeper.pid()).unwrap();
    becomes(&table, &identity, &ProcessState::Sleeping);
    sleeper.signal(Signal::STOP);
    becomes(&table, &identity, &ProcessState::Stopped);
    sleeper.signal(Signal::CONT);
    becomes(&table, &identity, &ProcessState::Sleeping);
}

#[test]
fn a_killed_process_is_a_zombie_until_collected_and_then_gone() {
    let table = table();
    let mut sleeper = Real::sleeper();
    let identity = table.identity(sleeper.pid()).unwrap();
    sleeper.signal(Signal::KILL);
    becomes(&table, &identity, &ProcessState::Zombie);
    sleeper.0.wait().unwrap();
    becomes(&table, &identity, &ProcessState::Gone);
    assert_eq!(table.identity(identity.pid), None);
}

/// Its main thread ends at once; another one waits for a line, works until the next one comes, and ends with the third.
#[cfg(target_os = "linux")]
const WITHOUT_MAIN_THREAD: &str = r"
import ctypes, sys, threading
def work():
    sys.stdin.readline()
    goes_on = [True]
    def busy():
        while goes_on[0]: sum(range(100000))
    worker = threading.Thread(target=busy)
    worker.start()
    sys.stdin.readline()
    goes_on[0] = False
    worker.join()
    sys.stdin.readline()
threading.Thread(target=work).start()
ctypes.CDLL(None).pthread_exit(None)
";

#[cfg(target_os = "linux")]
#[test]
fn a_process_whose_main_thread_has_ended_lives_as_long_as_another_one_does() {
    use std::io::Write as _;
    let started = Command::new("python3").args(["-c", WITHOUT_MAIN_THREAD]).stdin(Stdio::piped()).spawn();
    let mut program = match started {
        Ok(child) => Real(child),
        Err(error) if std::env::var_os("HEARTWATCH_REQUIRE_SERVICES").is_some() => panic!("python3: {error}"),
        Err(error) => {
            eprintln!("skipped: no python3 here: {error}");
            return;
        }
    };
    let table = table();
    let identity = table.identity(program.pid()).unwrap();
    let leader = std::path::PathBuf::from(format!("/proc/{}/stat", program.pid()));
    let deadline = Instant::now() + Duration::from_secs(30);
    while !std::fs::read_to_string(&leader).unwrap().contains(") Z ") {
        assert!(Instant::now() < deadline, "its main thread does not end");
        std::thread::yield_now();
    }
    let mut orders = program.0.stdin.take().unwrap();
    let waits = becomes(&table, &identity, &ProcessState::Sleeping);
    assert_eq!(becomes(&table, &identity, &ProcessState::Sleeping).cpu_time, waits.cpu_time, "it does nothing");
    orders.write_all(b"\n").unwrap();
    becomes(&table, &identity, &ProcessState::Running);
    // it is ready to run before it has run
    let deadline = Instant::now() + Duration::from_secs(5);
    while table.look(&identity).cpu_time <= waits.cpu_time {
        assert!(Instant::now() < deadline, "it uses no CPU time");
        std::thread::yield_now();
    }
    orders.write_all(b"\n").unwrap();
    becomes(&table, &identity, &ProcessState::Sleeping);
    program.signal(Signal::STOP);
    becomes(&table, &identity, &ProcessState::Stopped);
    program.signal(Signal::CONT);
    becomes(&table, &identity, &ProcessState::Sleeping);
    orders.write_all(b"\n").unwrap();
    becomes(&table, &identity, &ProcessState::Zombie);
}

#[test]
fn a_pid_that_is_used_again_is_replaced() {
    let table = table();
    let sleeper = Real::sleeper();
    let identity = table.identity(sleeper.pid()).unwrap();
    let by = ProcessState::Replaced { by: "sleep".to_owned() };
    let earlier = ProcessIdentity { start_ticks: identity.start_ticks - 1, ..identity.clone() };
    becomes(&table, &earlier, &by);
    let before_the_reboot = ProcessIdentity { boot_id: "another".into(), ..identity };
    becomes(&table, &before_the_reboot, &by);
}

#[test]
fn a_pid_that_cannot_be_is_gone() {
    let table = table();
    for pid in [0, u32::MAX, i32::MAX as u32] {
        let identity = ProcessIdentity { pid, ..table.own_identity().unwrap() };
        assert_eq!(table.look(&identity).state, ProcessState::Gone, "{pid}");
    }
}

#[test]
fn two_processes_have_two_identities_and_ours_is_stable() {
    let table = table();
    let own = table.own_identity().unwrap();
    assert_eq!((own.pid, table.own_identity()), (std::process::id(), Some(own.clone())));
    let sleeper = Real::sleeper();
    let other = table.identity(sleeper.pid()).unwrap();
    assert!(other.start_ticks >= own.start_ticks && other.boot_id == own.boot_id);
}

#[test]
fn a_process_of_another_user_can_be_looked_at() {
    let table = table();
    let sleeper;
    let pid = if rustix::process::geteuid().is_root() {
        sleeper = Real::start(Command::new("sleep").arg("600").uid(65_534));
        sleeper.pid()
    } else {
        1
    };
    let identity = table.identity(pid).unwrap();
    becomes(&table, &identity, &ProcessState::Sleeping);
}

#[cfg(target_os = "linux")]
#[test]
fn an_entry_of_proc_that_is_hidden_is_not_permitted_rather_than_gone() {
    let empty = tempfile::tempdir().unwrap();
    let table = HostProcesses { host: Host::with_proc(empty.path()), clock: Clock::start() };
    let mut sleeper = Real::sleeper();
    let identity = HostProcesses::new(Clock::start()).identity(sleeper.pid()).unwrap();
    assert_eq!(table.look(&identity).state, ProcessState::NotPermitted);
    let _ = sleeper.0.kill();
    sleeper.0.wait().unwrap();
    assert_eq!(table.look(&identity).state, ProcessState::Gone);
}

/// The name of an environment variable that makes this test its own helper, inside a mount namespace.
const HIDDEN_PID: &str = "HEARTWATCH_TEST_HIDDEN_PID";

#[cfg(target_os = "linux")]
#[test]
fn with_hidepid_another_users_process_is_not_permitted() {
    if let Ok(pid) = std::env::var(HIDDEN_PID) {
        let own = table().own_identity().unwrap();
        let hidden = ProcessIdentity { pid: pid.parse().unwrap(), ..own };
        assert_eq!(table().look(&hidden).state, ProcessState::NotPermitted);
        println!("looked at the hidden process");
        return;
    }
    let sleeper = Real::sleeper();
    let script = "mount -t proc -o hidepid=2 proc /proc && \
                  exec setpriv --reuid 65534 --regid 65534 --clear-groups -- \"$0\" --exact \"$1\" --nocapture";
    let name = "adapters::process::tests::with_hidepid_another_users_process_is_not_permitted";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(HIDDEN_PID, sleeper.pid().to_string())
        .output();
    match output {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("looked at the hidden process") => {
            assert!(output.status.success());
        }
        Ok(output) if output.status.code() == Some(101) => {
            panic!("{}", String::from_utf8_lossy(&output.stdout));
        }
        Ok(output) => eprintln!("skipped: no hidepid here: {}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => eprintln!("skipped: no unshare here: {error}"),
    }
}

#[test]
fn sysinfo_alone_tells_the_states_too() {
    let host = portable::Host::new();
    let mut sleeper = Real::sleeper();
    let identity = host.identity(sleeper.pid()).unwrap();
    sleeper.signal(Signal::STOP);
    let deadline = Instant::now() + Duration::from_secs(5);
    while host.look(&identity).0 != ProcessState::Stopped {
        assert!(Instant::now() < deadline);
    }
    let earlier = ProcessIdentity { start_ticks: identity.start_ticks - 1, ..identity.clone() };
    assert_eq!(host.look(&earlier).0, ProcessState::Replaced { by: "sleep".to_owned() });
    let _ = sleeper.0.kill();
    sleeper.0.wait().unwrap();
    assert_eq!(host.look(&identity).0, ProcessState::Gone);
}

/// A program in a PID namespace of its own, as in a container; none where this user may not make one.
#[cfg(target_os = "linux")]
fn contained(script: &str) -> Option<Real> {
    let can = Command::new("unshare").args(["--pid", "--fork", "true"]).status().is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped: a PID namespace needs root");
        return None;
    }
    let unshare = ["--pid", "--fork", "--kill-child", "sh", "-c", script];
    Some(Real::start(Command::new("unshare").args(unshare)))
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_process_in_a_container_is_found_by_its_number_there() {
    let Some(unshare) = contained("sleep 600 & wait") else { return };
    let table = table();
    let host_pid = |parent: u32| {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
            if let Some(child) = children.split_whitespace().next() {
                return child.parse::<u32>().unwrap();
            }
            assert!(Instant::now() < deadline, "it starts nothing");
            std::thread::yield_now();
        }
    };
    let first = host_pid(unshare.pid());
    let sleeper = host_pid(first);
    let link = std::fs::read_link(format!("/proc/{sleeper}/ns/pid")).unwrap();
    let namespace = link.to_string_lossy().trim_start_matches("pid:[").trim_end_matches(']').to_owned();
    // as the sleeper would name itself: it is the second one that was started there
    let seen = table.identity(sleeper).unwrap();
    let named =
        ProcessIdentity { pid: 2, boot_id: format!("{}/{namespace}", seen.boot_id).as_str().into(), ..seen.clone() };
    let answer = becomes(&table, &named, &ProcessState::Sleeping);
    assert_eq!(answer.host_pid, Some(sleeper));
    assert!(answer.describe(2).contains(&format!("PID 2 of its container (PID {sleeper} on the host)")));
    let other = ProcessIdentity { start_ticks: named.start_ticks + 1, ..named.clone() };
    assert_eq!(table.look(&other).state, ProcessState::Replaced { by: "sleep".to_owned() });
    assert!(table.await_exit(other).await.is_err());
    let end = tokio::spawn(table.await_exit(named.clone()));
    let deadline = Instant::now() + Duration::from_secs(5);
    let is_awaited = || {
        let files = std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
        let mut files = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        files.any(|text| text.lines().any(|line| line == format!("Pid:\t{sleeper}")))
    };
    while !is_awaited() {
        assert!(Instant::now() < deadline, "nobody has a pidfd of it");
        tokio::task::yield_now().await;
    }
    kill_process(rustix::process::Pid::from_raw(i32::try_from(sleeper).unwrap()).unwrap(), Signal::STOP).unwrap();
    becomes(&table, &named, &ProcessState::Stopped);
    kill_process(rustix::process::Pid::from_raw(i32::try_from(sleeper).unwrap()).unwrap(), Signal::KILL).unwrap();
    tokio::time::timeout(Duration::from_secs(5), end).await.unwrap().unwrap().unwrap();
    becomes(&table, &named, &ProcessState::Gone);
    drop(unshare);
    becomes(&table, &named, &ProcessState::Gone);
}
