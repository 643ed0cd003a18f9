//! The outside world of one monitor, each part behind a port: brokers, the database, processes, whoever is notified.

pub mod broker;
pub mod command;
pub mod influx;
pub mod mail;
pub mod monitor;
pub mod mqtt;
pub mod process;
pub mod service_manager;
pub mod webhook;
