//! The account of every publisher as rows of `heartwatch_ledger`: soon after it changes, and now and then
//! so that a query always answers.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use heartwatch_domain::intake::IntakeEntry;
use heartwatch_domain::ledger::Account;
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::reading::FieldValue;
use heartwatch_domain::time::{Monotonic, Timestamp};
use heartwatch_formats::line_protocol;

const MEASUREMENT: &str = "heartwatch_ledger";
/// An account that has not changed is written again after this.
pub(super) const REPEAT_EVERY: Duration = Duration::from_secs(30);
/// Most rows at once; the accounts that were written longest ago go first, the rest comes with the next look.
const ROWS_MAX: usize = 5_000;

/// What was written last.
#[derive(Debug, Default)]
pub struct Written(HashMap<PublisherId, (Account, Monotonic)>);

impl Written {
    /// The rows that are due; none when nothing has changed and nothing is to be repeated.
    pub fn due(
        &mut self,
        accounts: BTreeMap<PublisherId, Account>,
        hosts: &HashMap<PublisherId, HostName>,
        now: Monotonic,
        time: Timestamp,
    ) -> Option<IntakeEntry> {
        self.0.retain(|publisher, _| accounts.contains_key(publisher));
        let mut due: Vec<(Option<Monotonic>, PublisherId, Account)> = accounts
            .into_iter()
            .filter_map(|(publisher, account)| match self.0.get(&publisher) {
                Some((written, at)) if *written == account && now.since(*at) < REPEAT_EVERY => None,
                written => Some((written.map(|(_, at)| *at), publisher, account)),
            })
            .collect();
        due.sort_by_key(|(at, ..)| *at);
        if due.len() > ROWS_MAX {
            tracing::debug!(due = due.len(), ROWS_MAX, "more accounts have changed than are written at once");
            due.truncate(ROWS_MAX);
        }
        let (mut lines, mut rows) = (Vec::new(), 0);
        for (_, publisher, account) in due {
            if append(&mut lines, &publisher, hosts.get(&publisher), account, time) {
                rows += 1;
            }
            self.0.insert(publisher, (account, now));
        }
        (rows > 0).then_some(IntakeEntry::Unnumbered { lines, rows })
    }
}

fn append(
    lines: &mut Vec<u8>,
    publisher: &PublisherId,
    host: Option<&HostName>,
    account: Account,
    time: Timestamp,
) -> bool {
    let fields =
        account.counts().map(|(name, value)| (name, FieldValue::Integer(i64::try_from(value).unwrap_or(i64::MAX))));
    // a publisher that was not heard since the start has no known host: an empty tag is left out
    let tags = [("host", host.map_or("", HostName::as_str)), ("publisher", publisher.as_str())];
    let fields = fields.iter().map(|(name, value)| (*name, value));
    let written = line_protocol::encode(lines, MEASUREMENT, tags.into_iter(), fields, time).is_ok();
    if written {
        lines.push(b'\n');
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_written_when_it_changes_and_repeated_now_and_then() {
        let mut written = Written::default();
        let id = |name: &str| PublisherId::parse(name).unwrap();
        let hosts = HashMap::from([(id("light"), HostName::parse("h1").unwrap())]);
        let mut due = |stored: u64, seconds: u64| {
            let account = Account { produced: stored + 1, received: stored, stored, missing: 1, ..Account::default() };
            let accounts = BTreeMap::from([(id("light"), account), (id("quiet"), Account::default())]);
            let now = Monotonic::START + Duration::from_secs(seconds);
            match written.due(accounts, &hosts, now, Timestamp::from_nanos(7)) {
                Some(IntakeEntry::Unnumbered { lines, .. }) => String::from_utf8(lines).unwrap(),
                _ => String::new(),
            }
        };
        let light = |stored: u64| {
            let produced = stored + 1;
            format!(
                "heartwatch_ledger,host=h1,publisher=light produced={produced}i,received={stored}i,stored={stored}i,\
                 buffered=0i,duplicates=0i,missing=1i,lost=0i,expired=0i,conflicts=0i 7\n"
            )
        };
        let quiet = "heartwatch_ledger,publisher=quiet produced=0i,received=0i,stored=0i,buffered=0i,duplicates=0i,\
                     missing=0i,lost=0i,expired=0i,conflicts=0i 7\n";
        assert_eq!(due(4, 0), light(4) + quiet);
        assert_eq!(due(4, 2), "");
        assert_eq!(due(5, 4), light(5));
        assert_eq!(due(5, 31), quiet, "thirty seconds after it was written");
        assert_eq!(due(5, 35), light(5));
    }

    #[test]
    fn a_crowd_is_written_in_turns() {
        let mut written = Written::default();
        let accounts: BTreeMap<_, _> = (0..ROWS_MAX + 3)
            .map(|number| (PublisherId::parse(&format!("p{number}")).unwrap(), Account::default()))
            .collect();
        let mut rows = |seconds: u64| {
            let now = Monotonic::START + Duration::from_secs(seconds);
            match written.due(accounts.clone(), &HashMap::new(), now, Timestamp::from_nanos(7)) {
                Some(IntakeEntry::Unnumbered { rows, .. }) => rows,
                _ => 0,
            }
        };
        assert_eq!([rows(0), rows(2), rows(4)], [ROWS_MAX as u64, 3, 0]);
    }
}
