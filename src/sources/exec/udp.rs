//! Rows to InfluxDB's UDP listener, besides the way through the broker. A datagram that is lost is lost:
//! nobody tells, and the server drops them in silence when it has much to do.

use std::net::UdpSocket;

use super::ExecError;
use heartwatch_domain::publisher::{HostName, PublisherId};
use heartwatch_domain::reading::Reading;
use heartwatch_formats::line_protocol::encode_reading;

/// Rows of one datagram stay below what Ethernet carries in one piece.
const DATAGRAM_BYTES_MAX: usize = 1_400;

pub(super) struct Udp {
    socket: UdpSocket,
    address: String,
    publisher: PublisherId,
    host: HostName,
    failed: u64,
}

impl Udp {
    pub(super) fn open(address: &str, publisher: PublisherId, host: HostName) -> Result<Self, ExecError> {
        let wrong = |source| ExecError::Udp { address: address.to_owned(), source };
        let all = std::net::ToSocketAddrs::to_socket_addrs(address).map_err(wrong)?;
        let any = if all.clone().next().is_some_and(|to| to.is_ipv6()) { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).map_err(wrong)?;
        socket.set_nonblocking(true).map_err(wrong)?;
        socket.connect(&*all.collect::<Vec<_>>()).map_err(wrong)?;
        tracing::warn!(
            %publisher, address,
            "rows go over UDP as well: it may lose any of them and nobody is told; the way through the broker loses none"
        );
        Ok(Self { socket, address: address.to_owned(), publisher, host, failed: 0 })
    }

    /// Sends them, with the tags, the time and so the place that they get in the database by the other way.
    pub(super) fn send(&mut self, readings: &[Reading]) {
        let mut datagram = Vec::new();
        for reading in readings {
            let mut row = Vec::new();
            // one that cannot be a row is told of by its publisher
            if encode_reading(&mut row, &self.publisher, &self.host, reading).is_err() {
                continue;
            }
            row.push(b'\n');
            if !datagram.is_empty() && datagram.len() + row.len() > DATAGRAM_BYTES_MAX {
                self.send_one(&datagram);
                datagram.clear();
            }
            datagram.extend(row);
        }
        if !datagram.is_empty() {
            self.send_one(&datagram);
        }
    }

    fn send_one(&mut self, datagram: &[u8]) {
        let Err(error) = self.socket.send(datagram) else { return };
        self.failed += 1;
        if self.failed.is_power_of_two() {
            tracing::warn!(address = self.address, failed = self.failed, %error, "rows over UDP were not sent");
        }
    }
}
