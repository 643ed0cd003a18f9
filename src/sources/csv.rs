//! Readings from a CSV file.
