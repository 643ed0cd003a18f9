//! A transport whose connection can be replaced by one to another broker, while those who publish keep their handle.

use std::sync::{Arc, PoisonError, RwLock};

use heartwatch_ports::{BoxFuture, Outgoing, Receipt, Transport, TransportError, TransportWaiting};

/// Hands everything to the transport that it holds at the moment.
pub struct ReplaceableTransport(RwLock<Arc<dyn Transport>>);

impl ReplaceableTransport {
    /// Over this one at first.
    #[must_use]
    pub fn new(first: Arc<dyn Transport>) -> Self {
        Self(RwLock::new(first))
    }

    /// From now on over this one. What the one before still holds is for its owner to end.
    pub fn replace(&self, next: Arc<dyn Transport>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    fn current(&self) -> Arc<dyn Transport> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Transport for ReplaceableTransport {
    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<(), TransportError>> {
        let current = self.current();
        Box::pin(async move { current.publish(message).await })
    }

    fn try_publish(&self, message: Outgoing) -> Result<(), TransportError> {
        self.current().try_publish(message)
    }

    /// PendingAcks belong to one transport: whoever acknowledges holds that one. These go to the current one.
    fn acknowledge(&self, receipts: Vec<Receipt>) {
        self.current().acknowledge(receipts);
    }

    fn disconnect(&self) -> BoxFuture<'_, ()> {
        let current = self.current();
        Box::pin(async move { current.disconnect().await })
    }

    fn payload_bytes_max(&self) -> usize {
        self.current().payload_bytes_max()
    }

    fn waiting(&self) -> Option<TransportWaiting> {
        self.current().waiting()
    }
}
