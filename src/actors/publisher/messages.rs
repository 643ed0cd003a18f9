//! Readings → messages, and which readings no message can carry.

use crate::domain::delivery::Run;
use crate::domain::publisher::HostName;
use crate::domain::reading::{Reading, Sequence};
use crate::formats::envelope::{self, Problem};

/// Readings as messages.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pub payloads: Vec<Vec<u8>>,
    /// What no message can carry, and why: it is in none of them.
    pub unsendable: Vec<(Sequence, String)>,
}

/// Readings of one run as messages of at most `bytes_max`. The worker numbers nothing that can't be sent; what an
/// earlier version or a life with a larger limit has left may be, and must not hold up what is behind it.
///
/// # Errors
/// What is wrong with all of them alike.
pub(super) fn messages(host: &HostName, run: Run, readings: &[Reading], bytes_max: usize) -> Result<Messages, Problem> {
    let encode = |readings: &[Reading]| envelope::encode_readings(host, run.incarnation, readings, bytes_max);
    if let Ok(payloads) = encode(readings)
        && payloads.iter().all(|payload| payload.len() <= bytes_max)
    {
        return Ok(Messages { payloads, unsendable: Vec::new() });
    }
    let (mut sendable, mut unsendable) = (Vec::new(), Vec::new());
    for reading in readings {
        match unsendable_for(reading, encode, bytes_max) {
            Some(reason) => unsendable.push((reading.sequence, reason)),
            None => sendable.push(reading.clone()),
        }
    }
    Ok(Messages { payloads: encode(&sendable)?, unsendable })
}

/// Why a reading can't be sent alone; none where it can.
fn unsendable_for(
    reading: &Reading,
    encode: impl Fn(&[Reading]) -> Result<Vec<Vec<u8>>, Problem>,
    bytes_max: usize,
) -> Option<String> {
    if let Err(problem) = envelope::check_numbered(reading) {
        return Some(format!("no message can carry it: {problem}"));
    }
    // what is wrong with all of them alike is not its fault
    let bytes: usize = encode(std::slice::from_ref(reading)).ok()?.iter().map(Vec::len).sum();
    (bytes > bytes_max).then(|| format!("it takes {bytes} bytes, a message may have {bytes_max} (message_bytes_max)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::publisher::Incarnation;
    use crate::domain::reading::FieldValue;
    use crate::domain::time::Timestamp;

    fn reading(sequence: Sequence, text: &str) -> Reading {
        let fields = vec![("text".to_owned(), FieldValue::Text(text.to_owned()))];
        let (measurement, tags) = ("m".to_owned(), Vec::new());
        Reading { sequence, time: Timestamp::from_nanos(5), measurement, tags, fields }
    }

    #[test]
    fn what_no_message_can_carry_is_named_and_its_neighbours_are_sent() {
        let host = HostName::parse("h").unwrap();
        let poisoned = Reading { tags: vec![("host".to_owned(), "web1".to_owned())], ..reading(2, "poison") };
        let readings = [reading(1, "one"), poisoned, reading(3, &"x".repeat(5_000)), reading(4, "four")];
        let run = Run { incarnation: Incarnation(1), first: 1, last: 4 };
        let Messages { payloads, unsendable } = messages(&host, run, &readings, 4_096).unwrap();
        let sent = String::from_utf8(payloads.concat()).unwrap();
        assert!(sent.contains("one") && sent.contains("four") && !sent.contains("poison") && !sent.contains("xxx"));
        let [(2, first), (3, second)] = unsendable.as_slice() else { panic!("{unsendable:?}") };
        assert!(first.contains("tags.host") && second.contains("message_bytes_max"), "{unsendable:?}");
        assert!(messages(&host, run, &readings[..1], 4_096).unwrap().unsendable.is_empty());
        let beyond = Run { incarnation: Incarnation(u64::MAX), ..run };
        assert!(messages(&host, beyond, &readings[..1], 4_096).is_err(), "that is no fault of the readings");
    }
}
