//! InfluxDB line protocol (<https://docs.influxdata.com/influxdb/v1/write_protocols/line_protocol_reference/>).
