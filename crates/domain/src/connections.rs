//! Which connections a listener keeps. When there are as many as it takes, the one of least use makes room for the next.
//!
//! A *stranger* is a connection whose client has shown nothing yet that lets it in. Of least use is a stranger, and among
//! strangers the one from which the longest time no whole request has come: single bytes do not count, so that a client
//! that sends slowly is as idle as one that sends nothing. Then come those whose client is known and that only wait for
//! something of it. A connection that a known client is being served on is never closed for another one.

use std::collections::HashMap;
// addresses as values: no socket is in `core`
use core::net::{IpAddr, Ipv6Addr};

use super::time::Monotonic;

/// How many connections a listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Together.
    pub connections_max: usize,
    /// From one address; see [`client_network`].
    pub connections_per_address_max: usize,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There are as many as are taken, and none of them can be closed for this one.
    Full,
    /// There are as many from this address as are taken from one, and none of them can be closed for this one.
    Address,
}

/// A connection that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Its number, which no other one gets.
    pub id: u64,
    /// The one that is to be closed for it.
    pub evicts: Option<u64>,
}

/// Those that one person or network has, as one: the address, and for IPv6 its /64, of which everybody has 2^64.
#[must_use]
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// One connection.
#[derive(Debug)]
struct Entry {
    /// None where connections of its address are not counted.
    network: Option<IpAddr>,
    is_known: bool,
    /// Whether it waits for its client.
    is_waiting: bool,
    /// When the last whole request came; when it was taken, as long as none has.
    heard: Monotonic,
    /// Until when its client has to send the rest of a request.
    due: Option<Monotonic>,
    /// Until when its client has to take some of what is being sent to it.
    write_due: Option<Monotonic>,
}

impl Entry {
    /// Strangers first, the idlest first; none for one that is being served.
    fn use_of(&self) -> Option<(bool, Monotonic)> {
        (!self.is_known || self.is_waiting).then_some((self.is_known, self.heard))
    }
}

/// All connections of a listener.
#[derive(Debug)]
pub struct ConnectionTable {
    limits: ConnectionLimits,
    entries: HashMap<u64, Entry>,
    by_network: HashMap<IpAddr, usize>,
    last_id: u64,
}

