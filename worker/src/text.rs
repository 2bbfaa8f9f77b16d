//! Text from handlers, made fit to be stored and shown.

// The longest text of a log line, a progress message or an error, in bytes.
const LONGEST: usize = 8 << 10;

/// The text cut to what is kept, between two characters, and without the NUL that databases refuse.
pub(crate) fn presentable(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let cut = presentable("é".repeat(LONGEST));
        assert!(cut.len() <= LONGEST + '…'.len_utf8() && cut.ends_with("é…"), "{} bytes", cut.len());
    }

    #[test]
    fn nul_is_replaced_and_the_rest_left_alone() {
        assert_eq!(presentable("a\0b".into()), "a\u{fffd}b");
        assert_eq!(presentable("plain".into()), "plain");
    }
}
