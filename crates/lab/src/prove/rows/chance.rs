//! What chance decides beside the plan's times.

/// Numbers that follow from one number of the plan.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    /// From a number of the plan.
    #[must_use]
    pub(super) const fn new(number: u64) -> Self {
        Self(number)
    }

    /// A number below `below`; a different one each time.
    pub(super) const fn next(&mut self, below: u64) -> u64 {
        let number = self.0 % below;
        // the generator of Knuth's MMIX
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407).rotate_left(17);
        number
    }
}
