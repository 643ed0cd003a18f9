//! A measurement that is made several times: a machine that others share is not always as fast, and the middle one says more
//! than the only one.

/// The middle one of several measurements of the same, by the ratio that is asked about.
#[derive(Debug)]
pub(super) struct Middle<T> {
    pub measured: T,
    /// How many there were.
    pub times: usize,
    /// Of the ratios.
    pub lowest: f64,
    pub highest: f64,
}

impl<T> Middle<T> {
    /// Measures so many times, and tells of each as it comes, as JSON or by its name; none where a server is missing, which
    /// is said.
    ///
    /// # Errors
    /// What a measurement says.
    pub(super) async fn of_times(
        times: usize,
        json: bool,
        name: &str,
        measure: impl AsyncFn() -> anyhow::Result<Option<T>>,
        ratio: impl Fn(&T) -> f64,
    ) -> anyhow::Result<Option<Self>>
    where
        T: serde::Serialize,
    {
        let mut all = Vec::new();
        for _ in 0..times {
            let Some(measured) = measure().await? else {
                eprintln!("skipped: it needs mosquitto and influxd (Debian: apt-get install mosquitto influxdb)");
                return Ok(None);
            };
            if json {
                println!("{}", serde_json::to_string(&measured)?);
            } else {
                eprintln!("{name} measured");
            }
            all.push(measured);
        }
        Ok(Self::of(all, ratio))
    }

    /// Of an even number the lower one of the two in the middle; none of none.
    fn of(mut all: Vec<T>, ratio: impl Fn(&T) -> f64) -> Option<Self> {
        all.sort_by(|one, other| ratio(one).total_cmp(&ratio(other)));
        let (times, lowest, highest) = (all.len(), ratio(all.first()?), ratio(all.last()?));
        Some(Self { measured: all.swap_remove((times - 1) / 2), times, lowest, highest })
    }

    /// The columns of these, where one of the lines was measured more than once.
    pub(super) fn titles(lines: &[Self]) -> &'static [&'static str] {
        if Self::is_repeated(lines) { &["TIMES", "LOWEST", "HIGHEST"] } else { &[] }
    }

    /// What stands in these columns.
    pub(super) fn cells(&self, lines: &[Self]) -> Vec<String> {
        if !Self::is_repeated(lines) {
            return Vec::new();
        }
        vec![self.times.to_string(), format!("{:.2}", self.lowest), format!("{:.2}", self.highest)]
    }

    fn is_repeated(lines: &[Self]) -> bool {
        lines.iter().any(|line| line.times > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_one_is_shown_with_how_far_the_others_are_from_it() {
        let middle = |ratios: &[f64]| Middle::of(ratios.to_vec(), |ratio| *ratio);
        let three = middle(&[0.9, 0.7, 1.1]).unwrap();
        assert_eq!((three.measured, three.times, three.lowest, three.highest), (0.9, 3, 0.7, 1.1));
        assert_eq!(middle(&[0.9, 0.7]).unwrap().measured, 0.7, "the lower one flatters nobody");
        assert!(middle(&[]).is_none());
        let lines = [three, middle(&[1.0]).unwrap()];
        assert_eq!(Middle::titles(&lines).len(), lines[0].cells(&lines).len());
        assert_eq!(lines[0].cells(&lines), ["3", "0.70", "1.10"]);
        assert!(Middle::titles(&lines[1..]).is_empty() && lines[1].cells(&lines[1..]).is_empty());
    }
}
