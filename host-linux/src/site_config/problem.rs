//! What is wrong with a configuration file: where, which key, what, and the remedy.

use crate::failure::Failure;
use std::ops::Range;
use std::path::Path;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the text, in bytes.
    span: Range<usize>,
    what: String,
    remedy: String,
}

/// What to do when nothing better is known.
const EXAMPLE: &str = "compare with `bulkhead config example`";

impl Problem {
    /// `what` is wrong at `span`; `remedy` mends it. Both are sentences without their full stop.
    pub fn new(span: Range<usize>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { span, what: what.into(), remedy: remedy.into() }
    }

    /// What the TOML reader says. The types of [`super::value`] put their remedy behind a semicolon.
    pub fn of_toml(error: &toml::de::Error) -> Self {
        let message: String = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        let (what, remedy) = match message.split_once("; ") {
            Some((what, remedy)) => (what.to_owned(), remedy.to_owned()),
            None => (message, EXAMPLE.to_owned()),
        };
        Self { span: error.span().unwrap_or(0..0), what, remedy }
    }

    /// `file:line:column: key: what`, and the remedy.
    fn parts(&self, path: &Path, text: &str) -> (String, &str) {
        let (line, column) = position(text, self.span.start);
        let key = key_at(text, self.span.start);
        let key = if key.is_empty() { key } else { format!("`{key}`: ") };
        (format!("{}:{line}:{column}: {key}{}", path.display(), self.what), &self.remedy)
    }
}

/// All problems of one file as one failure. `text` is the file's.
pub fn failure(path: &Path, text: &str, problems: &[Problem]) -> Failure {
    match problems {
        [only] => {
            let (what, remedy) = only.parts(path, text);
            Failure::failed(what).left("The file is not used.").next(format!("{remedy}."))
        }
        several => {
            let mut what = format!("{} is wrong in {} places:", path.display(), several.len());
            for problem in several {
                let (where_what, remedy) = problem.parts(path, text);
                what.push_str(&format!("\n  {where_what}; {remedy}"));
            }
            Failure::failed(what).left("The file is not used.").next("mend these places in this order.")
        }
    }
}

/// Line and column of a byte, both from 1; columns count characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
    (line, column)
}

/// The key a byte belongs to: the table above it, and the last `key =` at or above it.
fn key_at(text: &str, at: usize) -> String {
    let end =
        text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |len| at.saturating_add(len));
    let mut key = String::new();
    let lines: Vec<&str> = text.get(..end).unwrap_or(text).lines().collect();
    for line in lines.iter().rev() {
        let line = line.trim_start();
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_start_matches('[').split(']').next().unwrap_or_default().trim();
            return if key.is_empty() { table.to_owned() } else { format!("{table}.{key}") };
        }
        if key.is_empty()
            && let Some((name, _)) = line.split_once('=')
            && !line.starts_with(['#', '"', '{'])
        {
            name.trim().clone_into(&mut key);
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a = 1\n[site]\nid = 'é' # x\n[[node]]\naddresses = [\n  \"1\",\n  \"2\",\n]\n";

    #[test]
    fn a_byte_has_a_line_a_column_and_a_key() {
        let at = |words: &str| TEXT.find(words).unwrap();
        assert_eq!(position(TEXT, at("# x")), (3, 10));
        assert_eq!(key_at(TEXT, at("1")), "a");
        assert_eq!(key_at(TEXT, at("é")), "site.id");
        assert_eq!(key_at(TEXT, at("\"2\"")), "node.addresses");
        assert_eq!(key_at(TEXT, at("[[node]]")), "node");
        assert_eq!(key_at("", 0), "");
        assert_eq!(key_at(TEXT, 10_000), "node.addresses");
    }

    #[test]
    fn several_problems_are_all_said_at_once() {
        let one = Problem::new(TEXT.find("'é'").unwrap()..0, "is no id", "draw one");
        let path = Path::new("s.toml");
        assert_eq!(
            failure(path, TEXT, std::slice::from_ref(&one)).text(),
            "bulkhead: s.toml:3:6: `site.id`: is no id. The file is not used.\n  Next: draw one.\n"
        );
        let two = failure(path, TEXT, &[one.clone(), one]);
        assert!(two.what.contains("wrong in 2 places") && two.what.matches("draw one").count() == 2);
    }
}
