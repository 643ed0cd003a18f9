//! A plugin that a user wrote: a script in [rhai](https://rhai.rs), run with limits on its work, its time and
//! what it may hold. It sees its readings and its configuration and nothing else: no files, no network, no
//! other scripts. How to write one: `docs/plugins.md`.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rhai::{AST, Array, CallFnOptions, Dynamic, Engine, EvalAltResult, FuncArgs, Map, Scope};
use serde_json::Value;
use tokio::time::Instant;

use super::{Decisions, Event, Level, Now, Plugin, PluginConfig, PluginError, PluginFailure, Sample};

/// What one call of a script may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptLimits {
    /// Steps of the interpreter.
    pub operations_max: u64,
    /// Time.
    pub call_timeout: Duration,
    /// Bytes of all texts in one value.
    pub text_bytes_max: usize,
    /// Elements of all lists in one value.
    pub elements_max: usize,
    /// Keys of all maps in one value.
    pub keys_max: usize,
    /// Calls within calls.
    pub depth_max: usize,
    /// Variables at one time.
    pub variables_max: usize,
    /// Bytes of the script itself.
    pub script_bytes_max: usize,
}

impl Default for ScriptLimits {
    /// 100,000 steps, 100 ms; 64 KiB of text, 10,000 elements, 1,000 keys.
    fn default() -> Self {
        Self {
            operations_max: 100_000,
            call_timeout: Duration::from_millis(100),
            text_bytes_max: 64 * 1024,
            elements_max: 10_000,
            keys_max: 1_000,
            depth_max: 32,
            variables_max: 100,
            script_bytes_max: 256 * 1024,
        }
    }
}

/// Most events and lines of one call.
const SAID_MAX: usize = 100;
/// Longest message of an event, and longest line.
const MESSAGE_CHARS_MAX: usize = 500;
/// Longest name of a metric or tag.
const NAME_BYTES_MAX: usize = 200;

/// What a script says beside its result.
#[derive(Debug, Default)]
struct Said {
    events: Vec<(Level, String, String)>,
    lines: Vec<(Level, String)>,
}

/// A loaded script.
pub(super) struct Script {
    name: String,
    engine: Engine,
    ast: AST,
    state: Dynamic,
    said: Arc<Mutex<Said>>,
    end_by: Arc<Mutex<Option<Instant>>>,
    limits: ScriptLimits,
}

impl Script {
    /// Compiles the script and runs its `initialize(config)`, where it has one.
    pub(super) fn load(
        name: &str,
        text: &str,
        config: &PluginConfig,
        limits: ScriptLimits,
    ) -> Result<Self, PluginError> {
        let wrong = |what: &dyn Display| PluginError::Script(what.to_string());
        if text.len() > limits.script_bytes_max {
            return Err(wrong(&format!("it has {} bytes, the limit is {}", text.len(), limits.script_bytes_max)));
        }
        let said = Arc::new(Mutex::new(Said::default()));
        let end_by = Arc::new(Mutex::new(None));
        let engine = engine(limits, &said, &end_by);
        let ast = engine.compile(text).map_err(|error| wrong(&error))?;
        if !ast.iter_functions().any(|function| function.name == "run" && function.params.len() == 1) {
            return Err(wrong(&"it has no function 'run(reading)'"));
        }
        let state = Dynamic::from_map(Map::new());
        let mut script = Self { name: name.to_owned(), engine, ast, state, said, end_by, limits };
        if script.has("initialize", 1) {
            let config = dynamic(&Value::Object(config.clone()));
            let _ = script.call("initialize", (config,)).map_err(|error| wrong(&format!("initialize: {error}")))?;
        }
        Ok(script)
    }

    fn has(&self, function: &str, parameters: usize) -> bool {
        self.ast.iter_functions().any(|known| known.name == function && known.params.len() == parameters)
    }

    /// `this` in the script is what it remembers from call to call.
    fn call(&mut self, function: &str, arguments: impl FuncArgs) -> Result<Dynamic, Box<EvalAltResult>> {
        *self.end_by.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + self.limits.call_timeout);
        let options = CallFnOptions::new().eval_ast(false).bind_this_ptr(&mut self.state);
        let result = self.engine.call_fn_with_options(options, &mut Scope::new(), &self.ast, function, arguments);
        *self.end_by.lock().unwrap_or_else(PoisonError::into_inner) = None;
        result
    }

    fn decisions(&self, pass: Vec<Sample>, about: Option<&Sample>, now: Now) -> Decisions {
        let Said { events, lines } = std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner));
        let event = |(level, kind, message)| Event {
            plugin: self.name.clone(),
            metric: about.map_or_else(String::new, |sample| sample.metric.clone()),
            kind,
            level,
            message,
            value: about.map_or(0.0, |sample| sample.value),
            threshold: None,
            time: about.map_or(now.wall, |sample| sample.time),
        };
        let lines = lines.into_iter().map(|(level, line)| (level, format!("plugin {}: {line}", self.name)));
        Decisions { pass, events: events.into_iter().map(event).collect(), lines: lines.collect() }
    }
}

