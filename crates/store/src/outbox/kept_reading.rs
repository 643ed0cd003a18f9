//! A reading as bytes, with a checksum: exactly what was measured comes back, or nothing.

use crate::encoding::{Decoder, put_bytes, put_number, sealed_for, unsealed_for};
use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::reading::{FieldValue, Reading, Sequence};
use heartwatch_domain::time::Timestamp;

const VERSION: u64 = 1;

pub(super) fn to_bytes(reading: &Reading, incarnation: Incarnation) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    put_number(&mut out, VERSION);
    put_number(&mut out, reading.sequence);
    out.extend_from_slice(&reading.time.as_nanos().to_le_bytes());
    put_bytes(&mut out, reading.measurement.as_bytes());
    put_number(&mut out, reading.tags.len() as u64);
    for (key, value) in &reading.tags {
        put_bytes(&mut out, key.as_bytes());
        put_bytes(&mut out, value.as_bytes());
    }
    put_number(&mut out, reading.fields.len() as u64);
    for (key, value) in &reading.fields {
        put_bytes(&mut out, key.as_bytes());
        match value {
            FieldValue::Float(number) => {
                out.push(b'f');
                out.extend_from_slice(&number.to_bits().to_le_bytes());
            }
            FieldValue::Integer(number) => {
                out.push(b'i');
                out.extend_from_slice(&number.to_le_bytes());
            }
            FieldValue::Boolean(value) => out.push(if *value { b't' } else { b'n' }),
            FieldValue::Text(text) => {
                out.push(b's');
                put_bytes(&mut out, text.as_bytes());
            }
        }
    }
    sealed_for(out, &incarnation.0.to_le_bytes())
}

/// None when the bytes are not what was written, or belong to another number or life.
pub(super) fn from_bytes(bytes: &[u8], incarnation: Incarnation, sequence: Sequence) -> Option<Reading> {
    let mut from = Decoder(unsealed_for(bytes, &incarnation.0.to_le_bytes())?);
    if from.number()? != VERSION || from.number()? != sequence {
        return None;
    }
    let time = Timestamp::from_nanos(i64::from_le_bytes(from.array()?));
    let measurement = from.text()?;
    let mut tags = Vec::new();
    for _ in 0..from.number()? {
        tags.push((from.text()?, from.text()?));
    }
    let mut fields = Vec::new();
    for _ in 0..from.number()? {
        let key = from.text()?;
        let value = match from.array::<1>()?[0] {
            b'f' => FieldValue::Float(f64::from_bits(u64::from_le_bytes(from.array()?))),
            b'i' => FieldValue::Integer(i64::from_le_bytes(from.array()?)),
            b't' => FieldValue::Boolean(true),
            b'n' => FieldValue::Boolean(false),
            b's' => FieldValue::Text(from.text()?),
            _ => return None,
        };
        fields.push((key, value));
    }
    Some(Reading { sequence, time, measurement, tags, fields })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = FieldValue> {
        prop_oneof![
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(FieldValue::Float),
            any::<i64>().prop_map(FieldValue::Integer),
            any::<bool>().prop_map(FieldValue::Boolean),
            any::<String>().prop_map(FieldValue::Text),
        ]
    }

    proptest! {
        #[test]
        fn a_reading_comes_back_or_nothing_does(
            sequence in any::<u64>(),
            time in any::<i64>(),
            measurement in any::<String>(),
            tags in prop::collection::vec(any::<(String, String)>(), 0..4),
            fields in prop::collection::vec((any::<String>(), value()), 0..4),
            flip in any::<prop::sample::Index>(),
        ) {
            let reading = Reading { sequence, time: Timestamp::from_nanos(time), measurement, tags, fields };
            let life = Incarnation(7);
            let mut bytes = to_bytes(&reading, life);
            prop_assert_eq!(from_bytes(&bytes, life, sequence), Some(reading));
            prop_assert_eq!(from_bytes(&bytes, life, sequence ^ 1), None);
            prop_assert_eq!(from_bytes(&bytes, Incarnation(8), sequence), None);
            let at = flip.index(bytes.len());
            bytes[at] ^= 0x20;
            prop_assert_eq!(from_bytes(&bytes, life, sequence), None);
        }
    }
}
