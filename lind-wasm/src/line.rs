//! Text that programs bring along, as part of a line that the runtime says.

/// Most characters of it that are shown.
const MAX: usize = 200;

/// The start of `text` with nothing in it that a terminal obeys: line ends, escape sequences and
/// whatever else is not printable are written as escapes.
pub fn plain(text: &str) -> String {
    let mut shown = String::new();
    for (index, char) in text.chars().enumerate() {
        if index == MAX {
            shown.push_str("...");
            break;
        }
        match char {
            '"' | '\'' | '\\' => shown.push(char),
            _ => shown.extend(char.escape_debug()),
        }
    }
    shown
}

/// What is wrong, of an engine's error, in a line: without the places in the code, a line each, and
/// with what the program brought so that it can be shown.
pub fn first_line(error: &wasmtime::Error) -> String {
    const PLACES: &str = "error while executing at wasm backtrace";
    let causes = error.chain().map(ToString::to_string);
    let causes: Vec<String> = causes.filter(|cause| !cause.starts_with(PLACES)).collect();
    plain(&causes.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_the_rest_stays() {
        assert_eq!(plain(r#"it's "é" \o"#), r#"it's "é" \o"#);
        assert_eq!(
            plain("a\nb\r\u{1b}[31m\u{202e}"),
            r"a\nb\r\u{1b}[31m\u{202e}"
        );
        assert_eq!(plain(&"x".repeat(MAX)), "x".repeat(MAX));
        assert_eq!(plain(&"x".repeat(MAX + 1)), "x".repeat(MAX) + "...");
    }
}
