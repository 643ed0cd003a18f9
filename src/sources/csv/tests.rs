use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use heartwatch_domain::reading::FieldValue::{self, Boolean, Float, Integer, Text};
use heartwatch_formats::source_time::SOURCE_TIME;

type Row = Vec<(String, FieldValue)>;

struct Written {
    directory: TempDir,
}

impl Written {
    fn new(bytes: impl AsRef<[u8]>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("source.csv"), bytes).unwrap();
        Self { directory }
    }

    fn config(&self) -> CsvConfig {
        CsvConfig::new(self.directory.path().join("source.csv"))
    }

    fn open(&self) -> CsvSource {
        CsvSource::open(&self.config()).unwrap()
    }

    fn error(&self) -> String {
        CsvSource::open(&self.config()).err().expect("opening fails").to_string()
    }
}

fn rows(source: &mut CsvSource) -> Vec<Result<Row, String>> {
    source.map(|row| row.map(|row| row.fields).map_err(|bad| format!("{}: {}", bad.line, bad.reason))).collect()
}

fn good(fields: &[(&str, FieldValue)]) -> Result<Row, String> {
    Ok(fields.iter().map(|(name, value)| (name.to_string(), value.clone())).collect())
}

fn text(text: &str) -> FieldValue {
    Text(text.to_owned())
}

#[test]
fn a_file_like_the_light_sensors() {
    let mut source = Written::new("2/10/2018 9:50,19\n2/10/2018 9:55,89\n").open();
    assert_eq!(
        rows(&mut source),
        [
            good(&[("value", Integer(19)), (SOURCE_TIME, text("2018-02-10T09:50:00Z"))]),
            good(&[("value", Integer(89)), (SOURCE_TIME, text("2018-02-10T09:55:00Z"))]),
        ]
    );
    assert_eq!(source.cursor(), 2);
    source.rewind().unwrap();
    assert_eq!(rows(&mut source).len(), 2);
    assert_eq!(source.cursor(), 4, "the cursor goes on over the loops");
}

#[test]
fn the_light_sensors_own_file() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/light-sensor.csv");
    let path = std::env::var_os("HEARTWATCH_LIGHT_SENSOR_CSV").map_or_else(beside, PathBuf::from);
    if !path.exists() {
        eprintln!("skipped: {} is not on this machine (HEARTWATCH_LIGHT_SENSOR_CSV)", path.display());
        return;
    }
    let mut source = CsvSource::open(&CsvConfig::new(path)).unwrap();
    let rows = rows(&mut source);
    assert_eq!((rows.len(), source.bad_rows()), (562, 0));
    assert_eq!(rows[0], good(&[("value", Integer(19)), (SOURCE_TIME, text("2018-02-10T09:50:00Z"))]));
}

#[test]
fn header_byte_order_mark_carriage_returns_and_quotes() {
    let bytes = "\u{feff}\"when\",temp,ok,\"a \"\"note\"\"\"\r\n\
                 2018-02-10T10:50:00+01:00,1,TRUE,\"x, \"\"y\"\"\r\nz\"\r\n\
                 2018-02-10T10:55:00+01:00,1.5,false,\r\n";
    let mut source = Written::new(bytes).open();
    assert_eq!(
        rows(&mut source),
        [
            good(&[
                ("temp", Float(1.0)),
                ("ok", Boolean(true)),
                ("a \"note\"", text("x, \"y\"\r\nz")),
                (SOURCE_TIME, text("2018-02-10T09:50:00Z")),
            ]),
            good(&[("temp", Float(1.5)), ("ok", Boolean(false)), (SOURCE_TIME, text("2018-02-10T09:55:00Z"))]),
        ]
    );
    source.rewind().unwrap();
    assert_eq!(rows(&mut source).len(), 2, "the header is no row in the second loop either");
}

