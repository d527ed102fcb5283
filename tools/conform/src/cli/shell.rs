//! As much of a shell as the recorded command lines need: pipes, `;` and `&&`, `<` and `>`, quotes.
//! Its commands are ipvsadm by its names and a few that go with it; files are its own.

use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Chars;

use uvs_control::adm::{Invocation, Program, proc};

use super::director::Director;
use super::names::Recorded;
use crate::Stop;

/// How the recorder ran a line as somebody who is not root, around the line.
const AS_NOBODY: (&str, &str) = (
    "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534); os.execvp('ipvsadm', '''",
    "'''.split())",
);

/// Where IPVS's files are.
const PROC_NET: &str = "/proc/net/";

/// What a line printed, and its exit code.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A word, or what stands between commands.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Pipe,
    Then,
    And,
    From,
    Into,
}

/// A command with its files.
#[derive(Debug, Default)]
struct Simple {
    words: Vec<String>,
    from: Option<String>,
    into: Option<String>,
}

/// See the module.
pub(crate) struct Shell<'a> {
    director: &'a Director,
    files: HashMap<String, String>,
}

impl<'a> Shell<'a> {
    pub(crate) fn new(director: &'a Director) -> Self {
        Self { director, files: HashMap::from([("/dev/null".to_owned(), String::new())]) }
    }

    /// Runs a line whose first command reads `input`.
    pub(crate) fn run(&mut self, line: &str, input: &str) -> Result<Ran, Stop> {
        let mut all = Ran::default();
        let tokens = tokens(line)?;
        let mut skip = false;
        for (pipeline, before) in pipelines(tokens) {
            skip = before == Token::And && (skip || all.code != 0);
            if !skip {
                let ran = self.pipeline(pipeline, input)?;
                all.code = ran.code;
                all.out += &ran.out;
                all.err += &ran.err;
            }
        }
        Ok(all)
    }

    fn pipeline(&mut self, pipeline: Vec<Simple>, input: &str) -> Result<Ran, Stop> {
        let mut all = Ran { out: input.to_owned(), ..Ran::default() };
        for simple in pipeline {
            let input = match &simple.from {
                Some(file) => self.file(file)?.clone(),
                None => std::mem::take(&mut all.out),
            };
            let ran = self.simple(&simple.words, &input)?;
            all = Ran { code: ran.code, out: ran.out, err: all.err + &ran.err };
            if let Some(file) = simple.into {
                self.files.insert(file, std::mem::take(&mut all.out));
            }
        }
        Ok(all)
    }

    fn file(&self, name: &str) -> Result<&String, Stop> {
        self.files.get(name).ok_or_else(|| Stop::NotSupported(format!("the file `{name}`")))
    }

    fn simple(&self, words: &[String], input: &str) -> Result<Ran, Stop> {
        let (name, arguments) = words.split_first().ok_or(Stop::Malformed("no command".into()))?;
        if let Some(program) = Program::called(name) {
            return Ok(self.ipvsadm(&program, arguments, input));
        }
        let done = |out: String, code| Ok(Ran { code, out, err: String::new() });
        match (name.as_str(), arguments) {
            ("cat", []) => done(input.to_owned(), 0),
            ("cat", files) => {
                let text = files.iter().map(|file| self.cat(file));
                done(text.collect::<Result<String, Stop>>()?, 0)
            }
            ("echo", words) => done(words.join(" ") + "\n", 0),
            ("diff", [one, other]) => {
                let text = |name: &String| match name.as_str() {
                    "-" => Ok(input.to_owned()),
                    name => self.file(name).cloned(),
                };
                match text(one)? == text(other)? {
                    true => done(String::new(), 0),
                    false => done(format!("{one} and {other} differ\n"), 1),
                }
            }
            ("python3", [option, script]) if option == "-c" => {
                let (start, end) = AS_NOBODY;
                let line = script.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
                let unknown = || Stop::NotSupported(format!("the script `{script}`"));
                let words: Vec<String> =
                    line.ok_or_else(unknown)?.split_whitespace().map(str::to_owned).collect();
                let shell = self.director;
                let run = || Shell::new(shell).simple(&words, input);
                self.director.as_nobody(run)
            }
            _ => Err(Stop::NotSupported(format!("the command `{name}`"))),
        }
    }

