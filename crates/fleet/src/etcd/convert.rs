//! Our words ↔ etcd's messages.

use std::time::Duration;

use crate::wire::etcd::RangeResponse;
use heartwatch_ports::{Keys, Snapshot, StoreError, Stored};

/// `key` and `range_end` of a request. A prefix ends before the next text of its length (etcd's own rule:
/// the last byte plus one).
pub(super) fn key_range(keys: &Keys) -> (Vec<u8>, Vec<u8>) {
    match keys {
        Keys::One(key) => (key.clone().into_bytes(), Vec::new()),
        Keys::Prefix(prefix) => {
            let key = prefix.clone().into_bytes();
            let mut end = key.clone();
            while let Some(last) = end.pop() {
                if last < u8::MAX {
                    end.push(last + 1);
                    return (key, end);
                }
            }
            // everything
            (if key.is_empty() { vec![0] } else { key }, vec![0])
        }
    }
}

/// A lease has whole seconds, one at least.
pub(super) fn lease_seconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX)
}

pub(super) fn snapshot(answer: RangeResponse) -> Result<Snapshot, StoreError> {
    if answer.more {
        return Err(StoreError::Refused(format!("{} keys are too many for one answer", answer.count)));
    }
    let revision = answer.header.map_or(0, |header| header.revision);
    let values = answer.kvs.into_iter().map(|found| Stored {
        key: String::from_utf8_lossy(&found.key).into_owned(),
        value: found.value,
        revision: found.mod_revision,
    });
    Ok(Snapshot { values: values.collect(), revision })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range_that_ends_before_the_next_text() {
        let range = |prefix: &str| key_range(&Keys::Prefix(prefix.to_owned()));
        assert_eq!(range("/a/"), (b"/a/".to_vec(), b"/a0".to_vec()));
        assert_eq!(range(""), (vec![0], vec![0]), "everything");
        assert_eq!(key_range(&Keys::One("/a".to_owned())), (b"/a".to_vec(), vec![]));
    }

    #[test]
    fn a_lease_has_at_least_a_second() {
        assert_eq!(lease_seconds(Duration::from_millis(300)), 1);
        assert_eq!(lease_seconds(Duration::from_secs(5)), 5);
    }
}
