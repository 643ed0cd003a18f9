//! Maintenance windows: while somebody works on a publisher, its verdicts are decided, recorded and
//! shown as ever, but nobody is called. A verdict that outlasts the window is told at its end.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::deadline::IdPattern;
use crate::publisher::{HostName, PublisherId};
use crate::time::Timestamp;

/// Longest window that a command may open: a forgotten one ends some day.
pub const WINDOW_MAX: Duration = Duration::from_secs(31 * 86_400);
/// Most windows that were opened by command at one time.
pub const WINDOWS_MAX: usize = 1_000;

/// A window that was opened by command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// For whom: an id, a pattern, or `host:NAME` for everyone there.
    pub publisher: IdPattern,
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// Why, for whoever looks; may be empty.
    #[serde(default)]
    pub reason: String,
}

/// When a configured window is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Once.
    Once {
        /// From when.
        from: Timestamp,
        /// Until when.
        to: Timestamp,
    },
    /// Every week.
    Weekly(Weekly),
}

/// A span of the week in UTC, written `Sat 02:00-04:00`; over midnight where the end is not after the begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weekly {
    /// Minutes since Monday 00:00.
    begin: u32,
    /// Its length in minutes, at most a day.
    minutes: u32,
}

/// A window of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scheduled {
    /// For whom.
    pub publisher: IdPattern,
    /// When.
    pub schedule: Schedule,
    /// Why.
    pub reason: String,
}

/// An open window, as it bears on one publisher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Until when.
    pub until: Timestamp,
    /// Why; may be empty.
    #[serde(default)]
    pub reason: String,
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MINUTE_NANOS: i64 = 60_000_000_000;
const DAY_MINUTES: u32 = 24 * 60;
const WEEK_MINUTES: u32 = 7 * DAY_MINUTES;
/// 1970-01-01 was a Thursday.
const EPOCH_MINUTE_OF_WEEK: i64 = 3 * 24 * 60;

impl Weekly {
    /// Until when it is open, when it is.
    #[must_use]
    pub fn open_until(self, now: Timestamp) -> Option<Timestamp> {
        let minute = now.as_nanos().div_euclid(MINUTE_NANOS);
        let of_week = (minute + EPOCH_MINUTE_OF_WEEK).rem_euclid(i64::from(WEEK_MINUTES));
        let into = (of_week - i64::from(self.begin)).rem_euclid(i64::from(WEEK_MINUTES));
        let left = i64::from(self.minutes) - into;
        (left > 0).then(|| Timestamp::from_nanos((minute + left).saturating_mul(MINUTE_NANOS)))
    }
}

impl FromStr for Weekly {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a span of the week in UTC like \"Sat 02:00-04:00\"");
        let (day, span) = text.trim().split_once(' ').ok_or_else(wrong)?;
        let day = DAYS.iter().position(|name| name.eq_ignore_ascii_case(day)).ok_or_else(wrong)?;
        let (begin, end) = span.trim().split_once('-').ok_or_else(wrong)?;
        let minutes = |time: &str, max: u32| -> Option<u32> {
            let (hours, minutes) = time.trim().split_once(':')?;
            let two = |text: &str| (text.len() == 2).then(|| text.parse::<u32>().ok()).flatten();
            let (hours, minutes) = (two(hours)?, two(minutes)?);
            (minutes < 60 && hours * 60 + minutes <= max).then_some(hours * 60 + minutes)
        };
        let begin = minutes(begin, DAY_MINUTES - 1).ok_or_else(wrong)?;
        let end = minutes(end, DAY_MINUTES).ok_or_else(wrong)?;
        let length = if end > begin { end - begin } else { end + DAY_MINUTES - begin };
        let day = u32::try_from(day).map_err(|_| wrong())?;
        Ok(Self { begin: day * DAY_MINUTES + begin, minutes: length })
    }
}

impl fmt::Display for Weekly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = DAYS.get((self.begin / DAY_MINUTES) as usize).copied().unwrap_or_default();
        let begin = self.begin % DAY_MINUTES;
        let end = (begin + self.minutes) % DAY_MINUTES;
        write!(f, "{day} {:02}:{:02}-{:02}:{:02}", begin / 60, begin % 60, end / 60, end % 60)
    }
}

