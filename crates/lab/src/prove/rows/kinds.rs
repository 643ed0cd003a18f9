//! The kinds of faults, what each needs, and what it may cost.

use serde::Serialize;

/// What is done to the delivery of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RowFault {
    /// SIGKILL to a publisher.
    PublisherKill,
    /// SIGSTOP to a publisher, and SIGCONT.
    PublisherStop,
    /// SIGTERM to a publisher, and a new start.
    PublisherRestart,
    /// SIGKILL to the broker.
    BrokerKill,
    /// SIGSTOP to the broker, and SIGCONT.
    BrokerStop,
    /// SIGTERM to the broker, and a new start.
    BrokerRestart,
    /// SIGKILL to the monitor (with its embedded broker).
    MonitorKill,
    /// SIGSTOP to the monitor, and SIGCONT.
    MonitorStop,
    /// SIGTERM to the monitor, and a new start.
    MonitorRestart,
    /// SIGKILL to InfluxDB.
    InfluxKill,
    /// SIGSTOP to InfluxDB, and SIGCONT.
    InfluxStop,
    /// SIGTERM to InfluxDB, and a new start.
    InfluxRestart,
    /// InfluxDB breaks off every connection.
    InfluxRefuses,
    /// InfluxDB takes requests and never answers.
    InfluxHangs,
    /// InfluxDB answers 500.
    InfluxError,
    /// InfluxDB stores half of a batch and answers 400, partial write.
    InfluxPartial,
    /// InfluxDB stores a batch, and its answer is lost.
    InfluxAnswerLost,
    /// A connection to the broker is cut in the middle of a message.
    LineCut,
    /// A connection to the broker carries nothing for a while.
    LineFrozen,
    /// A publisher's outbox is full.
    OutboxFull,
    /// The monitor's journal is full.
    JournalFull,
    /// The end of a publisher's outbox, or of its log, is torn off.
    OutboxTorn,
    /// A bit of a publisher's outbox, or of its log, is flipped.
    OutboxFlipped,
    /// The log of a publisher's outbox is cut anywhere.
    OutboxLogCut,
    /// A bit of the log of a publisher's outbox is flipped.
    OutboxLogFlipped,
    /// The header of the log of a publisher's outbox is damaged.
    OutboxLogHeader,
    /// The main file of a publisher's outbox is cut anywhere.
    OutboxFileCut,
    /// A bit of the main file of a publisher's outbox is flipped.
    OutboxFileFlipped,
    /// The end of the monitor's journal, or of its log, is torn off.
    JournalTorn,
    /// A bit of the monitor's journal, or of its log, is flipped.
    JournalFlipped,
    /// The journal's log is cut anywhere.
    JournalLogCut,
    /// A bit of the journal's log is flipped.
    JournalLogFlipped,
    /// The header of the journal's log is damaged.
    JournalLogHeader,
    /// The journal's main file is cut anywhere.
    JournalFileCut,
    /// A bit of the journal's main file is flipped.
    JournalFileFlipped,
    /// The wall clock of a publisher or of the monitor is wrong, goes back and goes forward.
    ClockStep,
    /// A publisher floods a small journal that is the store: what is oldest makes room.
    BufferFlood,
    /// A device that is no heartwatch publisher sends a burst of messages without a time of their own.
    DeviceBurst,
    /// A device's burst arrives, nothing of what the monitor acknowledges does, and the monitor is killed.
    RedeliveryAfterKill,
    /// Somebody else sends a reading with a publisher's number, and other content.
    NumberTaken,
    /// A program prints lines that no publisher can send, among good ones.
    Unsendable,
    /// The monitor works in another data directory for a while, and comes back to its own.
    MonitorMoves,
    /// A publisher works in another data directory for a while, and comes back to its own.
    PublisherMoves,
    /// The monitor starts on a disk without room, which gets some later.
    DiskFullAtStart,
}

/// What there is on a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Equipment {
    /// InfluxDB; without it rows are kept in the journal.
    pub influxdb: bool,
    /// A broker that is a program of its own.
    pub own_broker: bool,
}

impl RowFault {
    /// Every kind, in the order of the report.
    pub(super) const ALL: [Self; 44] = [
        Self::PublisherKill,
        Self::PublisherStop,
        Self::PublisherRestart,
        Self::BrokerKill,
        Self::BrokerStop,
        Self::BrokerRestart,
        Self::MonitorKill,
        Self::MonitorStop,
        Self::MonitorRestart,
        Self::InfluxKill,
        Self::InfluxStop,
        Self::InfluxRestart,
        Self::InfluxRefuses,
        Self::InfluxHangs,
        Self::InfluxError,
        Self::InfluxPartial,
        Self::InfluxAnswerLost,
        Self::LineCut,
        Self::LineFrozen,
        Self::OutboxFull,
        Self::JournalFull,
        Self::OutboxTorn,
        Self::OutboxFlipped,
        Self::OutboxLogCut,
        Self::OutboxLogFlipped,
        Self::OutboxLogHeader,
        Self::OutboxFileCut,
        Self::OutboxFileFlipped,
        Self::JournalTorn,
        Self::JournalFlipped,
        Self::JournalLogCut,
        Self::JournalLogFlipped,
        Self::JournalLogHeader,
        Self::JournalFileCut,
        Self::JournalFileFlipped,
        Self::ClockStep,
        Self::BufferFlood,
        Self::DeviceBurst,
        Self::RedeliveryAfterKill,
        Self::NumberTaken,
        Self::Unsendable,
        Self::MonitorMoves,
        Self::PublisherMoves,
        Self::DiskFullAtStart,
    ];