    fn cat(&self, file: &str) -> Result<String, Stop> {
        match file.strip_prefix(PROC_NET).map(str::parse) {
            None => self.file(file).cloned(),
            Some(Err(())) => Err(Stop::NotSupported(format!("the file `{file}`"))),
            Some(Ok(found)) => {
                let mut out = Vec::new();
                let told = proc(&self.director.client(), found, &mut out);
                told.map_err(|error| Stop::Differs(error.to_string()))?;
                Ok(String::from_utf8_lossy(&out).into_owned())
            }
        }
    }

    fn ipvsadm(&self, program: &Program, arguments: &[String], input: &str) -> Ran {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut invocation = Invocation {
            program,
            client: &self.director.client(),
            names: &Recorded,
            input: &mut input.as_bytes(),
            out: &mut out,
            err: &mut err,
            colour: false,
        };
        let code = invocation.run(arguments);
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code, out: text(out), err: text(err) }
    }
}

/// Commands that are piped into one another, each with what stands before it.
fn pipelines(tokens: Vec<Token>) -> Vec<(Vec<Simple>, Token)> {
    let mut all = vec![(vec![Simple::default()], Token::Then)];
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        if matches!(token, Token::Then | Token::And) {
            all.push((vec![Simple::default()], token));
            continue;
        }
        let Some((pipeline, _)) = all.last_mut() else { continue };
        let mut file = || match tokens.next() {
            Some(Token::Word(file)) => Some(file),
            _ => None,
        };
        match (token, pipeline.last_mut()) {
            (Token::Word(word), Some(simple)) => simple.words.push(word),
            (Token::From, Some(simple)) => simple.from = file(),
            (Token::Into, Some(simple)) => simple.into = file(),
            _ => pipeline.push(Simple::default()),
        }
    }
    all
}

fn tokens(line: &str) -> Result<Vec<Token>, Stop> {
    let mut tokens = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(&next) = chars.peek() {
        let operator = match next {
            '|' => Token::Pipe,
            ';' => Token::Then,
            '<' => Token::From,
            '>' => Token::Into,
            '&' => Token::And,
            _ if next.is_whitespace() => {
                chars.next();
                continue;
            }
            _ => {
                tokens.push(Token::Word(word(&mut chars)?));
                continue;
            }
        };
        chars.next();
        if operator == Token::And && chars.next() != Some('&') {
            return Err(Stop::NotSupported("`&` of a shell".into()));
        }
        tokens.push(operator);
    }
    Ok(tokens)
}

fn word(chars: &mut Peekable<Chars>) -> Result<String, Stop> {
    let mut word = String::new();
    while let Some(next) = chars.next_if(|next| !next.is_whitespace() && !"|;<>&".contains(*next)) {
        match next {
            '\'' | '"' => loop {
                match chars.next() {
                    Some(end) if end == next => break,
                    Some(inside) => word.push(inside),
                    None => return Err(Stop::Malformed("a quote without its end".into())),
                }
            },
            '$' | '`' | '\\' | '*' => {
                return Err(Stop::NotSupported(format!("`{next}` of a shell")));
            }
            plain => word.push(plain),
        }
    }
    Ok(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> (u8, String) {
        let director = Director::start().unwrap();
        let ran = Shell::new(&director).run(line, "in\n").unwrap();
        (ran.code, ran.out)
    }

    #[test]
    fn commands_are_piped_joined_and_have_files() {
        assert_eq!(run("cat"), (0, "in\n".into()));
        assert_eq!(run("echo a 'b  c' | cat"), (0, "a b  c\n".into()));
        assert_eq!(run("echo a > f; cat < f; cat f"), (0, "a\na\n".into()));
        assert_eq!(run("echo a > f; echo a | diff - f && echo same"), (0, "same\n".into()));
        let differ = (1, "- and f differ\n".into());
        assert_eq!(run("echo a > f; echo b | diff - f && echo same && echo x"), differ);
        let app = "prot port    usecnt name\nTCP  21      0      ftp              \n";
        assert_eq!(run("cat /proc/net/ip_vs_app"), (0, app.into()));
        assert_eq!(run("ipvsadm -Sn > s; cat s; ipvsadm -D -f 1 && echo no; echo yes").0, 0);
    }

    #[test]
    fn what_it_does_not_do_it_says() {
        let director = Director::start().unwrap();
        for line in ["rm x", "cat nothing", "echo $HOME", "echo `x`", "python3 -c x", "sleep 1 &"] {
            let told = Shell::new(&director).run(line, "");
            assert!(matches!(told, Err(Stop::NotSupported(_))), "{line}: {told:?}");
        }
    }
}
