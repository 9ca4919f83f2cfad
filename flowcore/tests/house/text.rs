//! A text of Rust, read without understanding it: brackets, words, statements.

use super::is_word;

/// Returns a text without comments and what stands in quotes, in one line.
pub(super) fn plain(code: &str) -> String {
    let (mut out, mut rest) = (String::new(), code);
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            'r' if rest.starts_with("r#\"") => rest.find("\"#").map_or(rest.len(), |end| end + 2),
            '"' => {
                out.push_str("\"\"");
                let mut end = 1;
                while !rest[end..].starts_with('"') && end < rest.len() {
                    end += if rest[end..].starts_with('\\') { 1 } else { 0 };
                    end += rest[end..].chars().next().map_or(1, char::len_utf8);
                }
                end + 1
            }
            '\'' if rest[1..].starts_with('\\') => rest[2..].find('\'').map_or(1, |end| end + 3).max(4),
            '\'' if rest.chars().nth(2) == Some('\'') => rest.chars().take(3).map(char::len_utf8).sum(),
            c if c.is_whitespace() => {
                let after = rest.trim_start();
                if !after.starts_with('.') && !out.ends_with(' ') {
                    out.push(' ');
                }
                rest.len() - after.len()
            }
            c => {
                out.push(c);
                c.len_utf8()
            }
        };
        rest = rest.get(skipped..).unwrap_or_default();
    }
    out
}

/// Returns the end of a call; `after` is behind its opening bracket, or behind a call that has ended.
pub(super) fn call_end(code: &str, after: usize) -> usize {
    if !code[..after].ends_with('(') {
        return after;
    }
    after - 1 + block(&code[after - 1..])
}

/// Returns the length of what stands in brackets at the beginning of a text; 0 where it begins otherwise.
pub(super) fn block(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += step(c);
        if depth == 0 {
            return if at == 0 { 0 } else { at + 1 };
        }
    }
    text.len()
}

/// Returns where the block ends in which a text stands, or where it says `until` before that.
pub(super) fn block_rest(text: &str, until: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += step(c);
        if depth < 0 || (depth == 0 && text[at..].starts_with(until)) {
            return at;
        }
    }
    text.len()
}

/// Returns where the statement ends in which a text stands: temporaries live until then, in a `match` and the like until
/// the end of its block.
pub(super) fn statement_rest(text: &str) -> usize {
    let mut depth: i32 = 0;
    for (at, c) in text.char_indices() {
        // Brackets that were opened before belong to the same statement.
        depth = (depth + step(c)).max(if c == '}' { -1 } else { 0 });
        let goes_on = || text[at + 1..].trim_start().starts_with(['.', '?', ';', ')', ',', '&', '|', '=']);
        if depth < 0 || (depth == 0 && (c == ';' || (c == '}' && !goes_on()))) {
            return at;
        }
    }
    text.len()
}

fn step(c: char) -> i32 {
    match c {
        '(' | '[' | '{' => 1,
        ')' | ']' | '}' => -1,
        _ => 0,
    }
}

/// Where something stands in a text, and not as a part of a longer word.
pub(super) fn words<'a>(text: &'a str, what: &'a str) -> impl Iterator<Item = usize> {
    let places = text.match_indices(what).map(|(at, _)| at);
    places.filter(move |&at| {
        let begins = !what.starts_with(is_word) || !ends_in_word(&text[..at]);
        begins && (what.contains('(') || !text[at + what.len()..].starts_with(is_word))
    })
}

pub(super) fn word(text: &str) -> &str {
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

pub(super) fn ends_in_word(text: &str) -> bool {
    text.ends_with(is_word)
}
