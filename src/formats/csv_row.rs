//! One CSV row ↔ fields.
