//! Which boot of which machine a process belongs to.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where the bytes of a UUID begin in its text, in hexadecimal digits (RFC 9562, section 4).
const UUID_BYTES_AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
/// Where the lines between them are.
const UUID_LINES_AT: [usize; 4] = [8, 13, 18, 23];
/// The length of the text of a UUID.
const UUID_BYTES: usize = 36;

/// A boot of a machine, as its processes name it: on Linux `/proc/sys/kernel/random/boot_id`, a UUID, and `UUID/NAMESPACE` in
/// a PID namespace that is not the host's own.
///
/// Those are kept as numbers, because they are compared at every heartbeat of a million publishers. Any other text that a
/// foreign publisher sends is kept as it is. What comes out as text is always what came in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BootId(Form);

/// A text has one form only, so that equal forms are equal texts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Form {
    /// `namespace` is the number of a PID namespace; 0 when none is named.
    Linux { boot: [u8; 16], namespace: u32 },
    /// All else.
    Text(Box<str>),
}

impl BootId {
    /// Whether this is the same boot of the same machine, if in another PID namespace.
    #[must_use]
    pub fn is_same_boot(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Form::Linux { boot, .. }, Form::Linux { boot: other, .. }) => boot == other,
            _ => {
                let (one, other) = (self.text(), other.text());
                one.split('/').next() == other.split('/').next()
            }
        }
    }

    /// The number of the PID namespace, when this is one of the same boot whose processes the other one, the host's own
    /// namespace, can see: it sees all of them.
    #[must_use]
    pub fn namespace_below(&self, host: &Self) -> Option<u32> {
        match (&self.0, &host.0) {
            (Form::Linux { boot, namespace: namespace @ 1.. }, Form::Linux { boot: ours, namespace: 0 })
                if boot == ours =>
            {
                Some(*namespace)
            }
            _ => None,
        }
    }

    /// The length of its text.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        match &self.0 {
            Form::Linux { namespace: 0, .. } => UUID_BYTES,
            Form::Linux { namespace, .. } => UUID_BYTES + "/".len() + namespace.ilog10() as usize + 1,
            Form::Text(text) => text.len(),
        }
    }

    fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Form::Linux { .. } => Cow::Owned(self.to_string()),
            Form::Text(text) => Cow::Borrowed(text),
        }
    }
}

/// Only what is written again in the same letters: no capitals, no zeros in front.
fn linux(text: &str) -> Option<Form> {
    let (uuid, namespace) = match text.split_once('/') {
        None => (text, 0),
        Some((uuid, number)) if number.starts_with(|first| matches!(first, '1'..='9')) => (uuid, number.parse().ok()?),
        Some(_) => return None,
    };
    let letters: &[u8; UUID_BYTES] = uuid.as_bytes().try_into().ok()?;
    if UUID_LINES_AT.iter().any(|at| letters[*at] != b'-') {
        return None;
    }
    let mut boot = [0; 16];
    for (byte, at) in boot.iter_mut().zip(UUID_BYTES_AT) {
        *byte = (digit(letters[at])? << 4) | digit(letters[at + 1])?;
    }
    Some(Form::Linux { boot, namespace })
}

const fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}

impl From<&str> for BootId {
    fn from(text: &str) -> Self {
        Self(linux(text).unwrap_or_else(|| Form::Text(text.into())))
    }
}

impl FromStr for BootId {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (boot, namespace) = match &self.0 {
            Form::Text(text) => return f.write_str(text),
            Form::Linux { boot, namespace } => (boot, namespace),
        };
        for (byte, at) in boot.iter().zip(UUID_BYTES_AT) {
            let line = if at > 0 && UUID_LINES_AT.contains(&(at - 1)) { "-" } else { "" };
            write!(f, "{line}{byte:02x}")?;
        }
        if *namespace == 0 { Ok(()) } else { write!(f, "/{namespace}") }
    }
}

