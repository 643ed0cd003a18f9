//! The command line → configuration → role. The only place that knows exit codes.

use std::process::ExitCode;

use clap::Parser;
use heartwatch::config::{Diagnostics, Layers, Loaded, Overrides, load};
use heartwatch::roles::check::{EXIT_CONFIG, check};
use heartwatch::roles::cli::{Cli, Command, OtherDemo};
use heartwatch::roles::{
    agent, analysis, ask, backtest, bench, cluster, demo, export, manual, prove, publish, reconcile, run, server, top,
};
use heartwatch::runtime::signals;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

/// The exit code of something that failed.
const EXIT_FAILED: u8 = 1;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match start(cli.command) {
        Ok(code) => code,
        Err(error) if error.is::<Diagnostics>() => {
            eprintln!("{error}");
            EXIT_CONFIG
        }
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => {
            eprintln!("heartwatch: {}", said_once(&error));
            EXIT_FAILED
        }
    };
    ExitCode::from(code)
}

/// The error with its causes, without those that it has already told in its own words.
fn said_once(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut said, cause| {
        let cause = cause.to_string();
        if !said.contains(&cause) {
            if !said.is_empty() {
                said.push_str(": ");
            }
            said.push_str(&cause);
        }
        said
    })
}

/// A reader that has read enough (`heartwatch status | head -1`) is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn start(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Demo(args) => {
            log(LevelFilter::ERROR, Time::Told);
            let requests = signals::listen()?;
            match (&args.other, args.scenario) {
                (Some(OtherDemo::Cluster(args)), _) => on_this_thread(cluster::cluster(args, requests)),
                (None, Some(scenario)) => on_this_thread(demo::demo(&args, scenario, requests)),
                (None, None) => anyhow::bail!("which scenario? 1, 2, 3 or cluster"),
            }
        }
        Command::Run(args) => {
            let loaded = load(&Layers::of_this_process(args.config.clone(), args.overrides()))?;
            let log_level = log(loaded.settings.log.level, Time::Told);
            let requests = signals::listen()?;
            on_this_thread(run::run(&args, loaded, requests, |level| log_level.set(level)))
        }
        Command::Publish(args) => {
            let Loaded { settings, .. } = load(&Layers::without_file(args.overrides()))?;
            log(settings.log.level, if args.as_child { Time::LeftOut } else { Time::Told });
            let requests = signals::listen()?;
            on_this_thread(publish::publish(&args, &settings, requests))
        }
        Command::Server(args) => match &args.ask {
            Some(line) => asking(server::ask(line)),
            None => {
                let layers = Layers { file: args.config.clone(), ..Layers::without_file(args.overrides()) };
                let settings = load(&layers)?.settings.for_server();
                log(settings.log.level, Time::Told);
                let requests = signals::listen()?;
                on_this_thread(server::server(&args, &settings, requests))
            }
        },
        Command::Analysis(args) => {
            log(LevelFilter::WARN, Time::Told);
            let requests = signals::listen()?;
            on_this_thread(analysis::analysis(&args, requests))
        }
        Command::Agent(args) => {
            let Loaded { settings, .. } = load(&Layers::without_file(args.overrides()))?;
            log(settings.log.level, Time::Told);
            let requests = signals::listen()?;
            on_this_thread(agent::agent(&args, &settings, requests))
        }
        Command::Status(args) => asking(ask::status(&args)),
        Command::Top(args) => {
            log(LevelFilter::OFF, Time::Told);
            on_this_thread(top::top(&args))
        }
        Command::Explain(args) => asking(ask::explain(&args)),
        Command::Events(args) => asking(ask::events(&args)),
        Command::Maintenance(args) => asking(ask::maintenance(&args)),
        Command::Ledger(args) if args.reconcile => {
            let Loaded { settings, .. } = load(&Layers::of_this_process(args.config.clone(), args.overrides()))?;
            asking(reconcile::reconcile(&args, &settings))
        }
        Command::Ledger(args) => asking(ask::ledger(&args.ask)),
        Command::Export(args) => {
            let Loaded { settings, .. } = load(&Layers::without_file(args.overrides()))?;
            log(LevelFilter::WARN, Time::Told);
            on_this_thread(export::export(&args, &settings))
        }
        Command::WebUser(args) => manual::web_user(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
        Command::Bench(args) => asking(bench::bench(&args)),
        Command::Backtest(args) => {
            let flags = Overrides { data_dir: args.data_dir.clone(), ..Overrides::default() };
            let Loaded { settings, .. } = load(&Layers::of_this_process(args.config.clone(), flags))?;
            backtest::backtest(&args, &settings)
        }
        Command::Check(args) => Ok(check(&args, &mut anstream::stdout())?),
        Command::Prove(args) => {
            log(LevelFilter::ERROR, Time::Told);
            let requests = signals::listen()?;
            on_this_thread(prove::prove(&args, requests))
        }
        Command::FaultyPublisher(args) => {
            log(LevelFilter::ERROR, Time::Told);
            on_this_thread(prove::faulty::publish(&args))
        }
    }
}

fn asking(question: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    log(LevelFilter::WARN, Time::Told);
    on_this_thread(question)
}

/// The actors run on the main thread, which lives as long as the program: children are tied to it.
fn on_this_thread(role: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    actix_rt::System::new().block_on(role)
}

/// Whether a log line says when.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Time {
    Told,
    /// Whoever reads it (the monitor, of its children) notes the time itself.
    LeftOut,
}

/// Logs to standard error; `RUST_LOG` says more, or less. The embedded broker's own words and the
/// HTTP client's are left out unless asked for.
///
/// Returns what changes the level from then on.
fn log(level: LevelFilter, time: Time) -> LogLevel {
    let to_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let (filter_layer, handle) = reload::Layer::new(filter(level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(to_terminal).with_target(false);
    let lines = match time {
        Time::Told => lines.boxed(),
        Time::LeftOut => lines.without_time().boxed(),
    };
    tracing_subscriber::registry().with(filter_layer).with(lines).init();
    LogLevel(handle)
}

/// What changes how much is logged, while it is.
struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    fn set(&self, level: LevelFilter) {
        if let Err(error) = self.0.reload(filter(level)) {
            tracing::error!(%error, "the log's level was not changed");
        }
    }
}

fn filter(level: LevelFilter) -> EnvFilter {
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let quiet = [
        "rumqttd=off",
        "rdkafka=off",
        "librdkafka=off",
        "rumqttc=off",
        "hyper=warn",
        "hyper_util=warn",
        "reqwest=warn",
        "actix_server=warn",
    ];
    match std::env::var("RUST_LOG") {
        Ok(asked) if !asked.is_empty() => filter,
        _ => quiet.iter().filter_map(|directive| directive.parse().ok()).fold(filter, EnvFilter::add_directive),
    }
}
