//! heartwatch's own MQTT topics and payloads, version 1.
//!
//! Topics, under one configurable prefix (default `heartwatch`):
//!
//! | topic | who publishes | what |
//! |---|---|---|
//! | `<prefix>/v1/<publisher>/readings` | publisher | one reading or a batch |
//! | `<prefix>/v1/<publisher>/heartbeat` | publisher | it lives, and how far it has come |
//! | `<prefix>/v1/<publisher>/goodbye` | publisher | it ends in order |
//! | `<prefix>/v1/<publisher>/last-will` | its broker | its connection was lost |
//! | `<prefix>/v1/<publisher>/given-up` | publisher | numbers that will never come |
//! | `<prefix>/v1/<publisher>/confirm` | monitor | how far the safe record reaches |
//!
//! Payloads are JSON objects in UTF-8. Every one has `"v": 1`; a key that is not known is ignored,
//! so a later version can add keys. Times are integers, nanoseconds since the Unix epoch.
//!
//! ```text
//! readings   {"v":1,"host":"h","incarnation":17,"readings":[
//!              {"seq":1,"time":1763683203214000000,"measurement":"m","tags":{"room":"a"},"fields":{"lux":5.0}}]}
//! heartbeat  {"v":1,"host":"h","incarnation":17,"process":{"pid":4711,"start_ticks":88,"boot_id":"…"},
//!             "sequence":9,"confirmed":7,"cursor":9,"idle":false,"interval_ms":1000}
//! goodbye    {"v":1,"host":"h","incarnation":17,"sequence":9}
//! last-will  {"v":1,"host":"h","incarnation":17}
//! given-up   {"v":1,"host":"h","incarnation":17,"first":2,"last":4,"reason":"the outbox was full"}
//! confirm    {"v":1,"incarnation":17,"through":7,"highest":9,"gaps":[[8,8]],"journal":"…","deadline_ms":50000}
//! ```
//!
//! - A number with a decimal point or an exponent is a float (`5.0`, `1e3`), any other is a 64-bit
//!   signed integer (`5`). Both come back as what they were, floats to the last bit. NaN and
//!   infinity have no JSON and are refused before they are sent.
//! - `tags` may be missing; `process` is missing when the publisher does not know its own.
//! - `confirmed` says how far the publisher knows that it is confirmed, so that the monitor can
//!   repeat a confirmation that got lost.
//! - A heartbeat may have `"errors":[["connectivity_error",1,1763683203214000000]]` (measurement, count, time) and their
//!   tag `"env"`: error metrics, 0 when nothing is wrong. The same measurement and time is the same count, told again.
//! - A heartbeat may have `"outbox_stalled_ms": 12000`: for so long the publisher's outbox has not finished a step, so that
//!   nothing is read, sent again or forgotten meanwhile. Heartbeats go on.
//! - `heartbeat` of a host's agent has `"agent": true`: it answers questions after processes there.
//! - `confirm` may have `"refused": n`: rows that the monitor could not take for want of disk.
//! - `confirm` says by `journal` (32 hexadecimal digits) who confirms. A publisher that is asked for numbers which it
//!   has no more, because they were confirmed, says by whom: `"confirmed_by":"…"` in `given-up`, `unnamed` where
//!   whoever confirmed did not say. A monitor with another journal keeps such numbers out of its account.
//! - `confirm` says by `"deadline_ms": 50000` how long the publisher may be silent. It beats at most at a fifth of that from
//!   then on; for one that goes on promising more, two of its intervals are the deadline.
//!
//! What [`check`] accepts, [`encode_readings`] can send and [`decode`] takes: a publisher that
//! checks a reading before it gives it a number never leaves a gap that nobody can fill.

mod confirm;
mod diagnose;
mod error;
mod limits;
mod reading;
mod topic;
mod wire;

#[cfg(test)]
mod tests;

pub use confirm::{Confirmation, decode_confirm, encode_confirm};
pub use error::{EnvelopeError, Problem};
pub use limits::{
    FIELDS_MAX, KEY_BYTES_MAX, NUMBER_MAX, PAYLOAD_BYTES_MAX, READING_BYTES_MAX, READINGS_MAX, REASON_BYTES_MAX,
    TAG_VALUE_BYTES_MAX, TAGS_MAX, TEXT_BYTES_MAX, check, check_error_env, check_error_metric, check_numbered,
};
pub use topic::{BadPrefix, Prefix, Topic, TopicError, TopicKind};

pub use wire::{
    EARLIER_MAX, ERRORS_MAX, ErrorCount, ErrorNote, GivenUp, Goodbye, HeartbeatNote, LastWill, Message, ReadingBatch,
    decode, encode_given_up, encode_goodbye, encode_heartbeat, encode_last_will, encode_readings,
};