#[test]
fn bad_rows_are_named_and_skipped() {
    let mut bytes =
        b"time,count\n2018-01-01 00:00:00,1\n2018-01-01 00:00:01,oops\n2018-01-01 00:00:02,3,4\n\n".to_vec();
    bytes.extend_from_slice(b"2018-01-01 00:00:04,\xff\n2018-01-01 00:00:05,\"6\n2018-01-01 00:00:06,7\nnever,8\n");
    bytes.extend_from_slice(b"2018-01-01 00:00:08,9\n2018-01-01 00:00:09,10\n");
    let written = Written::new(bytes);
    let mut source = written.open();
    let rows = rows(&mut source);
    let (bad, fine): (Vec<_>, Vec<_>) = rows.into_iter().partition(Result::is_err);
    let counts: Vec<FieldValue> = fine.into_iter().map(|row| row.unwrap()[0].1.clone()).collect();
    assert_eq!(counts, [1, 7, 8, 9, 10].map(Integer), "a wrong cell costs itself");
    let bad: Vec<String> = bad.into_iter().map(Result::unwrap_err).collect();
    assert_eq!(
        bad,
        [
            "3: column 'count' has 'oops' where an integer is expected",
            "4: 3 cells where the file has 2 columns",
            "6: column 'count' is not valid UTF-8",
            "7: a quote is opened and never closed",
            "9: column 'time_value' has 'never' where a time like 2018-02-10 09:50:00 is expected",
        ]
    );
    assert_eq!((source.bad_rows(), source.cursor()), (5, 9), "what is wrong with a cell is no row");
    source.rewind().unwrap();
    let first = source.find_map(Result::err).unwrap();
    assert!(first.to_string().ends_with("source.csv:3: column 'count' has 'oops' where an integer is expected"));
}

/// Each file, and its rows.
fn dialect(bytes: &str, expected: &[&[(&str, FieldValue)]]) {
    let mut source = Written::new(bytes).open();
    let expected: Vec<_> = expected.iter().map(|row| good(row)).collect();
    assert_eq!(rows(&mut source), expected, "{bytes}");
    assert_eq!(source.bad_rows(), 0, "{bytes}");
}

#[test]
fn semicolons_and_decimal_commas_are_found() {
    let (temp, hum) = ("temp", "hum");
    let time = |at: &str| (SOURCE_TIME, text(at));
    let semi = "time;temp;hum\n2024-01-10 00:00;21,5;40,25\n2024-01-10 00:10;22;41\n2024-01-10 00:20;22,75;41,5\n";
    let expected: [&[(&str, FieldValue)]; 3] = [
        &[(temp, Float(21.5)), (hum, Float(40.25)), time("2024-01-10T00:00:00Z")],
        &[(temp, Float(22.0)), (hum, Float(41.0)), time("2024-01-10T00:10:00Z")],
        &[(temp, Float(22.75)), (hum, Float(41.5)), time("2024-01-10T00:20:00Z")],
    ];
    dialect(semi, &expected);
    dialect(&semi.replace(';', "\t"), &expected);
    dialect("time,temp\n2024-01-10 00:00,\"21,5\"\n", &[&[(temp, Float(21.5)), time("2024-01-10T00:00:00Z")]]);
    dialect(
        "1,5;2,5\n3,5;4,5\n",
        &[&[("value_1", Float(1.5)), ("value_2", Float(2.5))], &[("value_1", Float(3.5)), ("value_2", Float(4.5))]],
    );
    dialect(
        "a,b\n\"1,234.5\",x\n\"1,234\",y\n",
        &[&[("a", Float(1234.5)), ("b", text("x"))], &[("a", Float(1234.0)), ("b", text("y"))]],
    );
    let unclear = Written::new("a;b\n1,234;x\n");
    assert!(unclear.error().contains("say which (--decimal point or comma)"), "{}", unclear.error());
    for (decimal, value) in [(Decimal::Comma, Float(1.234)), (Decimal::Point, Integer(1234))] {
        let mut source = CsvSource::open(&CsvConfig { decimal: Some(decimal), ..unclear.config() }).unwrap();
        assert_eq!(rows(&mut source), [good(&[("a", value), ("b", text("x"))])]);
    }
}

