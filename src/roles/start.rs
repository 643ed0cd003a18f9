//! From a parsed command line to the role that it asks for: its settings, its log, its signals, its thread.

use std::path::Path;

use anyhow::Context as _;
use tracing::level_filters::LevelFilter;

use super::cli::{Command, OtherDemo};
use super::{
    agent, analysis, backtest, backup, check, client, completions, demo, doctor, export, init, publish, reconcile, run,
    server, top, user_lines,
};
use crate::config::{Layers, Loaded, Overrides, load};
use heartwatch_lab::args::Bench;
use heartwatch_system::log::{Time, log};
use heartwatch_system::private_files::{create_private_files, private_directory, readable_by_everybody};
use heartwatch_system::{descendants, signals};

/// Does what a command line says, from its configuration to its end; the exit code of what ended as it should.
///
/// It is no part of `main.rs`, where the compiler would make all of each role, and what it shares with the others, once
/// more: a fifth of the time that this crate's code takes.
///
/// # Errors
/// [`Diagnostics`](crate::config::Diagnostics) for a configuration that is wrong; otherwise what failed.
pub fn start(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Demo(args) => {
            log(LevelFilter::ERROR, Time::Told);
            let requests = signals::listen()?;
            match (&args.other, args.scenario) {
                (Some(OtherDemo::Cluster(args)), _) => on_this_thread(heartwatch_lab::cluster::cluster(args, requests)),
                (None, Some(scenario)) => on_this_thread(demo::demo(&args, scenario, requests)),
                (None, None) => anyhow::bail!("which scenario? 1, 2, 3 or cluster"),
            }
        }
        Command::Run(args) => {
            let loaded = load(&Layers::of_this_process(args.config.clone(), args.overrides()))?;
            let log_level = log(loaded.settings.log_level, Time::Told);
            keep_private(&loaded.settings.data_dir)?;
            let requests = signals::listen()?;
            with_descendants(run::run(&args, loaded, requests, |level| log_level.set(level)))
        }
        Command::Publish(args) => {
            let Loaded { settings, notes } = load(&Layers::without_file(args.overrides()))?;
            log(settings.log_level, if args.as_child { Time::LeftOut } else { Time::Told });
            // the monitor has said them already
            tell(if args.as_child { Vec::new() } else { notes });
            keep_private(&settings.data_dir)?;
            let requests = signals::listen()?;
            with_descendants(publish::publish(&args, &settings, requests))
        }
        Command::Server(args) => match &args.ask {
            Some(line) => asking(server::ask(line)),
            None => {
                let layers = Layers { file: args.config.clone(), ..Layers::without_file(args.overrides()) };
                let Loaded { settings, notes } = load(&layers)?;
                let settings = settings.for_server();
                log(settings.log_level, Time::Told);
                tell(notes);
                tell(args.key_file.as_deref().and_then(readable_by_everybody).into_iter().collect());
                keep_private(&settings.data_dir)?;
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
            let Loaded { settings, notes } = load(&Layers::without_file(args.overrides()))?;
            log(settings.log_level, Time::Told);
            tell(notes);
            keep_private(&settings.data_dir)?;
            let requests = signals::listen()?;
            on_this_thread(agent::agent(&args, &settings, requests))
        }
        Command::Status(args) => asking(client::status(&args)),
        Command::Top(args) => {
            log(LevelFilter::OFF, Time::Told);
            on_this_thread(top::top(&args))
        }
        Command::Explain(args) => asking(client::explain(&args)),
        Command::Events(args) => asking(client::events(&args)),
        Command::Maintenance(args) => asking(client::maintenance(&args)),
        Command::Ledger(args) if args.reconcile => {
            let Loaded { settings, .. } = load(&Layers::of_this_process(args.config.clone(), args.overrides()))?;
            asking(reconcile::reconcile(&args, &settings))
        }
        Command::Ledger(args) => asking(client::ledger(&args.ask)),
        Command::Export(args) => {
            let Loaded { settings, .. } = load(&Layers::without_file(args.overrides()))?;
            log(LevelFilter::WARN, Time::Told);
            on_this_thread(export::export(&args, &settings))
        }
        Command::Doctor(args) => asking(doctor::doctor(&args)),
        Command::Backup(args) => {
            let flags = Overrides { data_dir: args.data_dir.clone(), ..Overrides::default() };
            let Loaded { settings, .. } = load(&Layers::of_this_process(args.config.clone(), flags))?;
            create_private_files();
            backup::backup(&args, &settings)
        }
        Command::Restore(args) => {
            let flags = Overrides { data_dir: args.data_dir.clone(), ..Overrides::default() };
            let Loaded { settings, .. } = load(&Layers::of_this_process(args.config.clone(), flags))?;
            create_private_files();
            backup::restore(&args, &settings)
        }
        Command::Init(args) => init::init(&args),
        Command::WebUser(args) => user_lines::print(&args.name, args.role),
        Command::MqttUser(args) => user_lines::print(&args.name, args.role),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => completions::man(&args),
        Command::Bench(args) => {
            let level = match args.bench {
                // The watchdog's table is measured in this process, and would tell each of 100,000 verdicts.
                Bench::Watch(_) => LevelFilter::ERROR,
                _ => LevelFilter::WARN,
            };
            log(level, Time::Told);
            let requests = signals::listen()?;
            on_this_thread(heartwatch_lab::bench::bench(&args, requests))
        }
        Command::Backtest(args) => {
            let flags = Overrides { data_dir: args.data_dir.clone(), ..Overrides::default() };
            let Loaded { settings, .. } = load(&Layers::of_this_process(args.config.clone(), flags))?;
            backtest::backtest(&args, &settings)
        }
        Command::Check(args) => Ok(check::check(&args, &mut anstream::stdout())?),
        Command::Prove(args) => {
            log(LevelFilter::ERROR, Time::Told);
            let requests = signals::listen()?;
            on_this_thread(heartwatch_lab::prove::prove(&args, requests))
        }
        Command::FaultyPublisher(args) => {
            log(LevelFilter::ERROR, Time::Told);
            heartwatch_lab::prove::faulty::publish_beside_main(args)
        }
    }
}

/// What is odd but not wrong.
fn tell(notes: Vec<String>) {
    for note in notes {
        tracing::warn!("{note}");
    }
}

/// Makes the data directory, and keeps others out of it and of all files that are made from now on.
fn keep_private(data_dir: &Path) -> anyhow::Result<()> {
    create_private_files();
    let notes = private_directory(data_dir)
        .with_context(|| format!("cannot make the data directory {}", data_dir.display()))?;
    tell(notes);
    Ok(())
}

/// A role that starts programs: whatever they leave behind ends with it.
fn with_descendants(role: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    on_this_thread(async {
        if let Err(error) = descendants::adopt_orphans() {
            tracing::warn!(%error, "processes that leave their parent and their environment may outlive us");
        }
        let collecting = actix_rt::spawn(descendants::collect_orphans());
        let code = role.await;
        collecting.abort();
        descendants::end_all().await;
        code
    })
}

fn asking(question: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    log(LevelFilter::WARN, Time::Told);
    on_this_thread(question)
}

/// The actors run on the main thread, which lives as long as the program: children are tied to it.
pub(super) fn on_this_thread(role: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    actix_rt::System::new().block_on(role)
}