    /// In words.
    #[must_use]
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::PublisherKill => "publisher killed",
            Self::PublisherStop => "publisher stopped and continued",
            Self::PublisherRestart => "publisher restarted",
            Self::BrokerKill => "broker killed",
            Self::BrokerStop => "broker stopped and continued",
            Self::BrokerRestart => "broker restarted",
            Self::MonitorKill => "monitor killed",
            Self::MonitorStop => "monitor stopped and continued",
            Self::MonitorRestart => "monitor restarted",
            Self::InfluxKill => "InfluxDB killed",
            Self::InfluxStop => "InfluxDB stopped and continued",
            Self::InfluxRestart => "InfluxDB restarted",
            Self::InfluxRefuses => "InfluxDB refuses connections",
            Self::InfluxHangs => "InfluxDB never answers",
            Self::InfluxError => "InfluxDB answers 500",
            Self::InfluxPartial => "InfluxDB: partial write",
            Self::InfluxAnswerLost => "InfluxDB stores, answer lost",
            Self::LineCut => "connection cut in a message",
            Self::LineFrozen => "connection frozen",
            Self::OutboxFull => "outbox full",
            Self::JournalFull => "journal full",
            Self::OutboxTorn => "outbox torn at its end",
            Self::OutboxFlipped => "outbox with a flipped bit",
            Self::OutboxLogCut => "outbox's log cut",
            Self::OutboxLogFlipped => "outbox's log with a flipped bit",
            Self::OutboxLogHeader => "outbox's log without its header",
            Self::OutboxFileCut => "outbox's main file cut",
            Self::OutboxFileFlipped => "outbox's main file with a flipped bit",
            Self::JournalTorn => "journal torn at its end",
            Self::JournalFlipped => "journal with a flipped bit",
            Self::JournalLogCut => "journal's log cut",
            Self::JournalLogFlipped => "journal's log with a flipped bit",
            Self::JournalLogHeader => "journal's log without its header",
            Self::JournalFileCut => "journal's main file cut",
            Self::JournalFileFlipped => "journal's main file with a flipped bit",
            Self::ClockStep => "clock set back and forward",
            Self::BufferFlood => "flood into a small journal",
            Self::DeviceBurst => "burst of a device",
            Self::RedeliveryAfterKill => "burst, acknowledgements lost, monitor killed",
            Self::NumberTaken => "a number used twice",
            Self::Unsendable => "lines that cannot be sent",
            Self::MonitorMoves => "monitor elsewhere and back",
            Self::PublisherMoves => "publisher elsewhere and back",
            Self::DiskFullAtStart => "disk full when the monitor starts",
        }
    }

    /// Whether it needs a broker that is a program of its own.
    #[must_use]
    pub(super) const fn needs_own_broker(self) -> bool {
        matches!(self, Self::BrokerKill | Self::BrokerStop | Self::BrokerRestart | Self::RedeliveryAfterKill)
    }

    /// Whether it needs a real InfluxDB. A full journal does as well: without a sink its history makes room.
    #[must_use]
    pub(super) const fn needs_influxdb(self) -> bool {
        matches!(
            self,
            Self::InfluxKill
                | Self::InfluxStop
                | Self::InfluxRestart
                | Self::InfluxRefuses
                | Self::InfluxHangs
                | Self::InfluxError
                | Self::InfluxPartial
                | Self::InfluxAnswerLost
                | Self::JournalFull
        )
    }

    /// Whether it can be injected on a stage with this.
    #[must_use]
    pub(super) const fn is_possible_with(self, equipment: Equipment) -> bool {
        let stored_as_needed = match self {
            Self::BufferFlood => !equipment.influxdb,
            _ => equipment.influxdb || !self.needs_influxdb(),
        };
        let broker_as_needed = match self {
            // a broker of its own gives both of its lives all messages, as it should
            Self::MonitorMoves => !equipment.own_broker,
            _ => equipment.own_broker || !self.needs_own_broker(),
        };
        stored_as_needed && broker_as_needed
    }

    /// Whether the monitor runs with a small journal until it is healed.
    #[must_use]
    pub(super) const fn makes_journal_small(self) -> bool {
        matches!(self, Self::JournalFull | Self::BufferFlood)
    }

    /// Whether a broker ends by it, or may: one that is a program of its own, or the monitor's.
    #[must_use]
    pub(super) const fn may_end_broker(self, own_broker: bool) -> bool {
        if own_broker {
            return matches!(self, Self::BrokerKill | Self::BrokerRestart);
        }
        let ends_monitor = matches!(
            self,
            Self::MonitorKill | Self::MonitorRestart | Self::MonitorMoves | Self::DiskFullAtStart | Self::ClockStep
        );
        ends_monitor || self.makes_journal_small() || self.damages_journal()
    }

    /// Whether it damages the file of an outbox.
    #[must_use]
    pub(super) const fn damages_outbox(self) -> bool {
        matches!(
            self,
            Self::OutboxTorn
                | Self::OutboxFlipped
                | Self::OutboxLogCut
                | Self::OutboxLogFlipped
                | Self::OutboxLogHeader
                | Self::OutboxFileCut
                | Self::OutboxFileFlipped
        )
    }

    /// Whether it damages the file of the journal.
    #[must_use]
    pub(super) const fn damages_journal(self) -> bool {
        matches!(
            self,
            Self::JournalTorn
                | Self::JournalFlipped
                | Self::JournalLogCut
                | Self::JournalLogFlipped
                | Self::JournalLogHeader
                | Self::JournalFileCut
                | Self::JournalFileFlipped
        )
    }

    /// Whether it destroys rows, so that some may be lost, by name.
    #[must_use]
    pub(super) const fn destroys(self) -> bool {
        matches!(self, Self::OutboxFull) || self.damages_outbox() || self.damages_journal()
    }
}
