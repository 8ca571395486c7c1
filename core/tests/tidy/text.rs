//! The rules that look at one text at a time, and the readers of Rust they stand on. They read lines as
//! `rustfmt` lays them out; formatting is checked before they run.

use super::rules::{
    BANNED, BANNED_IN_CORE, FILE_LINES_MAX, FLOORS, FUNCTION_LINES_MAX, LINE_COLUMNS_MAX, LONG_FUNCTIONS,
    SYNONYMS,
};

/// Complaints about the Rust file at `path`, relative to the repository.
pub fn check_rust(path: &str, text: &str, errors: &mut Vec<String>) {
    let mut complain = |line: usize, what: String| errors.push(format!("{path}:{line}: {what}"));
    if FILE_LINES_MAX < text.lines().count() {
        complain(1, format!("file is longer than {FILE_LINES_MAX} lines; split it by concept"));
    }
    if !text.starts_with("//! ") {
        complain(1, "file does not start with its promise (`//! ...`)".to_owned());
    }
    for (line, name, length) in functions(text) {
        let exempt = LONG_FUNCTIONS.iter().find(|(exempt, ..)| *exempt == format!("{path}::{name}"));
        match exempt {
            None if FUNCTION_LINES_MAX < length => {
                complain(line, format!("`{name}` has {length} lines, at most {FUNCTION_LINES_MAX}"));
            }
            Some((_, allowed, _)) if *allowed != length => {
                complain(line, format!("`{name}` has {length} lines, LONG_FUNCTIONS says {allowed}"));
            }
            None | Some(_) => {}
        }
    }
    for (number, line) in (1..).zip(text.lines()) {
        if LINE_COLUMNS_MAX < line.chars().count() {
            complain(number, format!("line is wider than {LINE_COLUMNS_MAX} columns"));
        }
        for (name, instead) in BANNED.iter().filter(|(name, _)| has_word(line, name)) {
            complain(number, format!("`{name}` is banned, use {instead}"));
        }
    }
    check_words(path, text, errors);
    if let Some(inner) = path.strip_prefix("core/src/") {
        check_core(path, inner, text, errors);
    }
}

/// Complaints about words of prose, comments and names. Case does not matter.
pub fn check_words(path: &str, text: &str, errors: &mut Vec<String>) {
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.to_lowercase();
        for (word, instead) in SYNONYMS.iter().filter(|(word, _)| has_word(&line, word)) {
            errors.push(format!("{path}:{number}: \"{word}\" has no meaning here, say {instead}"));
        }
    }
}

/// What holds for the product code of the core alone.
fn check_core(path: &str, inner: &str, text: &str, errors: &mut Vec<String>) {
    let mut complain = |line: usize, what: String| errors.push(format!("{path}:{line}: {what}"));
    let product = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    let floor = inner.split(['/', '.']).next().unwrap_or_default();
    let below = FLOORS.iter().find(|(module, _)| *module == floor).map(|(_, below)| *below);
    if below.is_none() && floor != "lib" {
        complain(1, format!("module `{floor}` stands on no floor: give it a row in FLOORS"));
    }
    for (number, line) in (1..).zip(product.lines()) {
        let code = code_of(line);
        for (name, instead) in BANNED_IN_CORE.iter().filter(|(name, _)| has_word(code, name)) {
            complain(number, format!("`{name}` is banned in the core, use {instead}"));
        }
        if ["_ =>", "(_, _) =>", "(_, _, _) =>"].iter().any(|arm| code.trim_start().starts_with(arm)) {
            complain(number, "catch-all arm: name what is ignored".to_owned());
        }
        for (_, named) in code.match_indices("crate::").map(|(at, found)| code.split_at(at + found.len())) {
            let module = named.split(|c: char| !is_word(c)).next().unwrap_or_default();
            if module.is_empty() {
                complain(number, "name one module per `use crate::`, so that floors can be read".to_owned());
            } else if module != floor && below.is_some_and(|below| !below.contains(&module)) {
                complain(number, format!("`{floor}` may not stand on `{module}`"));
            }
        }
    }
    for (line, variant) in modes_without_exit(product) {
        complain(line, format!("mode `{variant}` does not say how it is left (\"Exit:\" or \"Final\")"));
    }
}

/// How many times the word `unsafe` stands in code; comments do not count.
pub fn unsafe_sites(text: &str) -> usize {
    text.lines().map(code_of).map(|code| words(code, "unsafe").count()).sum()
}

/// The line without its comment. A `//` in a string cuts it short: good enough for what is looked for here.
fn code_of(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

fn has_word(line: &str, word: &str) -> bool {
    words(line, word).next().is_some()
}

/// Where `word` stands in `line` with no letter, digit, underscore or hyphen around it.
fn words<'a>(line: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    line.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let joined = |c: char| is_word(c) || c == '-';
        let before = line[..*at].chars().next_back().is_some_and(joined);
        let after = line[at + word.len()..].chars().next().is_some_and(joined);
        !before && !after
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// First line, name and length of every function.
pub fn functions(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let found = lines.iter().enumerate().filter_map(|(start, line)| {
        let name = function_name(line)?;
        let indent = line.len() - line.trim_start().len();
        let close = format!("{}}}", " ".repeat(indent));
        let ends_here = line.ends_with('}') || line.ends_with(';');
        let rows = lines[start..].iter().position(|line| *line == close);
        Some((start + 1, name, if ends_here { 1 } else { rows.map_or(1, |rows| rows + 1) }))
    });
    found.collect()
}

fn function_name(line: &str) -> Option<String> {
    let modifier = |word: &str| {
        ["const", "async", "unsafe", "extern"].contains(&word)
            || word.starts_with("pub")
            || word.starts_with('"')
    };
    let mut rest = line.trim_start();
    while let Some((word, after)) = rest.split_once(' ') {
        if word == "fn" {
            return Some(after.chars().take_while(|c| is_word(*c)).collect());
        }
        if !modifier(word) {
            return None;
        }
        rest = after;
    }
    None
}

/// Variants of `pub enum Mode` whose documentation names no way out.
fn modes_without_exit(text: &str) -> Vec<(usize, String)> {
    let (mut inside, mut documented, mut found) = (false, false, Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line == "pub enum Mode {" {
            inside = true;
        } else if line == "}" {
            inside = false;
        } else if line.starts_with("///") {
            documented |= line.contains("Exit:") || line.contains("Final");
        } else {
            if inside && !documented && line.starts_with(char::is_uppercase) {
                found.push((number, line.trim_end_matches([',', ' ', '{']).to_owned()));
            }
            documented = false;
        }
    }
    found
}
