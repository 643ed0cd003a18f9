//! Where every row is: brokers, databases, disks and kills, the ledger, `prove --rows`, backups.

mod backup;
mod broker;
mod child;
mod export;
mod faults;
mod influx;
mod influx_v2;
mod influx_writer;
mod lost_rows;
mod mqtt;
mod prove_rows;
mod reconcile;
mod shutdown;
#[path = "../support/mod.rs"]
mod support;
mod upgrade;
