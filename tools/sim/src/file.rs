//! A scenario file: TOML, with the fields of the command line.

use std::path::Path;

use toml::{Table, Value};

use crate::churn::{Change, Step};
use crate::error::{Wrong, whole};
use crate::scenario::Scenario;
use crate::scheduler::Choice;
use crate::server::Group;

impl Scenario {
    /// Reads a scenario file, and checks it.
    ///
    /// # Errors
    ///
    /// A sentence that names the file, the place in it and the field.
    pub fn read(path: &Path) -> Result<Self, Wrong> {
        let text = std::fs::read_to_string(path).map_err(|error| Wrong::Unreadable {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads the text of a file that is called `path` in messages.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn parse(text: &str, path: &str) -> Result<Self, Wrong> {
        let table = text.parse::<Table>().map_err(|error| Wrong::Syntax {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| line(text, span.start)),
            reason: error.message().replace('\n', ", "),
        })?;
        let scenario = || {
            let mut scenario = Self::default();
            scenario.fill(&mut Fields(table))?;
            scenario.check()?;
            Ok(scenario)
        };
        scenario().map_err(|wrong: Wrong| wrong.within(path))
    }

    fn fill(&mut self, fields: &mut Fields) -> Result<(), Wrong> {
        let Self { workload, rate, servers, steps, schedulers, inactive } = self;
        *rate = fields.number("rate")?.or(*rate);
        fields.set("for", &mut workload.seconds)?;
        fields.set("skew", &mut workload.skew)?;
        fields.set("mean-lifetime", &mut workload.mean_lifetime)?;
        fields.set("shape", &mut workload.shape)?;
        fields.set("inactive", inactive)?;
        fields.set_whole("population", &mut workload.population)?;
        fields.set_whole("destinations", &mut workload.destinations)?;
        if let Some(seed) = fields.take("seed") {
            workload.seed = seed.try_into().map_err(|_| wrong("seed", "a whole number from 0"))?;
        }
        fields.set_named("clients", "\"zipf\" or \"uniform\"", &mut workload.clients)?;
        fields.set_named("lifetime", "\"pareto\" or \"exp\"", &mut workload.lifetime)?;
        if let Some(names) = fields.take("schedulers") {
            *schedulers = choices(names)?;
        }
        if let Some(groups) = fields.tables("servers", group)? {
            *servers = groups;
        }
        if let Some(read) = fields.tables("steps", step)? {
            *steps = read;
        }
        fields.end()
    }
}

fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

fn wrong(field: &str, is: &str) -> Wrong {
    Wrong::field(field, format!("it is {is}"))
}

fn choices(names: Value) -> Result<Vec<Choice>, Wrong> {
    let names: Vec<String> = names
        .try_into()
        .map_err(|_| wrong("schedulers", "a list of names, as [\"wlc\", \"mh\"]"))?;
    let mut choices = Vec::new();
    for name in names {
        let listed = Choice::list(&name);
        choices.extend(listed.map_err(|wrong| Wrong::field("schedulers", wrong.to_string()))?);
    }
    Ok(choices)
}

fn group(fields: &mut Fields) -> Result<Group, Wrong> {
    let mut group = Group::default();
    while let Some(field) = fields.0.keys().next().cloned() {
        let value = fields.number(&field)?.unwrap_or_default();
        group.set(&field, value)?;
    }
    group.check()?;
    Ok(group)
}

fn step(fields: &mut Fields) -> Result<Step, Wrong> {
    let at = fields.number("at")?.ok_or_else(|| Wrong::field("at", "it is missing"))?;
    let mut server = |change: Change| -> Result<_, Wrong> {
        let Some(number) = fields.number(change.as_str())? else { return Ok(None) };
        Ok(Some((change, whole(change.as_str(), number, 1..=u32::MAX)?)))
    };
    let (change, server) = match (server(Change::Leave)?, server(Change::Join)?) {
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return Err(Wrong::field("leave", "it is missing, and so is join")),
        _ => return Err(Wrong::field("join", "a step has leave or join, not both")),
    };
    fields.end()?;
    Ok(Step { at, change, server: server as usize })
}

/// What is left to read of a table.
struct Fields(Table);

impl Fields {
    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    fn number(&mut self, name: &str) -> Result<Option<f64>, Wrong> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Integer(value)) => Ok(Some(value as f64)),
            Some(Value::Float(value)) => Ok(Some(value)),
            Some(_) => Err(wrong(name, "a number")),
        }
    }

    fn set(&mut self, name: &str, field: &mut f64) -> Result<(), Wrong> {
        *field = self.number(name)?.unwrap_or(*field);
        Ok(())
    }

    fn set_whole(&mut self, name: &str, field: &mut u32) -> Result<(), Wrong> {
        if let Some(value) = self.number(name)? {
            *field = whole(name, value, 0..=u32::MAX)?;
        }
        Ok(())
    }

    fn set_named<'de, T>(&mut self, name: &str, is: &str, field: &mut T) -> Result<(), Wrong>
    where
        T: serde::Deserialize<'de>,
    {
        if let Some(value) = self.take(name) {
            *field = value.try_into().map_err(|_| wrong(name, is))?;
        }
        Ok(())
    }

    /// The tables of `[[name]]`, each read by `read`.
    fn tables<T>(
        &mut self,
        name: &str,
        read: impl Fn(&mut Fields) -> Result<T, Wrong>,
    ) -> Result<Option<Vec<T>>, Wrong> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let tables: Vec<Table> = value
            .try_into()
            .map_err(|_| wrong(name, &format!("tables, each begun by [[{name}]]")))?;
        // A step is what it is called; of the servers it is the group.
        let called = if name == "steps" { "step" } else { name };
        let one = |(number, table): (usize, Table)| {
            read(&mut Fields(table)).map_err(|wrong| wrong.within(&format!("{called} {number}")))
        };
        (1..).zip(tables).map(one).collect::<Result<_, _>>().map(Some)
    }

    /// Nothing may be left.
    fn end(&self) -> Result<(), Wrong> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(Wrong::field(name, "no such field")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Clients, Lifetime};

    const RIGHT: &str = r#"
        rate = 120
        for = 60
        clients = "uniform"
        population = 500
        skew = 1
        destinations = 4
        lifetime = "exp"
        mean-lifetime = 0.25
        shape = 2
        inactive = 10.5
        seed = 7
        schedulers = ["wlc", "mh:port,sh"]

        [[servers]]
        count = 2
        weight = 3
        speed = 1.5

        [[servers]]
        upper = 10
        lower = 4

        [[steps]]
        at = 20
        leave = 3

        [[steps]]
        at = 40.5
        join = 3
    "#;

    #[test]
    fn every_field_is_read() {
        let scenario = Scenario::parse(RIGHT, "web.toml").unwrap();
        let workload = &scenario.workload;
        assert_eq!((scenario.rate, workload.rate, workload.seconds), (Some(120.0), 120.0, 60.0));
        assert_eq!((workload.clients, workload.lifetime), (Clients::Uniform, Lifetime::Exp));
        assert_eq!((workload.population, workload.destinations, workload.seed), (500, 4, 7));
        assert_eq!((workload.skew, workload.mean_lifetime, workload.shape), (1.0, 0.25, 2.0));
        assert_eq!(scenario.inactive, 10.5);
        let names: Vec<String> = scenario.schedulers.iter().map(Choice::to_string).collect();
        assert_eq!(names, ["wlc", "mh:port", "sh"]);
        let first = Group { count: 2, weight: 3, speed: 1.5, ..Group::default() };
        assert_eq!(scenario.servers, [first, Group { upper: 10, lower: 4, ..Group::default() }]);
        let leave = Step { at: 20.0, change: Change::Leave, server: 3 };
        assert_eq!(scenario.steps, [leave, Step { at: 40.5, change: Change::Join, ..leave }]);
        let defaults = Scenario::parse("", "web.toml").unwrap();
        assert_eq!(defaults.workload.seconds, Scenario::default().workload.seconds);
    }

    /// The right file with one thing in place of another.
    #[track_caller]
    fn refused(right: &str, put: &str, sentence: &str) {
        assert!(RIGHT.contains(right), "{right}");
        let text = RIGHT.replacen(right, put, 1);
        let wrong = Scenario::parse(&text, "web.toml").unwrap_err().to_string();
        assert_eq!(wrong, format!("web.toml{sentence}"));
    }

    #[test]
    fn what_is_wrong_is_named_by_file_place_and_field() {
        refused("rate = 120", "rate = \"fast\"", ", rate: it is a number");
        refused("rate = 120", "speed = 120", ", speed: no such field");
        refused("for = 60", "for = inf", ", for: cannot be inf; it is 0.001 to 10000000");
        refused("\"uniform\"", "\"all\"", ", clients: it is \"zipf\" or \"uniform\"");
        refused("\"exp\"", "3", ", lifetime: it is \"pareto\" or \"exp\"");
        refused("= 500", "= 1.5", ", population: cannot be 1.5; it is a whole number");
        refused("seed = 7", "seed = -7", ", seed: it is a whole number from 0");
        refused(
            "[\"wlc\", \"mh:port,sh\"]",
            "3",
            ", schedulers: it is a list of names, as [\"wlc\", \"mh\"]",
        );
        refused(
            "mh:port",
            "wlc:port",
            ", schedulers: wlc has no flags; sh and mh have port and fallback",
        );
        refused("mh:port", "wlc", ": scheduler wlc is named twice");
        refused(
            "weight = 3",
            "weight = -3",
            ", servers 1, weight: cannot be -3; it is 0 to 2147483647",
        );
        refused("weight = 3", "weight = \"3\"", ", servers 1, weight: it is a number");
        refused(
            "weight = 3",
            "height = 3",
            ", servers 1, height: no such field; there are count weight speed workers upper lower",
        );
        refused("lower = 4", "lower = 40", ", servers 2, lower: 40 is above upper, 10");
        refused("count = 2", "count = 4093", ": mh takes 4093 servers at most, and there are 4094");
        refused("at = 20", "", ", step 1, at: it is missing");
        refused("at = 40.5", "at = 90", ", step 2, at: cannot be 90; it is 0 to 60");
        refused(
            "leave = 3",
            "leave = 4",
            ", step 1, leave: there is no server 4; there are 1 to 3",
        );
        refused("leave = 3", "", ", step 1, leave: it is missing, and so is join");
        refused(
            "leave = 3",
            "leave = 3\njoin = 3",
            ", step 1, join: a step has leave or join, not both",
        );
        refused("leave = 3", "leave = 3\nwho = 3", ", step 1, who: no such field");
        refused("join = 3", "leave = 3", ", step 2, leave: server 3 has left already");
        refused("[[steps]]", "[steps]", ", line 28: duplicate key");
    }

    #[test]
    fn what_is_no_toml_is_named_by_line() {
        let wrong = Scenario::parse("rate = 1\nfor 3", "web.toml").unwrap_err().to_string();
        assert!(wrong.starts_with("web.toml, line 2: "), "{wrong}");
        let wrong = Scenario::parse("steps = 3", "web.toml").unwrap_err().to_string();
        assert_eq!(wrong, "web.toml, steps: it is tables, each begun by [[steps]]");
        let wrong = Scenario::read(Path::new("/nowhere/web.toml")).unwrap_err().to_string();
        assert!(wrong.starts_with("cannot read /nowhere/web.toml: "), "{wrong}");
    }
}
