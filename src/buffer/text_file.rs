//! Small files of text that are read by a person as well: a last line with a checksum tells whether they are what
//! was written. A file without that line was written by hand or by an earlier version, and is believed.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use super::database::sync_directory;
use super::encoding::checksum;

/// What the last line begins with.
const MARK: &str = "checksum ";

/// The text of a file without its checksum; none where there is no file.
///
/// # Errors
/// In words: it cannot be read, is too large, or is not what was written.
pub fn read(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(metadata) if metadata.len() > bytes_max => return Err(format!("it has more than {bytes_max} bytes")),
        Ok(_) => {}
    }
    let mut text = fs::read(path).map_err(|error| error.to_string())?;
    let last = text.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    if last.starts_with(MARK.as_bytes()) {
        let end = last_line(&text);
        if text.get(end..) != Some(line(text.get(..end).unwrap_or_default()).as_bytes()) {
            return Err("it is not what was written: its checksum is another one".to_owned());
        }
        text.truncate(end);
    }
    Ok(Some(text))
}

/// Writes the file whole, beside the old one, and puts it in its place when it is synced.
///
/// # Errors
/// The system's.
pub fn write(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = std::path::PathBuf::from(name);
    let mut text = text.to_vec();
    if text.last() != Some(&b'\n') {
        text.push(b'\n');
    }
    let line = line(&text);
    let mut file = File::create(&beside)?;
    file.write_all(&text).and_then(|()| file.write_all(line.as_bytes())).and_then(|()| file.sync_all())?;
    fs::rename(&beside, path)?;
    sync_directory(path);
    Ok(())
}

fn line(text: &[u8]) -> String {
    format!("{MARK}{:08x}\n", checksum(text))
}

/// Where the last line begins.
fn last_line(text: &[u8]) -> usize {
    text.trim_ascii_end().iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_noticed_and_a_file_without_a_checksum_is_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        assert_eq!(read(&path, 100), Ok(None));
        fs::write(&path, "[1, 2]").unwrap();
        assert_eq!(read(&path, 100), Ok(Some(b"[1, 2]".to_vec())));
        write(&path, b"[\n1,\n2\n]").unwrap();
        assert_eq!(read(&path, 100), Ok(Some(b"[\n1,\n2\n]\n".to_vec())));
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            let found = read(&path, 100);
            // a damaged mark makes the line a part of the text, which no reader of JSON takes
            let is_json = |text: &Vec<u8>| serde_json::from_slice::<Vec<u8>>(text).is_ok();
            assert!(found.is_err() || !found.unwrap().is_some_and(|text| is_json(&text)), "byte {at}");
        }
        assert!(read(&path, 10).is_err());
    }
}