impl ConnectionTable {
    /// Without a connection.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Self {
        Self { limits, entries: HashMap::new(), by_network: HashMap::new(), last_id: 0 }
    }

    /// A client has connected. `address` is none where all clients have the same, such as behind a proxy.
    ///
    /// # Errors
    /// [`Refusal`] when no connection can make room for it.
    pub fn admit(&mut self, address: Option<IpAddr>, now: Monotonic) -> Result<Admission, Refusal> {
        let network = address.map(client_network);
        let of_network = network.and_then(|network| self.by_network.get(&network)).copied().unwrap_or_default();
        let evicts = if of_network >= self.limits.connections_per_address_max {
            Some(self.least_used(|entry| entry.network == network).ok_or(Refusal::Address)?)
        } else if self.entries.len() >= self.limits.connections_max {
            Some(self.least_used(|_| true).ok_or(Refusal::Full)?)
        } else {
            None
        };
        if let Some(id) = evicts {
            self.remove(id);
        }
        self.last_id += 1;
        let id = self.last_id;
        let entry = Entry { network, is_known: false, is_waiting: true, heard: now, due: None, write_due: None };
        self.entries.insert(id, entry);
        if let Some(network) = network {
            *self.by_network.entry(network).or_default() += 1;
        }
        Ok(Admission { id, evicts })
    }

    /// The connection that is to be closed when the system has no descriptor left. It is gone from the table.
    pub fn evict(&mut self) -> Option<u64> {
        let id = self.least_used(|_| true)?;
        self.remove(id);
        Some(id)
    }

    fn least_used(&self, among: impl Fn(&Entry) -> bool) -> Option<u64> {
        let candidates = self.entries.iter().filter(|(_, entry)| among(entry));
        let candidates = candidates.filter_map(|(id, entry)| entry.use_of().map(|order| (order, *id)));
        candidates.min().map(|(_, id)| id)
    }

    /// Its client has until then to send what is missing.
    pub fn waits(&mut self, id: u64, until: Monotonic) {
        if let Some(entry) = self.entries.get_mut(&id) {
            (entry.is_waiting, entry.due) = (true, Some(until));
        }
    }

    /// It waits for its client, which may take its time.
    pub fn idles(&mut self, id: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            (entry.is_waiting, entry.due) = (true, None);
        }
    }

    /// A whole request has come, which is being served.
    pub fn serves(&mut self, id: u64, now: Monotonic) {
        if let Some(entry) = self.entries.get_mut(&id) {
            (entry.is_waiting, entry.due, entry.heard) = (false, None, now);
        }
    }

    /// Its client has shown who it is.
    pub fn is_known(&mut self, id: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.is_known = true;
        }
    }

    /// Its client takes nothing of what is sent to it, and has until then.
    pub fn write_blocked(&mut self, id: u64, until: Monotonic) {
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.write_due.is_none()
        {
            entry.write_due = Some(until);
        }
    }

    /// Its client has taken something. What it has to send next has time until then, too.
    pub fn wrote(&mut self, id: u64, until: Monotonic) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.write_due = None;
            entry.due = entry.due.map(|due| due.max(until));
        }
    }

    /// Those whose client is too slow. They are gone from the table.
    pub fn overdue(&mut self, now: Monotonic) -> Vec<u64> {
        let over = |due: Option<Monotonic>| due.is_some_and(|due| due <= now);
        let slow = self.entries.iter().filter(|(_, entry)| over(entry.due) || over(entry.write_due));
        let slow: Vec<u64> = slow.map(|(id, _)| *id).collect();
        slow.iter().for_each(|id| self.remove(*id));
        slow
    }

    /// It is closed.
    pub fn remove(&mut self, id: u64) {
        let Some(network) = self.entries.remove(&id).and_then(|entry| entry.network) else { return };
        if let Some(count) = self.by_network.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.by_network.remove(&network);
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::START + Duration::from_secs(seconds)
    }

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    fn table(connections_max: usize, connections_per_address_max: usize) -> ConnectionTable {
        ConnectionTable::new(ConnectionLimits { connections_max, connections_per_address_max })
    }

    #[test]
    fn the_idlest_stranger_makes_room_and_bytes_do_not_make_it_less_idle() {
        let mut table = table(3, 3);
        let slow = table.admit(address(1), at(0)).unwrap().id;
        let known = table.admit(address(2), at(0)).unwrap().id;
        table.serves(known, at(1));
        table.is_known(known);
        let later = table.admit(address(3), at(2)).unwrap().id;
        // a byte now and then
        table.waits(slow, at(60));
        assert_eq!(table.admit(address(4), at(3)).unwrap().evicts, Some(slow));
        assert_eq!(table.admit(address(4), at(4)).unwrap().evicts, Some(later));
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn who_is_known_is_closed_last_and_never_while_it_is_served() {
        let mut table = table(2, 2);
        let [idle, served] = [0, 1].map(|second| {
            let id = table.admit(address(1), at(second)).unwrap().id;
            table.is_known(id);
            table.serves(id, at(second));
            id
        });
        assert_eq!(table.admit(address(2), at(2)), Err(Refusal::Full));
        assert_eq!(table.admit(address(1), at(2)), Err(Refusal::Address));
        assert_eq!(table.evict(), None);
        table.waits(idle, at(60));
        assert_eq!(table.admit(address(2), at(3)).unwrap().evicts, Some(idle));
        table.remove(served);
        assert_eq!(table.admit(address(2), at(4)).unwrap().evicts, None);
    }

    #[test]
    fn an_address_at_its_limit_closes_one_of_its_own() {
        let mut table = table(10, 2);
        let other = table.admit(address(9), at(0)).unwrap();
        let first = table.admit(address(1), at(1)).unwrap();
        assert_eq!((other.evicts, first.evicts), (None, None));
        assert_eq!(table.admit(address(1), at(2)).unwrap().evicts, None);
        assert_eq!(table.admit(address(1), at(3)).unwrap().evicts, Some(first.id), "the idlest of all is another's");
        for _ in 0..5 {
            assert_eq!(table.admit(None, at(4)).unwrap().evicts, None, "those behind a proxy are not counted");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let network = |text: &str| client_network(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2::9"));
        assert_ne!(network("2001:db8:1:2::9"), network("2001:db8:1:3::9"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    }

    #[test]
    fn deadlines_hold_for_what_is_to_be_sent_and_for_what_is_to_be_taken() {
        let mut table = table(10, 10);
        let id = table.admit(address(1), at(0)).unwrap().id;
        table.waits(id, at(10));
        assert!(table.overdue(at(9)).is_empty());
        table.serves(id, at(9));
        assert!(table.overdue(at(3_600)).is_empty(), "a stream may last");
        table.write_blocked(id, at(20));
        table.write_blocked(id, at(30));
        table.wrote(id, at(50));
        assert!(table.overdue(at(31)).is_empty(), "it has taken something");
        table.write_blocked(id, at(40));
        assert_eq!(table.overdue(at(40)), [id]);
        assert!(table.is_empty());
        let id = table.admit(address(1), at(0)).unwrap().id;
        table.waits(id, at(10));
        table.wrote(id, at(50));
        assert_eq!((table.overdue(at(49)), table.overdue(at(50))), (vec![], vec![id]));
    }
}
