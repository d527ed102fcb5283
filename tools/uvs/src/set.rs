//! `uvs set`: the running engine's settings.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command};
use uvs_control::client::Client;
use uvs_engine::settings::{ALL, SettingError};
use uvs_uvsadm::api::{Change, Setting};

use crate::{Failure, adm};

/// The command line of `uvs set`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A setting to show, a setting and its new value, or any number of NAME=VALUE.
    #[arg(
        value_name = "NAME [VALUE] | NAME=VALUE",
        value_parser = Words,
        hide_possible_values = true,
        allow_negative_numbers = true
    )]
    words: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Takes any word, and tells completions the names of the settings.
#[derive(Clone, Debug)]
struct Words;

impl TypedValueParser for Words {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let value = |setting: &'static uvs_engine::settings::Setting| {
            PossibleValue::new(setting.name).help(setting.meaning)
        };
        Some(Box::new(ALL.iter().map(value)))
    }
}

/// What the words ask for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    List,
    Show(String),
    Change(Vec<Change>),
}

/// Lists, shows or changes settings.
pub fn set(options: &Options) -> Result<ExitCode, Failure> {
    let client = Client::new(Path::new(&adm::socket()));
    let wish = wish(&options.words)?;
    if let Wish::Change(changes) = &wish {
        client.change(changes)?;
    }
    let mut settings = client.settings()?.settings;
    settings.retain(|setting| match &wish {
        Wish::List => true,
        Wish::Show(name) => setting.name == *name,
        Wish::Change(changes) => changes.iter().any(
            |change| matches!(change, Change::SetSetting { name, .. } if *name == setting.name),
        ),
    });
    if let (Wish::Show(name), true) = (&wish, settings.is_empty()) {
        return Err(SettingError::Unknown(name.clone()).into());
    }
    let text = match &wish {
        _ if options.json => serde_json::to_string_pretty(&settings)?,
        Wish::List => table(&settings),
        Wish::Show(_) | Wish::Change(_) => assignments(&settings),
    };
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    Ok(ExitCode::SUCCESS)
}

fn wish(words: &[String]) -> Result<Wish, Failure> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] => Ok(Wish::List),
        [name] if !name.contains('=') => Ok(Wish::Show(name.to_owned())),
        [name, value] if !name.contains('=') && !value.contains('=') => {
            Ok(Wish::Change(vec![change(name, value)?]))
        }
        _ => {
            let pair = |word: &&str| match word.split_once('=') {
                Some((name, value)) => change(name, value),
                None => Err(Failure(format!("'{word}' stands between several; write NAME=VALUE"))),
            };
            words.iter().map(pair).collect::<Result<_, _>>().map(Wish::Change)
        }
    }
}

fn change(name: &str, value: &str) -> Result<Change, Failure> {
    let wrong = || Failure(format!("{name} cannot be '{value}'; a value is a whole number"));
    let value = value.trim().parse().map_err(|_| wrong())?;
    Ok(Change::SetSetting { name: name.trim().to_owned(), value })
}

fn assignments(settings: &[Setting]) -> String {
    let line = |setting: &Setting| format!("{} = {}\n", setting.name, setting.value);
    settings.iter().map(line).collect()
}

fn table(settings: &[Setting]) -> String {
    let width = settings.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
    let mut text = format!("{:<width$} {:>10} {:>10}  MEANING\n", "NAME", "VALUE", "DEFAULT");
    for Setting { name, value, default, meaning, .. } in settings {
        let _ = writeln!(text, "{name:<width$} {value:>10} {default:>10}  {meaning}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Result<Wish, String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        wish(&words).map_err(|Failure(sentence)| sentence)
    }

    #[test]
    fn words_list_show_or_change() {
        let change = |name: &str, value| Change::SetSetting { name: name.into(), value };
        assert_eq!(asked(&[]), Ok(Wish::List));
        assert_eq!(asked(&["drop_entry"]), Ok(Wish::Show("drop_entry".into())));
        let one = vec![change("drop_entry", 3)];
        assert_eq!(asked(&["drop_entry", "3"]), Ok(Wish::Change(one)));
        let two = vec![change("a", -1), change("b", 2)];
        assert_eq!(asked(&["a=-1", "b=2"]), Ok(Wish::Change(two)));
        assert_eq!(asked(&["a=1"]), Ok(Wish::Change(vec![change("a", 1)])));
        assert!(asked(&["a", "on"]).unwrap_err().contains("a cannot be 'on'"));
        assert!(asked(&["a=1", "b"]).unwrap_err().contains("write NAME=VALUE"));
        assert!(asked(&["a", "1", "b"]).unwrap_err().contains("write NAME=VALUE"));
    }

    #[test]
    fn the_table_is_aligned() {
        let setting = |name: &str, value| Setting {
            name: name.into(),
            value,
            default: 1,
            min: 0,
            max: 3,
            meaning: "Does it".into(),
        };
        let expected = "\
NAME            VALUE    DEFAULT  MEANING
conn_reuse          3          1  Does it
am                 10          1  Does it
";
        assert_eq!(table(&[setting("conn_reuse", 3), setting("am", 10)]), expected);
    }
}
