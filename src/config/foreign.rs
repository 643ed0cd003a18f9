//! The `[[foreign]]` tables: devices that know nothing of heartwatch.

use std::time::Duration;

use super::deadlines::deadline_keys;
use super::document::Given;
use super::reader::{Origin, Reader, Scope, Sourced};
use super::settings::{Broker, ForeignEntry, Mqtt, PublisherEntry};
use heartwatch_domain::deadline::IdPattern;
use heartwatch_formats::csv_row::CellType;
use heartwatch_formats::foreign::{Field, Foreign, Path, Payload, Template, TimeAt, TopicPattern, covers, overlap};
use heartwatch_formats::source_time::{SOURCE_TIME, TimeFormat};
use heartwatch_formats::values;

/// Most columns of a CSV row.
const COLUMNS_MAX: u64 = 256;

/// The forms of a payload by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    LineProtocol,
    Number,
    Text,
    Csv,
    Collectd,
}

const FORMS: [(&str, Form); 6] = [
    ("json", Form::Json),
    ("line-protocol", Form::LineProtocol),
    ("number", Form::Number),
    ("text", Form::Text),
    ("csv", Form::Csv),
    ("collectd", Form::Collectd),
];

/// The types of a field by name.
pub(super) const TYPES: [(&str, CellType); 4] = [
    ("float", CellType::Float),
    ("integer", CellType::Integer),
    ("boolean", CellType::Boolean),
    ("text", CellType::Text),
];

/// All of them, each with topics that no other one has in part.
pub(super) fn foreign(
    reader: &mut Reader<'_>,
    mqtt: &Mqtt,
    deadline: Duration,
    publishers: &[PublisherEntry],
    notes: &mut Vec<String>,
) -> Vec<ForeignEntry> {
    let root = reader.root();
    let mut devices: Vec<(ForeignEntry, Origin)> = Vec::new();
    for table in reader.tables(&root, "foreign") {
        let Some((device, origin)) = one(reader, &table, mqtt, deadline) else { continue };
        let filter = device.device.topic.filter();
        for (other, at) in &devices {
            let earlier = other.device.topic.filter();
            let Origin::Line(line) = at else { continue };
            let wrong = if covers(&earlier, &filter) {
                format!("every message of it goes to the table of line {line} already: put this one before that")
            } else if overlap(&earlier, &filter) && !covers(&filter, &earlier) {
                format!(
                    "shares some topics with line {line}, whose messages a broker may deliver twice: make them apart"
                )
            } else {
                continue;
            };
            reader.mistake(&origin, &table.key("topic"), wrong);
        }
        apart_from_ours(reader, &table, (&device, &origin), publishers, notes);
        devices.push((device, origin));
    }
    devices.into_iter().map(|(device, _)| device).collect()
}

/// A device under the id of a publisher that we start would speak for it: it would be alive while it is dead.
fn apart_from_ours<'a>(
    reader: &mut Reader<'a>,
    table: &Scope<'a>,
    (device, origin): (&ForeignEntry, &Origin),
    publishers: &[PublisherEntry],
    notes: &mut Vec<String>,
) {
    let ids = IdPattern::new(device.device.publisher.wildcard());
    let ours = publishers.iter().filter(|publisher| publisher.managed.is_some() && ids.matches(&publisher.id));
    for publisher in ours {
        let (id, topic) = (&publisher.id, device.device.topic.filter());
        if ids.to_string() == id.as_str() {
            let message = format!("its id is that of the publisher '{id}', which is started here: take another one");
            let key = if reader.has(table, "publisher") { "publisher" } else { "topic" };
            reader.mistake(origin, &table.key(key), message);
        } else {
            notes.push(format!(
                "a device on {topic} that is called '{id}' would speak for the publisher '{id}', which is started \
                 here: give the ids of devices a beginning of their own, like publisher = \"tele-{{publisher}}\""
            ));
        }
    }
}

/// What a topic cannot be, with this form of payload and this broker.
fn check_topic<'a>(reader: &mut Reader<'a>, table: &Scope<'a>, topic: &Sourced<TopicPattern>, form: Form, mqtt: &Mqtt) {
    let pattern = &topic.value;
    let filter = pattern.filter();
    if overlap(&filter, &format!("{}/v1/#", mqtt.prefix)) {
        let message = format!("'{filter}' is also what heartwatch's own publishers use, under {}/v1/", mqtt.prefix);
        reader.mistake(&topic.origin, &table.key("topic"), message);
    }
    // see adapters/broker.rs: it would end the embedded broker
    if matches!(mqtt.broker, Broker::Embedded { .. }) && filter.starts_with(|c: char| !c.is_ascii()) {
        let message = "the embedded broker takes no topic that begins with a letter beyond ASCII: set mqtt.url";
        reader.mistake(&topic.origin, &table.key("topic"), message);
    }
    let has = |name: &str| pattern.names().any(|known| known == name);
    if form == Form::Collectd && !(has("plugin") && has("type")) {
        let message = "collectd's topics need names for these levels: 'collectd/{host}/{plugin}/{type}'";
        reader.mistake(&topic.origin, &table.key("topic"), message);
    }
}

