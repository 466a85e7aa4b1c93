//! Requests that were made before: the same idempotency key must not run a command twice
//! (interfaces: idempotency).

use std::collections::{BTreeMap, HashSet, VecDeque};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use state::RESULT_LIFETIME;

/// Keys that are remembered here; whether an older one is known is looked up in the database.
const KEYS_LIMIT: usize = 4096;

/// What tells a request from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RepeatKey {
    /// Digest of the idempotency key.
    pub(crate) key: [u8; 32],
    /// Digest of the params.
    pub(crate) params: [u8; 32],
}

impl RepeatKey {
    /// The key of a request. The run's id does not count: a gateway makes up a new one for each
    /// dispatch.
    pub(crate) fn new(idempotency_key: &str, params: Option<&str>) -> Self {
        let params = params.unwrap_or("");
        let canonical = match serde_json::from_str::<BTreeMap<String, Value>>(params) {
            Ok(mut members) => {
                members.remove("runId");
                serde_json::to_string(&members).unwrap_or_else(|_| params.to_owned())
            }
            Err(_) => params.to_owned(),
        };
        Self {
            key: Sha256::digest(idempotency_key).into(),
            params: Sha256::digest(canonical).into(),
        }
    }
}

/// Which keys have a result in the database, so that the others need not be looked up.
#[derive(Debug, Default)]
pub(super) struct KnownKeys {
    /// The beginnings of the keys; a chance match costs a look-up.
    known: HashSet<u64>,
    /// The same in the order of their age, with the time of each in unix milliseconds.
    order: VecDeque<(u64, u64)>,
    /// The time of the last key that there was no more room for.
    evicted_at_ms: Option<u64>,
}

impl KnownKeys {
    pub(super) fn insert(&mut self, key: &[u8; 32], at_ms: u64) {
        let short = shortened(key);
        self.known.insert(short);
        self.order.push_back((short, at_ms));
        if self.order.len() > KEYS_LIMIT
            && let Some((short, at_ms)) = self.order.pop_front()
        {
            self.known.remove(&short);
            self.evicted_at_ms = Some(at_ms);
        }
    }

    /// Whether the database may hold a result under this key.
    pub(super) fn may_hold(&mut self, key: &[u8; 32], now_ms: u64) -> bool {
        while let Some((short, at_ms)) = self.order.front()
            && is_expired(*at_ms, now_ms)
        {
            self.known.remove(short);
            self.order.pop_front();
        }
        let is_evicted = |at_ms| !is_expired(at_ms, now_ms);
        self.known.contains(&shortened(key)) || self.evicted_at_ms.is_some_and(is_evicted)
    }
}

fn is_expired(at_ms: u64, now_ms: u64) -> bool {
    u128::from(now_ms.saturating_sub(at_ms)) > RESULT_LIFETIME.as_millis()
}

fn shortened(key: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *key;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME_MS: u64 = 600_000;

    fn key(number: u64) -> [u8; 32] {
        RepeatKey::new(&number.to_string(), None).key
    }

    #[test]
    fn the_params_count_but_not_their_order_nor_the_name_of_the_run() {
        let base = RepeatKey::new("k", Some(r#"{"command":["a"],"cwd":"/","runId":"1"}"#));
        let same = RepeatKey::new("k", Some(r#"{"cwd":"/", "command":["a"]}"#));
        assert_eq!(base, same);
        for (key, params) in [
            ("l", r#"{"command":["a"],"cwd":"/"}"#),
            ("k", r#"{"command":["b"],"cwd":"/"}"#),
            ("k", r#"{"command":["a"]}"#),
            ("k", "not json"),
        ] {
            assert_ne!(base, RepeatKey::new(key, Some(params)), "{key} {params}");
        }
    }

    #[test]
    fn a_key_is_known_for_its_lifetime() {
        let mut keys = KnownKeys::default();
        assert!(!keys.may_hold(&key(1), 1000));
        keys.insert(&key(1), 1000);
        assert!(keys.may_hold(&key(1), 1000 + LIFETIME_MS));
        assert!(!keys.may_hold(&key(2), 1000));
        assert!(!keys.may_hold(&key(1), 1001 + LIFETIME_MS));
        assert!(keys.order.is_empty() && keys.known.is_empty());
    }

    #[test]
    fn keys_beyond_the_limit_are_looked_up_rather_than_forgotten() {
        let mut keys = KnownKeys::default();
        for number in 0..=KEYS_LIMIT as u64 {
            keys.insert(&key(number), 1000);
        }
        assert_eq!(
            (keys.order.len(), keys.known.len()),
            (KEYS_LIMIT, KEYS_LIMIT)
        );
        assert!(keys.may_hold(&key(0), 1000 + LIFETIME_MS));
        assert!(!keys.may_hold(&key(0), 1001 + LIFETIME_MS));
    }
}
