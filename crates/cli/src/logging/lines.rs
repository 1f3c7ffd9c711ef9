//! Lines: an event becomes exactly one, so that nothing in it looks like another one.

use std::io::{self, Write};

use super::rolling;

/// Where the lines go. Gets each event in one piece, and never fails: the code that logs could do nothing about
/// it.
#[derive(Debug)]
pub(super) struct Lines {
    /// Colours are left as they are. What the program's own text is not has none: it was escaped before.
    pub(super) is_terminal: bool,
}

impl Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = one_line(event, self.is_terminal);
        if rolling::has_room() {
            // The disk is full, or the reader of standard error is gone.
            let _ = io::stderr().write_all(line.as_bytes());
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The event without control characters but for the end of the line.
fn one_line(event: &[u8], is_terminal: bool) -> String {
    let text = String::from_utf8_lossy(event);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut line = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if c.is_control() && c != '\t' && !(is_terminal && c == '\u{1b}') {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_line_break_forges_no_line() {
        let event = b"WARN cannot read a\nERROR all is lost\r\x1b[2J\n";
        let line = one_line(event, false);
        assert_eq!(
            line,
            "WARN cannot read a\\nERROR all is lost\\r\\u{1b}[2J\n"
        );
    }

    #[test]
    fn a_terminal_keeps_its_colours_and_gets_one_line_too() {
        assert_eq!(
            one_line(b"\x1b[31mERROR\x1b[0m a\nb\n", true),
            "\x1b[31mERROR\x1b[0m a\\nb\n"
        );
    }
}