impl Plugin for Script {
    fn run(&mut self, sample: Sample, now: Now) -> Result<Decisions, PluginFailure> {
        let result = self.call("run", (reading(&sample),));
        let result = result.map_err(|error| PluginFailure(error.to_string()));
        let pass = result.and_then(|result| samples(result, &sample).map_err(PluginFailure));
        if pass.is_err() {
            // what it said before it failed belongs to nothing
            drop(self.decisions(Vec::new(), None, now));
        }
        Ok(self.decisions(pass?, Some(&sample), now))
    }

    fn finalize(&mut self, now: Now) -> Decisions {
        if self.has("finalize", 0)
            && let Err(error) = self.call("finalize", ())
        {
            let mut decisions = self.decisions(Vec::new(), None, now);
            decisions.lines.push((Level::Warning, format!("plugin {} failed in finalize: {error}", self.name)));
            return decisions;
        }
        self.decisions(Vec::new(), None, now)
    }
}

fn engine(limits: ScriptLimits, said: &Arc<Mutex<Said>>, end_by: &Arc<Mutex<Option<Instant>>>) -> Engine {
    let mut engine = Engine::new();
    engine
        .set_max_operations(limits.operations_max)
        .set_max_call_levels(limits.depth_max)
        .set_max_expr_depths(64, 32)
        .set_max_string_size(limits.text_bytes_max)
        .set_max_array_size(limits.elements_max)
        .set_max_map_size(limits.keys_max)
        .set_max_variables(limits.variables_max)
        .disable_symbol("eval");
    let end = end_by.clone();
    engine.on_progress(move |_| {
        let end = *end.lock().unwrap_or_else(PoisonError::into_inner);
        end.is_some_and(|end| Instant::now() > end).then(|| "its time is up".into())
    });
    let out = said.clone();
    engine.on_print(move |text| say(&out, Level::Info, text));
    let out = said.clone();
    engine.on_debug(move |text, _, _| say(&out, Level::Info, text));
    let out = said.clone();
    engine.register_fn("log", move |text: &str| say(&out, Level::Info, text));
    let out = said.clone();
    engine.register_fn("warn", move |text: &str| say(&out, Level::Warning, text));
    let out = said.clone();
    engine.register_fn("alert", move |kind: &str, message: &str| {
        let mut said = out.lock().unwrap_or_else(PoisonError::into_inner);
        if said.events.len() < SAID_MAX {
            said.events.push((Level::Warning, short(kind), short(message)));
        }
    });
    engine
}

fn say(said: &Mutex<Said>, level: Level, text: &str) {
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    if said.lines.len() < SAID_MAX {
        said.lines.push((level, short(text)));
    }
}

fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_CHARS_MAX).collect()
}

/// A reading as the script sees it: `metric`, `value`, `tags`, `time` (Unix seconds).
fn reading(sample: &Sample) -> Dynamic {
    let tags: Map = sample.tags.iter().map(|(key, value)| (key.as_str().into(), value.clone().into())).collect();
    let mut map = Map::new();
    map.insert("metric".into(), sample.metric.clone().into());
    map.insert("value".into(), sample.value.into());
    map.insert("tags".into(), tags.into());
    let seconds = (sample.time.as_nanos() / 1_000) as f64 / 1e6;
    map.insert("time".into(), seconds.into());
    map.into()
}

/// What `run` gave back: a reading, a list of them, or nothing. Times stay those of the reading that came.
fn samples(result: Dynamic, original: &Sample) -> Result<Vec<Sample>, String> {
    if result.is_unit() {
        return Ok(Vec::new());
    }
    let list = if result.is_array() { result.cast::<Array>() } else { vec![result] };
    list.into_iter().map(|one| sample(one, original)).collect()
}

fn sample(one: Dynamic, original: &Sample) -> Result<Sample, String> {
    let kind = one.type_name();
    let map = one.try_cast::<Map>().ok_or_else(|| {
        format!("run gave back a value of type {kind}; it should be a reading, a list of readings or nothing, ()")
    })?;
    let name = |text: &str| -> Result<String, String> {
        let good = !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.contains(char::is_control);
        good.then(|| text.to_owned()).ok_or_else(|| format!("'{}' is no name", short(text)))
    };
    let metric = match map.get("metric") {
        Some(metric) => name(&metric.clone().into_string().map_err(|kind| format!("metric is of type {kind}"))?)?,
        None => original.metric.clone(),
    };
    let value = map.get("value").ok_or("the reading has no value")?;
    let value = value.as_float().or_else(|_| value.as_int().map(|whole| whole as f64));
    let value = value.map_err(|kind| format!("value is of type {kind}, it should be a number"))?;
    if !value.is_finite() {
        return Err(format!("value is {value}, which no database holds"));
    }
    let tags = match map.get("tags") {
        None => original.tags.clone(),
        Some(tags) => {
            let tags = tags.clone().try_cast::<Map>().ok_or("tags is no map")?;
            let tags = tags.into_iter().map(|(key, value)| Ok((name(&key)?, name(&value.to_string())?)));
            tags.collect::<Result<_, String>>()?
        }
    };
    Ok(Sample { metric, value, tags, time: original.time })
}

fn dynamic(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(truth) => (*truth).into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or_default().into(),
        },
        Value::String(text) => text.clone().into(),
        Value::Array(list) => list.iter().map(dynamic).collect::<Array>().into(),
        Value::Object(object) => {
            object.iter().map(|(key, value)| (key.as_str().into(), dynamic(value))).collect::<Map>().into()
        }
    }
}
