//! How often one client may ask: a bucket of tokens for each, refilled as time passes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;

use heartwatch_domain::time::Monotonic;

/// Clients that are remembered; beyond it the ones whose bucket is full again are forgotten.
const CLIENTS_MAX: usize = 4_096;

/// The buckets of all clients, by what they are told apart.
#[derive(Debug)]
pub(super) struct Rate<K> {
    every: Duration,
    burst: u32,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Monotonic,
}

impl<K: Hash + Eq> Rate<K> {
    /// One request every `every`, and `burst` at once after a pause.
    pub(super) fn new(every: Duration, burst: u32) -> Self {
        Self { every, burst, buckets: Mutex::default() }
    }

    /// Takes a token; when there is none: how long until there is.
    pub(super) fn take(&self, client: K, now: Monotonic) -> Result<(), Duration> {
        let Ok(mut buckets) = self.buckets.lock() else { return Ok(()) };
        if buckets.len() >= CLIENTS_MAX && !buckets.contains_key(&client) {
            buckets.retain(|_, bucket| self.refilled(*bucket, now) < f64::from(self.burst));
            if buckets.len() >= CLIENTS_MAX {
                return Err(self.every);
            }
        }
        let bucket = buckets.entry(client).or_insert(Bucket { tokens: f64::from(self.burst), at: now });
        let tokens = self.refilled(*bucket, now);
        if tokens < 1.0 {
            return Err(self.every.mul_f64(1.0 - tokens));
        }
        *bucket = Bucket { tokens: tokens - 1.0, at: now };
        Ok(())
    }

    fn refilled(&self, bucket: Bucket, now: Monotonic) -> f64 {
        let more = now.since(bucket.at).as_secs_f64() / self.every.as_secs_f64();
        (bucket.tokens + more).min(f64::from(self.burst))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_pace_counts_for_each_client_alone() {
        let rate = Rate::new(Duration::from_millis(100), 3);
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let at = |millis: u64| Monotonic::from_nanos(millis * 1_000_000);
        for _ in 0..3 {
            assert_eq!(rate.take(one, at(0)), Ok(()));
        }
        assert_eq!(rate.take(one, at(0)), Err(Duration::from_millis(100)));
        assert_eq!(rate.take(other, at(0)), Ok(()));
        assert_eq!(rate.take(one, at(100)), Ok(()));
        assert!(rate.take(one, at(101)).is_err());
    }

    #[test]
    fn a_crowd_of_addresses_takes_bounded_memory() {
        let rate = Rate::new(Duration::from_secs(1), 2);
        for n in 0..10_000_u32 {
            let _ = rate.take(IpAddr::from(n.to_be_bytes()), Monotonic::START);
        }
        assert!(rate.buckets.lock().unwrap().len() <= CLIENTS_MAX);
        assert_eq!(rate.take(IpAddr::from([99, 0, 0, 1]), Monotonic::START + Duration::from_secs(9)), Ok(()));
    }
}
