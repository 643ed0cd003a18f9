//! Who has sent a request: the address that has connected, or the one that a trusted proxy names.

use std::net::IpAddr;

use actix_web::http::header::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// Where a proxy names whom it speaks for, one after the other, the last one itself the nearest.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// What only a proxy sends.
const OF_PROXIES: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) address: IpAddr,
    /// Whether it came through a proxy: then it may be anywhere, also where it seems to be on this machine.
    pub(super) by_proxy: bool,
}

impl Client {
    /// Only what a trusted proxy says of others is believed, the nearest first.
    pub(super) fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        if !is_trusted(peer, trusted) {
            let by_proxy = OF_PROXIES.iter().any(|name| headers.contains_key(*name));
            return Self { address: peer, by_proxy };
        }
        let lines: Vec<&str> = headers.get_all(FORWARDED_FOR).filter_map(|line| line.to_str().ok()).collect();
        let mut address = peer;
        for named in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            let Ok(named) = named.trim().parse::<IpAddr>() else { break };
            address = named.to_canonical();
            if !is_trusted(address, trusted) {
                break;
            }
        }
        Self { address, by_proxy: true }
    }
}

/// Whether this is one of our proxies.
pub(super) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn of(peer: &str, lines: &[&'static str]) -> (String, bool) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let Client { address, by_proxy } = Client::of(peer.parse().unwrap(), &headers, &trusted);
        (address.to_string(), by_proxy)
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_as_far_as_the_next_one_is_trusted() {
        let named = |address: &str, by_proxy| (address.to_owned(), by_proxy);
        assert_eq!(of("192.0.2.1", &[]), named("192.0.2.1", false));
        assert_eq!(of("192.0.2.1", &["127.0.0.1"]), named("192.0.2.1", true), "not believed, and noticed");
        assert_eq!(of("10.0.0.1", &["192.0.2.1"]), named("192.0.2.1", true));
        assert_eq!(of("::ffff:10.0.0.1", &["192.0.2.1"]), named("192.0.2.1", true));
        assert_eq!(of("10.0.0.1", &["127.0.0.1, 192.0.2.1, 10.2.3.4"]), named("192.0.2.1", true), "forged by a client");
        assert_eq!(of("10.0.0.1", &["127.0.0.1", "192.0.2.1"]), named("192.0.2.1", true), "on a line of its own");
        assert_eq!(of("10.0.0.1", &["192.0.2.1, unknown"]), named("10.0.0.1", true), "what cannot be read ends it");
        assert_eq!(of("::1", &[]), named("::1", true));
    }
}
