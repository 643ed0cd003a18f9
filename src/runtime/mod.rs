//! Floor 2: how actors live and end. The runtime is a value: no statics, no registry.

pub(crate) mod actor_health;
#[cfg(test)]
#[allow(unreachable_pub, reason = "the tests of other programs have it, too")]
#[path = "../../tests/support/failpoints.rs"]
pub(crate) mod failpoints;
pub mod outlet;
pub(crate) mod outlet_registry;
pub(crate) mod parts;
pub(crate) mod shutdown;
pub mod supervisor;
