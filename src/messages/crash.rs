//! tests → every actor: panic, to show that its supervisor stands it and that nothing is lost. No part of
//! the program sends it.

use actix::Message;

/// Makes the actor that handles it panic. Send it with `Outlet::ask`: `deliver` would try it on the next life.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Crash;

/// Lets an actor take a [`Crash`].
macro_rules! can_crash {
    ($actor:ty) => {
        impl actix::Handler<$crate::messages::crash::Crash> for $actor {
            type Result = ();
            fn handle(&mut self, _: $crate::messages::crash::Crash, _: &mut Self::Context) {
                panic!("a test asked for it");
            }
        }
    };
}
pub(crate) use can_crash;
