//! Readings → messages, and which readings no message can carry.

use heartwatch_domain::publisher::HostName;
use heartwatch_domain::reading::{Reading, Sequence};
use heartwatch_domain::retransmitter::SequenceRange;
use heartwatch_formats::envelope::{self, Problem};

/// Readings as messages.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pub payloads: Vec<Vec<u8>>,
    /// Readings that alone are larger than what is sent usually, each as a message.
    pub large: Vec<(Sequence, Vec<u8>)>,
    /// What no message can carry, and why: it is in none of them.
    pub unsendable: Vec<(Sequence, String)>,
}

/// Readings of one run as messages of at most `usual_max`, and single ones of at most `bytes_max`. The worker numbers
/// nothing that can't be sent; what an earlier version or a life with a larger limit has left may be, and must not hold
/// up what is behind it.
///
/// # Errors
/// What is wrong with all of them alike.
pub(super) fn messages(
    host: &HostName,
    run: SequenceRange,
    readings: &[Reading],
    bytes_max: usize,
    usual_max: usize,
) -> Result<Messages, Problem> {
    let usual_max = usual_max.min(bytes_max);
    let encode = |readings: &[Reading]| envelope::encode_readings(host, run.incarnation, readings, usual_max);
    if let Ok(payloads) = encode(readings)
        && payloads.iter().all(|payload| payload.len() <= usual_max)
    {
        return Ok(Messages { payloads, ..Messages::default() });
    }
    let (mut sendable, mut messages) = (Vec::new(), Messages::default());
    for reading in readings {
        let sequence = reading.sequence;
        if let Err(problem) = envelope::check_numbered(reading) {
            messages.unsendable.push((sequence, format!("no message can carry it: {problem}")));
            continue;
        }
        let alone = encode(std::slice::from_ref(reading))?.concat();
        let bytes = alone.len();
        if bytes > bytes_max {
            let reason = format!("it takes {bytes} bytes, a message may have {bytes_max} (message_bytes_max)");
            messages.unsendable.push((sequence, reason));
        } else if bytes > usual_max {
            messages.large.push((sequence, alone));
        } else {
            sendable.push(reading.clone());
        }
    }
    messages.payloads = encode(&sendable)?;
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use heartwatch_domain::publisher::Incarnation;
    use heartwatch_domain::reading::FieldValue;
    use heartwatch_domain::time::Timestamp;

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
        let run = SequenceRange { incarnation: Incarnation(1), first: 1, last: 4 };
        let Messages { payloads, large, unsendable } = messages(&host, run, &readings, 4_096, usize::MAX).unwrap();
        assert!(large.is_empty());
        let sent = String::from_utf8(payloads.concat()).unwrap();
        assert!(sent.contains("one") && sent.contains("four") && !sent.contains("poison") && !sent.contains("xxx"));
        let [(2, first), (3, second)] = unsendable.as_slice() else { panic!("{unsendable:?}") };
        assert!(first.contains("tags.host") && second.contains("message_bytes_max"), "{unsendable:?}");
        let held = messages(&host, run, &readings[2..], 10_000, 1_024).unwrap();
        assert_eq!((held.payloads.len(), held.large[0].0, held.unsendable.len()), (1, 3, 0));
        assert!(messages(&host, run, &readings[..1], 4_096, 4_096).unwrap().unsendable.is_empty());
        let beyond = SequenceRange { incarnation: Incarnation(u64::MAX), ..run };
        assert!(messages(&host, beyond, &readings[..1], 4_096, 4_096).is_err(), "that is no fault of the readings");
    }
}
