//! heartwatch's own MQTT topics and payloads.