#[test]
fn what_is_above_the_rows_is_found() {
    let row =
        |rn: i64, air: f64, at: &str| good(&[("RECORD", Integer(rn)), ("AirTC", Float(air)), (SOURCE_TIME, text(at))]);
    let toa5 = "\"TOA5\",\"station\",\"CR1000\",\"1234\"\n\"TIMESTAMP\",\"RECORD\",\"AirTC\"\n\"TS\",\"RN\",\"Deg C\"\n\
                \"\",\"\",\"Avg\"\n\"2024-01-10 00:00:00\",1,21.5\n\"2024-01-10 00:10:00\",2,21.6\n";
    let mut source = Written::new(toa5).open();
    let expected = [row(1, 21.5, "2024-01-10T00:00:00Z"), row(2, 21.6, "2024-01-10T00:10:00Z")];
    assert_eq!(rows(&mut source), expected);
    source.rewind().unwrap();
    assert_eq!(rows(&mut source), expected, "nor are they rows in the second loop");

    let a = |lat: f64, temp: i64, station: &str| {
        good(&[("station", text(station)), ("lat", Float(lat)), ("temp", Integer(temp))])
    };
    let stations = [a(44.4, 72, "A1"), a(45.1, 71, "A2")];
    for text in [
        "# Created: 11 Oct\n# station 7\nstation,lat,temp\nA1,44.4,72\nA2,45.1,71\n",
        "# station, created\nstation,lat,temp\n# one more\nA1,44.4,72\n# here too\nA2,45.1,71\n",
        "# plant 7\n#station,lat,temp\nA1,44.4,72\nA2,45.1,71\n",
        "station,lat,temp\n,deg,C\nA1,44.4,72\nA2,45.1,71\n",
    ] {
        assert_eq!(rows(&mut Written::new(text).open()), stations, "{text}");
    }
    // a row in which everything is missing is none of units, and words above words are rows
    let mut source = Written::new("a,b\nNA,NA\n1,2\n").open();
    assert_eq!(rows(&mut source).len(), 2);
    let mut source = Written::new("a,b\nx,y\nz,w\n").open();
    assert_eq!(rows(&mut source).len(), 3);
    assert!(Written::new(b"\x1f\x8b\x08\0").error().contains("compressed"));
}

#[test]
fn a_value_that_is_missing_costs_its_cell() {
    let mm = "temp,wind,dir\n21.5,MM,180\n21.6,3.5,190\n21.7,4.5,MM\nNaN,null,n/a\n";
    let mut source = Written::new(mm).open();
    assert_eq!(
        rows(&mut source),
        [
            good(&[("temp", Float(21.5)), ("dir", Integer(180))]),
            good(&[("temp", Float(21.6)), ("wind", Float(3.5)), ("dir", Integer(190))]),
            good(&[("temp", Float(21.7)), ("wind", Float(4.5))]),
            Err("5: no value in the row".into()),
        ]
    );
    // in a column of texts it is a text
    dialect(
        "n,note\n1,-\n2,fine\n",
        &[&[("n", Integer(1)), ("note", text("-"))], &[("n", Integer(2)), ("note", text("fine"))]],
    );
}

#[test]
fn a_stray_quote_costs_its_own_line_only() {
    let mut source = Written::new("1,2\n3,\"4\n5,6\n7,8\"\n9,10\n").open();
    let rows = rows(&mut source);
    assert_eq!(rows.len(), 6);
    assert!(rows[1].is_err(), "{rows:?}");
    // the cell with the other quote costs itself
    assert!(rows[3] == good(&[("value_1", Integer(7))]) && rows[4].is_err(), "{rows:?}");
    assert_eq!(rows[2], good(&[("value_1", Integer(5)), ("value_2", Integer(6))]));
}