/// One of them; none where it cannot be told what it would be.
fn one<'a>(
    reader: &mut Reader<'a>,
    table: &Scope<'a>,
    mqtt: &Mqtt,
    general: Duration,
) -> Option<(ForeignEntry, Origin)> {
    let topic = reader.read(table, "topic", None, |given| {
        given.text("tele/{publisher}/SENSOR", |text| TopicPattern::parse(text).map_err(|error| error.to_string()))
    });
    if !reader.has(table, "topic") {
        reader.missing(
            table,
            "topic",
            "is missing: which topics are its? Write a pattern like 'tele/{publisher}/SENSOR'",
        );
    }
    let form = reader.read(table, "format", None, |given| given.choice(&FORMS));
    if !reader.has(table, "format") {
        let names = FORMS.map(|(name, _)| name).join(", ");
        reader.missing(table, "format", format!("is missing: how is it read? One of {names}"));
    }
    let deadline = deadline_keys(reader, table, general);
    let [publisher, host, measurement] = ["publisher", "host", "measurement"].map(|key| {
        let text = reader.read(table, key, None, |given| given.text("tele-{publisher}", |text| Ok(text.to_owned())));
        (key, text)
    });
    let keys = payload_keys(reader, table);
    let form = form.map(|form| form.value);
    if let Some(form) = form {
        keys.only_for(reader, table, form);
    }
    let (topic, form) = (topic?, form?);
    check_topic(reader, table, &topic, form, mqtt);
    let pattern = topic.value;
    let mut template = |(key, given): (&str, Option<Sourced<String>>)| {
        let given = given?;
        match Template::parse(&given.value, &pattern) {
            Ok(template) => Some(template),
            Err(error) => {
                reader.mistake(&given.origin, &table.key(key), error.to_string());
                None
            }
        }
    };
    let given_publisher = publisher.1.is_some();
    let (publisher, host, measurement) = (template(publisher), template(host), template(measurement));
    let default = |texts: &[&str]| texts.iter().find_map(|text| Template::parse(text, &pattern).ok());
    let publisher = match publisher {
        Some(publisher) => publisher,
        None if given_publisher => return None,
        None => {
            let found = match form {
                Form::Collectd => default(&["{publisher}", "collectd-{host}"]),
                _ => default(&["{publisher}"]),
            };
            let Some(found) = found else {
                let message =
                    "no level is called {publisher}: name one, or say with 'publisher' what the id is made of";
                reader.mistake(&topic.origin, &table.key("topic"), message);
                return None;
            };
            found
        }
    };
    if deadline.given && publisher.wildcard().starts_with('*') {
        let key =
            ["deadline", "adaptive", "deadline_intervals", "grace"].into_iter().find(|key| reader.has(table, key));
        let message = "its publishers could have any id, so that this would hold for everybody: give their ids a \
                       beginning of their own, like publisher = \"tele-{publisher}\"";
        reader.mistake_at(table, key.unwrap_or("deadline"), message);
    }
    let device = Foreign {
        host: host.or_else(|| default(&["{host}"])),
        measurement: measurement.or_else(|| default(&["{measurement}"])),
        payload: keys.payload(form),
        topic: pattern,
        publisher,
    };
    let settings = ForeignEntry { device, deadline: deadline.kind, grace: deadline.grace };
    Some((settings, topic.origin))
}

/// The keys that say how a payload is read.
struct PayloadKeys<'a> {
    fields: Vec<FieldKeys<'a>>,
    time: Option<Sourced<Place>>,
    time_format: Option<Sourced<Option<TimeFormat>>>,
    delimiter: Option<Sourced<u8>>,
}

/// One `[[foreign.field]]`.
struct FieldKeys<'a> {
    table: Scope<'a>,
    name: Option<String>,
    path: Option<Sourced<String>>,
    column: Option<Sourced<u64>>,
    kind: CellType,
}

/// Where a time is: a path, or a column.
#[derive(Debug, Clone)]
enum Place {
    Path(String),
    Column(u64),
}

fn payload_keys<'a>(reader: &mut Reader<'a>, table: &Scope<'a>) -> PayloadKeys<'a> {
    let column = |given: Given<'_>| given.number(1, COLUMNS_MAX);
    let mut fields = Vec::new();
    for field in reader.tables(table, "field") {
        let name = reader.read(&field, "name", None, |given| given.text("temperature", field_name));
        if !reader.has(&field, "name") {
            reader.missing(&field, "name", "is missing: what is the field called?");
        }
        fields.push(FieldKeys {
            name: name.map(|name| name.value),
            path: reader.read(&field, "path", None, |given| given.text("DHT22.Temperature", values::name)),
            column: reader.read(&field, "column", None, column),
            kind: reader
                .read(&field, "type", None, |given| given.choice(&TYPES))
                .map_or(CellType::Float, |kind| kind.value),
            table: field,
        });
    }
    let time = reader.read(table, "time", None, |given| match given {
        Given::Integer(_) => column(given).map(Place::Column),
        _ => given.text("Time", values::name).map(Place::Path),
    });
    let time_format = reader.read(table, "time_format", None, |given| {
        given.text("auto", |text| text.parse::<values::TimeForm>().map(|form| form.0))
    });
    let delimiter = reader.read(table, "delimiter", None, |given| {
        given.text(";", |text| match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
            _ => Err(format!("'{text}' is not one character like ';'")),
        })
    });
    if let Some(format) = time_format.as_ref().filter(|_| !reader.has(table, "time")) {
        reader.mistake(
            &format.origin,
            &table.key("time_format"),
            "is of no use without 'time', which says where it is",
        );
    }
    PayloadKeys { fields, time, time_format, delimiter }
}

