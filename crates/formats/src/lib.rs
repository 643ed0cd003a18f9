//! Bytes ↔ values. Text from outside is parsed here, once, into types that can't be wrong.

pub mod agent;
pub mod api;
pub mod broker_user;
pub mod command;
pub mod csv_row;
pub mod envelope;
pub mod foreign;
pub mod line_protocol;
pub mod monitoring_command;
pub mod monitoring_data;
pub mod monitoring_row;
pub mod monitoring_sign;
pub mod notification;
pub mod sensor_line;
pub mod source_time;
pub mod users;
pub mod values;
