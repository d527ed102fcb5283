//! The schedulers' report, one page of HTML: what a pick costs, as `cargo bench --bench
//! schedulers` has printed it, and what the standard workloads come to, by simulation.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use uvs_bench::machine::Machine;
use uvs_sched::Name;
use uvs_sim::standard::{Standard, all};
use uvs_sim::{Report, Wrong, plots};

const USAGE: &str = "usage: bench-sched FILE, of what `cargo bench --bench schedulers` printed";

const STYLE: &str = "body { font: 15px/1.5 sans-serif; max-width: 1040px; margin: 2em auto; \
                     padding: 0 1em; color: #282828 } \
                     pre { font: 12px/1.35 monospace; overflow-x: auto } \
                     table { border-collapse: collapse } \
                     th, td { padding: 2px 14px; text-align: right; border-bottom: 1px solid #ddd } \
                     th:first-child, td:first-child { text-align: left } \
                     svg { max-width: 100%; height: auto }";

fn main() -> ExitCode {
    match run() {
        Ok(path) => {
            eprintln!("bench-sched: saved {}", path.display());
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("bench-sched: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<PathBuf, String> {
    let file = env::args_os().nth(1).map(PathBuf::from).ok_or(USAGE)?;
    let unreadable = |error| format!("cannot read {}: {error}", file.display());
    let bench = fs::read_to_string(&file).map_err(unreadable)?;
    let costs = Costs::read(&bench);
    if costs.rows.is_empty() {
        return Err(format!("{} has no line of a scheduler; {USAGE}", file.display()));
    }
    let machine = Machine::here();
    let page = page(&machine, &bench, &costs).map_err(|wrong| wrong.to_string())?;
    let results = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results");
    let folder = results.join(machine.folder());
    let write = |name: &str, text: &str| -> std::io::Result<PathBuf> {
        fs::create_dir_all(&folder)?;
        let path = folder.join(name);
        fs::write(&path, text).map(|()| path)
    };
    let unwritable = |error| format!("cannot write to {}: {error}", folder.display());
    write("schedulers.txt", &bench).map_err(unwritable)?;
    write("schedulers.html", &page).map_err(unwritable)
}

/// Nanoseconds of a pick and an update together, by scheduler and number of servers.
struct Costs {
    sizes: Vec<String>,
    rows: Vec<(Name, Vec<String>)>,
}

impl Costs {
    /// From the bench's lines: scheduler, servers, pick, pick and open, close, together ...
    fn read(bench: &str) -> Self {
        let mut costs = Self { sizes: Vec::new(), rows: Vec::new() };
        for line in bench.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, servers, _, _, _, together, ..] = words[..] else { continue };
            let Ok(name) = name.parse::<Name>() else { continue };
            if !costs.sizes.iter().any(|size| size == servers) {
                costs.sizes.push(servers.to_owned());
            }
            match costs.rows.last_mut().filter(|(last, _)| *last == name) {
                Some((_, row)) => row.push(together.to_owned()),
                None => costs.rows.push((name, vec![together.to_owned()])),
            }
        }
        costs
    }

    fn html(&self) -> String {
        let cells = |kind: &str, cells: &[String]| -> String {
            cells.iter().map(|cell| format!("<{kind}>{}</{kind}>", escape(cell))).collect()
        };
        let mut html = format!("<table><tr><th>servers</th>{}</tr>\n", cells("th", &self.sizes));
        for (name, row) in &self.rows {
            let _ = writeln!(html, "<tr><td>{name}</td>{}</tr>", cells("td", row));
        }
        html + "</table>"
    }
}

fn page(machine: &Machine, bench: &str, costs: &Costs) -> Result<String, Wrong> {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n\
         <title>Schedulers, {date}</title>\n<style>{STYLE}</style>\n\
         <h1>Schedulers</h1>\n<p>{line}</p>\n\
         <h2>What a pick costs</h2>\n\
         <p>Nanoseconds of a pick and the dearer update together (a connection opens or closes), \
         the median of the rounds, by the number of servers.</p>\n{table}\n\
         <details><summary>All that the bench printed</summary><pre>{bench}</pre></details>\n",
        date = machine.date,
        line = escape(&machine.line()),
        table = costs.html(),
        bench = escape(bench),
    );
    for standard in all() {
        html += &section(standard)?;
    }
    Ok(html + "</html>\n")
}

fn section(standard: Standard) -> Result<String, Wrong> {
    let Standard { name, what, mut scenario } = standard;
    scenario.check()?;
    eprintln!("bench-sched: simulating {name}");
    let report = Report::of(scenario, &|| {});
    let table = escape(&report.table());
    let mut html = format!("<h2>Workload: {name}</h2>\n<p>{what}</p>\n<pre>{table}</pre>\n");
    for (_, svg) in plots::all(&report) {
        html += &svg;
    }
    Ok(html)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BENCH: &str = "\
2026-01-31, AMD <EPYC>, 2 cores, Linux 6.18

ns, medians; together: a pick and the dearer update; least: its fastest rounds
       servers  pick  pick + open   close  together   least  the walk   bar
rr         10     3.0         9.0     5.0      9.1     8.0        20    50  reached
rr        100     3.0         9.0     5.0      9.2     8.0        90    50  reached
mh         10     4.0        10.0     5.0     10.3     9.0              50  reached

mh, 1000 servers, rebuilt             1.500 ms  bar 2
";

    #[test]
    fn the_costs_are_those_of_the_bench() {
        let costs = Costs::read(BENCH);
        assert_eq!(costs.sizes, ["10", "100"]);
        let expected =
            [(Name::Rr, vec!["9.1".into(), "9.2".into()]), (Name::Mh, vec!["10.3".into()])];
        assert_eq!(costs.rows, expected);
    }

    #[test]
    fn a_page_has_everything_in_itself() {
        let machine = Machine {
            cpu: "AMD <EPYC>".into(),
            cores: 2,
            kernel: "6.18".into(),
            date: "2026-01-31".into(),
        };
        let page = page(&machine, BENCH, &Costs::read(BENCH)).unwrap();
        assert!(page.contains("AMD &lt;EPYC&gt;") && !page.contains("<EPYC>"));
        assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("<link"));
        for Standard { name, .. } in all() {
            assert!(page.contains(&format!("<h2>Workload: {name}</h2>")), "{name}");
        }
        assert_eq!(page.matches("<svg").count(), 3 * all().len() + 1, "churn has one more");
        assert!(page.len() < 1_000_000, "{}", page.len());
    }
}