/// All windows that are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maintenance {
    windows: Vec<Window>,
    scheduled: Vec<Scheduled>,
}

impl Maintenance {
    /// The windows of an earlier run and of the configuration.
    #[must_use]
    pub fn new(windows: Vec<Window>, scheduled: Vec<Scheduled>) -> Self {
        Self { windows, scheduled }
    }

    /// The configuration has changed.
    pub fn schedule(&mut self, scheduled: Vec<Scheduled>) {
        self.scheduled = scheduled;
    }

    /// Opens a window; one for the same pattern is replaced.
    ///
    /// # Errors
    /// When there are too many, in words.
    pub fn begin(&mut self, window: Window, now: Timestamp) -> Result<(), String> {
        self.windows.retain(|open| open.to > now && open.publisher != window.publisher);
        if self.windows.len() >= WINDOWS_MAX {
            return Err(format!("{WINDOWS_MAX} windows are open: end one, or use a pattern"));
        }
        self.windows.push(window);
        Ok(())
    }

    /// Ends the windows that were opened for exactly this pattern. Returns how many.
    pub fn end(&mut self, publisher: &IdPattern, now: Timestamp) -> usize {
        self.windows.retain(|open| open.to > now);
        let before = self.windows.len();
        self.windows.retain(|open| open.publisher != *publisher);
        before - self.windows.len()
    }

    /// The windows that were opened by command and are not over.
    #[must_use]
    pub fn windows(&self, now: Timestamp) -> Vec<Window> {
        self.windows.iter().filter(|window| window.to > now).cloned().collect()
    }

    /// The windows of the configuration that are open.
    #[must_use]
    pub fn scheduled_open(&self, now: Timestamp) -> Vec<Window> {
        let open = self.scheduled.iter().filter_map(|scheduled| {
            let to = scheduled.open_until(now)?;
            Some(Window { publisher: scheduled.publisher.clone(), from: now, to, reason: scheduled.reason.clone() })
        });
        open.collect()
    }

    /// The window that this publisher is in, the one that lasts longest; none when it is in none.
    #[must_use]
    pub fn covers(&self, id: &PublisherId, host: &HostName, now: Timestamp) -> Option<Open> {
        if self.windows.is_empty() && self.scheduled.is_empty() {
            return None;
        }
        let host = host_id(host);
        let matches = |pattern: &IdPattern| {
            pattern.matches(id) || host.as_ref().is_some_and(|host| pattern.is_of_hosts() && pattern.matches(host))
        };
        let commanded = self
            .windows
            .iter()
            .filter(|window| window.from <= now && window.to > now && matches(&window.publisher))
            .map(|window| Open { until: window.to, reason: window.reason.clone() });
        let scheduled =
            self.scheduled.iter().filter(|scheduled| matches(&scheduled.publisher)).filter_map(|scheduled| {
                Some(Open { until: scheduled.open_until(now)?, reason: scheduled.reason.clone() })
            });
        commanded.chain(scheduled).max_by_key(|open| open.until)
    }
}

impl Scheduled {
    fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self.schedule {
            Schedule::Once { from, to } => (from <= now && now < to).then_some(to),
            Schedule::Weekly(weekly) => weekly.open_until(now),
        }
    }
}

