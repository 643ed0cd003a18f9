//! Gives metrics other names, and readings tags.

use std::collections::HashMap;

use super::keys::{Keys, normal, wrong};
use super::{Decisions, Now, Plugin, PluginConfig, PluginError, PluginFailure, Sample};

/// Keys: `names` (an object, old name to new name), `tags` (an object of texts that every reading gets).
pub(super) struct Rename {
    names: HashMap<String, String>,
    tags: Vec<(String, String)>,
}

/// Longest new name, key or value of a tag.
const TEXT_BYTES_MAX: usize = 200;

impl Rename {
    pub(super) fn new(config: &PluginConfig) -> Result<Self, PluginError> {
        let mut keys = Keys::of(config);
        let mut texts = |key: &'static str| -> Result<Vec<(String, String)>, PluginError> {
            let Some(value) = keys.get(key) else { return Ok(Vec::new()) };
            let wrong = || wrong(key, value, "an object with a text for each key, none empty or longer than 200 bytes");
            let good =
                |text: &str| !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.contains(char::is_control);
            let object = value.as_object().ok_or_else(wrong)?;
            let pairs = object.iter().map(|(key, text)| Some((key.clone(), text.as_str()?.to_owned())));
            let pairs: Option<Vec<_>> = pairs.collect();
            pairs.filter(|pairs| pairs.iter().all(|(key, text)| good(key) && good(text))).ok_or_else(wrong)
        };
        let (names, tags) = (texts("names")?, texts("tags")?);
        keys.end()?;
        if let Some((key, _)) = tags.iter().find(|(key, _)| ["publisher", "host"].contains(&key.as_str())) {
            let reason = format!("names the tag '{key}', which every reading has already");
            return Err(PluginError::Config { key: "tags".to_owned(), reason });
        }
        Ok(Self { names: names.into_iter().map(|(old, new)| (normal(&old), new)).collect(), tags })
    }
}

impl Plugin for Rename {
    fn run(&mut self, mut sample: Sample, _: Now) -> Result<Decisions, PluginFailure> {
        if let Some(name) = self.names.get(&normal(&sample.metric)) {
            sample.metric.clone_from(name);
        }
        for (key, value) in &self.tags {
            match sample.tags.iter_mut().find(|(known, _)| known == key) {
                Some((_, old)) => old.clone_from(value),
                None => sample.tags.push((key.clone(), value.clone())),
            }
        }
        Ok(Decisions::passing(sample))
    }
}
