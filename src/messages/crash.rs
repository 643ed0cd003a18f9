//! tests → every actor: panic, or handle nothing any more, to show that its supervisor stands it and that
//! nothing is lost. No part of the program sends it.

use actix::Message;

/// Makes the actor that handles it panic. Send it with `Outlet::ask`: `deliver` would try it on the next life.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Crash;

/// Makes the actor that handles it wait for ever: it is there, and handles nothing more.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Hang;

/// Lets an actor take a [`Crash`] and a [`Hang`].
macro_rules! can_crash {
    ($actor:ty) => {
        impl actix::Handler<$crate::messages::crash::Crash> for $actor {
            type Result = ();
            fn handle(&mut self, _: $crate::messages::crash::Crash, _: &mut Self::Context) {
                panic!("a test asked for it");
            }
        }
        impl actix::Handler<$crate::messages::crash::Hang> for $actor {
            type Result = ();
            fn handle(&mut self, _: $crate::messages::crash::Hang, ctx: &mut Self::Context) {
                let for_ever = actix::fut::wrap_future::<_, Self>(std::future::pending::<()>());
                actix::AsyncContext::wait(ctx, for_ever);
            }
        }
    };
}
pub(crate) use can_crash;
