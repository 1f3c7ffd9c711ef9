//! One component of a pattern against one name, as `fnmatch.translate` of Python 3.11 reads it.
//!
//! A character is a Unicode character, or one byte of what is not UTF-8: Python decodes file names
//! with surrogateescape, so `?` matches either, and a byte `b` sorts in a range as U+DC00 + `b`.
//! Upper and lower case count.

/// What a component without `**` matches.
#[derive(Debug, Clone)]
pub(super) enum NamePattern {
    /// No wildcard: exactly this name.
    Literal(Box<[u8]>),
    /// With wildcards.
    Wild {
        /// Whether names that begin with a dot count: only if the pattern does too.
        hidden: bool,
        tokens: Box<[Token]>,
    },
}

/// A part of a component with wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// `*`: any number of characters. Never two in a row.
    Star,
    /// `?`: one character.
    Any,
    /// The character itself.
    Char(u32),
    /// `[...]`: one character in, or not in, these ranges (both ends included).
    Set {
        negated: bool,
        ranges: Box<[(u32, u32)]>,
    },
}

/// Whether a component has anything but literal characters.
pub(super) fn is_wild(component: &[u8]) -> bool {
    component
        .iter()
        .any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// Whether a name is skipped by wildcards.
pub(super) fn is_hidden(name: &[u8]) -> bool {
    name.first() == Some(&b'.')
}

impl NamePattern {
    pub(super) fn new(component: &[u8]) -> Self {
        if !is_wild(component) {
            return Self::literal(component);
        }
        Self::Wild {
            hidden: is_hidden(component),
            tokens: tokens(component).into(),
        }
    }

    pub(super) fn literal(name: &[u8]) -> Self {
        Self::Literal(name.into())
    }

    pub(super) fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Literal(literal) => **literal == *name,
            Self::Wild { hidden, tokens } => {
                (*hidden || !is_hidden(name)) && matches_tokens(tokens, name)
            }
        }
    }

    /// Whether this may match a name that begins with a dot.
    pub(super) fn sees_hidden(&self) -> bool {
        match self {
            Self::Literal(name) => is_hidden(name),
            Self::Wild { hidden, .. } => *hidden,
        }
    }

    /// Whether this is `*`.
    pub(super) fn is_star(&self) -> bool {
        matches!(self, Self::Wild { tokens, .. } if **tokens == [Token::Star])
    }
}

impl Token {
    fn accepts(&self, character: u32) -> bool {
        match self {
            Self::Star | Self::Any => true,
            Self::Char(expected) => *expected == character,
            Self::Set { negated, ranges } => {
                let found = ranges
                    .iter()
                    .any(|(low, high)| (low..=high).contains(&&character));
                found != *negated
            }
        }
    }
}

/// The first character of bytes that are not empty, and its length.
pub(super) fn first_character(bytes: &[u8]) -> (u32, usize) {
    if bytes[0].is_ascii() {
        return (u32::from(bytes[0]), 1);
    }
    // No character is longer than four bytes; what is cut off behind it does not matter.
    let start = &bytes[..bytes.len().min(4)];
    let valid = start.utf8_chunks().next().map(|chunk| chunk.valid());
    match valid.and_then(|text| text.chars().next()) {
        Some(character) => (u32::from(character), character.len_utf8()),
        None => (0xdc00 + u32::from(bytes[0]), 1),
    }
}

fn characters(mut bytes: &[u8]) -> Vec<u32> {
    let mut found = Vec::with_capacity(bytes.len());
    while !bytes.is_empty() {
        let (character, len) = first_character(bytes);
        found.push(character);
        bytes = &bytes[len..];
    }
    found
}

/// Whether the tokens match all of a name. The last star alone is tried again further on: what
/// stands between two stars has a fixed length, so its first place is as good as any later one.
pub(super) fn matches_tokens(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut retry = None;
    loop {
        match tokens.get(token) {
            Some(Token::Star) => {
                token += 1;
                if token == tokens.len() {
                    return true;
                }
                retry = Some((token, at));
                continue;
            }
            Some(expected) if at < name.len() => {
                let (character, len) = first_character(&name[at..]);
                if expected.accepts(character) {
                    token += 1;
                    at += len;
                    continue;
                }
            }
            None if at == name.len() => return true,
            _ => {}
        }
        let Some((after_star, start)) = retry.filter(|(_, start)| *start < name.len()) else {
            return false;
        };
        at = start + first_character(&name[start..]).1;
        token = after_star;
        retry = Some((token, at));
    }
}

const STAR: u32 = b'*' as u32;
const QUESTION: u32 = b'?' as u32;
const OPEN: u32 = b'[' as u32;
const CLOSE: u32 = b']' as u32;
const NOT: u32 = b'!' as u32;
const DASH: u32 = b'-' as u32;

pub(super) fn tokens(component: &[u8]) -> Vec<Token> {
    let pattern = characters(component);
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&character) = pattern.get(at) {
        at += 1;
        let token = match character {
            STAR if tokens.last() == Some(&Token::Star) => continue,
            STAR => Token::Star,
            QUESTION => Token::Any,
            OPEN => match end_of_set(&pattern[at..]) {
                Some(len) => {
                    let inside = &pattern[at..at + len];
                    at += len + 1;
                    set(inside)
                }
                None => Token::Char(OPEN),
            },
            other => Token::Char(other),
        };
        tokens.push(token);
    }
    tokens
}

