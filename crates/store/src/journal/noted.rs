//! What the log says of rows with which something unusual happens, and whose they are.

use hashbrown::HashMap;

use heartwatch_domain::publisher::PublisherId;

/// Most publishers that one line names.
const NAMED_MAX: usize = 5;

/// How many they are, and whose those are that the log has not named yet. It is told of the first one, and again whenever
/// there are twice as many.
#[derive(Debug, Default)]
pub(super) struct Noted {
    rows: u64,
    untold: HashMap<PublisherId, u64>,
}

impl Noted {
    /// It has happened to more rows: how many all are and whose the last ones, where that is to be said now.
    pub(super) fn note(&mut self, more: HashMap<PublisherId, u64>) -> Option<(u64, String)> {
        let before = self.rows;
        for (publisher, rows) in more {
            self.rows = self.rows.saturating_add(rows);
            *self.untold.entry(publisher).or_default() += rows;
        }
        (self.rows.checked_ilog2() != before.checked_ilog2()).then(|| (self.rows, self.take_untold()))
    }

    /// Whose they are and how many, the most first.
    fn take_untold(&mut self) -> String {
        let mut untold: Vec<_> = self.untold.drain().collect();
        untold.sort_by(|(a, few), (b, many)| many.cmp(few).then_with(|| a.cmp(b)));
        let mut named: Vec<_> = untold.iter().take(NAMED_MAX).map(|(whose, rows)| format!("{whose}: {rows}")).collect();
        if untold.len() > NAMED_MAX {
            let rows: u64 = untold.iter().skip(NAMED_MAX).map(|(_, rows)| rows).sum();
            named.push(format!("{} others: {rows}", untold.len() - NAMED_MAX));
        }
        named.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_told_of_the_first_and_of_twice_as_many_and_whose_they_are() {
        let id = |number: u64| PublisherId::parse(&format!("p{number}")).unwrap();
        let mut noted = Noted::default();
        let mut note = |of: &[(u64, u64)]| noted.note(of.iter().map(|&(number, rows)| (id(number), rows)).collect());
        assert_eq!(note(&[]), None);
        assert_eq!(note(&[(1, 1)]), Some((1, "p1: 1".to_owned())));
        assert_eq!(note(&[(1, 1)]), Some((2, "p1: 1".to_owned())));
        assert_eq!(note(&[(1, 1)]), None);
        let many: Vec<_> = (1..=8).map(|number| (number, number)).collect();
        assert_eq!(note(&many), Some((39, "p8: 8, p7: 7, p6: 6, p5: 5, p4: 4, 3 others: 7".to_owned())));
    }
}
