//! The keys that say how long a publisher may be silent; `[[watch.override]]` and `[[publisher]]` have the same.

use std::time::Duration;

use super::kinds::{Settled as _, boolean, duration, positive_duration};
use super::reader::{Reader, Scope};
use heartwatch_domain::arrivals::Phi;
use heartwatch_domain::deadline::DeadlineKind;

/// The shortest that a deadline becomes which is not fixed, where nothing else is said.
const FLOOR_DEFAULT: Duration = Duration::from_secs(1);
/// The longest that a deadline of promised intervals becomes, where nothing else is said.
const INTERVALS_CEILING_DEFAULT: Duration = Duration::from_secs(24 * 3_600);

/// What a table says about the deadline.
pub(super) struct DeadlineKeys {
    /// The deadline, when one of its keys was given and right.
    pub(super) kind: Option<DeadlineKind>,
    pub(super) grace: Option<Duration>,
    /// Whether any of the keys is there, be it right or wrong.
    pub(super) given: bool,
}

/// Reads them. `general` is `watch.deadline`.
pub(super) fn deadline_keys<'a>(reader: &mut Reader<'a>, table: &Scope<'a>, general: Duration) -> DeadlineKeys {
    let fixed = reader.read(table, "deadline", None, positive_duration);
    let intervals = reader.read(table, "deadline_intervals", None, |given| given.number(1, 1_000));
    let adaptive = reader.read(table, "adaptive", None, boolean).filter(|adaptive| adaptive.value);
    let floor = reader.read(table, "floor", None, positive_duration);
    let ceiling = reader.read(table, "ceiling", None, positive_duration);
    let phi = reader.read(table, "phi", None, |given| {
        let wrong = || format!("must be from {} to {}: 8 is one false alarm in 10^8 arrivals", Phi::MIN, Phi::MAX);
        given.fraction().and_then(|phi| Phi::new(phi).ok_or_else(wrong))
    });
    let grace = reader.read(table, "grace", None, duration).value();

    let kinds = [
        ("deadline", fixed.as_ref().map(|fixed| &fixed.origin)),
        ("deadline_intervals", intervals.as_ref().map(|intervals| &intervals.origin)),
        ("adaptive", adaptive.as_ref().map(|adaptive| &adaptive.origin)),
    ];
    let mut chosen = kinds.iter().filter_map(|(name, origin)| Some((*name, (*origin)?)));
    let first = chosen.next();
    for (name, origin) in chosen {
        let other = first.map_or("", |(other, _)| other);
        let message = format!("'{other}' and '{name}' exclude each other: keep one");
        reader.mistake(origin, &table.key(name), message);
    }
    let fits = intervals.is_some() || adaptive.is_some();
    let wrong_kind = reader.has(table, "deadline_intervals") || reader.has(table, "adaptive");
    let bounds = [("floor", &floor), ("ceiling", &ceiling)];
    for (name, bound) in bounds {
        if let Some(bound) = bound.as_ref().filter(|_| !fits && !wrong_kind) {
            let message = "bounds a deadline that is not fixed: set 'deadline_intervals' or 'adaptive = true', too";
            reader.mistake(&bound.origin, &table.key(name), message);
        }
    }
    if let Some(phi) = phi.as_ref().filter(|_| adaptive.is_none()) {
        reader.mistake(&phi.origin, &table.key("phi"), "is for an adaptive deadline: set 'adaptive = true', too");
    }
    let ceiling_default = if intervals.is_some() { INTERVALS_CEILING_DEFAULT } else { general };
    let high = ceiling.as_ref().map_or(ceiling_default, |ceiling| ceiling.value);
    let low = floor.as_ref().map_or(FLOOR_DEFAULT.min(high), |floor| floor.value);
    if low > high
        && let Some(culprit) = floor.as_ref().or(ceiling.as_ref())
    {
        let message = format!(
            "the shortest deadline is longer than the longest one, {}: set 'ceiling', too",
            heartwatch_domain::time::describe_duration(high)
        );
        reader.mistake(&culprit.origin, &table.key("floor"), message);
    }
    let high = high.max(low);
    let kind = match (fixed, intervals, adaptive) {
        (Some(fixed), _, _) => Some(DeadlineKind::Fixed(fixed.value)),
        (_, Some(intervals), _) => Some(DeadlineKind::Intervals {
            count: u32::try_from(intervals.value).unwrap_or(u32::MAX),
            floor: low,
            ceiling: high,
            unpromised: general.clamp(low, high),
        }),
        (_, _, Some(_)) => {
            Some(DeadlineKind::Adaptive { phi: phi.value().unwrap_or_default(), floor: low, ceiling: high })
        }
        _ => None,
    };
    let names = ["deadline", "deadline_intervals", "adaptive", "floor", "ceiling", "phi", "grace"];
    let given = names.iter().any(|name| reader.has(table, name));
    DeadlineKeys { kind, grace, given }
}
