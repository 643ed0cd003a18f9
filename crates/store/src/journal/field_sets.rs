//! Which fields a row has, as a small number: two rows with one series and time overwrite each other in the store only
//! where they share a field.
//!
//! Bounded: [`FIELD_SETS_MAX`] different sets. A row with yet another one counts as if it had every field.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashMap};

/// Most sets of fields that are known at once.
const FIELD_SETS_MAX: usize = 1 << 16;

/// A set of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FieldSet(u32);

impl FieldSet {
    /// Every field: it shares one with any other set.
    pub(super) const ALL: Self = Self(0);

    /// As a part of a key.
    pub(super) const fn number(self) -> u32 {
        self.0
    }
}

/// The sets that are known, or those that a commit adds.
#[derive(Debug, Default)]
pub(super) struct FieldSets {
    /// By a hash of the fields' names in the order in which they were written.
    by_names: HashMap<u64, FieldSet>,
    /// The hashes of the names, in order: the first set has the number 1.
    sets: Vec<Box<[u64]>>,
}

impl FieldSets {
    /// The fields of a row, of which `fields` is what stands behind its measurement and tags.
    /// What is not known yet is noted in `added`.
    pub(super) fn of(&self, added: &mut Self, hasher: &DefaultHashBuilder, fields: &[u8]) -> FieldSet {
        let mut names_hash = 0_u64;
        for name in names(fields) {
            names_hash = names_hash.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hasher.hash_one(name);
        }
        let known = self.by_names.get(&names_hash).or_else(|| added.by_names.get(&names_hash));
        if let Some(known) = known {
            return *known;
        }
        self.note(added, names_hash, names(fields).map(|name| hasher.hash_one(name)).collect())
    }

    /// All fields that are in one of the two.
    pub(super) fn union(&self, added: &mut Self, hasher: &DefaultHashBuilder, a: FieldSet, b: FieldSet) -> FieldSet {
        if a == b {
            return a;
        }
        let (Some(of_a), Some(of_b)) = (self.names_of(added, a), self.names_of(added, b)) else {
            return FieldSet::ALL;
        };
        let mut names: Vec<u64> = of_a.iter().chain(of_b).copied().collect();
        names.sort_unstable();
        names.dedup();
        let names_hash = hasher.hash_one(&names);
        let known = self.by_names.get(&names_hash).or_else(|| added.by_names.get(&names_hash)).copied();
        known.unwrap_or_else(|| self.note(added, names_hash, names))
    }

    /// Whether two rows with these fields would overwrite each other.
    pub(super) fn share(&self, added: &Self, a: FieldSet, b: FieldSet) -> bool {
        if a == b {
            return true;
        }
        let (Some(of_a), Some(of_b)) = (self.names_of(added, a), self.names_of(added, b)) else {
            return true;
        };
        let (few, many) = if of_a.len() < of_b.len() { (of_a, of_b) } else { (of_b, of_a) };
        few.iter().any(|name| many.binary_search(name).is_ok())
    }

    /// Takes over what a commit has added.
    pub(super) fn adopt(&mut self, added: Self) {
        self.by_names.extend(added.by_names);
        self.sets.extend(added.sets);
    }

    fn note(&self, added: &mut Self, names_hash: u64, mut names: Vec<u64>) -> FieldSet {
        let number = self.sets.len() + added.sets.len() + 1;
        let Some(number) = u32::try_from(number).ok().filter(|_| number <= FIELD_SETS_MAX && !names.is_empty()) else {
            return FieldSet::ALL;
        };
        names.sort_unstable();
        names.dedup();
        added.sets.push(names.into());
        added.by_names.insert(names_hash, FieldSet(number));
        FieldSet(number)
    }

    /// None for every field.
    fn names_of<'a>(&'a self, added: &'a Self, set: FieldSet) -> Option<&'a [u64]> {
        let index = usize::try_from(set.0).ok()?.checked_sub(1)?;
        let set = match index.checked_sub(self.sets.len()) {
            None => self.sets.get(index),
            Some(index) => added.sets.get(index),
        };
        set.map(|names| &**names)
    }
}

/// The names of the fields as they were written.
fn names(mut fields: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let name_end = unescaped(fields, b'=')?;
        let name = fields.get(..name_end)?;
        fields = fields.get(name_end + 1..)?;
        if let Some(text) = fields.strip_prefix(b"\"") {
            fields = text.get(unescaped(text, b'"')? + 1..).unwrap_or_default();
        }
        // a number or a truth value has neither a comma nor a space in it
        let value_end = fields.iter().position(|&byte| byte == b',' || byte == b' ').unwrap_or(fields.len());
        ended = fields.get(value_end) != Some(&b',');
        fields = fields.get(value_end + 1..).unwrap_or_default();
        Some(name)
    })
}

/// Where this byte stands for the first time without a backslash before it.
fn unescaped(text: &[u8], wanted: u8) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|&byte| {
        let found = byte == wanted && !escaped;
        escaped = byte == b'\\' && !escaped;
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_were_written() {
        for (fields, expected) in [
            (&b"x=1 5"[..], &[&b"x"[..]][..]),
            (br#"a\,b=1i,s="x,y=1 \" z=2",t=true 7"#, &[br"a\,b", b"s", b"t"]),
            (br#"s="a\\",u=2 -3"#, &[b"s", b"u"]),
            (b"a=1,b=2", &[b"a", b"b"]),
            (b"nonsense", &[]),
            (b"", &[]),
        ] {
            assert_eq!(names(fields).collect::<Vec<_>>(), expected, "{}", String::from_utf8_lossy(fields));
        }
    }

    #[test]
    fn sets_share_a_field_or_not_whatever_their_order() {
        let (known, mut added, hasher) = (FieldSets::default(), FieldSets::default(), DefaultHashBuilder::default());
        let [ab, ba, c, bc] =
            ["a=1,b=2 7", "b=3,a=1 7", "c=1 7", "b=1,c=2 7"].map(|row| known.of(&mut added, &hasher, row.as_bytes()));
        assert_eq!(known.of(&mut added, &hasher, b"a=9,b=8 6"), ab);
        for (one, other, share) in [(ab, ba, true), (ab, c, false), (c, bc, true), (c, FieldSet::ALL, true)] {
            assert_eq!((known.share(&added, one, other), known.share(&added, other, one)), (share, share));
        }
        let abc = known.union(&mut added, &hasher, ab, c);
        assert!(known.share(&added, abc, bc) && known.share(&added, abc, ba));
        let mut later = FieldSets::default();
        later.adopt(added);
        assert_eq!(later.of(&mut FieldSets::default(), &hasher, b"a=1,b=2 7"), ab, "it is known from now on");
        assert_eq!(later.union(&mut FieldSets::default(), &hasher, ab, c), abc);
    }
}
