//! Pictures of a report, as SVG: one question each.

mod canvas;
mod churn;
mod imbalance;
mod load;
mod response;

use crate::Report;

/// All that there are of a report: names of files, and SVG.
pub fn all(report: &Report) -> Vec<(&'static str, String)> {
    let mut plots = vec![
        ("load.svg", load::plot(report)),
        ("response.svg", response::plot(report)),
        ("imbalance.svg", imbalance::plot(report)),
    ];
    plots.extend(churn::plot(report).map(|plot| ("churn.svg", plot)));
    plots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scenario;
    use crate::churn::{Change, Step};
    use crate::server::Group;

    fn plots(steps: Vec<Step>, groups: Vec<Group>) -> Vec<(&'static str, String)> {
        let mut scenario = Scenario { steps, servers: groups, ..Scenario::default() };
        scenario.workload.seconds = 20.0;
        scenario.check().unwrap();
        all(&Report::of(scenario, &|| {}))
    }

    #[test]
    fn every_scheduler_is_in_every_plot() {
        let plots = plots(Vec::new(), Scenario::default().servers);
        let names: Vec<&str> = plots.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["load.svg", "response.svg", "imbalance.svg"]);
        for (name, svg) in plots {
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
            for choice in Scenario::default().schedulers {
                // Text stands on a line of its own.
                let named = svg
                    .lines()
                    .any(|line| line.split([' ', ':']).next() == Some(choice.name.as_str()));
                assert!(named, "{choice} in {name}");
            }
        }
    }

    #[test]
    fn who_moved_is_shown_when_somebody_leaves() {
        let leave = Step { at: 10.0, change: Change::Leave, server: 1 };
        let plots = plots(vec![leave], Scenario::default().servers);
        let (name, svg) = plots.last().unwrap();
        assert_eq!(*name, "churn.svg");
        assert!(svg.contains("mh, server 1 leaves at 10 s"));
    }

    #[test]
    fn nothing_is_a_picture_too() {
        let leave = Step { at: 0.0, change: Change::Leave, server: 1 };
        let plots = plots(vec![leave], vec![Group::default()]);
        assert!(plots.iter().all(|(_, svg)| svg.trim_end().ends_with("</svg>")));
    }

    #[test]
    fn a_long_legend_goes_on_in_the_next_line() {
        let groups = (1..=9).map(|weight| Group { weight, ..Group::default() }).collect();
        let (_, svg) = plots(Vec::new(), groups).swap_remove(0);
        let places = |line: &&str| line.starts_with("<rect") && line.contains("height=\"8\"");
        let lines: std::collections::BTreeSet<&str> = svg
            .lines()
            .filter(places)
            .filter_map(|line| line.split(" y=").nth(1)?.split('"').nth(1))
            .collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
    }

    #[test]
    fn plots_stay_small() {
        let many = Group { count: 300, ..Group::default() };
        for groups in [Scenario::default().servers, vec![many; 2]] {
            for (name, svg) in plots(Vec::new(), groups) {
                assert!(svg.len() < 200_000, "{name}: {}", svg.len());
            }
        }
    }
}
