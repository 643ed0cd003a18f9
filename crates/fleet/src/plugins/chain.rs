//! The plugins in their order, and what becomes of a reading that passes them all.

use heartwatch_ports::ScriptFile;
use std::collections::BTreeMap;

use super::{Decisions, Level, Now, Plugin, PluginConfig, PluginError, Sample, build, built_in};

/// Failures in a row after which a plugin is left out until it is loaded again.
const FAILURES_IN_A_ROW_MAX: u32 = 10;
/// Most readings that one reading may become.
const FAN_OUT_MAX: usize = 1_000;

/// How one plugin of the chain does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainReport {
    /// As the configuration names it.
    pub name: String,
    /// `running`, or why it is skipped.
    pub state: String,
    /// Readings at which it failed since it was loaded.
    pub failures: u64,
}

struct Step {
    name: String,
    plugin: Result<Box<dyn Plugin>, String>,
    failures: u64,
    failures_in_a_row: u32,
}

#[derive(Default)]
/// The plugins that each reading of an agent passes, in their order.
pub struct Chain {
    steps: Vec<Step>,
}

impl Chain {
    /// Builds the plugins that are named, in this order, and behind them the user's own that are not. One that
    /// cannot be built is skipped and stands in the [report](Self::report).
    #[must_use]
    pub fn build(names: &[String], configs: &BTreeMap<String, PluginConfig>, scripts: &[ScriptFile]) -> Self {
        let stem = |name: &str| name.strip_prefix("plugins.").unwrap_or(name).to_owned();
        let mut steps: Vec<Step> = names.iter().map(|name| Step::new(name, configs, scripts)).collect();
        let own = scripts.iter().filter(|script| !names.iter().any(|name| stem(name) == script.name));
        steps.extend(own.map(|script| Step::new(&script.name, configs, scripts)));
        Self { steps }
    }

    /// Sends a reading through all of them.
    pub fn run(&mut self, sample: Sample, now: Now) -> Decisions {
        self.run_from(0, Decisions::passing(sample), now)
    }

    /// The chain ends: what its plugins hold back goes on, through those behind each.
    pub fn finalize(&mut self, now: Now) -> Decisions {
        let mut all = Decisions::default();
        for index in 0..self.steps.len() {
            let Some(Step { plugin: Ok(plugin), .. }) = self.steps.get_mut(index) else { continue };
            let last = plugin.finalize(now);
            let gone_on = self.run_from(index + 1, last, now);
            all.pass.extend(gone_on.pass);
            all.events.extend(gone_on.events);
            all.lines.extend(gone_on.lines);
        }
        all
    }

    /// How each plugin does, in their order.
    #[must_use]
    pub fn report(&self) -> Vec<ChainReport> {
        let report = |step: &Step| ChainReport {
            name: step.name.clone(),
            state: step.plugin.as_ref().err().cloned().unwrap_or_else(|| "running".to_owned()),
            failures: step.failures,
        };
        self.steps.iter().map(report).collect()
    }

    fn run_from(&mut self, first: usize, mut decisions: Decisions, now: Now) -> Decisions {
        for step in self.steps.iter_mut().skip(first) {
            for sample in std::mem::take(&mut decisions.pass) {
                step.run(sample, now, &mut decisions);
            }
            if decisions.pass.len() > FAN_OUT_MAX {
                let count = decisions.pass.len();
                decisions.pass.truncate(FAN_OUT_MAX);
                let line = format!("plugin {}: {count} readings of one, {FAN_OUT_MAX} are kept", step.name);
                decisions.lines.push((Level::Warning, line));
            }
        }
        decisions
    }
}

impl Step {
    fn new(name: &str, configs: &BTreeMap<String, PluginConfig>, scripts: &[ScriptFile]) -> Self {
        let none = PluginConfig::new();
        let plugin = match built_in(name) {
            Some(class) => build(class, configs.get(class).or_else(|| configs.get(name)).unwrap_or(&none)),
            None => own(name, configs, scripts),
        };
        let plugin = plugin.map_err(|error| error.to_string());
        Self { name: name.to_owned(), plugin, failures: 0, failures_in_a_row: 0 }
    }

    fn run(&mut self, sample: Sample, now: Now, decisions: &mut Decisions) {
        let Ok(plugin) = &mut self.plugin else { return decisions.pass.push(sample) };
        match plugin.run(sample.clone(), now) {
            Ok(decided) => {
                self.failures_in_a_row = 0;
                decisions.pass.extend(decided.pass);
                decisions.events.extend(decided.events);
                decisions.lines.extend(decided.lines);
            }
            Err(failure) => {
                self.failures += 1;
                self.failures_in_a_row += 1;
                decisions.pass.push(sample);
                if self.failures_in_a_row == 1 {
                    decisions.lines.push((Level::Warning, format!("plugin {} failed: {failure}", self.name)));
                }
                if self.failures_in_a_row >= FAILURES_IN_A_ROW_MAX {
                    let why = format!("left out after {FAILURES_IN_A_ROW_MAX} failures in a row: {failure}");
                    decisions.lines.push((Level::Warning, format!("plugin {} is {why}", self.name)));
                    self.plugin = Err(why);
                }
            }
        }
    }
}

fn own(
    name: &str,
    configs: &BTreeMap<String, PluginConfig>,
    scripts: &[ScriptFile],
) -> Result<Box<dyn Plugin>, PluginError> {
    let stem = name.strip_prefix("plugins.").unwrap_or(name);
    let Some(script) = scripts.iter().find(|script| script.name == stem) else {
        let known = super::BUILT_IN.iter().map(|(class, _)| *class);
        let known: Vec<_> = known.chain(scripts.iter().map(|script| script.name.as_str())).collect();
        return Err(PluginError::Unknown(name.to_owned(), known.join(", ")));
    };
    let text = script.text.as_ref().map_err(|reason| PluginError::Script(reason.clone()))?;
    let none = PluginConfig::new();
    let config = configs.get(stem).or_else(|| configs.get(name)).unwrap_or(&none);
    script_plugin(stem, text, config)
}

#[cfg(feature = "scripts")]
fn script_plugin(name: &str, text: &str, config: &PluginConfig) -> Result<Box<dyn Plugin>, PluginError> {
    let script = super::script::Script::load(name, text, config, super::script::ScriptLimits::default())?;
    Ok(Box::new(script))
}

#[cfg(not(feature = "scripts"))]
fn script_plugin(_: &str, _: &str, _: &PluginConfig) -> Result<Box<dyn Plugin>, PluginError> {
    Err(PluginError::Script("this program was built without the feature 'scripts'".to_owned()))
}