fn field_name(text: &str) -> Result<String, String> {
    let name = values::name(text)?;
    if matches!(name.as_str(), "time" | SOURCE_TIME) {
        return Err(format!("'{text}' is kept for a time: take another name"));
    }
    Ok(name)
}

impl<'a> PayloadKeys<'a> {
    /// Names what another form needs.
    fn only_for(&self, reader: &mut Reader<'a>, table: &Scope<'a>, form: Form) {
        let for_others = "is for the formats json and csv";
        if !matches!(form, Form::Json | Form::Csv) {
            if let Some(field) = self.fields.first() {
                reader.mistake(&Origin::Line(field.table.line), &table.key("field"), for_others);
            }
            if let Some(time) = &self.time {
                reader.mistake(&time.origin, &table.key("time"), for_others);
            }
        }
        if let Some(delimiter) = self.delimiter.as_ref().filter(|_| form != Form::Csv) {
            reader.mistake(&delimiter.origin, &table.key("delimiter"), "is for the format csv");
        }
        match (&self.time, form) {
            (Some(Sourced { value: Place::Column(_), origin }), Form::Json) => {
                reader.mistake(
                    origin,
                    &table.key("time"),
                    "is a column, and JSON has none: write a path like \"Time\"",
                );
            }
            (Some(Sourced { value: Place::Path(_), origin }), Form::Csv) => {
                reader.mistake(
                    origin,
                    &table.key("time"),
                    "is a path, and CSV has none: write a column, counted from 1",
                );
            }
            _ => {}
        }
        for field in &self.fields {
            let (needed, other, given, wrong) = match form {
                Form::Json => (
                    "path",
                    "column",
                    reader.has(&field.table, "path"),
                    field.column.as_ref().map(|column| &column.origin),
                ),
                Form::Csv => {
                    ("column", "path", reader.has(&field.table, "column"), field.path.as_ref().map(|path| &path.origin))
                }
                _ => continue,
            };
            if !given {
                reader.missing(
                    &field.table,
                    needed,
                    format!("is missing: where in the payload is it? Write its {needed}"),
                );
            }
            if let Some(origin) = wrong {
                reader.mistake(
                    origin,
                    &field.table.key(other),
                    format!("is for another format: this one has a {needed}"),
                );
            }
        }
        let mut names: Vec<_> =
            self.fields.iter().filter_map(|field| Some((field.name.as_ref()?, &field.table))).collect();
        names.sort_by_key(|(name, table)| (*name, table.line));
        for pair in names.windows(2) {
            if let [(name, _), (again, at)] = pair
                && name == again
            {
                reader.mistake(&Origin::Line(at.line), &at.key("name"), format!("'{name}' is there twice"));
            }
        }
    }

    fn payload(&self, form: Form) -> Payload {
        let format = self.time_format.as_ref().and_then(|format| format.value);
        let path = |text: &str| Path(text.split('.').map(ToOwned::to_owned).collect());
        let index = |column: u64| usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
        let time = self.time.as_ref().map(|time| &time.value);
        match form {
            Form::Json => Payload::Json {
                fields: (self.fields.iter())
                    .filter_map(|field| {
                        let at = path(&field.path.as_ref()?.value);
                        Some(Field { name: field.name.clone()?, at, kind: field.kind })
                    })
                    .collect(),
                time: time.and_then(|time| match time {
                    Place::Path(text) => Some(TimeAt { at: path(text), format }),
                    Place::Column(_) => None,
                }),
            },
            Form::Csv => Payload::Csv {
                delimiter: self.delimiter.as_ref().map_or(b',', |delimiter| delimiter.value),
                fields: (self.fields.iter())
                    .filter_map(|field| {
                        let at = index(field.column.as_ref()?.value);
                        Some(Field { name: field.name.clone()?, at, kind: field.kind })
                    })
                    .collect(),
                time: time.and_then(|time| match time {
                    Place::Column(column) => Some(TimeAt { at: index(*column), format }),
                    Place::Path(_) => None,
                }),
            },
            Form::LineProtocol => Payload::LineProtocol,
            Form::Number => Payload::Number,
            Form::Text => Payload::Text,
            Form::Collectd => Payload::Collectd,
        }
    }
}
