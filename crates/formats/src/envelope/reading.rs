//! One reading ↔ JSON, without a value tree in between: this is the path of every row. Names are not copied.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};

use heartwatch_domain::reading::{FieldValue, Reading};
use heartwatch_domain::time::Timestamp;

/// A reading on its way out.
pub(super) struct Out<'a>(pub &'a Reading);

struct TagsOut<'a>(&'a [(String, String)]);
struct FieldsOut<'a>(&'a [(String, FieldValue)]);
struct ValueOut<'a>(&'a FieldValue);

impl Serialize for Out<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reading = self.0;
        let mut object = serializer.serialize_struct("reading", 5)?;
        object.serialize_field("seq", &reading.sequence)?;
        object.serialize_field("time", &reading.time.as_nanos())?;
        object.serialize_field("measurement", &reading.measurement)?;
        if !reading.tags.is_empty() {
            object.serialize_field("tags", &TagsOut(&reading.tags))?;
        }
        object.serialize_field("fields", &FieldsOut(&reading.fields))?;
        object.end()
    }
}

impl Serialize for TagsOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl Serialize for FieldsOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(key, &ValueOut(value))?;
        }
        map.end()
    }
}

impl Serialize for ValueOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            // serde_json writes a float with a decimal point or an exponent always, and an integer never
            FieldValue::Float(float) => serializer.serialize_f64(*float),
            FieldValue::Integer(integer) => serializer.serialize_i64(*integer),
            FieldValue::Boolean(boolean) => serializer.serialize_bool(*boolean),
            FieldValue::Text(text) => serializer.serialize_str(text),
        }
    }
}

/// A reading as it came; bounds are checked after.
#[derive(serde::Deserialize)]
pub(super) struct In<'a> {
    seq: u64,
    time: i64,
    #[serde(borrow)]
    measurement: Cow<'a, str>,
    #[serde(borrow, default)]
    tags: Tags<'a>,
    #[serde(borrow)]
    fields: Fields<'a>,
}

impl<'a> From<In<'a>> for Reading<Cow<'a, str>> {
    fn from(reading: In<'a>) -> Self {
        Self {
            sequence: reading.seq,
            time: Timestamp::from_nanos(reading.time),
            measurement: reading.measurement,
            tags: reading.tags.0,
            fields: reading.fields.0,
        }
    }
}

#[derive(Default)]
struct Tags<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);
struct Fields<'a>(Vec<(Cow<'a, str>, FieldValue)>);
struct Value(FieldValue);

/// A text that is copied only where JSON has escaped it.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Tags<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TagsVisitor;
        impl<'de> Visitor<'de> for TagsVisitor {
            type Value = Tags<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tags<'de>, A::Error> {
                let mut tags = Vec::new();
                while let Some((Text(key), Text(value))) = map.next_entry()? {
                    tags.push((key, value));
                }
                Ok(Tags(tags))
            }
        }
        deserializer.deserialize_map(TagsVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers, booleans and texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((Text(key), Value(value))) = map.next_entry()? {
                    fields.push((key, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;
        impl Visitor<'_> for ValueVisitor {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a boolean or a text")
            }
            fn visit_bool<E: Error>(self, boolean: bool) -> Result<Value, E> {
                Ok(Value(FieldValue::Boolean(boolean)))
            }
            fn visit_i64<E: Error>(self, integer: i64) -> Result<Value, E> {
                Ok(Value(FieldValue::Integer(integer)))
            }
            fn visit_u64<E: Error>(self, integer: u64) -> Result<Value, E> {
                match i64::try_from(integer) {
                    Ok(integer) => Ok(Value(FieldValue::Integer(integer))),
                    Err(_) => Err(E::invalid_value(Unexpected::Unsigned(integer), &"a 64-bit signed integer")),
                }
            }
            fn visit_f64<E: Error>(self, float: f64) -> Result<Value, E> {
                Ok(Value(FieldValue::Float(float)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value(FieldValue::Text(text.to_owned())))
            }
            fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
                Ok(Value(FieldValue::Text(text)))
            }
        }
        deserializer.deserialize_any(ValueVisitor)
    }
}
