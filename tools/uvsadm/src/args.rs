//! Cuts an argument vector into words of the grammar, by the rules of popt: options and other
//! arguments mix, short options bundle (`-Lnt ADDR`), a value is attached (`-srr`, `-s=rr`,
//! `--scheduler=rr`) or the next argument, and `--` ends the options.

use crate::error::ParseError;
use crate::grammar::{Value, WORDS, Word};

/// A word of the grammar as it stands on the line.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) word: &'static Word,
    /// Its value; `None` only for a word without one.
    pub(crate) value: Option<&'a str>,
    /// The argument that it stands in, and its number.
    pub(crate) text: &'a str,
    pub(crate) arg: usize,
    /// The number of the argument that holds the value.
    pub(crate) value_arg: usize,
}

/// Reads a line from left to right.
#[derive(Debug)]
pub(crate) struct Args<'a> {
    args: &'a [String],
    next: usize,
    /// What is left of a bundle of short options, and the argument it stands in.
    bundle: Option<(&'a str, usize)>,
    /// The arguments that are no options, each with its number.
    pub(crate) rest: Vec<(usize, &'a str)>,
}

impl<'a> Args<'a> {
    pub(crate) fn new(args: &'a [String]) -> Self {
        Self { args, next: 0, bundle: None, rest: Vec::new() }
    }

    /// The next word, or `None` at the end of the line.
    pub(crate) fn next_word(&mut self) -> Option<Result<Found<'a>, ParseError>> {
        if let Some((letters, arg)) = self.bundle.take() {
            return Some(self.short(letters, arg));
        }
        let args = self.args;
        while let Some(text) = args.get(self.next) {
            let arg = self.next;
            self.next += 1;
            if text == "--" {
                self.rest.extend(args.iter().map(String::as_str).enumerate().skip(self.next));
                self.next = args.len();
                return None;
            } else if let Some(long) = text.strip_prefix("--") {
                return Some(self.long(long, arg));
            } else if let Some(letters) = text.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                return Some(self.short(letters, arg));
            }
            self.rest.push((arg, text));
        }
        None
    }

    fn long(&mut self, text: &'a str, arg: usize) -> Result<Found<'a>, ParseError> {
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        match WORDS.iter().find(|word| word.long == name) {
            Some(word) => self.found(word, attached, arg),
            None => Err(self.unreadable(arg, "unknown option")),
        }
    }

    fn short(&mut self, letters: &'a str, arg: usize) -> Result<Found<'a>, ParseError> {
        let mut chars = letters.chars();
        let letter = chars.next();
        let tail = chars.as_str();
        let Some(word) = WORDS.iter().find(|word| word.short == letter) else {
            return Err(self.unreadable(arg, "unknown option"));
        };
        if word.value == Value::No && !tail.is_empty() && !tail.starts_with('=') {
            self.bundle = Some((tail, arg));
            return self.found(word, None, arg);
        }
        let attached = (!tail.is_empty()).then(|| tail.strip_prefix('=').unwrap_or(tail));
        self.found(word, attached, arg)
    }

    fn found(
        &mut self,
        word: &'static Word,
        attached: Option<&'a str>,
        arg: usize,
    ) -> Result<Found<'a>, ParseError> {
        let next = self.args.get(self.next).map(String::as_str);
        let following = match word.value {
            _ if attached.is_some() => None,
            Value::No => None,
            Value::Yes => next,
            Value::Optional => next.filter(|text| !text.starts_with('-')),
        };
        let value_arg = if following.is_some() { self.next } else { arg };
        self.next += usize::from(following.is_some());
        let value = attached.or(following);
        match word.value {
            Value::No if value.is_some() => {
                Err(self.unreadable(arg, "option does not take an argument"))
            }
            Value::Yes if value.is_none() => Err(self.unreadable(arg, "missing argument")),
            _ => Ok(Found { word, value, text: &self.args[arg], arg, value_arg }),
        }
    }

    fn unreadable(&self, arg: usize, why: &str) -> ParseError {
        ParseError::unreadable(arg, format!("{}: {why}", self.args[arg]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> (Vec<String>, Vec<String>) {
        let line: Vec<String> = line.iter().map(ToString::to_string).collect();
        let mut args = Args::new(&line);
        let mut words = Vec::new();
        while let Some(found) = args.next_word() {
            words.push(match found {
                Ok(found) => format!("{}={}", found.word.long, found.value.unwrap_or("-")),
                Err(error) => error.to_string(),
            });
        }
        (words, args.rest.iter().map(|(_, text)| text.to_string()).collect())
    }

    #[test]
    fn values_are_attached_or_follow() {
        for line in [&["-srr"][..], &["-s=rr"], &["-s", "rr"], &["--scheduler=rr"]] {
            assert_eq!(words(line).0, ["scheduler=rr"], "{line:?}");
        }
        assert_eq!(words(&["-t", "-s", "rr"]), (vec!["tcp-service=-s".into()], vec!["rr".into()]));
        assert_eq!(words(&["-Lnt", "x"]).0, ["list=-", "numeric=-", "tcp-service=x"]);
        assert_eq!(
            words(&["-p", "-n", "-p", "5"]).0,
            ["persistent=-", "numeric=-", "persistent=5"]
        );
    }

    #[test]
    fn other_arguments_are_kept_apart() {
        assert_eq!(words(&["a", "-n", "-", "--", "-c"]).1, ["a", "-", "-c"]);
    }

    #[test]
    fn what_popt_refuses() {
        assert_eq!(words(&["-n5"]).0, ["numeric=-", "-n5: unknown option"]);
        assert_eq!(words(&["-n=5"]).0, ["-n=5: option does not take an argument"]);
        assert_eq!(words(&["--num"]).0, ["--num: unknown option"]);
        assert_eq!(words(&["-Lt"]).0, ["list=-", "-Lt: missing argument"]);
    }
}
