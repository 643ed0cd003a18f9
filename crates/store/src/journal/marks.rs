//! Which messages of publishers that do not number their readings are here, by what their sources call them: a message that
//! comes again makes no second row. What is here is written in the transaction of the rows, so that a crash
//! between the commit and the acknowledgement changes nothing.
//!
//! - **Kafka**: the offsets that came, by cluster, topic and partition. At most [`RANGES_MAX`] ranges of them: beyond it, a
//!   gap at the lowest offsets counts as come. A topic that was made anew begins at offset 0 again: that shows where it
//!   ends before what is known of it, or where a message was written after all that is known.
//! - **MQTT**: packet ids with a hash of topic and payload, of the latest [`MARKS_MIN`] messages at least. A broker uses a packet
//!   id again after the acknowledgement, so that only a message with the flag DUP can be one that came before.

use std::sync::Arc;

use hashbrown::HashMap;
use rusqlite::{Connection, Transaction, params};

use crate::encoding::{Decoder, put_number};
use crate::records;
use heartwatch_domain::marks::{MqttMark, SourceMark};
use heartwatch_domain::time::Timestamp;

/// Most ranges of offsets of one partition.
const RANGES_MAX: usize = 256;
/// Most partitions that are known after a start: those that were read first go first.
const PARTITIONS_MAX: u64 = 10_000;
/// A copy of a message is known within so many messages after it, or among the first so many of a connection to its session.
/// Fewer than the packet ids that there are: one that was used again is another message.
const COPY_WITHIN_MESSAGES: u64 = 8_192;
/// Records that a session's marks are written to, one after the other: a commit writes one of them.
const SLOTS: u64 = 128;
/// Marks from which on a record is full. It has as many more as the commit had that filled it.
const SLOT_MARKS: usize = 64;
/// How many of the latest marks of a session are known after a restart.
const MARKS_MIN: usize = 128 * SLOT_MARKS;
/// Most sessions that are known after a start.
const SESSIONS_MAX: u64 = 16;

const KAFKA: &str = "kafka position ";
const MQTT: &str = "mqtt marks ";

type Partition = (Arc<str>, i32);

/// The messages that are here.
#[derive(Debug, Default)]
pub(super) struct Marks {
    partitions: HashMap<Partition, Position>,
    sessions: HashMap<Arc<str>, Session>,
}

/// What a commit adds.
#[derive(Debug, Default)]
pub(super) struct NewMarks {
    partitions: HashMap<Partition, Position>,
    sessions: HashMap<Arc<str>, NewInSession>,
    /// Topics that were made anew, in words.
    pub(super) made_anew: Vec<String>,
}

/// Offsets of a partition that came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Position {
    /// First and last, in order; they neither touch nor overlap.
    ranges: Vec<(i64, i64)>,
    /// When the latest message of them was written.
    written_at: Option<Timestamp>,
}

/// A message at QoS 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    packet_id: u16,
    /// See [`MqttMark::number`]; 0 for one that came before the program started.
    number: u64,
    content: u64,
}

#[derive(Debug, Default)]
struct Session {
    /// See [`MqttMark::began`].
    began: Option<u64>,
    by_id: HashMap<u16, Entry>,
    slot: Slot,
}

/// The record that is written next, as it stands.
#[derive(Debug, Clone, Default)]
struct Slot {
    /// How many records were begun before.
    turn: u64,
    marks: Vec<Entry>,
}

#[derive(Debug, Default)]
struct NewInSession {
    began: Option<u64>,
    /// The broker has another session: what is known belongs to the one before.
    is_another: bool,
    by_id: HashMap<u16, Entry>,
    new: Vec<Entry>,
    /// What was written.
    slot: Slot,
}

impl Position {
    fn last(&self) -> Option<i64> {
        self.ranges.last().map(|(_, last)| *last)
    }

