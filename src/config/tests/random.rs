//! No text makes it panic.

use proptest::prelude::*;

use super::*;

/// What stands in the place of a cut: some characters of TOML, or what begins or ends a text of several lines.
fn damage() -> impl Strategy<Value = String> {
    let several_lines: &[&str] = &["\"\"\"", "'''", "= \"\"\"\n", "= \"\\n\\u001b\"\n", "\n\"\\n\" = 1\n"];
    let characters = "[\\[\\]='\"{}\\n#a-z0-9.]{0,6}";
    prop_oneof![3 => characters, 1 => proptest::sample::select(several_lines).prop_map(str::to_owned)]
}

/// The example with all its keys and tables in force. Its prose stays a comment: it would be all that is read.
fn whole_example() -> String {
    let in_force = |line: &'static str| {
        let comment = line.strip_prefix("# ").unwrap_or_default();
        let is_key = comment.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        if is_key || comment.starts_with('[') { comment } else { line }
    };
    EXAMPLE.lines().map(in_force).collect::<Vec<_>>().join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4_000 }))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = resolve(&text, &[], &Overrides::default());
    }

    #[test]
    fn no_soup_of_toml_makes_it_panic(words in proptest::collection::vec(
        prop_oneof![
            Just("["), Just("]"), Just("[["), Just("]]"), Just("="), Just("."), Just("\n"), Just("\""), Just("'''"),
            Just("{"), Just("}"), Just(","), Just("#"), Just("mqtt"), Just("publisher"), Just("watch"), Just("override"),
            Just("id"), Just("csv"), Just("deadline"), Just("-1"), Just("0x1F"), Just("1e400"), Just("nan"),
            Just("1979-05-27"), Just("true"), Just("'5s'"), Just("\\u0000"), Just("\u{feff}"), Just("\r"), Just("ä"),
        ], 0..60)) {
        let _ = resolve(&words.concat(), &[], &Overrides::default());
    }

    #[test]
    fn no_damage_to_the_example_makes_it_panic_and_every_line_exists(
        cuts in proptest::collection::vec((0..EXAMPLE.len(), 0usize..40, damage()), 1..6),
        in_force in any::<bool>(),
    ) {
        let mut text = if in_force { whole_example() } else { EXAMPLE.to_owned() };
        for (at, length, insert) in cuts {
            let start = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let end = (start + length).min(text.len());
            let end = (end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(start);
            text.replace_range(start..end, &insert);
        }
        if let Err(mistakes) = resolve(&text, &[], &Overrides::default()) {
            prop_assert!(!mistakes.0.is_empty());
            let lines = text.matches('\n').count() + 1;
            for mistake in &mistakes.0 {
                prop_assert!(mistake.line.is_some_and(|line| (1..=lines).contains(&line)), "{mistake}");
                prop_assert!(!mistake.to_string().contains(char::is_control), "{mistake:?}");
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let _ = load(&Layers { file: Some(file.path().to_owned()), ..Layers::default() });
    }
}