#[test]
fn columns_without_a_header_have_names() {
    let first = |bytes: &str| rows(&mut Written::new(bytes).open()).remove(0);
    assert_eq!(first("1\n2\n"), good(&[("value", Integer(1))]));
    assert_eq!(first("1,x\n2,y\n"), good(&[("value_1", Integer(1)), ("value_2", text("x"))]));
    assert_eq!(
        first("1518256200,1,0.5\n1518256205,2,0.5\n"),
        good(&[("value_1", Integer(1)), ("value_2", Float(0.5)), (SOURCE_TIME, text("2018-02-10T09:50:00Z"))]),
    );
    assert_eq!(first("only\nwords\n"), good(&[("value", text("only"))]), "words alone are no header");
    assert_eq!(first("2/10/2018 9:50\n"), good(&[("value", text("2/10/2018 9:50"))]));
    // The broken first row is neither a header nor the measure of the others: it is above them.
    assert_eq!(
        rows(&mut Written::new("x\n1,2\n3,4\n").open()),
        [
            good(&[("value_1", Integer(1)), ("value_2", Integer(2))]),
            good(&[("value_1", Integer(3)), ("value_2", Integer(4))]),
        ]
    );
}

#[test]
fn header_names_become_field_names() {
    let first = |bytes: &str| rows(&mut Written::new(bytes).open()).remove(0);
    assert_eq!(
        first("a, a ,,time\n1,2,3,4\n"),
        good(&[("a", Integer(1)), ("a_2", Integer(2)), ("column_3", Integer(3)), ("time_value", Integer(4))]),
        "a small number in a column 'time' is a value"
    );
    assert_eq!(
        first("source_time,Timestamp\n5,1518256200\n"),
        good(&[("source_time_2", Integer(5)), (SOURCE_TIME, text("2018-02-10T09:50:00Z"))]),
    );
}

