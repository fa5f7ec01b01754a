//! Reading Rust text just well enough to judge it: comments and literals masked out, tokens with the module and
//! the test region they stand in, function spans, `mod` declarations, and paths with their nested groups.

/// One token of the masked text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// An identifier, keyword or number.
    Word(&'a str),
    /// `::`
    PathSep,
    /// Any other character.
    Mark(u8),
}

/// A token, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) token: Token<'a>,
    /// Counted from 1.
    pub(crate) line: usize,
    /// The inline modules around it, outermost first.
    pub(crate) inline: Vec<&'a str>,
    /// Inside something marked `#[cfg(test)]`.
    pub(crate) is_test: bool,
}

/// A `mod name;` declaration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) path: Vec<String>,
    pub(crate) is_test: bool,
}

/// A path as it was written, one per leaf of a nested group.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) segments: Vec<String>,
    pub(crate) inline: Vec<String>,
    pub(crate) line: usize,
    pub(crate) is_test: bool,
}

/// The text with comments and the insides of literals replaced by spaces; lines stay where they were.
pub(crate) fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_or_comment_end(text, at);
        if end == at {
            let next = text[at..].chars().next().expect("the loop is inside the text");
            out.push(if next.is_ascii() { next } else { ' ' });
            at += next.len_utf8();
            continue;
        }
        out.extend(text[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` itself when none begins there.
fn literal_or_comment_end(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    if rest.starts_with("//") {
        return at + rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return at + block_comment_bytes(rest);
    }
    let before = text[..at].chars().next_back();
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let prefix = if in_word { "" } else { literal_prefix(rest) };
    let body = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        if !body[hashes..].starts_with('"') {
            return at;
        }
        let close = format!("\"{}", "#".repeat(hashes));
        let from = prefix.len() + hashes + 1;
        return at + rest[from..].find(&close).map_or(rest.len(), |found| from + found + close.len());
    }
    match body.chars().next() {
        Some('"') => at + prefix.len() + quoted_bytes(body, '"'),
        Some('\'') if is_char_literal(body) => at + prefix.len() + quoted_bytes(body, '\''),
        _ => at,
    }
}

fn literal_prefix(rest: &str) -> &'static str {
    ["br", "cr", "r", "b", "c"]
        .into_iter()
        .find(|prefix| {
            let next = rest.strip_prefix(prefix).and_then(|body| body.chars().next());
            matches!(next, Some('"' | '\'')) || (prefix.ends_with('r') && next == Some('#'))
        })
        .unwrap_or("")
}

fn block_comment_bytes(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let (step, change) = match rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth += change;
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_bytes(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    body.len()
}

/// Tells `'a'` and `'\n'` from the lifetime `'a`.
fn is_char_literal(body: &str) -> bool {
    let mut chars = body.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}

/// The tokens of masked text with their places.
pub(crate) fn tokens(masked: &str) -> Vec<Placed<'_>> {
    let mut placed = bare_tokens(masked);
    let (mut depth, mut modules, mut test_depth) = (0usize, Vec::new(), None);
    let mut test_is_next = false;
    let mut at = 0;
    while at < placed.len() {
        if let Some((end, is_test)) = attribute(&placed, at) {
            for inside in &mut placed[at..end] {
                inside.inline = modules.iter().map(|&(name, _)| name).collect();
                inside.is_test = test_depth.is_some() || is_test;
            }
            test_is_next |= is_test;
            at = end;
            continue;
        }
        let inside_test = test_depth.is_some() || test_is_next;
        match placed[at].token {
            Token::Mark(b'{') => {
                depth += 1;
                if let [
                    ..,
                    Placed { token: Token::Word("mod"), .. },
                    Placed { token: Token::Word(name), .. },
                ] = placed[..at]
                {
                    modules.push((name, depth));
                }
                if test_is_next && test_depth.is_none() {
                    test_depth = Some(depth);
                }
                test_is_next = false;
            }
            Token::Mark(b'}') => {
                modules.retain(|&(_, opened)| opened < depth);
                test_depth = test_depth.filter(|&opened| opened < depth);
                depth = depth.saturating_sub(1);
            }
            Token::Mark(b';') => test_is_next = false,
            _ => {}
        }
        placed[at].inline = modules.iter().map(|&(name, _)| name).collect();
        placed[at].is_test = inside_test;
        at += 1;
    }
    placed
}

fn bare_tokens(masked: &str) -> Vec<Placed<'_>> {
    let bytes = masked.as_bytes();
    let (mut out, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let word = bytes[at..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        let (token, step) = match bytes[at] {
            b'\n' => {
                line += 1;
                at += 1;
                continue;
            }
            b' ' | b'\t' | b'\r' => {
                at += 1;
                continue;
            }
            _ if word > 0 => (Token::Word(&masked[at..at + word]), word),
            b':' if bytes.get(at + 1) == Some(&b':') => (Token::PathSep, 2),
            other => (Token::Mark(other), 1),
        };
        out.push(Placed { token, line, inline: Vec::new(), is_test: false });
        at += step;
    }
    out
}

/// When an attribute begins at `at`: where it ends, and whether it leaves its item to test builds.
fn attribute(placed: &[Placed<'_>], at: usize) -> Option<(usize, bool)> {
    if placed[at].token != Token::Mark(b'#') || placed.get(at + 1)?.token != Token::Mark(b'[') {
        return None;
    }
    let mut depth = 0;
    let length = placed[at + 1..].iter().position(|p| {
        match p.token {
            Token::Mark(b'[') => depth += 1,
            Token::Mark(b']') => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    let inside = &placed[at + 2..at + 1 + length];
    let names = |word| inside.iter().any(|p| p.token == Token::Word(word));
    let is_cfg = inside.first().is_some_and(|p| p.token == Token::Word("cfg"));
    Some((at + 2 + length, is_cfg && names("test") && !names("not")))
}

/// Name, first line and number of lines of every function with a body.
pub(crate) fn functions(placed: &[Placed<'_>]) -> Vec<(String, usize, usize)> {
    let mut out = Vec::new();
    for (at, start) in placed.iter().enumerate() {
        if start.token != Token::Word("fn") {
            continue;
        }
        // A name, or a macro's `$name`; without either this is a function pointer type.
        let name = match placed.get(at + 1).map(|p| p.token) {
            Some(Token::Word(name)) => name.to_owned(),
            Some(Token::Mark(b'$')) => "$".to_owned(),
            _ => continue,
        };
        if let Some(last) = body_end(&placed[at..]) {
            out.push((name, start.line, last - start.line + 1));
        }
    }
    out
}

fn body_end(from_fn: &[Placed<'_>]) -> Option<usize> {
    let (mut round, mut curly) = (0, 0);
    for p in from_fn {
        match p.token {
            Token::Mark(b'(' | b'[') => round += 1,
            Token::Mark(b')' | b']') => round -= 1,
            Token::Mark(b';') if round == 0 && curly == 0 => return None,
            Token::Mark(b'{') => curly += 1,
            Token::Mark(b'}') if curly == 1 && round == 0 => return Some(p.line),
            Token::Mark(b'}') => curly -= 1,
            _ => {}
        }
    }
    None
}

/// Every `mod name;`, with the inline modules around it in front.
pub(crate) fn declarations(placed: &[Placed<'_>]) -> Vec<Declared> {
    placed
        .windows(3)
        .filter_map(|w| match (w[0].token, w[1].token, w[2].token) {
            (Token::Word("mod"), Token::Word(name), Token::Mark(b';')) => {
                let path = w[0].inline.iter().copied().chain([name]).map(str::to_owned).collect();
                Some(Declared { path, is_test: w[2].is_test })
            }
            _ => None,
        })
        .collect()
}

/// Every path of two segments or more that begins with one of `roots`, and `crate as x`.
pub(crate) fn paths(placed: &[Placed<'_>], roots: &[&str]) -> Vec<Written> {
    let mut out = Vec::new();
    for (at, start) in placed.iter().enumerate() {
        let Token::Word(root) = start.token else { continue };
        let follows_path = at > 0 && placed[at - 1].token == Token::PathSep;
        if !roots.contains(&root) || (follows_path && is_continued_word(placed, at - 1)) {
            continue;
        }
        let mut leaves = Vec::new();
        tree(placed, at, &[], &mut leaves);
        let renamed = placed.get(at + 1).is_some_and(|p| p.token == Token::Word("as"));
        for segments in leaves {
            if segments.len() > 1 || renamed {
                out.push(Written {
                    segments,
                    inline: start.inline.iter().map(|&m| m.to_owned()).collect(),
                    line: start.line,
                    is_test: start.is_test,
                });
            }
        }
    }
    out
}

/// True when a name stands before the `::` at `sep`, so that what follows continues a path and begins none:
/// `use ::std::fs` begins one.
fn is_continued_word(placed: &[Placed<'_>], sep: usize) -> bool {
    let keywords = ["as", "dyn", "else", "for", "impl", "in", "match", "mut", "return", "use"];
    match sep.checked_sub(1).map(|before| placed[before].token) {
        Some(Token::Word(word)) => !keywords.contains(&word),
        Some(Token::Mark(b'>')) => true,
        _ => false,
    }
}

/// Reads the path tree at `at` and returns the place behind it.
fn tree(placed: &[Placed<'_>], mut at: usize, front: &[String], leaves: &mut Vec<Vec<String>>) -> usize {
    let mut segments = front.to_vec();
    loop {
        match placed.get(at).map(|p| p.token) {
            Some(Token::Word(word)) => segments.push(word.to_owned()),
            Some(Token::Mark(b'*')) => segments.push("*".to_owned()),
            Some(Token::Mark(b'{')) => {
                at += 1;
                while at < placed.len() && placed[at].token != Token::Mark(b'}') {
                    at = match placed[at].token {
                        Token::Word(_) | Token::Mark(b'*' | b'{') => tree(placed, at, &segments, leaves),
                        _ => at + 1,
                    };
                }
                return at + 1;
            }
            _ => {
                leaves.push(segments);
                return at;
            }
        }
        at += 1;
        if placed.get(at).map(|p| p.token) != Some(Token::PathSep) {
            leaves.push(segments);
            // `x as y` names nothing more.
            let renamed = placed.get(at).is_some_and(|p| p.token == Token::Word("as"));
            return if renamed { at + 2 } else { at };
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let masked = mask(text);
        let placed = tokens(&masked);
        placed
            .iter()
            .filter_map(|p| if let Token::Word(w) = p.token { Some(w.to_owned()) } else { None })
            .collect()
    }

    fn written(text: &str) -> Vec<String> {
        let masked = mask(text);
        let roots = ["crate", "super", "self", "std"];
        paths(&tokens(&masked), &roots).into_iter().map(|p| p.segments.join("::")).collect()
    }

    #[test]
    fn comments_and_literals_hide_their_words_and_keep_the_lines() {
        assert_eq!(words("a // b\n/* c /* d */ e */ f"), ["a", "f"]);
        assert_eq!(words(r##"a "b \" c" r#"d " e"# b"f" 'g' '\'' h"##), ["a", "h"]);
        assert_eq!(
            words("fn a<'x>(b: &'x str) -> r#type {}"),
            ["fn", "a", "x", "b", "x", "str", "r", "type"]
        );
        assert_eq!(words("'é' a 'b: loop {}"), ["a", "b", "loop"]);
        assert_eq!(mask("\"a\nb\"").matches('\n').count(), 1);
        assert_eq!(words("var\"x\" bar'y'"), ["var", "bar"]);
    }

    #[test]
    fn every_leaf_of_a_nested_group_is_a_path() {
        let text = "use crate::{wire::{self, frame::*}, types::Term as T, raft}; super::super::a::b::<u8>()";
        let expected = [
            "crate::wire::self",
            "crate::wire::frame::*",
            "crate::types::Term",
            "crate::raft",
            "super::super::a::b",
        ];
        assert_eq!(written(text), expected);
        assert_eq!(
            written("pub(crate) fn f(x: &self::X) -> <crate::a::B as C>::D"),
            ["self::X", "crate::a::B"]
        );
        assert_eq!(written("use crate as c; use ::std::fs; my::std::fs()"), ["crate", "std::fs"]);
        assert_eq!(written("$crate::wire::X"), ["crate::wire::X"]);
    }

    #[test]
    fn test_regions_and_inline_modules_are_known() {
        let text =
            "a; mod m { b; #[cfg(test)] mod n { c; } d; } #[cfg(test)] mod o; #[cfg(not(test))] mod p; e";
        let masked = mask(text);
        let placed = tokens(&masked);
        let place = |word| {
            let p = placed.iter().find(|p| p.token == Token::Word(word)).unwrap();
            (p.inline.join("::"), p.is_test)
        };
        assert_eq!(place("a"), (String::new(), false));
        assert_eq!(place("b"), ("m".into(), false));
        assert_eq!(place("c"), ("m::n".into(), true));
        assert_eq!(place("d"), ("m".into(), false));
        assert_eq!(place("e"), (String::new(), false));
        let declared = declarations(&placed);
        let flat: Vec<_> = declared.iter().map(|d| (d.path.join("::"), d.is_test)).collect();
        assert_eq!(flat, [("o".to_owned(), true), ("p".to_owned(), false)]);
    }

    #[test]
    fn functions_are_measured_from_their_first_line_to_their_closing_brace() {
        let text = "fn a() {\n  if x { y }\n}\ntrait T { fn b(&self); fn c(f: fn(u8)) -> [u8; 2] {\n} }";
        let masked = mask(text);
        assert_eq!(functions(&tokens(&masked)), [("a".to_owned(), 1, 3), ("c".to_owned(), 4, 2)]);
    }
}