/// How many characters stand before the `]` that ends a set. A `]` at its beginning, after `!` too,
/// is a member.
fn end_of_set(rest: &[u32]) -> Option<usize> {
    let mut start = usize::from(rest.first() == Some(&NOT));
    start += usize::from(rest.get(start) == Some(&CLOSE));
    let end = rest.get(start..)?.iter().position(|&c| c == CLOSE)?;
    Some(start + end)
}

/// A character between the brackets once it is clear which dashes make a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    Char(u32),
    RangeTo,
}

/// What stands between `[` and `]`; not empty.
fn set(inside: &[u32]) -> Token {
    let members = members(inside);
    let (negated, members) = match members.split_first() {
        Some((Member::Char(NOT), rest)) => (true, rest),
        _ => (false, &members[..]),
    };
    if negated && members.is_empty() {
        return Token::Any;
    }
    let mut ranges = Vec::new();
    let mut rest = members;
    while let Some((&first, after)) = rest.split_first() {
        let low = match first {
            Member::Char(character) => character,
            // The start of this range went with the empty range before it.
            Member::RangeTo => DASH,
        };
        rest = after;
        let mut high = low;
        if let [Member::RangeTo, Member::Char(end), after @ ..] = after {
            (high, rest) = (*end, after);
        }
        ranges.push((low, high));
    }
    Token::Set {
        negated,
        ranges: ranges.into(),
    }
}

/// Cuts at the dashes that make ranges, and drops ranges whose end is before their beginning,
/// together with both ends.
fn members(inside: &[u32]) -> Vec<Member> {
    let mut chunks: Vec<Vec<u32>> = Vec::new();
    let mut start = 0;
    // A dash at the beginning is a member, and so is one right after the end of a range.
    let mut from = if inside[0] == NOT { 2 } else { 1 };
    while let Some(dash) = inside
        .get(from..)
        .and_then(|rest| rest.iter().position(|&c| c == DASH))
        .map(|offset| from + offset)
    {
        chunks.push(inside[start..dash].to_vec());
        start = dash + 1;
        from = dash + 3;
    }
    match (&inside[start..], chunks.last_mut()) {
        ([], Some(last)) => last.push(DASH),
        (rest, _) => chunks.push(rest.to_vec()),
    }
    for later in (1..chunks.len()).rev() {
        let (before, after) = (&chunks[later - 1], &chunks[later]);
        if let (Some(low), Some((high, rest))) = (before.last(), after.split_first())
            && low > high
        {
            let kept = before[..before.len() - 1].iter().chain(rest);
            chunks[later - 1] = kept.copied().collect();
            chunks.remove(later);
        }
    }
    let mut members = Vec::with_capacity(inside.len());
    for (index, chunk) in chunks.iter().enumerate() {
        if index > 0 {
            members.push(Member::RangeTo);
        }
        members.extend(chunk.iter().map(|&c| Member::Char(c)));
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &[u8], name: &[u8]) -> bool {
        NamePattern::new(pattern).matches(name)
    }

    #[test]
    fn stars_and_question_marks_match_as_in_a_shell() {
        for (pattern, yes, no) in [
            ("*", "a", ".a"),
            ("*.exr", "a.b.exr", "a.exr.tmp"),
            ("a*b*c", "a_bb_c", "acb"),
            ("?.txt", "\u{e9}.txt", "ab.txt"),
            ("***x", "x", "xy"),
            (".*", ".a", "a"),
            ("*ab", "aab", "aba"),
        ] {
            assert!(matches(pattern.as_bytes(), yes.as_bytes()), "{pattern}");
            assert!(!matches(pattern.as_bytes(), no.as_bytes()), "{pattern}");
        }
    }

    #[test]
    fn brackets_match_as_fnmatch_reads_them() {
        for (pattern, yes, no) in [
            ("[abc]", "b", "d"),
            ("[!abc]", "d", "b"),
            ("[a-c]x", "bx", "dx"),
            ("[]a]", "]", "b"),
            ("[!]a]", "b", "]"),
            ("[-a]", "-", "b"),
            ("[a-]", "-", "b"),
            ("[a", "[a", "a"),
            ("[]", "[]", "x"),
            ("[!]", "[!]", "x"),
            ("[^a]", "^", "b"),
            ("[!b-a]", "x", "xx"),
            ("[b-ac]", "c", "b"),
            ("[a\\]", "\\", "b"),
            // The range b-a takes both ends with it, and leaves what reads as a negation.
            ("[b-a!-z]", "a", "z"),
            ("[[]", "[", "]"),
        ] {
            assert!(matches(pattern.as_bytes(), yes.as_bytes()), "{pattern}");
            assert!(!matches(pattern.as_bytes(), no.as_bytes()), "{pattern}");
        }
        assert!(!matches(b"[b-a]", b"a") && !matches(b"[b-a]", b"b"));
    }

    #[test]
    fn a_byte_that_is_not_utf8_is_one_character() {
        assert!(matches(b"?", b"\xff"));
        assert!(!matches(b"?", b"\xe2\x82"));
        assert!(matches(b"??", b"\xe2\x82"));
        assert!(matches(b"[\xfe-\xff]", b"\xff"));
        assert!(matches(b"*\xff", b"\xc3\xa9\xff"));
        // U+DCFF is between the letter and the private character.
        assert!(matches("[\u{e9}-\u{e000}]".as_bytes(), b"\xff"));
    }

    #[test]
    fn a_name_with_a_dot_needs_a_pattern_with_a_dot() {
        assert!(!matches(b"[.]a", b".a"));
        assert!(!matches(b"?a", b".a"));
        assert!(matches(b".?", b".a"));
        assert!(matches(b".a", b".a"));
    }
}