#[test]
fn the_configuration_decides_over_the_looks() {
    let written = Written::new("2/10/2018 9:50;7\n3/10/2018 9:50;8\n");
    let mut config = CsvConfig { delimiter: Some(b';'), time_format: Some(TimeFormat::DayFirst), ..written.config() };
    config.column_types = vec![("value".into(), CellType::Float)];
    let mut source = CsvSource::open(&config).unwrap();
    assert_eq!(rows(&mut source)[0], good(&[("value", Float(7.0)), (SOURCE_TIME, text("2018-10-02T09:50:00Z"))]));

    config = CsvConfig { header: HeaderMode::Yes, time_column: TimeColumn::None, ..written.config() };
    config.delimiter = Some(b';');
    let mut source = CsvSource::open(&config).unwrap();
    assert_eq!(rows(&mut source), [good(&[("2/10/2018 9:50", text("3/10/2018 9:50")), ("7", Integer(8))])]);

    let written = Written::new("a,b\n1,1518256200123\n");
    for column in [TimeColumn::Name("b".into()), TimeColumn::Number(2)] {
        let mut source = CsvSource::open(&CsvConfig { time_column: column, ..written.config() }).unwrap();
        let expected = good(&[("a", Integer(1)), (SOURCE_TIME, text("2018-02-10T09:50:00.123Z"))]);
        assert_eq!(rows(&mut source), [expected]);
    }
    for (config, expected) in [
        (CsvConfig { time_column: TimeColumn::Name("c".into()), ..written.config() }, "it has a, b"),
        (CsvConfig { time_column: TimeColumn::Number(3), ..written.config() }, "it has a, b"),
        (CsvConfig { time_format: Some(TimeFormat::DayFirst), ..written.config() }, "no column does not read"),
        (CsvConfig { column_types: vec![("c".into(), CellType::Text)], ..written.config() }, "'c' for a type"),
        (CsvConfig { columns_max: 1, ..written.config() }, "more than 1 columns: leave out some"),
        (CsvConfig { line_bytes_max: 2, ..written.config() }, "source.csv:1: longer than 2 bytes"),
    ] {
        let error = CsvSource::open(&config).err().expect(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_a_source_is_an_error_that_says_why() {
    assert!(Written::new("").error().ends_with("source.csv is empty: at least one row is needed"));
    assert!(Written::new("\u{feff}\r\n\n").error().contains("is empty"));
    assert!(Written::new("time,value\n").error().contains("a header and no row below it"));
    assert!(Written::new(b"\xff\xfea\0").error().contains("UTF-16"));
    assert!(Written::new("\"\n").error().contains("source.csv:1: a quote is opened"));
    let written = Written::new("1\n");
    let missing = CsvConfig::new(written.directory.path().join("missing.csv"));
    let error = CsvSource::open(&missing).err().unwrap().to_string();
    assert!(error.contains("cannot read") && error.contains("missing.csv"), "{error}");
    let directory = CsvConfig::new(written.directory.path());
    assert!(CsvSource::open(&directory).err().unwrap().to_string().contains("not a regular file"));
}

#[test]
fn a_long_file_is_read_a_row_at_a_time() {
    let mut bytes = String::from("n,x\n");
    for n in 0..50_000 {
        bytes.push_str(&format!("{n},{}.5\n", n % 7));
    }
    let mut source = Written::new(bytes).open();
    assert_eq!(source.by_ref().filter(Result::is_ok).count(), 50_000);
    assert_eq!(source.bad_rows(), 0);
}

/// A column of cells of one type, some of them empty.
fn column(rows: usize) -> impl Strategy<Value = Vec<Option<FieldValue>>> {
    fn cells<S: Strategy<Value = FieldValue>>(rows: usize, cell: S) -> impl Strategy<Value = Vec<Option<FieldValue>>> {
        prop::collection::vec(prop::option::weighted(0.9, cell), rows)
    }
    prop_oneof![
        cells(rows, any::<i64>().prop_map(Integer)),
        // An integer among floats would come back as a float: write all with a decimal point.
        cells(rows, any::<i32>().prop_map(|n| Float(f64::from(n) + 0.5))),
        cells(rows, any::<bool>().prop_map(Boolean)),
        cells(rows, "x[ -~\n\r\u{e4}\u{1f4a1}]{0,12}".prop_map(Text)),
    ]
}

fn cell(value: &Option<FieldValue>) -> String {
    match value {
        None => String::new(),
        Some(Integer(number)) => number.to_string(),
        Some(Float(number)) => number.to_string(),
        Some(Boolean(truth)) => truth.to_string(),
        Some(Text(text)) => text.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// What the csv crate writes comes back, value for value and type for type, with either line end.
    #[test]
    fn what_is_written_is_read(
        columns in (1_usize..20).prop_flat_map(|rows| prop::collection::vec(column(rows), 1..6)),
        windows in any::<bool>(),
        mark in any::<bool>(),
    ) {
        let terminator = if windows { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
        let mut bytes = if mark { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
        {
            let mut writer = csv::WriterBuilder::new().terminator(terminator).from_writer(&mut bytes);
            let names: Vec<String> = (0..columns.len()).map(|at| format!("c{at}")).collect();
            writer.write_record(names.iter().map(String::as_str).chain(["id"])).unwrap();
            for row in 0..columns[0].len() {
                let cells: Vec<String> = columns.iter().map(|column| cell(&column[row])).collect();
                writer.write_record(cells.iter().map(String::as_str).chain(["1"])).unwrap();
            }
            writer.flush().unwrap();
        }
        let mut source = Written::new(&bytes).open();
        let read = rows(&mut source);
        prop_assert_eq!(read.len(), columns[0].len());
        for (row, fields) in read.into_iter().enumerate() {
            let expected: Row = columns
                .iter()
                .enumerate()
                .filter_map(|(at, column)| Some((format!("c{at}"), column[row].clone()?)))
                .chain([("id".to_owned(), Integer(1))])
                .collect();
            prop_assert_eq!(fields, Ok(expected));
        }
    }

    /// A field keeps its type through the file, whatever the file.
    #[test]
    fn a_field_never_changes_its_type(lines in prop::collection::vec("[1a.\",t]{0,6}|true|1.5|NaN|2/10/2018 9:50,1", 1..30)) {
        let Ok(mut source) = CsvSource::open(&Written::new(lines.join("\n")).config()) else { return Ok(()) };
        let mut types = std::collections::HashMap::new();
        for _ in 0..2 {
            for (name, value) in source.by_ref().flatten().flat_map(|row| row.fields) {
                if let Float(number) = value {
                    prop_assert!(number.is_finite());
                }
                let kind = std::mem::discriminant(&value);
                prop_assert_eq!(*types.entry(name).or_insert(kind), kind);
            }
            source.rewind().unwrap();
        }
    }
}
