//! How one actor reaches another: by message type, across restarts, never past a mailbox's limit.
//!
//! A message is cloned for each attempt and kept until its reply has come. When the receiver panics
//! with the message in its mailbox, the message goes to the next life of the receiver, so nothing is
//! lost between two actors. A message whose receiver ended [`ATTEMPTS_MAX`] times while holding it is
//! handed back as [`Undelivered::Poison`]: the sender decides, and the receiver is spared.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message, Recipient};
use tokio::sync::watch;

use heartwatch_ports::BoxFuture;

/// How many lives of the receiver one message may take.
pub const ATTEMPTS_MAX: u32 = 3;

/// Why a message was not handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// The receiver ended [`ATTEMPTS_MAX`] times while it held this message.
    #[error("{receiver} ended {ATTEMPTS_MAX} times while it held this message")]
    Poison {
        /// The receiver's name.
        receiver: &'static str,
    },
    /// The receiver has stopped for good.
    #[error("{receiver} has stopped")]
    Stopped {
        /// The receiver's name.
        receiver: &'static str,
    },
    /// No answer to a question in time.
    #[error("{receiver} did not answer within {} ms", .timeout.as_millis())]
    TimedOut {
        /// The receiver's name.
        receiver: &'static str,
        /// How long we waited.
        timeout: Duration,
    },
}

/// The `Addr` of an actor's present life, whatever the actor's type; none while it is being started.
type Life = Option<Arc<dyn Any + Send + Sync>>;

/// Where an actor's supervisor says which life is the present one.
pub(super) struct Lives<A: Actor> {
    present: watch::Sender<Life>,
    actor: PhantomData<fn(A)>,
}

impl<A: Actor> Lives<A> {
    pub(super) fn begin(&self, life: Addr<A>) {
        self.present.send_replace(Some(Arc::new(life)));
    }

    pub(super) fn ended(&self) {
        self.present.send_replace(None);
    }
}

/// The address of an actor over its lives; made by the supervisor.
pub struct Address<A: Actor> {
    name: &'static str,
    lives: watch::Receiver<Life>,
    waiting: Arc<AtomicU64>,
    actor: PhantomData<fn(A)>,
}

impl<A: Actor> Clone for Address<A> {
    fn clone(&self) -> Self {
        Self { name: self.name, lives: self.lives.clone(), waiting: self.waiting.clone(), actor: PhantomData }
    }
}

impl<A: Actor> Address<A> {
    pub(super) fn new(name: &'static str) -> (Lives<A>, Self) {
        let (present, lives) = watch::channel(None);
        let address = Self { name, lives, waiting: Arc::default(), actor: PhantomData };
        (Lives { present, actor: PhantomData }, address)
    }

    /// The way to send it messages of one type.
    #[must_use]
    pub fn outlet<M>(&self) -> Outlet<M>
    where
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let recipient = |life: &dyn Any| life.downcast_ref::<Addr<A>>().cloned().map(Addr::recipient);
        Outlet { name: self.name, lives: self.lives.clone(), recipient, waiting: self.waiting.clone() }
    }
}

/// Whoever answers questions of one type. A port is a trait that lists the questions that one part answers; the address
/// of any actor that handles them implements it.
pub trait Answers<M>: Send + Sync
where
    M: Message,
{
    /// Asks as [`Outlet::ask`] does.
    fn ask(&self, question: M, timeout: Duration) -> BoxFuture<'static, Result<M::Result, Undelivered>>;
}

impl<A, M> Answers<M> for Address<A>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn ask(&self, question: M, timeout: Duration) -> BoxFuture<'static, Result<M::Result, Undelivered>> {
        let outlet = self.outlet();
        Box::pin(async move { outlet.ask(question, timeout).await })
    }
}

/// A way to send messages of one type to one actor, whichever life it is in.
pub struct Outlet<M>
where
    M: Message + Send,
    M::Result: Send,
{
    name: &'static str,
    lives: watch::Receiver<Life>,
    recipient: fn(&dyn Any) -> Option<Recipient<M>>,
    /// Of all message types together.
    waiting: Arc<AtomicU64>,
}

/// Counts a message from its sending until its answer, or until nobody waits for that any more.
struct Waits<'a>(&'a AtomicU64);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicU64) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<M> Clone for Outlet<M>
where
    M: Message + Send,
    M::Result: Send,
{
    fn clone(&self) -> Self {
        let Self { name, lives, recipient, waiting } = self;
        Self { name, lives: lives.clone(), recipient: *recipient, waiting: waiting.clone() }
    }
}

impl<M> fmt::Debug for Outlet<M>
where
    M: Message + Send,
    M::Result: Send,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outlet({})", self.name)
    }
}

impl<M> Outlet<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// Messages of every type that this receiver has not answered yet: those in its mailbox, those that it works on, and
    /// those whose senders wait for room there.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    fn recipient(&self, lives: &mut watch::Receiver<Life>) -> Option<Recipient<M>> {
        let life = lives.borrow_and_update().clone()?;
        (self.recipient)(life.as_ref())
    }

    /// Sends until the receiver has answered; waits while its mailbox is full or it is being restarted.
    /// Dropping the future takes the message back: never put a timeout around it.
    ///
    /// # Errors
    /// [`Undelivered::Poison`] or [`Undelivered::Stopped`].
    pub async fn deliver(&self, message: M) -> Result<M::Result, Undelivered>
    where
        M: Clone,
    {
        let _waits = Waits::new(&self.waiting);
        let mut lives = self.lives.clone();
        let mut attempts = 0;
        loop {
            if let Some(recipient) = self.recipient(&mut lives) {
                match recipient.send(message.clone()).await {
                    Ok(reply) => return Ok(reply),
                    Err(_) => attempts += 1,
                }
                if attempts >= ATTEMPTS_MAX {
                    return Err(Undelivered::Poison { receiver: self.name });
                }
            }
            if lives.changed().await.is_err() {
                return Err(Undelivered::Stopped { receiver: self.name });
            }
        }
    }

    /// Asks a question that may go unanswered: for snapshots, never for data. Waits where the receiver has not begun yet.
    ///
    /// # Errors
    /// [`Undelivered::TimedOut`] or [`Undelivered::Stopped`].
    pub async fn ask(&self, question: M, timeout: Duration) -> Result<M::Result, Undelivered> {
        let _waits = Waits::new(&self.waiting);
        let mut lives = self.lives.clone();
        let answer = async {
            loop {
                if let Some(recipient) = self.recipient(&mut lives) {
                    return recipient.send(question).await.map_err(|_| Undelivered::Stopped { receiver: self.name });
                }
                // it has not begun yet, or is being restarted
                if lives.changed().await.is_err() {
                    return Err(Undelivered::Stopped { receiver: self.name });
                }
            }
        };
        tokio::time::timeout(timeout, answer)
            .await
            .unwrap_or(Err(Undelivered::TimedOut { receiver: self.name, timeout }))
    }
}
