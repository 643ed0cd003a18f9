//! `heartwatch init`: a configuration to start from.

use std::io::Write as _;

use anyhow::Context as _;

use crate::config::FILE_DEFAULT;
use crate::roles::cli::InitArgs;

/// What it writes: the repository's own, which is tested.
const CONTENT: &str = include_str!("../../heartwatch.toml");

/// Writes it where there is none; the answer is the exit code.
///
/// # Errors
/// When there is one already, or it cannot be written.
pub(super) fn init(args: &InitArgs) -> anyhow::Result<u8> {
    let path = if args.path.is_dir() { args.path.join(FILE_DEFAULT) } else { args.path.clone() };
    let shown = path.display();
    let made = std::fs::File::options().write(true).create_new(true).open(&path);
    let mut file = match made {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            anyhow::bail!("{shown} is there already: it stays as it is; remove it first, or name another file")
        }
        made => made.with_context(|| format!("cannot write {shown}"))?,
    };
    file.write_all(CONTENT.as_bytes()).with_context(|| format!("cannot write {shown}"))?;
    anstream::println!("{shown} is written. Next: `heartwatch check`, then `heartwatch run`.");
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_what_is_written_can_be_used() {
        let directory = tempfile::tempdir().unwrap();
        let args = InitArgs { path: directory.path().to_owned() };
        assert_eq!(init(&args).unwrap(), 0);
        let file = directory.path().join(FILE_DEFAULT);
        let layers = crate::config::Layers { file: Some(file.clone()), ..crate::config::Layers::default() };
        assert_eq!(crate::config::load(&layers).unwrap().notes, Vec::<String>::new());
        std::fs::write(&file, "grace = '1s'").unwrap();
        assert!(init(&args).unwrap_err().to_string().contains("is there already"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "grace = '1s'");
    }
}
