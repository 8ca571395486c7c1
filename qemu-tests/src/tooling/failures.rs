//! Which tests failed and why, or what the compiler refused, out of the log of a run: the first lines that a
//! person who sees only a part of a CI log needs.

/// Tests that are told of.
const TESTS_MAX: usize = 5;
/// Lines of each.
const LINES_MAX: usize = 14;
/// Lines of the compiler.
const COMPILER_LINES_MAX: usize = 30;
/// Characters of a line: a machine's status is one long line.
const WIDTH_MAX: usize = 240;

/// The name of each failed test with what it said last: its error or its panic, without what it printed
/// before. Empty when the log shows no failed test.
#[must_use]
pub fn summary(log: &str) -> String {
    let mut lines = log.lines().peekable();
    let mut told = Vec::new();
    let mut tests = 0;
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) else {
            continue;
        };
        tests += 1;
        if tests > TESTS_MAX {
            told.push("and more".to_owned());
            break;
        }
        told.push(name.to_owned());
        let mut section = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("---- ") && *line != "failures:") {
            section.push(line);
        }
        let last = section.iter().rposition(|line| is_last_word(line)).unwrap_or_default();
        let words = section.iter().skip(last).filter(|line| !line.trim().is_empty());
        told.extend(words.take(LINES_MAX).map(|line| format!("  {}", cut(line))));
    }
    told.join("\n")
}

/// What cargo or the compiler gave up for, from its first word of it on, without what was compiled.
/// Empty when the log holds no such word.
#[must_use]
pub fn compiler(log: &str) -> String {
    let built = ["Compiling", "Checking", "Downloading", "Downloaded"];
    let lines = log.lines().skip_while(|line| !line.starts_with("error"));
    let lines = lines.filter(|line| !built.iter().any(|word| line.trim_start().starts_with(word)));
    lines.take(COMPILER_LINES_MAX).map(cut).collect::<Vec<_>>().join("\n")
}

/// How a test that returns an error, and one that panics, begin their last words.
fn is_last_word(line: &str) -> bool {
    line.starts_with("Error: ") || (line.starts_with("thread '") && line.contains("panicked at"))
}

fn cut(line: &str) -> String {
    let mut short: String = line.chars().take(WIDTH_MAX).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "running 3 tests\ntest a ... FAILED\ntest b ... ok\ntest c ... FAILED\n\nfailures:\n\n\
        ---- a stdout ----\n  12.00 s  a1: is master\nError: the test a failed; its artefacts are in /x\n\n\
        Caused by:\n    0: it was to stay master\n    1: a1: {}\n\n\
        ---- c stdout ----\n\nthread 'c' (7) panicked at x.rs:1:2:\nleft is not right\nnote: run with\n\n\n\
        failures:\n    a\n    c\n\ntest result: FAILED. 1 passed; 2 failed\n";

    #[test]
    fn each_failed_test_is_named_with_its_reason() {
        let expected = "a\n  Error: the test a failed; its artefacts are in /x\n  Caused by:\n      \
            0: it was to stay master\n      1: a1: {}\n\
            c\n  thread 'c' (7) panicked at x.rs:1:2:\n  left is not right\n  note: run with";
        assert_eq!(summary(LOG), expected);
        assert_eq!(summary("error[E0425]: cannot find value"), "");
    }

    #[test]
    fn the_compiler_is_heard_from_its_first_error_on() {
        let log = "   Compiling a v1.0.0\nwarning: errors are near\nerror: rustc interrupted by SIGILL\n\
            \u{20}  Compiling b v1.0.0\nerror: could not compile `a` (lib)\n";
        assert_eq!(compiler(log), "error: rustc interrupted by SIGILL\nerror: could not compile `a` (lib)");
        assert_eq!(compiler("all is well\n"), "");
        let flood = "error\n".repeat(COMPILER_LINES_MAX + 1);
        assert_eq!(compiler(&flood).lines().count(), COMPILER_LINES_MAX);
    }

    #[test]
    fn a_flood_is_cut() {
        let one =
            |n: usize| format!("---- t{n} stdout ----\nError: {}\n{}", "é".repeat(9000), "x\n".repeat(99));
        let log: String = (0..20).map(one).collect();
        let summary = summary(&log);
        assert!(summary.lines().count() <= TESTS_MAX * (LINES_MAX + 1) + 1, "{summary}");
        assert!(summary.lines().all(|line| line.chars().count() <= WIDTH_MAX + 3));
        assert!(summary.ends_with("and more"), "{summary}");
    }
}