impl Serialize for BootId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BootId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = BootId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<BootId, E> {
                Ok(text.into())
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOOT: &str = "ea82c5d3-45b2-4f8c-b0a1-8f9b6d8f2c11";

    #[test]
    fn what_linux_names_is_kept_as_numbers_and_all_else_as_it_is() {
        let is_number = |text: &str| matches!(BootId::from(text).0, Form::Linux { .. });
        for number in [BOOT, &format!("{BOOT}/4026532178"), &format!("{BOOT}/1"), &format!("{BOOT}/{}", u32::MAX)] {
            assert!(is_number(number), "{number}");
        }
        let ends = ["/", "/0", "/01", "/+1", "/-1", "/1 ", "/x", "/4294967296", "/1/2", "0", " ", "\n"];
        let texts = ends.map(|end| format!("{BOOT}{end}"));
        let others = ["", "unknown", "boot/4026532178", "of-another-host", "ä", &BOOT.to_uppercase(), &BOOT[1..]];
        for text in texts.iter().map(String::as_str).chain(others).chain([BOOT.replace('-', "0").as_str()]) {
            assert!(!is_number(text), "{text}");
            assert_eq!(BootId::from(text).to_string(), text);
            assert_eq!(BootId::from(text).text_bytes(), text.len());
        }
    }

    #[test]
    fn a_boot_is_the_same_in_another_container_and_no_other_one() {
        let same = |one: &str, other: &str| BootId::from(one).is_same_boot(&other.into());
        let inside = format!("{BOOT}/4026532178");
        assert!(same(BOOT, &inside) && same(&inside, &format!("{BOOT}/1")) && same(BOOT, &format!("{BOOT}/x")));
        assert!(same("b", "b/1") && same("b/2", "b/1") && same("", "/1"));
        assert!(!same(BOOT, &BOOT.replace('e', "f")) && !same(BOOT, "b") && !same("b", "c"));
        assert_ne!(BootId::from(BOOT), BootId::from(inside.as_str()), "a PID means another process there");
    }

    #[test]
    fn it_is_no_larger_than_the_text_was_that_it_was_kept_as() {
        assert!(size_of::<BootId>() <= 24 && size_of::<Option<BootId>>() <= 24, "{}", size_of::<BootId>());
    }

    #[test]
    fn json_of_another_type_is_refused_in_the_words_that_it_always_was() {
        let ours = serde_json::from_str::<BootId>("7").unwrap_err().to_string();
        assert_eq!(ours, serde_json::from_str::<String>("7").unwrap_err().to_string());
    }

    /// Texts that are boot ids, nearly are, or are anything at all.
    fn texts() -> impl Strategy<Value = String> {
        let uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
        prop_oneof![
            uuid.prop_map(|text| text),
            (uuid, any::<u64>().prop_map(|number| number >> (number % 64))).prop_map(|(u, n)| format!("{u}/{n}")),
            "[0-9a-fA-F]{7,9}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(/[0-9+]{0,11})?",
            ".{0,60}",
        ]
    }

    proptest! {
        /// As text and as JSON it is what it was, byte for byte, and it is equal to what it was equal to as text.
        #[test]
        fn every_text_comes_out_as_it_went_in(one in texts(), other in texts()) {
            let boot = BootId::from(one.as_str());
            prop_assert_eq!(&boot.to_string(), &one);
            prop_assert_eq!(boot.text_bytes(), one.len());
            let json = serde_json::to_string(&one).unwrap();
            prop_assert_eq!(&serde_json::to_string(&boot).unwrap(), &json);
            prop_assert_eq!(&serde_json::from_str::<BootId>(&json).unwrap(), &boot);
            prop_assert_eq!(&serde_json::from_value::<BootId>(one.clone().into()).unwrap(), &boot);
            let other_boot = BootId::from(other.as_str());
            prop_assert_eq!(boot == other_boot, one == other);
            prop_assert_eq!(boot.is_same_boot(&other_boot), one.split('/').next() == other.split('/').next());
        }
    }
}