    fn has(&self, offset: i64) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= offset);
        after.checked_sub(1).and_then(|at| self.ranges.get(at)).is_some_and(|(_, last)| offset <= *last)
    }

    /// Adds an offset that is not in it.
    fn add(&mut self, offset: i64) {
        let after = self.ranges.partition_point(|(first, _)| *first < offset);
        let touches_before = after
            .checked_sub(1)
            .filter(|at| self.ranges.get(*at).is_some_and(|(_, last)| last.checked_add(1) == Some(offset)));
        let touches_after = self.ranges.get(after).is_some_and(|(first, _)| offset.checked_add(1) == Some(*first));
        match (touches_before, touches_after) {
            (Some(before), true) => {
                let (_, last) = self.ranges.remove(after);
                self.end(before, last);
            }
            (Some(before), false) => self.end(before, offset),
            (None, true) => {
                if let Some((first, _)) = self.ranges.get_mut(after) {
                    *first = offset;
                }
            }
            (None, false) => self.ranges.insert(after, (offset, offset)),
        }
        if self.ranges.len() > RANGES_MAX {
            let (first, _) = self.ranges.remove(0);
            if let Some((lowest, _)) = self.ranges.first_mut() {
                *lowest = first;
            }
        }
    }

    fn end(&mut self, at: usize, end: i64) {
        if let Some((_, last)) = self.ranges.get_mut(at) {
            *last = end;
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        put_number(&mut bytes, self.written_at.is_some().into());
        put_number(&mut bytes, self.written_at.map_or(0, Timestamp::as_nanos).cast_unsigned());
        for (first, last) in &self.ranges {
            put_number(&mut bytes, first.cast_unsigned());
            put_number(&mut bytes, last.cast_unsigned());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Decoder(bytes);
        let is_written = from.number()? != 0;
        let written_at = Timestamp::from_nanos(from.number()?.cast_signed());
        let mut ranges = Vec::new();
        while !from.is_empty() {
            ranges.push((from.number()?.cast_signed(), from.number()?.cast_signed()));
        }
        Some(Self { ranges, written_at: is_written.then_some(written_at) })
    }
}

impl Slot {
    /// With the marks of one more commit.
    fn with(&self, new: &[Entry]) -> Self {
        if self.marks.len() >= SLOT_MARKS {
            return Self { turn: self.turn + 1, marks: new.to_vec() };
        }
        Self { turn: self.turn, marks: [&self.marks, new].concat() }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + 16 * self.marks.len());
        put_number(&mut bytes, self.turn);
        for Entry { packet_id, content, .. } in &self.marks {
            put_number(&mut bytes, u64::from(*packet_id));
            bytes.extend_from_slice(&content.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Decoder(bytes);
        let mut slot = Self { turn: from.number()?, marks: Vec::new() };
        while !from.is_empty() {
            let packet_id = u16::try_from(from.number()?).ok()?;
            slot.marks.push(Entry { packet_id, number: 0, content: u64::from_le_bytes(from.array()?) });
        }
        Some(slot)
    }
}

impl Entry {
    /// Whether a message with the flag DUP is this one again.
    fn is(&self, mark: &MqttMark) -> bool {
        // a connection to the broker that was made anew counts from 1 again
        let messages = mark.number.checked_sub(self.number).unwrap_or(mark.number);
        self.content == mark.content && messages <= COPY_WITHIN_MESSAGES
    }
}

impl Marks {
    /// Whether the message with this mark is here already; if it is not, it is from now on, by `added`. `retained` says of one that
    /// the broker had kept.
    pub(super) fn is_here(&self, added: &mut NewMarks, mark: Option<&SourceMark>) -> bool {
        match mark {
            None | Some(SourceMark::Retained) => false,
            Some(SourceMark::HandedOn) => true,
            Some(SourceMark::Mqtt(mark)) => self.is_in_session(added, mark),
            Some(SourceMark::Kafka { topic, partition, offset, written_at, end }) => {
                let NewMarks { partitions, made_anew, .. } = added;
                let key = (Arc::clone(topic), *partition);
                let known = || self.partitions.get(&key).cloned().unwrap_or_default();
                let position = partitions.entry(key.clone()).or_insert_with(known);
                let ends_before = position.last().zip(*end).is_some_and(|(last, end)| last >= end);
                let is_later =
                    position.has(*offset) && position.written_at.is_some() && *written_at > position.written_at;
                if ends_before || is_later {
                    let last = position.last().unwrap_or_default();
                    made_anew.push(format!(
                        "partition {partition} of {topic}, known up to {last}, has another message {offset}"
                    ));
                    *position = Position::default();
                }
                if position.has(*offset) {
                    return true;
                }
                position.add(*offset);
                position.written_at = position.written_at.max(*written_at);
                false
            }
        }
    }

    fn is_in_session(&self, added: &mut NewMarks, mark: &MqttMark) -> bool {
        let known = self.sessions.get(&mark.session);
        let began = known.and_then(|known| known.began);
        let session = || NewInSession { began, ..NewInSession::default() };
        let new = added.sessions.entry(Arc::clone(&mark.session)).or_insert_with(session);
        if mark.began.is_some() && mark.began != new.began {
            *new = NewInSession { began: mark.began, is_another: true, ..NewInSession::default() };
        }
        let of_before = known.filter(|_| !new.is_another).and_then(|known| known.by_id.get(&mark.packet_id));
        let same_id = new.by_id.get(&mark.packet_id).or(of_before);
        if mark.duplicate && same_id.is_some_and(|entry| entry.is(mark)) {
            return true;
        }
        let entry = Entry { packet_id: mark.packet_id, number: mark.number, content: mark.content };
        new.by_id.insert(mark.packet_id, entry);
        new.new.push(entry);
        false
    }

    /// Writes what a commit adds, in its transaction.
    pub(super) fn write(&self, added: &mut NewMarks, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        for ((topic, partition), position) in &added.partitions {
            records::write(transaction, &format!("{KAFKA}{partition} {topic}"), &position.encode())?;
        }
        for (name, new) in &mut added.sessions {
            let known = self.sessions.get(name).filter(|_| !new.is_another);
            if new.is_another {
                for slot in 0..SLOTS {
                    records::remove(transaction, &format!("{MQTT}{slot} {name}"))?;
                }
            }
            new.slot = known.map_or_else(Slot::default, |known| known.slot.clone());
            if !new.new.is_empty() {
                new.slot = new.slot.with(&new.new);
                let slot = new.slot.turn % SLOTS;
                records::write(transaction, &format!("{MQTT}{slot} {name}"), &new.slot.encode())?;
            }
        }
        Ok(())
    }

    /// Takes over what a commit has added.
    pub(super) fn adopt(&mut self, added: NewMarks) {
        for what in added.made_anew {
            tracing::warn!(
                what,
                "a Kafka topic was made anew: its messages are other ones than those of the same offsets before"
            );
        }
        self.partitions.extend(added.partitions);
        for (name, new) in added.sessions {
            let session = self.sessions.entry(name).or_default();
            if new.is_another {
                session.by_id.clear();
            }
            session.began = new.began;
            session.by_id.extend(new.by_id);
            session.slot = new.slot;
        }
    }

    /// What is here, at the start.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut marks = Self::default();
        for (name, value) in records::read_all(connection, KAFKA)? {
            let name =
                name.split_once(' ').and_then(|(partition, topic)| Some((topic.into(), partition.parse().ok()?)));
            if let (Some(name), Some(position)) = (name, Position::decode(&value)) {
                marks.partitions.insert(name, position);
            }
        }
        let mut slots: HashMap<Arc<str>, Vec<Slot>> = HashMap::new();
        for (name, value) in records::read_all(connection, MQTT)? {
            if let (Some((_, session)), Some(slot)) = (name.split_once(' '), Slot::decode(&value)) {
                slots.entry(session.into()).or_default().push(slot);
            }
        }
        for (name, mut slots) in slots {
            slots.sort_unstable_by_key(|slot| slot.turn);
            let entries: Vec<Entry> = slots.iter().flat_map(|slot| slot.marks.iter().copied()).collect();
            let latest = entries.get(entries.len().saturating_sub(MARKS_MIN)..).unwrap_or_default();
            let by_id = latest.iter().map(|entry| (entry.packet_id, *entry)).collect();
            marks.sessions.insert(name, Session { began: None, by_id, slot: slots.pop().unwrap_or_default() });
        }
        Ok(marks)
    }

    /// Forgets the oldest partitions and sessions where there are too many.
    pub(super) fn forget(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        for (prefix, records_max) in [(KAFKA, PARTITIONS_MAX), (MQTT, SESSIONS_MAX * SLOTS)] {
            let sql = "DELETE FROM records WHERE substr(name, 1, length(?1)) = ?1 AND id NOT IN
                       (SELECT id FROM records WHERE substr(name, 1, length(?1)) = ?1 ORDER BY id DESC LIMIT ?2)";
            transaction.execute(sql, params![prefix, records_max.cast_signed()])?;
        }
        Ok(())
    }
}
