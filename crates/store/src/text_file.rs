//! Small files of text that are read by a person as well: a last line with a checksum tells whether they are what
//! was written. A file without that line was written by hand or by an earlier version, and is believed.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::disk::sync_directory;
use super::encoding::checksum;

/// What the last line begins with.
const MARK: &str = "checksum ";
/// How long that line is: the mark, eight digits, the end of the line.
const LINE_BYTES: usize = MARK.len() + 9;
/// Who may read and write what is written.
const OWNER_ONLY: u32 = 0o600;

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
    let (content, tail) = text.split_at(text.len().saturating_sub(LINE_BYTES));
    if tail == line(content).as_bytes() {
        let end = content.len();
        text.truncate(end);
    } else if was_mark(&text) {
        return Err("it is not what was written: its checksum is another one".to_owned());
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
    // made anew, so that nobody else may read it, whoever could read one that a crash left
    let _ = fs::remove_file(&beside);
    let mut file = File::options().write(true).create_new(true).mode(OWNER_ONLY).open(&beside)?;
    file.write_all(&text).and_then(|()| file.write_all(line.as_bytes())).and_then(|()| file.sync_all())?;
    fs::rename(&beside, path)?;
    sync_directory(path);
    Ok(())
}

fn line(text: &[u8]) -> String {
    format!("{MARK}{:08x}\n", checksum(text))
}

/// Whether there was a line with a checksum at the end, of which any byte may have changed or the last be gone: no
/// text that a person has written ends like one.
fn was_mark(text: &[u8]) -> bool {
    let end = text.get(text.len().saturating_sub(LINE_BYTES + 1)..).unwrap_or_default();
    let alike = |window: &[u8]| window.iter().zip(MARK.as_bytes()).filter(|(byte, mark)| byte == mark).count();
    end.windows(MARK.len()).any(|window| alike(window) + 1 >= MARK.len())
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
            assert!(read(&path, 100).is_err(), "byte {at}");
        }
        // where all of its line is gone it looks like one that was written by hand
        for at in whole.len() - 8..whole.len() {
            fs::write(&path, &whole[..at]).unwrap();
            assert!(read(&path, 100).is_err(), "cut at {at}");
        }
        assert!(read(&path, 10).is_err());
    }
}
