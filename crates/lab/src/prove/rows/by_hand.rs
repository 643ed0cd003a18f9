//! Rows that no publisher of ours numbers and keeps: a device's messages, a number that is used a second time, the lines
//! of a program. Each is sent once, and its sender knows no more of it than whether the broker has confirmed it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::BytesMut;
use rumqttc::QoS;
use rumqttc::mqttbytes::v4::{Connect, Publish};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use heartwatch_domain::publisher::Incarnation;
use heartwatch_domain::reading::Sequence;

/// How long a broker may take to confirm what was sent.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);
/// MQTT 3.1.1, 3.2: the answer to a client that is taken.
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
/// MQTT 3.1.1, 3.4: the answer to a message begins with this, then its number.
const PUBACK: [u8; 2] = [0x40, 2];
/// Bytes of it.
const PUBACK_BYTES: usize = 4;
/// MQTT 3.1.1, 3.14.
const DISCONNECT: [u8; 2] = [0xe0, 0];

/// What is known of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was taken: it has to be in the store, once, or to be named.
    Taken,
    /// It may have got lost on the way, or may be what nobody can send: it is in the store once or not at all.
    Unsure,
}

/// A row: what is known of it, and its number, where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    /// What is known.
    pub fate: Fate,
    /// The life and the number that it was sent under.
    pub numbered: Option<(Incarnation, Sequence)>,
}

/// Rows by start and row, as the store has them.
pub(super) type Rows = BTreeMap<(u64, u64), Sent>;

/// Sends each message (topic and payload) once at QoS 1 over a connection of its own, and answers for each whether
/// the broker has confirmed it.
pub(super) async fn send_once(broker: SocketAddr, client: &str, messages: &[(String, Vec<u8>)]) -> Vec<bool> {
    let mut confirmed = vec![false; messages.len()];
    // whatever breaks off: what is confirmed by then is known, and the rest is not
    let _ = timeout(CONFIRM_TIMEOUT, send(broker, client, messages, &mut confirmed)).await;
    confirmed
}

async fn send(
    broker: SocketAddr,
    client: &str,
    messages: &[(String, Vec<u8>)],
    confirmed: &mut [bool],
) -> anyhow::Result<()> {
    let mut packets = BytesMut::new();
    Connect { keep_alive: 0, ..Connect::new(client) }.write(&mut packets)?;
    let mut stream = TcpStream::connect(broker).await?;
    stream.write_all(&packets).await?;
    let mut connack = [0; CONNACK.len()];
    stream.read_exact(&mut connack).await?;
    anyhow::ensure!(connack == CONNACK, "the broker does not take {client}: {connack:?}");
    packets.clear();
    for (number, (topic, payload)) in (1..).zip(messages) {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload.clone());
        publish.pkid = number;
        publish.write(&mut packets)?;
    }
    stream.write_all(&packets).await?;
    for _ in 0..messages.len() {
        let mut puback = [0; PUBACK_BYTES];
        stream.read_exact(&mut puback).await?;
        let [kind, length, number @ ..] = puback;
        anyhow::ensure!([kind, length] == PUBACK, "the broker says something else: {puback:?}");
        let index = usize::from(u16::from_be_bytes(number)).checked_sub(1).context("a message without a number")?;
        confirmed.get_mut(index).into_iter().for_each(|confirmed| *confirmed = true);
    }
    Ok(stream.write_all(&DISCONNECT).await?)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_the_broker_has_not_confirmed_is_not_known() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let broker = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 1024];
            let _ = stream.read(&mut bytes).await.unwrap();
            stream.write_all(&CONNACK).await.unwrap();
            let _ = stream.read(&mut bytes).await.unwrap();
            // the second of two, then the broker is gone
            stream.write_all(&[0x40, 2, 0, 2]).await.unwrap();
        });
        let messages = [("a/b".to_owned(), b"1".to_vec()), ("a/b".to_owned(), b"2".to_vec())];
        assert_eq!(send_once(address, "x", &messages).await, [false, true]);
        broker.await.unwrap();
    }
}
