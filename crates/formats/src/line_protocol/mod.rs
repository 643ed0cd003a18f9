//! InfluxDB line protocol (<https://docs.influxdata.com/influxdb/v1/write_protocols/line_protocol_reference/>),
//! both ways, and split into rows.
//!
//! What can't be written so that every InfluxDB reads the same back is refused, never changed in
//! silence. Seen on InfluxDB 1.6.7:
//! - the server reads a backslash at the end of a name or tag value as an escape of what follows, and
//!   there is no way to write it; inside a name, before `,`, `=`, space, `"` or another backslash, it
//!   is read differently in different places. Inside a tag value it is fine;
//! - a line that starts with `#` is a comment: such a measurement would vanish with status 204;
//! - a field called `time` is dropped in silence with status 204, a tag called `time` refused;
//! - of two fields with one name the last wins, two tags with one name are refused;
//! - control characters in names and tags end a row or are stripped, in different ways in 1.x and 3.x.
//!   In text fields they are fine, line breaks included: so a row is not the same as a line, and
//!   [`Rows`] is what takes a batch apart;
//! - times outside ±9223372036854775806 ns are refused.

mod decode;
mod encode;

pub use decode::{BorrowedRow, DecodeError, DecodedRow, Rows, decode, decode_borrowed};
pub use encode::{EncodeError, NamePart, Problem, ReadingEncoder, check_reading, encode, encode_reading, source_tag};

#[cfg(test)]
mod tests;