/// The name under which a host's own changes are told; none where the host's name is too long for it.
#[must_use]
pub fn host_id(host: &HostName) -> Option<PublisherId> {
    PublisherId::parse(&format!("host:{host}")).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn id(text: &str) -> PublisherId {
        PublisherId::parse(text).unwrap()
    }

    fn far() -> HostName {
        HostName::parse("far").unwrap()
    }

    #[test]
    fn a_weekly_window_is_open_in_its_hours_alone() {
        let weekly: Weekly = "Sat 02:00-04:00".parse().unwrap();
        // 2026-11-21 is a Saturday.
        for (now, until) in [
            ("2026-11-21T01:59:59Z", None),
            ("2026-11-21T02:00:00Z", Some("2026-11-21T04:00:00Z")),
            ("2026-11-21T03:59:59Z", Some("2026-11-21T04:00:00Z")),
            ("2026-11-21T04:00:00Z", None),
            ("2026-11-22T03:00:00Z", None),
            ("2026-11-28T03:00:00Z", Some("2026-11-28T04:00:00Z")),
        ] {
            assert_eq!(weekly.open_until(time(now)), until.map(time), "{now}");
        }
        let over_sunday: Weekly = "sun 23:30-00:30".parse().unwrap();
        assert_eq!(over_sunday.open_until(time("2026-11-23T00:10:00Z")), Some(time("2026-11-23T00:30:00Z")));
        assert_eq!(over_sunday.to_string(), "Sun 23:30-00:30");
        let all_day: Weekly = "Mon 00:00-24:00".parse().unwrap();
        assert_eq!(all_day.open_until(time("2026-11-23T12:00:00Z")), Some(time("2026-11-24T00:00:00Z")));
        for wrong in ["", "Sat", "Sat 2:00-4:00", "Sat 02:00", "Sat 25:00-26:00", "Day 02:00-04:00", "Sat 02:60-04:00"]
        {
            assert!(wrong.parse::<Weekly>().unwrap_err().contains("Sat 02:00-04:00"), "{wrong}");
        }
    }

    #[test]
    fn a_window_covers_its_publishers_and_a_hosts_window_everyone_there() {
        let now = time("2026-11-21T12:00:00Z");
        let window = |publisher: &str, minutes: u64| Window {
            publisher: IdPattern::new(publisher),
            from: now,
            to: now + Duration::from_secs(minutes * 60),
            reason: "new disk".to_owned(),
        };
        let mut maintenance = Maintenance::default();
        maintenance.begin(window("light-*", 30), now).unwrap();
        maintenance.begin(window("light-1", 60), now).unwrap();
        let covers = |maintenance: &Maintenance, who: &str, now| maintenance.covers(&id(who), &far(), now);
        assert_eq!(covers(&maintenance, "light-1", now).unwrap().until, now + Duration::from_secs(3_600));
        assert_eq!(covers(&maintenance, "light-2", now).unwrap().reason, "new disk");
        assert_eq!(covers(&maintenance, "light-2", now + Duration::from_secs(1_800)), None, "it is over");
        assert_eq!(covers(&maintenance, "boiler", now), None);
        assert_eq!(maintenance.end(&IdPattern::new("light-1"), now), 1);
        assert_eq!(covers(&maintenance, "light-1", now).unwrap().until, now + Duration::from_secs(1_800));
        maintenance.begin(window("host:far", 5), now).unwrap();
        assert!(covers(&maintenance, "boiler", now).is_some());
        assert_eq!(maintenance.covers(&id("boiler"), &HostName::parse("near").unwrap(), now), None);
        let once = Schedule::Once { from: now, to: now + Duration::from_secs(60) };
        maintenance.schedule(vec![Scheduled {
            publisher: IdPattern::new("b*"),
            schedule: once,
            reason: String::new(),
        }]);
        assert_eq!(maintenance.scheduled_open(now).len(), 1);
        assert_eq!(maintenance.windows(now + Duration::from_secs(600)).len(), 1, "those that are over are gone");
    }

    proptest! {
        /// A window of the week is open for its own length in each week, and says when it ends.
        #[test]
        fn a_week_has_the_windows_minutes(day in 0_usize..7, begin in 0_u32..1_440, end in 0_u32..1_441, week in 0_i64..3_000) {
            let text = format!("{} {:02}:{:02}-{:02}:{:02}", DAYS[day], begin / 60, begin % 60, end / 60, end % 60);
            let weekly: Weekly = text.parse().unwrap();
            let minute = |m: i64| Timestamp::from_nanos((week * i64::from(WEEK_MINUTES) + m) * MINUTE_NANOS);
            let open: Vec<i64> =
                (0..i64::from(WEEK_MINUTES)).filter(|m| weekly.open_until(minute(*m)).is_some()).collect();
            prop_assert_eq!(open.len(), weekly.minutes as usize);
            prop_assert_eq!(weekly.to_string().parse::<Weekly>(), Ok(weekly));
            let until = weekly.open_until(minute(open[0])).unwrap();
            prop_assert!(weekly.open_until(until).is_none() && until > minute(open[0]));
        }
    }
}
